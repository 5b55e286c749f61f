"""Chains of new edges: which edge continues which, and what they weigh together."""

import math

import pytest
from builders import flows, incidents, known, observed

from sidelong.alerts.chains import Chains, Hop
from sidelong.alerts.incident import Incident
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import micro_nats

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
FOLLOWED = micro_nats(math.log(48))


def last(*edges: tuple[str, str, int, int], chains: Chains | None = None) -> Hop:
    """The chain that the last of these edges ends: (actor, peer, time in ns, evidence)."""
    chains = chains or Chains(100)
    return [chains.extend(*edge, FOLLOWED) for edge in edges][-1]


def test_an_edge_alone_is_a_chain_of_itself() -> None:
    assert last(("a", "b", 0, 5)) == Hop(0, 5, ("a", "b"))


def test_an_edge_from_a_workload_just_reached_continues_the_chain() -> None:
    hop = last(("a", "b", 0, 5), ("b", "c", SECOND, 7))
    assert hop == Hop(SECOND, 5 + 7 + FOLLOWED, ("a", "b", "c"))


def test_after_half_an_hour_nothing_is_continued() -> None:
    assert len(last(("a", "b", 0, 5), ("b", "c", 30 * MINUTE, 7)).path) == 3
    assert len(last(("a", "b", 0, 5), ("b", "c", 30 * MINUTE + 1, 7)).path) == 2


def test_two_edges_of_one_moment_have_no_order_and_make_no_chain() -> None:
    assert last(("a", "b", 0, 5), ("b", "c", 0, 7)).path == ("b", "c")


def test_a_return_to_where_it_came_from_is_no_step() -> None:
    assert last(("a", "b", 0, 5), ("b", "a", SECOND, 7)).path == ("b", "a")


def test_of_two_ways_to_a_workload_the_stronger_counts() -> None:
    hop = last(("a", "c", 0, 5), ("b", "c", 1, 9), ("c", "d", SECOND, 7))
    assert hop.path == ("b", "c", "d")


def test_a_chain_has_four_hops_at_most() -> None:
    path = "abcdef"
    edges = [(path[n], path[n + 1], n * SECOND, 1) for n in range(5)]
    assert last(*edges[:4]).path == tuple("abcde")
    assert len(last(*edges).path) == 2


def test_a_tick_changes_no_chain_that_can_still_be_continued() -> None:
    chains = Chains(100)
    chains.extend("a", "b", 0, 5, FOLLOWED)
    chains.tidy(29 * MINUTE)
    assert last(("b", "c", 30 * MINUTE, 7), chains=chains).path == ("a", "b", "c")


def test_a_restored_memory_continues_the_same_chains() -> None:
    chains, other = Chains(100), Chains(100)
    chains.extend("a", "b", 0, 5, FOLLOWED)
    other.restore(chains.snapshot())
    assert last(("b", "c", SECOND, 7), chains=other) == last(("b", "c", SECOND, 7), chains=chains)


# Each of the two edges weighs 2.3 + 2.3 nats beside its rarity: too little alone.
WORK = {
    "shop/web -> shop/api:80": 40,
    "pay/api -> pay/ledger:80": 40,
    "ops/cron -> ops/report:80": 40,
}


def hops(second_at: float) -> list[str]:
    """web reaches pay/api, which then reaches ops/report: both for the first time."""
    return [
        "0s shop/web -> pay/api:80 SYN",
        "0.01s shop/web <- pay/api:80 SYN-ACK",
        f"{second_at}s pay/api -> ops/report:80 SYN",
        f"{second_at + 0.01}s pay/api <- ops/report:80 SYN-ACK",
    ]


def movements(told: list[str], baseline: Baseline) -> list[Incident]:
    found = incidents(flows(*told), baseline)
    return [incident for incident in found if incident.status == "open"]


def test_two_new_edges_in_a_row_alarm_where_neither_does_alone() -> None:
    (incident,) = movements(hops(60), known(WORK))
    assert incident.kind == "lateral_movement"
    assert incident.actor.workload == "pay/api"
    assert movements(hops(60)[:2], known(WORK)) == []
    assert movements(hops(60)[2:], known(WORK)) == []


def test_forty_minutes_apart_they_are_two_stories_of_no_interest() -> None:
    assert movements(hops(2_400), known(WORK)) == []


@pytest.mark.parametrize(
    ("days", "singletons", "halves"),
    [(2, 0, 48), (1, 0, 48), (0.5, 0, 24), (1, 5, 8), (0.01, 0, 1)],
)
def test_a_chain_weighs_as_seldom_as_its_middle_opens_new_edges(
    days: float, singletons: int, halves: int
) -> None:
    used = {"pay/api -> pay/ledger:80": 400}
    used |= {f"pay/api -> pay/s{n}:80": 1 for n in range(singletons)}
    edge = flows("0s pay/api -> ops/report:22 DENIED")
    onward = observed(Detectors(known(used, days=days)), edge)["onward"].max()
    assert onward == pytest.approx(micro_nats(math.log(halves)), abs=2)


def test_a_workload_that_is_still_learnt_chains_only_through_services_of_interest() -> None:
    little = dict.fromkeys(WORK, 5)
    assert not movements(hops(60), known(little))
    to_ssh = [told.replace(":80", ":22") for told in hops(60)]
    assert movements(to_ssh, known(little))
