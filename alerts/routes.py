"""Routes: a tree that says which receivers are told of an incident, and how.

As in Alertmanager: an incident goes down the tree to the first route that takes it, and further to
those after it where `continue` says so; where no route below takes it, it stays. What a route does
not say of receivers and intervals it has from the one above; matchers and mute times it has not.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from sidelong.alerts.incident import Incident, Status
from sidelong.alerts.mute_times import MuteSettings
from sidelong.alerts.route_settings import (
    AlertSettings,
    RouteSettings,
    several,
)
from sidelong.alerts.settings_files import read_settings
from sidelong.errors import ConfigError
from sidelong.ingest.durations import length

__all__ = ["Route", "Routes", "with_route_file"]

_TOP: Final = "alerts.route"
_EVERYTHING: Final[frozenset[Status]] = frozenset(("open", "update", "closed"))
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Route:
    """What a route does with what it takes: whom it tells, with what, and when (seconds)."""

    name: str
    receivers: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ("story",)
    wait: float = 0.0
    interval: float = 60.0
    repeat: float = 4 * 3600.0
    mute: tuple[str, ...] = ()
    statuses: frozenset[Status] = _EVERYTHING

    def group(self, incident: Incident) -> dict[str, str]:
        """What is the same of every incident that is told together with this one."""
        workload = incident.actor.workload
        values = {
            "story": incident.story,
            "actor": workload,
            "namespace": workload.partition("/")[0] if "/" in workload else "",
            "kind": incident.kind,
            "severity": incident.severity,
            "incident": incident.id,
        }
        return {name: values[name] for name in self.group_by}


@dataclass(frozen=True, slots=True)
class _Node:
    settings: RouteSettings
    route: Route
    below: tuple["_Node", ...]


class _RouteFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    route: RouteSettings
    mute: Mapping[str, MuteSettings] = msgspec.field(default_factory=dict)


def with_route_file(settings: AlertSettings) -> AlertSettings:
    """The settings with what their file of routes says put in its place.

    Errors: ConfigError for a file that cannot be used, or for routes in two places.
    """
    if settings.routes is None:
        return settings
    if settings.route is not None:
        raise ConfigError(
            f"routes are in [{_TOP}] and in {settings.routes}", hint="leave one of them out"
        )
    file = read_settings(settings.routes, _RouteFile)
    if twice := settings.mute.keys() & file.mute.keys():
        raise ConfigError(
            f"the mute time {min(twice)!r} is set twice", hint=f"also in {settings.routes}"
        )
    return msgspec.structs.replace(
        settings, route=file.route, mute={**settings.mute, **file.mute}, routes=None
    )


class Routes:
    """The tree, checked. `warnings` tells what is allowed and hardly meant.

    receivers: those there are. mute: the windows there are. Errors: ConfigError for a receiver or
    mute time that there is not, for intervals that are none, and for a tree that tells nobody.
    """

    def __init__(
        self, settings: AlertSettings, receivers: Collection[str], mute: Collection[str] = ()
    ) -> None:
        self._labels = settings.labels
        self._receivers = frozenset(receivers)
        self._mute = frozenset(mute)
        self._names: set[str] = set()
        self.warnings: list[str] = []
        root = settings.route
        if root is None:
            root = RouteSettings(receivers=tuple(receivers))
        elif root.receivers is None:
            raise ConfigError(
                f"{_TOP}, the default route, names no receiver",
                hint='add receivers = ["NAME"], or [] if nobody is to be told by default',
            )
        self._root = self._node(root, Route(_TOP), _TOP)
        named = {name for route in self.all() for name in route.receivers}
        if settings.route is not None and not named:
            raise ConfigError(
                f"no route below {_TOP} has a receiver", hint="nobody would be told of anything"
            )
        if not root.takes_everything:
            self.warnings.append(f"{_TOP} has matchers: what they do not take, nobody is told")
        if root.continue_:
            self.warnings.append(f"{_TOP}: continue says nothing there, for no route is after it")
        self._judge(self._root, _TOP)
        self.warnings += [
            f"no route leads to the receiver {name!r}" for name in sorted(self._receivers - named)
        ]

    def all(self) -> Iterator[Route]:
        """Every route, a route before those below it."""
        waiting = [self._root]
        while waiting:
            node = waiting.pop()
            yield node.route
            waiting += reversed(node.below)

    def of(self, incident: Incident) -> list[Route]:
        """The routes that take an incident, in the order of the tree; none if nobody is told."""
        taken: list[Route] = []
        if self._root.settings.matches(incident, self._labels):
            self._descend(self._root, incident, taken)
        return taken

    def _descend(self, node: _Node, incident: Incident, taken: list[Route]) -> None:
        before = len(taken)
        for below in node.below:
            if below.settings.matches(incident, self._labels):
                self._descend(below, incident, taken)
                if not below.settings.continue_:
                    break
        if len(taken) == before:
            taken.append(node.route)

    def _node(self, settings: RouteSettings, above: Route, place: str) -> _Node:
        if len(self._names) >= _MOST:
            raise ConfigError(f"there are more than {_MOST} routes", hint="use fewer")
        name = settings.name or place
        if name in self._names:
            raise ConfigError(f"{place}: another route is called {name!r} too", hint="rename one")
        self._names.add(name)
        route = Route(
            name=name,
            receivers=self._known(settings.receivers, above.receivers, place),
            group_by=tuple(several(settings.group_by))
            if settings.group_by is not None
            else above.group_by,
            wait=_seconds(settings.group_wait, above.wait, f"{place}.group_wait"),
            interval=_seconds(settings.group_interval, above.interval, f"{place}.group_interval"),
            repeat=_seconds(settings.repeat_interval, above.repeat, f"{place}.repeat_interval"),
            mute=several(settings.mute),
            statuses=above.statuses & _statuses(settings, place),
        )
        for window in route.mute:
            if window not in self._mute:
                raise ConfigError(
                    f"{place}: there is no mute time {window!r}",
                    hint=f"declare it as [alerts.mute.{window}]",
                )
        if not 0.0 <= settings.min_score <= 1.0:
            raise ConfigError(
                f"{place}.min_score is {settings.min_score}", hint="scores are from 0 to 1"
            )
        below = (
            self._node(one, route, f"{place}.routes[{number}]")
            for number, one in enumerate(settings.routes)
        )
        return _Node(settings, route, tuple(below))

    def _known(
        self, names: str | tuple[str, ...] | None, above: tuple[str, ...], place: str
    ) -> tuple[str, ...]:
        if names is None:
            return above
        for name in several(names):
            if name not in self._receivers:
                there = ", ".join(sorted(self._receivers)) or "none"
                raise ConfigError(
                    f"{place}: there is no receiver {name!r}",
                    hint=f"declare it in [[receivers]]; there are {there}",
                )
        return tuple(dict.fromkeys(several(names)))

    def _judge(self, node: _Node, place: str) -> None:
        """Warn of routes that nothing reaches."""
        for number, below in enumerate(node.below):
            path = f"{place}.routes[{number}]"
            name = path if below.route.name == path else f"{path} ({below.route.name})"
            if not below.settings.holds_here(self._labels):
                self.warnings.append(f"{name} is never reached: its labels are not those of here")
            for before in node.below[:number]:
                if not before.settings.continue_ and before.settings.covers(below.settings):
                    self.warnings.append(
                        f"{name} is never reached: {before.route.name} takes all of it before"
                    )
                    break
            if _contradict(node.settings, below.settings):
                self.warnings.append(f"{name} is never reached: it asks for what {place} refuses")
            self._judge(below, path)


def _contradict(above: RouteSettings, below: RouteSettings) -> bool:
    kinds = set(several(above.kind)), set(several(below.kind))
    return all(kinds) and kinds[0].isdisjoint(kinds[1])


def _seconds(told: str | None, above: float, what: str) -> float:
    if told is None:
        return above
    if told.strip() in ("0", "0s"):
        return 0.0
    return length(told, what).total_seconds()


def _statuses(settings: RouteSettings, place: str) -> frozenset[Status]:
    told: frozenset[Status] = frozenset(
        [settings.status] if isinstance(settings.status, str) else settings.status
    )
    if not told:
        return _EVERYTHING
    if "open" not in told:
        raise ConfigError(
            f"{place}.status leaves out open",
            hint="a change cannot be told of what was never told; a close follows by itself",
        )
    return told
