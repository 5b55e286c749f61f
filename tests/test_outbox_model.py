"""The outbox against a naive model of its rules: once, in order, by whoever holds the lease."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alert_builders import incident, message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.incident import Status
from sidelong.alerts.outbox import Outbox, Taken

Event = tuple[str, Status]

LEASE, REMEMBER, DEAD_AFTER = 10.0, 50.0, 100.0

WORKERS = st.integers(0, 1)
RECEIVERS = st.sampled_from(["pager", "chat"])
EVENTS = st.tuples(st.sampled_from("abc"), st.sampled_from(["open", "update", "closed"]))


@dataclass
class Kept:
    """What the model knows of a message."""

    receiver: str
    events: list[Event]
    due: float
    expires: float
    state: str = "waiting"
    attempts: int = 0
    lease: str | None = None
    until: float = 0.0
    settled_at: float = 0.0


@dataclass
class Model:
    now: float = 1_000_000.0
    kept: list[Kept] = field(default_factory=list)

    def put(self, receiver: str, events: list[Event]) -> int:
        known = {event for one in self.kept if one.receiver == receiver for event in one.events}
        fresh = [event for event in dict.fromkeys(events) if event not in known]
        if fresh:
            self.kept.append(Kept(receiver, fresh, self.now, self.now + DEAD_AFTER))
        return bool(fresh)

    def take(self, receiver: str, early: bool) -> Kept | None:
        before: set[str] = set()
        for one in self.kept:
            if one.receiver != receiver or one.state != "waiting":
                continue
            incidents = {name for name, _ in one.events}
            free = one.lease is None or one.until <= self.now
            if free and (early or one.due <= self.now) and not incidents & before:
                return one
            before |= incidents
        return None


class OutboxRules(RuleBasedStateMachine):
    held = Bundle("held")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.settings = DeliverySettings(
            outbox=str(Path(self.folder.name) / "outbox"),
            lease_seconds=LEASE,
            remember_seconds=REMEMBER,
            dead_after_seconds=DEAD_AFTER,
        )
        self.model = Model()
        self.workers = [self.opened(), self.opened()]

    def opened(self) -> Outbox:
        return Outbox(self.settings, clock=lambda: self.model.now)

    def teardown(self) -> None:
        if hasattr(self, "workers"):
            for worker in self.workers:
                worker.close()
            self.folder.cleanup()

    @rule(worker=WORKERS, receiver=RECEIVERS, events=st.lists(EVENTS, min_size=1, max_size=3))
    def put(self, worker: int, receiver: str, events: list[Event]) -> None:
        told = message(*(incident(name, status) for name, status in events), to=receiver)
        assert self.workers[worker].put([told]) == self.model.put(receiver, events)

    @rule(target=held, worker=WORKERS, receiver=RECEIVERS, early=st.booleans())
    def take(self, worker: int, receiver: str, early: bool) -> Any:
        taken = self.workers[worker].take(receiver, early=early)
        expected = self.model.take(receiver, early)
        assert (taken is None) == (expected is None)
        if taken is None or expected is None:
            return multiple()
        assert [(event.id, event.status) for event in taken.message.events] == expected.events
        expected.attempts += 1
        assert taken.message.attempt == expected.attempts
        expected.lease, expected.until = taken.lease, self.model.now + LEASE
        return taken, expected

    @rule(holding=held, worker=WORKERS)
    def delivered(self, holding: tuple[Taken, Kept], worker: int) -> None:
        taken, kept = holding
        self.workers[worker].delivered(taken)
        if any(kept is one for one in self.model.kept):
            kept.state, kept.lease, kept.settled_at = "delivered", None, self.model.now

    @rule(holding=held, worker=WORKERS, wait=st.integers(0, 30))
    def later(self, holding: tuple[Taken, Kept], worker: int, wait: int) -> None:
        taken, kept = holding
        self.workers[worker].later(taken, self.model.now + wait, "busy")
        if kept.lease == taken.lease:
            kept.due, kept.lease = self.model.now + wait, None

    @rule(holding=held, worker=WORKERS)
    def give_up(self, holding: tuple[Taken, Kept], worker: int) -> None:
        taken, kept = holding
        mine = kept.lease == taken.lease
        assert self.workers[worker].give_up(taken, "refused") is mine
        if mine:
            kept.state, kept.lease, kept.settled_at = "dead", None, self.model.now

    @rule(worker=WORKERS, receiver=RECEIVERS)
    def expire(self, worker: int, receiver: str) -> None:
        self.workers[worker].expire(receiver)
        for one in self.model.kept:
            free = one.lease is None or one.until <= self.model.now
            late = one.state == "waiting" and one.expires <= self.model.now
            if one.receiver == receiver and late and free:
                one.state, one.lease, one.settled_at = "dead", None, self.model.now

    @rule(worker=WORKERS, receiver=st.none() | RECEIVERS)
    def redeliver(self, worker: int, receiver: str | None) -> None:
        dead = [
            one
            for one in self.model.kept
            if one.state == "dead" and receiver in (None, one.receiver)
        ]
        assert self.workers[worker].redeliver(receiver=receiver) == len(dead)
        for one in dead:
            one.state, one.attempts, one.due = "waiting", 0, self.model.now
            one.expires = self.model.now + DEAD_AFTER

    @rule(worker=WORKERS, receiver=RECEIVERS)
    def hurry(self, worker: int, receiver: str) -> None:
        self.workers[worker].hurry(receiver)
        for one in self.model.kept:
            if one.receiver == receiver and one.state == "waiting":
                one.due = min(one.due, self.model.now)

    @rule(worker=WORKERS)
    def tidy(self, worker: int) -> None:
        self.workers[worker].tidy()
        oldest = self.model.now - REMEMBER
        self.model.kept = [
            one for one in self.model.kept if one.state != "delivered" or one.settled_at >= oldest
        ]

    @rule(seconds=st.sampled_from([1, 9, 10, 30, 60, 120]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds

    @rule(worker=WORKERS)
    def restart(self, worker: int) -> None:
        """What it held is free at once; what it sent may still be noted, by whoever."""
        ended = self.workers[worker]
        ended.close()
        self.workers[worker] = self.opened()
        for one in self.model.kept:
            if one.lease and one.lease.startswith(ended._presence.name):
                one.lease = None

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        if not hasattr(self, "workers"):
            return
        counted = {
            receiver: (queue.waiting, queue.dead)
            for receiver, queue in self.workers[0].queues().items()
            if queue.waiting or queue.dead
        }
        expected: dict[str, tuple[int, int]] = {}
        for one in self.model.kept:
            waiting, dead = expected.get(one.receiver, (0, 0))
            expected[one.receiver] = (
                waiting + (one.state == "waiting"),
                dead + (one.state == "dead"),
            )
        assert counted == {name: pair for name, pair in expected.items() if any(pair)}


TestOutboxRules = OutboxRules.TestCase
TestOutboxRules.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
