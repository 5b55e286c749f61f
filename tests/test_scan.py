"""What makes a scan, and what does not."""

from dataclasses import replace

import polars as pl
import pytest
from builders import flows, known, observed

from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import ALERT

NETWORKS = frozenset({"10.0.7"})


def evidence(
    *told: str,
    networks: frozenset[str] = frozenset(),
    baseline: Baseline = Baseline.empty(),  # noqa: B008, a frozen value
) -> pl.DataFrame:
    frame = flows(*told)
    detectors = Detectors(baseline, networks)
    found = observed(detectors, frame)
    return pl.concat([found, detectors.finish(frame.height)]).filter(pl.col("kind") == "scan")


def alarms_after(
    *told: str,
    networks: frozenset[str] = frozenset(),
    baseline: Baseline = Baseline.empty(),  # noqa: B008, a frozen value
) -> int | None:
    """How many pieces of evidence it took to alarm."""
    found = evidence(*told, networks=networks, baseline=baseline).with_row_index("n", offset=1)
    decided = found.filter(pl.col("level") >= ALERT)
    return int(decided["n"][0]) if decided.height else None


def refused(count: int, *, peers: int = 1, server: str = "b/y") -> list[str]:
    told = []
    for n in range(count):
        peer = f"{server}{n % peers}"
        told += [f"{n}s a/x -> {peer}:{1000 + n} SYN", f"{n}.1s a/x <- {peer}:{1000 + n} RST"]
    return told


def test_five_refusals_by_one_peer_alarm() -> None:
    assert alarms_after(*refused(5)) == 5
    assert alarms_after(*refused(4)) is None


def test_five_refusals_by_five_peers_alarm() -> None:
    assert alarms_after(*refused(5, peers=5)) == 5


def test_four_denials_alarm() -> None:
    denied = [f"{n}s a/x -> b/y{n}:80 DENIED" for n in range(4)]
    assert alarms_after(*denied) == 4
    assert alarms_after(*denied[:3]) is None


def test_three_unused_addresses_alarm() -> None:
    probes = [f"0.{n}s a/x -> ip:10.0.7.{n + 200}:80 SYN" for n in range(3)]
    assert alarms_after(*probes, networks=NETWORKS) == 3
    assert alarms_after(*probes) is None


def test_twenty_silent_udp_ports_alarm() -> None:
    assert alarms_after(*(f"0.{n:02}s a/x -> b/y:{n + 1} UDP" for n in range(20))) == 20


def test_silent_udp_services_do_not() -> None:
    assert alarms_after(*(f"0.{n:02}s a/x -> b/y{n % 4}:{n + 1} UDP" for n in range(12))) is None


def test_one_dead_peer_counts_for_three_failures_in_a_sweep() -> None:
    found = evidence(*refused(4))
    assert found.filter(pl.col("statistic") == "horizontal")["level"].max() < ALERT  # type: ignore[operator]


def test_a_prometheus_that_is_answered_everywhere_is_no_scanner() -> None:
    told = []
    for n in range(200):
        told += [f"{n}s mon/prom -> app/a{n}:9090 SYN", f"{n}.1s mon/prom <- app/a{n}:9090 SYN-ACK"]
    assert evidence(*told)["level"].max() == 0


def test_successes_pay_for_failures() -> None:
    told = []
    for n in range(60):
        end = "RST" if n % 6 == 0 else "SYN-ACK"
        told += [f"{n}s a/x -> app/a{n}:80 SYN", f"{n}.1s a/x <- app/a{n}:80 {end}"]
    assert alarms_after(*told) is None


def with_record(tried: int, answered: int) -> Baseline:
    """A baseline that knows how so many first contacts of a/x ended."""
    baseline = known({"a/x -> b/z:80": 100})
    counts = {"first_contacts": tried, "answered": answered}
    workloads = baseline.workloads.with_columns(pl.lit(n).alias(name) for name, n in counts.items())
    return replace(baseline, workloads=workloads)


@pytest.mark.parametrize(
    ("tried", "answered", "failures"),
    [(0, 0, 5), (4, 4, 5), (80, 80, 4), (20, 18, 6), (60, 30, 10)],
)
def test_a_workload_needs_as_many_failures_as_its_record_says(
    tried: int, answered: int, failures: int
) -> None:
    assert alarms_after(*refused(12), baseline=with_record(tried, answered)) == failures


SCRAPER = known({f"mon/prom -> app/a{n}:9090": 100 for n in range(10)})
GATEWAY = known({f"mon/prom -> app/a{n}:9090": 100 for n in range(9)})


def test_targets_that_a_scraper_asks_before_they_listen_are_no_sweep() -> None:
    told = []
    for n in range(12):
        told += [f"{n}s mon/prom -> new/b{n}:9090 SYN", f"{n}.1s mon/prom <- new/b{n}:9090 RST"]
    assert alarms_after(*told, baseline=SCRAPER) is None
    assert alarms_after(*told, baseline=GATEWAY) == 5
    elsewhere = [line.replace("9090", "22") for line in told]
    assert alarms_after(*elsewhere, baseline=SCRAPER) == 5


def test_addresses_without_a_name_are_no_targets_of_a_scraper() -> None:
    told = []
    for n in range(12):
        peer = f"ip:10.9.7.{n + 1}:9090"
        told += [f"{n}s mon/prom -> {peer} SYN", f"{n}.1s mon/prom <- {peer} RST"]
    assert alarms_after(*told, baseline=SCRAPER) == 5


@pytest.mark.parametrize("probe", ["FIN", "NULL", "XMAS"])
def test_stealth_probes_alarm_like_any_other(probe: str) -> None:
    assert alarms_after(*(f"0.{n}s a/x -> b/y:{n + 1} {probe}" for n in range(5))) == 5


def test_guessing_paths_alarms() -> None:
    guesses = [f"{n}s a/x <- b/y:80 404 /{word}" for n, word in enumerate("abcdefgh")]
    assert alarms_after(*guesses) == 8  # the seventh path; the contact itself came first


def test_missing_objects_of_one_collection_are_one_path() -> None:
    missing = [f"{n}s a/x <- b/y:80 404 /orders/{n}" for n in range(50)]
    assert evidence(*missing)["statistic"].to_list().count("paths") == 1


def test_guessing_service_names_alarms() -> None:
    guesses = [
        f"{n}s a/x <- kube-system/coredns:53 NXDOMAIN s{n}.data.svc.cluster.local"
        for n in range(10)
    ]
    assert alarms_after(*guesses) == 11  # the tenth name; the contact with DNS itself came first


def test_what_the_search_path_makes_of_outside_names_is_no_guess() -> None:
    expanded = [
        f"{n}s a/x <- kube-system/coredns:53 NXDOMAIN w{n}.example.org.shop.svc.cluster.local"
        for n in range(50)
    ]
    assert alarms_after(*expanded) is None


def lossy(attempts: int, lost: int) -> list[str]:
    """Attempts that nobody answers, five a second, with so many events lost every second."""
    told = []
    for n in range(attempts):
        told.append(f"{n / 5}s a/x -> b/y:{n + 1} SYN")
        if n % 5 == 4:
            told.append(f"{n / 5 + 0.1:.1f}s LOST {lost}")
    return [*told, f"{attempts / 5 + 2}s c/z -> b/y:80 ACK"]


def test_silence_counts_for_less_the_more_was_lost_on_the_way() -> None:
    complete = alarms_after(*lossy(60, 0))
    thinned = alarms_after(*lossy(60, 1))
    assert complete == 5
    assert thinned is not None
    assert complete < thinned < 12


def test_silence_where_more_was_lost_than_came_never_alarms() -> None:
    assert alarms_after(*lossy(200, 12)) is None
