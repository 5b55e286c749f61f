"""What a search path makes of a name costs next to nothing, if the name itself exists."""

import polars as pl
import pytest
from builders import flows, incidents, observed

from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.dns_exfiltration import bucket_level

NODE = "corp.example.com"  # the domain of the nodes, which is among the search paths


def stub(
    n: int, at: float, *, exists: bool = True, answers_in: float = 0.01, by: str = "a/x"
) -> list[str]:
    """One lookup of a host, through the search path of the node first."""
    server, name = "kube-system/coredns:53", f"host{n}.partner{n}.example"
    end = "NOERROR" if exists else "NXDOMAIN"
    return [
        f"{at:.3f}s {by} -> {server} QUERY {name}.{NODE}",
        f"{at + 0.001:.3f}s {by} <- {server} NXDOMAIN {name}.{NODE}",
        f"{at + 0.002:.3f}s {by} -> {server} QUERY {name}",
        f"{at + answers_in:.3f}s {by} <- {server} {end} {name}",
    ]


def bytes_below(domain: str, *told: str) -> int:
    """What the bucket of a domain holds at the end, in bytes."""
    found = observed(Detectors(Baseline.empty()), flows(*told)).filter(pl.col("domain") == domain)
    level: int = found.select(bucket_level(pl.col("level")))["level"].to_list()[-1]
    return round(level / 1_000)


def many(count: int, **how: object) -> list[str]:
    return [one for n in range(count) for one in stub(n, n * 1.0, **how)]  # type: ignore[arg-type]


def test_a_name_that_exists_costs_four_bytes_where_a_search_path_made_it_longer() -> None:
    assert bytes_below("example.com", *many(10)) == pytest.approx(40 + len(".corp"), abs=1)


def test_a_name_that_does_not_exist_costs_all_of_its_text() -> None:
    text = len("host0.partner0.example.corp")
    assert bytes_below("example.com", *many(10, exists=False)) == pytest.approx(10 * text, abs=1)


def test_what_stands_between_is_charged_the_first_time() -> None:
    told = [line.replace("corp", f"{n:030}") for n in range(9) for line in stub(n, n * 1.0)]
    assert bytes_below("example.com", *told) == pytest.approx(9 * (4 + 31), abs=1)


def test_an_answer_after_ten_seconds_proves_nothing() -> None:
    late = bytes_below("example.com", *stub(0, 0, answers_in=11))
    assert late == len("host0.partner0.example.corp")


def test_somebody_elses_answer_proves_nothing() -> None:
    asked, failed, _, _ = stub(0, 0)
    _, _, other, answered = stub(0, 0, by="b/y")
    assert bytes_below("example.com", asked, failed, other, answered) == len(
        "host0.partner0.example.corp"
    )


def test_the_name_itself_is_charged_to_its_own_domain() -> None:
    told = [line.replace(f"partner{n}", "partner") for n in range(9) for line in stub(n, n * 1.0)]
    assert bytes_below("partner.example", *told) == 9 * len("host0")


def test_two_hundred_hosts_are_no_tunnel_and_as_many_that_do_not_exist_are_one() -> None:
    assert incidents(flows(*many(200))) == []
    assert {one.kind for one in incidents(flows(*many(200, exists=False)))} == {"dns_exfiltration"}


def test_nor_are_they_one_of_all_workloads_together() -> None:
    told = [line for n in range(400) for line in stub(n, n * 0.2, by=f"a/x{n % 20}")]
    assert incidents(flows(*told)) == []


def test_what_is_taken_back_is_not_told_as_bytes_or_names() -> None:
    blob = "k7d2" * 15
    server = "kube-system/coredns:53"
    tunnel = [f"{50 + n}s a/x -> {server} QUERY {n:02}{blob}.{NODE}" for n in range(20)]
    (last,) = (one for one in incidents(flows(*many(10), *tunnel)) if one.status == "closed")
    text = 20 * (2 + len(blob) + len(".corp"))
    assert last.counts == {"queries": 30, "bytes": text + 40 + len(".corp"), "domains": 1}
    assert "TAKEN_BACK" not in last.summary
