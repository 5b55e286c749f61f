"""What changed between two baselines, and how well each workload is known."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from builders import START, flows, known, learnt, lookups

from sidelong.models.acquaintance import states
from sidelong.models.baseline import Baseline
from sidelong.models.drift import DRIFT_SCHEMA, drift, hours_in_words


def at(hours: list[int]) -> Baseline:
    """One edge, used at these hours of the week."""
    baseline = known({"shop/web -> shop/api:80": 500})
    column = pl.Series("hours", [hours], dtype=pl.List(pl.UInt8))
    return replace(baseline, contacts=baseline.contacts.with_columns(column))


def changes(before: Baseline, after: Baseline) -> list[tuple[str | None, ...]]:
    found = drift(before, after)
    assert found.schema == DRIFT_SCHEMA
    return found.select("what", "change", "actor", "peer", "domain").rows()


def test_a_baseline_does_not_differ_from_itself() -> None:
    one = learnt(flows("0s a/x <- b/y:80 SYN-ACK"), lookups("a/x", ["www.example.org"]))
    assert drift(one, one).is_empty()
    assert drift(Baseline.empty(), Baseline.empty()).is_empty()


def test_what_is_new_in_one_is_gone_in_the_other() -> None:
    before = known({"a/x -> b/y:80": 9})
    after = known({"a/x -> b/y:80": 9, "a/x -> b/y:22": 9, "c/z -> b/y:80": 9})
    there = changes(before, after)
    assert there == [
        ("workload", "new", "c/z", None, None),
        ("edge", "new", "a/x", "b/y", None),
        ("edge", "new", "c/z", "b/y", None),
    ]
    back = [(what, "gone", *rest) for what, _, *rest in there]
    assert changes(after, before) == back


def test_a_domain_that_is_asked_for_the_first_time_is_new() -> None:
    before = learnt(flows("0s a/x <- b/y:80 SYN-ACK"))
    after = learnt(flows("0s a/x <- b/y:80 SYN-ACK"), lookups("a/x", ["www.example.org"]))
    assert ("domain", "new", "a/x", None, "example.org") in changes(before, after)


def test_an_edge_on_trial_is_told_as_one() -> None:
    before = known({"a/x -> b/y:80": 9})
    after = replace(before, trial=known({"a/x -> c/z:80": 9}).contacts)
    assert changes(before, after) == [("trial", "new", "a/x", "c/z", None)]


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ([9, 10, 11], [9, 10, 11], False),
        ([9, 10, 11], [9, 10], False),  # two of three
        ([9, 10, 11], [2, 3, 11], True),  # one of five
        ([9], [3], False),  # too few to say
    ],
)
def test_an_edge_changed_if_it_is_used_at_other_hours(
    before: list[int], after: list[int], changed: bool
) -> None:
    found = drift(at(before), at(after))
    assert found.is_empty() is not changed
    if changed:
        assert found["before"].item() == "1 weekday, 09-12 h"


def test_hours_are_told_as_a_person_says_them() -> None:
    assert hours_in_words([]) == "never"
    assert hours_in_words([0, 23, 47]) == "2 weekdays, 00-01, 23-24 h"


@pytest.mark.parametrize(
    ("days", "seconds", "state"),
    [
        (2, 500, "known"),
        (2, 50, "provisional"),
        (2, 5, "learning"),
        (0.5, 10_000, "provisional"),
        (0.01, 10_000, "learning"),  # a quarter of an hour
    ],
)
def test_a_workload_is_known_by_time_and_experience(days: float, seconds: int, state: str) -> None:
    found = states(known({"a/x -> b/y:80": seconds}, days=days))
    assert found.rows() == [("a/x", state, timedelta(days=days))]


def test_a_change_of_state_is_told() -> None:
    before, after = (known({"a/x -> b/y:80": seconds}) for seconds in (50, 500))
    (row,) = drift(before, after).iter_rows(named=True)
    assert (row["before"], row["after"]) == ("provisional", "known")


def test_a_contact_knows_when_it_was_used() -> None:
    monday_nine = START.hour  # START is a Monday
    told = [f"{gap}s a/x <- b/y:80 SYN-ACK" for gap in (0, 1, 3_600, 86_400, 8 * 86_400)]
    (row,) = learnt(flows(*told)).edges.iter_rows(named=True)
    assert row["hours"] == [monday_nine, monday_nine + 1, monday_nine + 24]
    assert (row["active_seconds"], row["hours_seen"], row["days_seen"]) == (5, 4, 3)


def test_a_contact_knows_how_often_it_was_encrypted() -> None:
    told = flows(*(f"{n}s a/x <- b/y:80 SYN-ACK" for n in range(5)))
    told = told.with_columns(encrypted=pl.Series([True, True, True, False, None]))
    assert learnt(told).edges.select("encrypted", "plain").row(0) == (3, 1)


def test_a_workload_knows_what_runs_it_and_whom_it_was_taken_for() -> None:
    told = flows("0s a/x -> b/y:80 SYN", "1s a/x -> b/y:80 SYN").with_columns(
        src_pod=pl.lit("a/x-28912345-x2x4z"),
        src_principal=pl.Series(["spiffe://td/ns/a/sa/x", "spiffe://td/ns/a/sa/job"]),
    )
    row = learnt(told).workloads.row(0, named=True)
    assert row["owner"] == "CronJob"
    assert row["accounts"] == ["spiffe://td/ns/a/sa/job", "spiffe://td/ns/a/sa/x"]
