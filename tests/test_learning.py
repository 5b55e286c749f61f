"""Learning: what counts as experience, and what is not learnt from whom."""

import polars as pl
import pytest
from builders import address, flows, incidents, learnt, lookups
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from streams import cuts, events, flows_of, pieces

from sidelong.learning import Learning
from sidelong.models.baseline import Baseline

TABLES = ("contacts", "workloads", "names", "domains", "networks")


def used(start: float, client: str, server: str, *, times: int = 1) -> list[str]:
    """A connection, opened and answered again and again within a second."""
    told = []
    for n in range(times):
        at = start + n / (2 * times)
        told.append(f"{at:.4f}s {client} -> {server} SYN")
        told.append(f"{at + 0.0001:.4f}s {client} <- {server} SYN-ACK")
    return told


def edges(baseline: Baseline) -> dict[tuple[str, str, int], int]:
    """The known edges, and in how many seconds each was used."""
    columns = baseline.contacts.select("actor", "peer", "port", "active_seconds")
    return {(actor, peer, port): seconds for actor, peer, port, seconds in columns.iter_rows()}


def test_a_burst_counts_once_a_second() -> None:
    once = learnt(flows(*used(0, "a/x", "b/y:80")))
    burst = learnt(flows(*used(0, "a/x", "b/y:80", times=100)))
    assert edges(once) == edges(burst) == {("a/x", "b/y", 80): 1}
    later = learnt(flows(*used(0, "a/x", "b/y:80", times=100), *used(1, "a/x", "b/y:80")))
    assert edges(later) == {("a/x", "b/y", 80): 2}


def test_a_workload_is_known_by_the_seconds_of_all_its_edges() -> None:
    told = [line for n in range(5) for line in used(n, "a/x", "b/y:80")]
    baseline = learnt(flows(*told, *used(9, "a/x", "c/z:80")))
    columns = ("actor", "active_seconds", "singletons", "first_contacts", "answered")
    assert baseline.workloads.select(columns).rows() == [("a/x", 6, 1, 2, 2)]


def test_a_lookup_is_experience_but_the_time_of_day_is_not() -> None:
    told = used(0, "a/x", "kube-system/coredns:53") + used(1, "a/x", "kube-system/ntp:123")
    assert learnt(flows(*told)).workloads["active_seconds"].to_list() == [1]


def test_an_answer_that_came_late_makes_the_contact_a_good_one() -> None:
    told = ["0s a/x -> b/y:80 SYN", "5s c/z -> b/y:81 ACK", "6s a/x <- b/y:80 SYN-ACK"]
    workloads = learnt(flows(*told)).workloads.filter(pl.col("actor") == "a/x")
    assert workloads.select("first_contacts", "answered").rows() == [(1, 1)]


def test_who_came_before_its_peers_and_was_answered_in_the_end_met_somebody_who_is_there() -> None:
    start = ["0s a/x -> b/y:80 SYN", "0.1s a/x <- b/y:80 RST", "1s a/x -> b/z:80 SYN"]
    later = ["600s a/x -> b/y:80 SYN", "600.1s a/x <- b/y:80 SYN-ACK", "601s a/x -> b/z:80 SYN"]
    workloads = learnt(flows(*start, *later)).workloads
    assert workloads.select("first_contacts", "answered").rows() == [(2, 1)]


def test_the_addresses_of_workloads_tell_the_networks_whose_pods_are_known() -> None:
    told = [*used(0, "a/x", "b/y:80"), *used(1, "a/x", "ip:172.16.5.9:80")]
    networks = {address(name).rpartition(".")[0] for name in ("a/x", "b/y")}
    assert set(learnt(flows(*told)).networks["network"]) == networks


def test_what_was_lost_is_remembered() -> None:
    told = flows("0s LOST 6", *used(1, "a/x", "b/y:80"))
    assert learnt(told).completeness == pytest.approx(3 / 9)


def test_the_contacts_of_a_scanner_are_not_learnt() -> None:
    work = [line for n in range(30) for line in used(n, "a/x", "b/y:80")]
    scan = []
    for n in range(20):
        scan += [
            f"{40 + n / 10}s a/x -> c/z:{n + 1} SYN",
            f"{40.01 + n / 10}s a/x <- c/z:{n + 1} RST",
        ]
    baseline = learnt(flows(*work, *scan, *used(43, "o/k", "b/y:80")))
    assert edges(baseline) == {("a/x", "b/y", 80): 30, ("o/k", "b/y", 80): 1}


def test_a_scanner_that_was_not_learnt_is_found_again() -> None:
    scan = flows(*(f"{n / 10}s a/x -> c/z:{n + 1} DENIED" for n in range(20)))
    assert [
        one.actor.workload for one in incidents(scan, learnt(scan)) if one.status == "open"
    ] == ["a/x"]


def test_the_names_of_a_tunnel_are_not_learnt() -> None:
    tunnel = lookups("a/x", [f"{n:060}.example.net" for n in range(60)])
    ordinary = lookups("a/x", ["www.example.org", "api.example.org"])
    baseline = learnt(tunnel, ordinary)
    assert baseline.names.height == 2
    assert baseline.domains["domain"].to_list() == ["example.org"]


def test_a_tunnel_below_a_domain_teaches_nothing_of_the_domain() -> None:
    tunnel = lookups("a/x", [f"{n:060}.cdn.example.net" for n in range(60)])
    baseline = learnt(tunnel)
    assert baseline.names.is_empty()
    assert baseline.domains.is_empty()


def test_a_tunnel_that_was_not_learnt_is_found_again() -> None:
    tunnel = lookups("a/x", [f"{n:060}.example.net" for n in range(60)])
    (incident,) = (one for one in incidents(tunnel, learnt(tunnel)) if one.status == "open")
    assert incident.kind == "dns_exfiltration"


def test_what_others_did_meanwhile_is_learnt() -> None:
    tunnel = lookups("a/x", [f"{n:060}.example.net" for n in range(60)])
    baseline = learnt(pl.concat([tunnel, flows(*used(7, "o/k", "b/y:80"))]))
    assert ("o/k", "b/y", 80) in edges(baseline)


def test_learning_tells_what_it_found_on_the_way() -> None:
    learning = Learning()
    learning.observe(flows(*(f"{n / 10}s a/x -> c/z:{n + 1} DENIED" for n in range(20))))
    learning.finish()
    (incident,) = learning.incidents.values()
    assert (incident.kind, incident.status) == ("scan", "closed")


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_how_the_training_was_cut_changes_nothing_in_the_baseline(data: st.DataObject) -> None:
    stream = flows_of(data.draw(events))
    whole = learnt(stream)
    cut = learnt(*pieces(stream, data.draw(cuts(stream.height))))
    for name in TABLES:
        ours: pl.DataFrame = getattr(whole, name)
        assert ours.equals(getattr(cut, name)), name
    assert cut.description() == whole.description()
