"""When which receiver is told of what: at once, with others, again, or not at night.

What begins a group leaves at once, and so does what is worse than anything the group has told.
Whatever follows is told together once its interval is over, each incident as it stands by then.
For every receiver two laws hold: a close follows whatever was opened there, and goes nowhere else;
and the last that is told of an incident is the last that happened to it.

Time is passed in: the clock of the wall for what is live, that of the events for what is recorded.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sidelong.alerts.group import Group, Home, Key, group_key
from sidelong.alerts.incident import Incident
from sidelong.alerts.mute_times import MuteTimes
from sidelong.alerts.receiver import Message, event_key
from sidelong.alerts.routes import Route

__all__ = ["COUNTERS", "Groups"]

COUNTERS: Final = (
    "repeated",
    "unrouted",
    "hushed",
    "left_out",
    "muted",
    "unopened",
    "evicted",
    "reminders",
)
"""What becomes of events that are not told.

repeated: seen before. unrouted: no receiver on their route. hushed: acknowledged or suppressed.
left_out: changes that the route does not tell. muted: opened and closed within a mute time.
unopened: closes of what was told nobody. evicted: incidents forgotten for want of room or of news.
reminders: messages about what is still open.
"""

_MUTED_SECONDS: Final = 60.0  # how often is looked whether a mute time is over
_SILENT_SECONDS: Final = 7 * 86_400.0  # whose close is long overdue is not open any more


class Groups:
    """Events in, messages out. Bounded by `limit` incidents; the longest unchanged go first.

    hushed: whether nobody wants to hear of an incident any more, in this state of it. labels: of
    the installation, for receivers.
    """

    def __init__(
        self,
        mute: MuteTimes,
        *,
        hushed: Callable[[Incident], bool] = lambda _: False,
        labels: dict[str, str] | None = None,
        limit: int = 10_000,
    ) -> None:
        self.mute = mute
        self.labels = labels or {}
        self.counters = dict.fromkeys(COUNTERS, 0)
        self._hushed = hushed
        self._limit = limit
        self._groups: dict[Key, Group] = {}
        self._homes: dict[str, Home] = {}
        self._closed: dict[str, None] = {}

    def offer(self, event: Incident, routes: Sequence[Route], now: float) -> list[Message]:
        """What is to be sent now that `event` has happened, which `routes` take."""
        home = self._homes.get(event.id)
        key = event_key(event)
        if event.id in self._closed or (home and key in home.seen):
            self.counters["repeated"] += 1
            return []
        if event.status == "closed":
            return self._close(event, now)
        if self._hushed(event):
            self.counters["hushed"] += 1
            return []
        if home is None:
            home = self._homes[event.id] = Home()
        self._homes[event.id] = self._homes.pop(event.id)  # the last changed is the last to go
        home.note(key, now)
        self._settle(event, home, routes)
        if not home.groups:
            self.counters["unrouted"] += 1
        sent: list[Message] = []
        for at in home.groups.values():
            group = self._groups[at]
            if group.take(event, now):
                sent += self._send(group, now)
            else:
                self.counters["left_out"] += 1
        self._bound()
        return sent

    def due(self, now: float) -> list[Message]:
        """What is to be sent because time has passed."""
        sent = [
            message for group in list(self._groups.values()) for message in self._send(group, now)
        ]
        for at in [at for at, group in self._groups.items() if group.is_over(now)]:
            del self._groups[at]
        for id in [id for id, home in self._homes.items() if home.at < now - _SILENT_SECONDS]:
            self._forget(id)
        return sent

    def end(self, now: float) -> list[Message]:
        """All that waits, as nothing will follow; what a mute time holds back is dropped."""
        for group in self._groups.values():
            group.hurry(now)
        sent = self.due(now)
        for group in self._groups.values():
            self.counters["muted"] += group.drop()
        return sent

    def next_due(self, now: float) -> float | None:
        """When to call `due` next, at the latest; None if nothing waits."""
        moments = [
            now + _MUTED_SECONDS if at <= now and self.mute.mutes(group.mute, now) else at
            for group in self._groups.values()
            if (at := group.next_due) is not None
        ]
        return min(moments, default=None)

    @property
    def waiting(self) -> int:
        """Events that wait for the rest of their group, or for the end of a mute time."""
        return sum(group.waiting for group in self._groups.values())

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {
            "groups": [group.snapshot() for group in self._groups.values()],
            "homes": {id: home.snapshot() for id, home in self._homes.items()},
            "closed": list(self._closed),
            "counters": dict(self.counters),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        groups = [Group.restored(one) for one in state["groups"]]
        self._groups = {group.key: group for group in groups}
        self._homes = {id: Home.restored(one) for id, one in state["homes"].items()}
        self._closed = dict.fromkeys(state["closed"])
        self.counters |= state["counters"]

    def _settle(self, event: Incident, home: Home, routes: Iterable[Route]) -> None:
        """Find the incident its group for every receiver that does not know it yet."""
        # Whatever was hushed before it was told may have lost its group in the meantime.
        home.groups = {name: at for name, at in home.groups.items() if at in self._groups}
        for route in routes:
            for receiver in route.receivers:
                if receiver in home.groups:
                    continue
                values = route.group(event)
                at = group_key(route.name, receiver, values)
                if at not in self._groups:
                    self._groups[at] = Group.begin(route, receiver, values)
                home.groups[receiver] = at

    def _close(self, event: Incident, now: float) -> list[Message]:
        home = self._homes.pop(event.id, None)
        self._closed[event.id] = None
        while len(self._closed) > self._limit:
            del self._closed[next(iter(self._closed))]
        sent: list[Message] = []
        told = False
        for at in home.groups.values() if home else ():
            group = self._groups.get(at)
            if group and group.knows(event.id):
                told = True
                group.close(event, now)
                sent += self._send(group, now)
        if not told:
            self.counters["unopened"] += 1
        return sent

    def _send(self, group: Group, now: float) -> list[Message]:
        if not group.is_due(now):
            return []
        if self.mute.mutes(group.mute, now):
            self.counters["muted"] += group.hold()
            return []
        self.counters["hushed"] += group.hush(self._hushed)
        events, occasion = group.send(now, self._hushed)
        if not events:
            return []
        self.counters["reminders"] += bool(occasion)
        context = {"route": group.route, "group": dict(group.values), "labels": self.labels}
        return [
            Message(
                receiver=group.receiver,
                events=tuple(events),
                occasion=occasion,
                created_at=now,
                context=context,
            )
        ]

    def _bound(self) -> None:
        while len(self._homes) > self._limit:
            self._forget(next(iter(self._homes)))

    def _forget(self, id: str) -> None:
        self.counters["evicted"] += 1
        for at in self._homes.pop(id).groups.values():
            if at in self._groups:
                self._groups[at].forget(id)
