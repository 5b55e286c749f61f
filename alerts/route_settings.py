"""What can be set of where alerts go, and which incidents a route takes."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal, get_args

import msgspec

from sidelong.alerts.incident import Incident, Kind, Severity, Status
from sidelong.alerts.mute_times import MuteSettings
from sidelong.alerts.policy_names import workload_parts

__all__ = ["SEVERITIES", "AlertSettings", "GroupBy", "RouteSettings", "several"]

GroupBy = Literal["story", "actor", "namespace", "kind", "severity", "incident"]

SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
"""From the least to the worst."""


class RouteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route: which incidents it takes, and what becomes of them.

    kind, namespace, workload, technique, labels: one or several; of each that is given, one must
    hold. namespace, workload and the values of labels may hold `*`; the first two are those of who
    did it. technique: how it begins, so that T1021 takes T1021.004. severity, min_score: from there
    up. status: which changes are told; a close always follows what was opened.

    receivers: by name; of the route above without, nobody if empty. continue: whether the routes
    after this one are tried as well. group_by: what is told together: of the same `story`, as by
    default, `actor`, `namespace`, `kind`, `severity`, or each `incident` alone. group_wait: how
    long the first of a group waits for others, by default 0s. group_interval: how long those after
    it do, unless worse than all before; 1m. repeat_interval: when to remind of what is still open;
    4h, and 0s for never. mute: windows of `[alerts.mute]` in which nothing is sent. name: what
    messages call the route. routes: tried first, in their order.
    """

    name: str | None = None
    kind: Kind | tuple[Kind, ...] = ()
    severity: Severity | None = None
    min_score: float = 0.0
    namespace: str | tuple[str, ...] = ()
    workload: str | tuple[str, ...] = ()
    technique: str | tuple[str, ...] = ()
    labels: Mapping[str, str | tuple[str, ...]] = msgspec.field(default_factory=dict)
    status: Status | tuple[Status, ...] = ()
    receivers: str | tuple[str, ...] | None = None
    continue_: bool = msgspec.field(name="continue", default=False)
    group_by: GroupBy | tuple[GroupBy, ...] | None = None
    group_wait: str | None = None
    group_interval: str | None = None
    repeat_interval: str | None = None
    mute: str | tuple[str, ...] = ()
    routes: tuple["RouteSettings", ...] = ()

    @property
    def takes_everything(self) -> bool:
        """Whether it has no matcher at all."""
        return self.covers(RouteSettings())

    def matches(self, incident: Incident, labels: Mapping[str, str]) -> bool:
        """Whether the route takes an incident; labels: those of the installation."""
        score, rank = incident.score, SEVERITIES.index
        if score < self.min_score or rank(incident.severity) < rank(self.severity or "info"):
            return False
        if self.kind and incident.kind not in several(self.kind):
            return False
        workload = incident.actor.workload
        parts = workload_parts(workload)
        if self.namespace and not (parts and _any_glob(parts[0], self.namespace)):
            return False
        if self.workload and not _any_glob(workload, self.workload):
            return False
        prefixes = several(self.technique)
        if prefixes and not any(name.startswith(prefixes) for name in incident.techniques):
            return False
        return self.holds_here(labels)

    def holds_here(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels of the installation are those that the route asks for."""
        return all(
            name in labels and _any_glob(labels[name], patterns)
            for name, patterns in self.labels.items()
        )

    def covers(self, other: "RouteSettings") -> bool:
        """Whether whatever `other` takes is certainly taken here too."""
        rank = SEVERITIES.index
        return (
            self.min_score <= other.min_score
            and rank(self.severity or "info") <= rank(other.severity or "info")
            and _all_within(other.kind, self.kind)
            and _all_within(other.namespace, self.namespace)
            and _all_within(other.workload, self.workload)
            and _all_within(
                other.technique, tuple(f"{prefix}*" for prefix in several(self.technique))
            )
            and all(
                name in other.labels and _all_within(other.labels[name], patterns)
                for name, patterns in self.labels.items()
            )
        )


class AlertSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where alerts go, and which are kept back.

    labels: of this installation, such as `cluster`; receivers are told, routes can ask for them.
    route: the default route and, in its `routes`, all others; without one every receiver is told
    everything. routes: a TOML or YAML file that holds `route`, and `mute`, instead. mute: named
    windows of time. suppressions: files of what nobody wants to be told. audit: who said what of
    which incident, appended to by `sidelong alerts ack`, `benign` and `confirm`.
    """

    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    route: RouteSettings | None = None
    routes: str | None = None
    mute: Mapping[str, MuteSettings] = msgspec.field(default_factory=dict)
    suppressions: tuple[str, ...] = ()
    audit: str = "alerts-audit.jsonl"


def several(one_or_more: str | tuple[str, ...]) -> tuple[str, ...]:
    """A setting that may be one text or a list of them, as a list.

    >>> several("a"), several(("a", "b"))
    (('a',), ('a', 'b'))
    """
    return (one_or_more,) if isinstance(one_or_more, str) else tuple(one_or_more)


def _any_glob(text: str, patterns: str | tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in several(patterns))


def _all_within(inner: str | tuple[str, ...], outer: str | tuple[str, ...]) -> bool:
    """Whether every pattern of `inner` stays within one of `outer`; none at all is everything."""
    if not outer:
        return True
    return bool(inner) and all(
        any(one == other or _glob_within(one, other) for other in several(outer))
        for one in several(inner)
    )


def _glob_within(inner: str, outer: str) -> bool:
    # A star of `inner` is a text like any other to the stars of `outer`, but to nothing else there.
    return not set("?[") & set(inner + outer) and fnmatchcase(inner, outer)
