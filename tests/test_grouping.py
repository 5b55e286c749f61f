"""Grouping: when a receiver is told, with what, and the two laws that always hold."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from told_incidents import NOW, closed, opened, told, updated

from sidelong.alerts.grouping import Groups
from sidelong.alerts.incident import Incident
from sidelong.alerts.mute_times import MuteSettings, MuteTimes
from sidelong.alerts.receiver import Message
from sidelong.alerts.routes import Route

PAGER = Route("r", ("pager",))
STORY = {"story": "s"}
MUTED = MuteTimes({"lunch": MuteSettings(hours="11:00-12:00")})  # NOW lies in it
AFTER = NOW + 3600.0


def groups(hushed: Callable[[Incident], bool] = lambda _: False, limit: int = 10_000) -> Groups:
    return Groups(MUTED, hushed=hushed, limit=limit)


def route(**changes: Any) -> Route:
    values: dict[str, Any] = {"name": "r", "receivers": ("pager",)}
    return Route(**(values | changes))


def test_what_begins_a_group_leaves_at_once() -> None:
    assert told(groups().offer(opened(), [PAGER], NOW)) == [("pager", "open a1")]


def test_a_group_may_wait_for_others() -> None:
    held = groups()
    waiting = route(wait=30.0)
    assert held.offer(opened("a", **STORY), [waiting], NOW) == []
    assert held.offer(opened("b", **STORY), [waiting], NOW + 20) == []
    assert held.due(NOW + 29) == []
    (message,) = held.due(NOW + 30)
    assert told([message]) == [("pager", "open a"), ("pager", "open b")]


def test_what_follows_is_told_together_once_the_interval_is_over() -> None:
    held = groups()
    held.offer(opened("a", **STORY), [PAGER], NOW)
    assert held.offer(opened("b", **STORY), [PAGER], NOW + 1) == []
    assert held.offer(updated(opened("a", **STORY)), [PAGER], NOW + 2) == []
    assert held.next_due(NOW + 2) == NOW + 60
    (message,) = held.due(NOW + 60)
    assert told([message]) == [("pager", "open b"), ("pager", "update a")]


def test_of_several_changes_the_last_is_told() -> None:
    held = groups()
    held.offer(opened(), [PAGER], NOW)
    held.offer(updated(opened()), [PAGER], NOW + 1)
    last = updated(updated(opened()))
    held.offer(last, [PAGER], NOW + 2)
    (message,) = held.due(NOW + 60)
    assert message.events == (last,)


def test_what_grows_before_it_is_told_is_opened_as_it_stands() -> None:
    held = groups()
    held.offer(opened("a", **STORY), [PAGER], NOW)
    held.offer(opened("b", **STORY), [PAGER], NOW + 1)
    grown = updated(opened("b", **STORY))
    held.offer(grown, [PAGER], NOW + 2)
    (message,) = held.due(NOW + 60)
    assert message.events == (replace(grown, status="open"),)


def test_what_is_worse_than_all_before_leaves_at_once() -> None:
    held = groups()
    held.offer(opened("a", **STORY), [PAGER], NOW)
    worse = opened("b", **STORY, severity="critical")
    assert told(held.offer(worse, [PAGER], NOW + 1)) == [("pager", "open b")]
    assert held.offer(opened("c", **STORY, severity="critical"), [PAGER], NOW + 2) == []


def test_groups_do_not_wait_for_each_other() -> None:
    held = groups()
    held.offer(opened("a", story="s"), [PAGER], NOW)
    assert told(held.offer(opened("b", story="t"), [PAGER], NOW)) == [("pager", "open b")]


def test_once_a_group_is_over_the_next_leaves_at_once() -> None:
    held = groups()
    first = opened("a", **STORY)
    held.offer(first, [PAGER], NOW)
    held.offer(closed(first), [PAGER], NOW + 1)
    held.due(NOW + 60)
    held.due(NOW + 120)
    assert told(held.offer(opened("b", **STORY), [PAGER], NOW + 121)) == [("pager", "open b")]


def test_a_close_follows_where_its_route_would_not_lead_any_more() -> None:
    held = groups()
    held.offer(opened(), [PAGER], NOW)
    held.offer(closed(opened()), [route(name="x", receivers=("chat",))], NOW + 1)
    assert told(held.due(NOW + 60)) == [("pager", "closed a1")]


def test_a_close_of_what_was_told_nobody_is_not_told() -> None:
    held = groups()
    assert held.offer(closed(opened()), [PAGER], NOW) == []
    assert held.due(AFTER) == []
    assert held.counters["unopened"] == 1


def test_what_was_closed_before_it_was_told_is_told_with_both() -> None:
    held = groups()
    held.offer(opened("a", **STORY), [PAGER], NOW)
    held.offer(opened("b", **STORY), [PAGER], NOW + 1)
    held.offer(closed(opened("b", **STORY)), [PAGER], NOW + 2)
    assert told(held.due(NOW + 60)) == [("pager", "open b"), ("pager", "closed b")]


def test_a_receiver_of_two_routes_is_told_once() -> None:
    held = groups()
    sent = held.offer(opened(), [PAGER, route(name="other", receivers=("pager", "chat"))], NOW)
    assert told(sent) == [("pager", "open a1"), ("chat", "open a1")]


def test_a_route_may_tell_openings_and_closes_alone() -> None:
    held = groups()
    quiet = route(statuses=frozenset({"open"}))
    held.offer(opened(), [quiet], NOW)
    held.offer(updated(opened()), [quiet], NOW + 1)
    assert held.due(NOW + 60) == []
    assert held.counters["left_out"] == 1
    sent = held.offer(closed(opened()), [quiet], NOW + 61)
    assert told(sent) == [("pager", "closed a1")]


def test_a_receiver_that_hears_of_an_incident_late_hears_it_from_then_on() -> None:
    held = groups()
    assert held.offer(opened(), [], NOW) == []
    assert held.counters["unrouted"] == 1
    worse = updated(opened(), "critical")
    assert told(held.offer(worse, [PAGER], NOW + 1)) == [("pager", "open a1")]
    held.offer(closed(worse), [], NOW + 2)
    assert told(held.due(NOW + 61)) == [("pager", "closed a1")]


def test_what_stays_open_is_recalled() -> None:
    held = groups()
    held.offer(opened(), [PAGER], NOW)
    assert held.due(NOW + PAGER.repeat - 1) == []
    (first,) = held.due(NOW + PAGER.repeat)
    (second,) = held.due(NOW + 2 * PAGER.repeat)
    assert told([first, second]) == [("pager", "reminder 1 a1"), ("pager", "reminder 2 a1")]
    assert first.id != second.id


def test_what_was_closed_is_not_recalled() -> None:
    held = groups()
    held.offer(opened(), [PAGER], NOW)
    held.offer(closed(opened()), [PAGER], NOW + 1)
    held.due(NOW + 60)
    assert held.next_due(NOW + 60) is None
    assert held.due(NOW + PAGER.repeat) == []


def test_what_is_acknowledged_is_neither_updated_nor_recalled_but_closed() -> None:
    acknowledged: set[str] = set()
    held = groups(lambda incident: incident.id in acknowledged)
    held.offer(opened(), [PAGER], NOW)
    held.offer(updated(opened()), [PAGER], NOW + 1)
    acknowledged.add("a1")
    assert held.due(NOW + 60) == []
    assert held.offer(updated(updated(opened())), [PAGER], NOW + 70) == []
    assert held.due(NOW + PAGER.repeat) == []
    sent = held.offer(closed(opened()), [PAGER], NOW + PAGER.repeat)
    assert told(sent) == [("pager", "closed a1")]
    assert held.counters["hushed"] == 2


def test_what_is_hushed_no_more_is_told() -> None:
    hushed = {"a1"}
    held = groups(lambda incident: incident.id in hushed)
    late = route(wait=10.0)
    hushed.clear()
    held.offer(opened(), [late], NOW)
    hushed.add("a1")
    assert held.due(NOW + 10) == []
    hushed.clear()
    held.offer(updated(opened()), [late], NOW + 20)
    assert told(held.due(NOW + 30)) == [("pager", "open a1")]


def test_what_opens_in_a_mute_time_is_told_after_it() -> None:
    held = groups()
    assert held.offer(opened(), [route(mute=("lunch",))], NOW) == []
    assert held.next_due(NOW) == NOW + 60
    assert held.due(NOW + 600) == []
    assert told(held.due(AFTER)) == [("pager", "open a1")]


def test_what_opens_and_closes_in_a_mute_time_is_dropped_and_counted() -> None:
    held = groups()
    held.offer(opened(), [route(mute=("lunch",))], NOW)
    held.offer(closed(opened()), [route(mute=("lunch",))], NOW + 1)
    assert held.due(AFTER) == []
    assert held.counters["muted"] == 2


def test_the_close_of_what_was_told_before_a_mute_time_is_told_after_it() -> None:
    held = groups()
    early = NOW - 7200.0
    held.offer(opened(), [route(mute=("lunch",))], early)
    held.offer(closed(opened()), [route(mute=("lunch",))], NOW)
    assert held.due(NOW + 60) == []
    assert told(held.due(AFTER)) == [("pager", "closed a1")]


def test_an_event_that_comes_again_is_told_once() -> None:
    held = groups()
    held.offer(opened(), [PAGER], NOW)
    assert held.offer(opened(), [PAGER], NOW + 100) == []
    held.offer(closed(opened()), [PAGER], NOW + 101)
    held.due(NOW + 101)
    assert held.offer(opened(), [PAGER], NOW + 102) == []
    assert held.due(AFTER) == []
    assert held.counters["repeated"] == 2


def test_at_the_end_all_that_waits_is_told() -> None:
    held = groups()
    held.offer(opened(), [PAGER], NOW)
    held.offer(updated(opened()), [PAGER], NOW + 1)
    assert told(held.end(NOW + 2)) == [("pager", "update a1")]
    assert held.waiting == 0


def test_incidents_are_bounded_and_the_longest_unchanged_goes_first() -> None:
    held = groups(limit=2)
    for id in ("a", "b", "c"):
        held.offer(opened(id), [PAGER], NOW)
    assert held.counters["evicted"] == 1
    held.offer(closed(opened("a")), [PAGER], NOW + 1)
    held.offer(closed(opened("b")), [PAGER], NOW + 1)
    assert told(held.due(NOW + 60)) == [("pager", "closed b")]


def test_what_never_closes_is_forgotten_after_a_week() -> None:
    held = groups()
    held.offer(opened(), [PAGER], NOW)
    held.due(NOW + 8 * 86_400)
    assert held.next_due(NOW) is None
    assert held.counters["evicted"] == 1


# What may happen, as (incident, what, seconds since the event before).
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["grow", "worsen", "close", "again"]),
        st.sampled_from([0.0, 5.0, 60.0, 1800.0, 20_000.0]),
    ),
    max_size=25,
)
ROUTES = st.lists(
    st.builds(
        Route,
        name=st.sampled_from(["r1", "r2"]),
        receivers=st.sampled_from([("pager",), ("chat",), ("pager", "chat"), ()]),
        group_by=st.sampled_from([("story",), ("incident",), (), ("severity",)]),
        wait=st.sampled_from([0.0, 30.0]),
        interval=st.sampled_from([0.0, 60.0, 3600.0]),
        repeat=st.sampled_from([0.0, 7200.0]),
        statuses=st.sampled_from([frozenset(("open",)), frozenset(("open", "update", "closed"))]),
    ),
    max_size=3,
    unique_by=lambda one: one.name,
)


def happen(steps: Sequence[tuple[str, str, float]]) -> list[tuple[float, Incident]]:
    """Events as a correlator would tell them, and when."""
    now = NOW
    state: dict[str, Incident] = {}
    events = []
    for id, what, gap in steps:
        now += gap
        before = state.get(id)
        if before is None:
            event = opened(id, story="s" if id != "c" else "t")
        elif before.status == "closed" and what != "again":
            continue
        elif what == "again":
            event = before
        elif what == "close":
            event = closed(before)
        else:
            event = updated(before, "critical" if what == "worsen" else None)
        state[id] = event
        events.append((now, event))
    return events


def run(events: list[tuple[float, Incident]], taking: list[Route], cut: int = -1) -> list[Message]:
    """Offer events in time; with `cut`, through a snapshot before that event."""
    held = Groups(MuteTimes({}))
    sent: list[Message] = []
    for number, (now, event) in enumerate(events):
        if number == cut:
            state = json.loads(json.dumps(held.snapshot()))
            held = Groups(MuteTimes({}))
            held.restore(state)
        while (at := held.next_due(now)) is not None and at <= now:
            sent += held.due(at)
        sent += held.offer(event, taking, now)
    return sent + held.end(events[-1][0] + 1 if events else NOW)


@settings(max_examples=150, deadline=None)
@given(STEPS, ROUTES)
def test_a_close_goes_exactly_where_its_opening_went_and_the_last_state_is_told(
    steps: list[tuple[str, str, float]], taking: list[Route]
) -> None:
    events = happen(steps)
    heard: dict[tuple[str, str], list[Incident]] = defaultdict(list)
    for message in run(events, taking):
        for event in message.events:
            if not message.occasion:
                heard[message.receiver, event.id].append(event)
    last = {event.id: event for _, event in events}
    every = {name for one in taking for name in one.receivers}
    for id, final in last.items():
        for receiver in every:
            history = heard[receiver, id]
            assert history, "every receiver of a route is told"
            assert [one.status for one in history].count("closed") == (final.status == "closed")
            assert [one.status for one in history].index("open") == 0
            assert [one.status for one in history].count("open") == 1
            if final.status == "closed" or all("update" in one.statuses for one in taking):
                assert replace(history[-1], status=final.status) == final
                assert (history[-1].status == "closed") == (final.status == "closed")
    assert {id for _, id in heard if heard[_, id]} <= set(last)


@settings(max_examples=100, deadline=None)
@given(STEPS, ROUTES, st.integers(0, 24))
def test_a_snapshot_goes_on_exactly(
    steps: list[tuple[str, str, float]], taking: list[Route], cut: int
) -> None:
    events = happen(steps)
    assert run(events, taking, cut) == run(events, taking)


@pytest.mark.parametrize("name", ["story", "actor", "namespace", "kind", "severity", "incident"])
def test_a_group_has_in_common_what_its_route_says(name: str) -> None:
    (message,) = groups().offer(opened(), [route(group_by=(name,))], NOW)
    assert list(message.context["group"]) == [name]
    assert message.context["route"] == "r"
