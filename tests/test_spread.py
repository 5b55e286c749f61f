"""Spread: a known workload takes up new peers faster than any deployment gives it."""

import polars as pl
from builders import flows, known, observed

from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import ALERT

KNOWN = known({"a/x -> b/y:80": 1_000})


def reached(count: int, *, every: float, actor: str = "a/x", peer: str = "c/z") -> list[str]:
    """New peers, each of which answers."""
    told = []
    for n in range(count):
        at = n * every
        told.append(f"{at:.3f}s {actor} -> {peer}{n}:80 SYN")
        told.append(f"{at + 0.001:.3f}s {actor} <- {peer}{n}:80 SYN-ACK")
    return told


def level(told: list[str], baseline: Baseline = KNOWN) -> int:
    evidence = observed(Detectors(baseline), flows(*told))
    found = evidence.filter(pl.col("statistic") == "spread")
    return int(found["level"].max() or 0)  # type: ignore[arg-type]


def test_five_new_peers_within_ten_seconds_alarm_though_all_answer() -> None:
    assert level(reached(5, every=2.4)) >= ALERT


def test_four_at_once_are_a_deployment() -> None:
    assert 0 < level(reached(4, every=0)) < ALERT


def test_one_a_minute_can_go_on_all_day() -> None:
    assert level(reached(60, every=60)) < ALERT


def test_a_peer_used_again_is_no_new_one() -> None:
    assert level(reached(4, every=0.1) * 5) < ALERT


def test_peers_of_the_baseline_are_not_new() -> None:
    used = known({f"a/x -> c/z{n}:80": 10 for n in range(9)})
    assert level(reached(9, every=0.1), used) == 0


def test_outside_peers_do_not_count() -> None:
    assert level(reached(9, every=0.1, peer="cdn.example.org-")) == 0


def test_a_workload_that_the_baseline_does_not_know_may_begin_as_it_likes() -> None:
    assert level(reached(9, every=0.1, actor="new/comer")) == 0
