"""A group: what one receiver is told together, what it knows already, and when it is told more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from sidelong.alerts.incident import Incident
from sidelong.alerts.route_settings import SEVERITIES
from sidelong.alerts.routes import Route

__all__ = ["Group", "Home", "Key", "group_key"]

Key: TypeAlias = tuple[str, ...]
"""Route, receiver, and what the group has in common."""

_SEEN: Final = 64  # events of one incident that are told from new ones


def group_key(route: str, receiver: str, values: Mapping[str, str]) -> Key:
    """The key of a group."""
    return (route, receiver, *(f"{name}={value}" for name, value in values.items()))


@dataclass(slots=True)
class Home:
    """Where an incident is told: its group for each receiver; `at` is when it changed last."""

    groups: dict[str, Key] = field(default_factory=dict)
    seen: dict[str, None] = field(default_factory=dict)
    at: float = 0.0

    def note(self, key: str, now: float) -> None:
        """Remember an event, so that it is known when it comes again."""
        self.at = now
        self.seen[key] = None
        if len(self.seen) > _SEEN:
            del self.seen[next(iter(self.seen))]

    def snapshot(self) -> dict[str, Any]:
        """The home as plain JSON."""
        groups = {receiver: list(key) for receiver, key in self.groups.items()}
        return {"groups": groups, "seen": list(self.seen), "at": self.at}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Home":
        """The home of a snapshot."""
        groups = {receiver: tuple(key) for receiver, key in state["groups"].items()}
        return cls(groups, dict.fromkeys(state["seen"]), state["at"])


@dataclass(slots=True, kw_only=True)
class Group:
    """The state of one group. `pending` waits to be told, `open` was told and is not closed.

    An incident has one event that is pending, its latest; two if it was closed before it was told.
    Whatever is told first is told as its opening, even if it is an update elsewhere.
    worst: rank of the worst severity told. begun: when something new was told last; remind_at: when
    to tell of what is still open. Times are seconds of the epoch.
    """

    route: str
    receiver: str
    values: dict[str, str]
    wait: float
    interval: float
    repeat: float
    mute: tuple[str, ...]
    tells_updates: bool
    pending: dict[str, list[Incident]] = field(default_factory=dict)
    open: dict[str, Incident] = field(default_factory=dict)
    flush_at: float | None = None
    begun: float | None = None
    remind_at: float | None = None
    worst: int = -1
    reminders: int = 0

    @classmethod
    def begin(cls, route: Route, receiver: str, values: dict[str, str]) -> "Group":
        """A group that was told nothing yet."""
        return cls(
            route=route.name,
            receiver=receiver,
            values=values,
            wait=route.wait,
            interval=route.interval,
            repeat=route.repeat,
            mute=route.mute,
            tells_updates="update" in route.statuses,
        )

    @property
    def key(self) -> Key:
        """What tells the group from every other."""
        return group_key(self.route, self.receiver, self.values)

    @property
    def waiting(self) -> int:
        """How many events are pending."""
        return sum(map(len, self.pending.values()))

    def knows(self, id: str) -> bool:
        """Whether an incident was told, or will be."""
        return id in self.open or id in self.pending

    def take(self, event: Incident, now: float) -> bool:
        """Take the opening or an update of an incident; False if the route does not tell it."""
        if self.knows(event.id) and not self.tells_updates:
            if event.id in self.open:
                self.open[event.id] = event
            else:
                self._await(event)
            return False
        self._await(event)
        rank = SEVERITIES.index(event.severity)
        if self.begun is None:
            at = now + self.wait
        else:
            at = now if rank > self.worst else max(now, self.begun + self.interval)
        self._flush_by(at)
        return True

    def _await(self, event: Incident) -> None:
        """Let the latest state of an incident wait; the first that is told of it is its opening."""
        told = event.id in self.open
        self.pending[event.id] = [event if told else replace(event, status="open")]

    def close(self, event: Incident, now: float) -> None:
        """Take the close of an incident that the group knows."""
        untold = [] if event.id in self.open else self.pending[event.id]
        self.pending[event.id] = [*untold, event]
        self._flush_by(now if self.begun is None else max(now, self.begun + self.interval))

    def _flush_by(self, at: float) -> None:
        self.flush_at = at if self.flush_at is None else min(self.flush_at, at)

    @property
    def next_due(self) -> float | None:
        """When something is to be sent next."""
        if self.flush_at is not None:
            return self.flush_at
        return self.remind_at if self.open else None

    def is_due(self, now: float) -> bool:
        """Whether something is to be sent."""
        at = self.next_due
        return at is not None and at <= now

    def hurry(self, now: float) -> None:
        """Let what is pending wait no longer."""
        if self.pending:
            self.flush_at = now

    def hold(self) -> int:
        """Send nothing, as it is a mute time; what is over by now is dropped, and counted."""
        over = [id for id, events in self.pending.items() if len(events) > 1]
        return sum(len(self.pending.pop(id)) for id in over)

    def drop(self) -> int:
        """Send nothing any more; how much that was."""
        dropped = self.waiting
        self.pending.clear()
        self.flush_at = None
        return dropped

    def hush(self, hushed: Callable[[Incident], bool]) -> int:
        """Drop what nobody wants to hear any more, and how much it was; closes of what was told
        stay."""
        quiet = [
            id
            for id, events in self.pending.items()
            if hushed(events[0]) and (id not in self.open or events[-1].status != "closed")
        ]
        return sum(len(self.pending.pop(id)) for id in quiet)

    def send(self, now: float, hushed: Callable[[Incident], bool]) -> tuple[list[Incident], str]:
        """What is to be told now, and on which occasion; afterwards it is told."""
        occasion = ""
        events = [event for waiting in self.pending.values() for event in waiting]
        self.pending.clear()
        if events:
            self.begun = now
        elif self.flush_at is None:
            events = [event for event in self.open.values() if not hushed(event)]
            self.reminders += bool(events)
            occasion = f"reminder {self.reminders}"
        self.flush_at = None
        self.remind_at = now + self.repeat if self.repeat else None
        for event in events:
            self.worst = max(self.worst, SEVERITIES.index(event.severity))
            if event.status == "closed":
                self.open.pop(event.id, None)
            else:
                self.open[event.id] = event
        return events, occasion

    def forget(self, id: str) -> None:
        """Lose an incident."""
        self.pending.pop(id, None)
        self.open.pop(id, None)

    def is_over(self, now: float) -> bool:
        """Whether nothing of the group matters any more."""
        if self.pending or self.open:
            return False
        return self.begun is None or now >= self.begun + self.interval

    def snapshot(self) -> dict[str, Any]:
        """The group as plain JSON."""
        state = {name: getattr(self, name) for name in self.__slots__}
        state["mute"] = list(self.mute)
        state["values"] = dict(self.values)
        state["open"] = [event.to_dict() for event in self.open.values()]
        state["pending"] = [
            [event.to_dict() for event in events] for events in self.pending.values()
        ]
        return state

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Group":
        """The group of a snapshot."""
        opened = [Incident.of(plain) for plain in state["open"]]
        pending = [[Incident.of(plain) for plain in events] for events in state["pending"]]
        values: dict[str, Any] = {
            **state,
            "mute": tuple(state["mute"]),
            "open": {event.id: event for event in opened},
            "pending": {events[0].id: events for events in pending},
        }
        return cls(**values)
