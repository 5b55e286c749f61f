"""The forests of a baseline: whose forest judges a window, and what its depth is worth there.

Who was watched long enough has a forest of its own. Others borrow that of their role (workloads of
the same name in any namespace), else of their namespace, else of the whole cluster. A depth in
whichever forest is then weighed by the actor's own windows, as long as there are a hundred of them,
else by all that the forest speaks for: what is ordinary differs between hosts more than anything.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from sidelong.features.catalogue import CATALOGUE, WINDOW_NS, Feature
from sidelong.models.calibration import ONE, Calibration, Integers
from sidelong.models.forest import Depths, Forest, Rows

__all__ = [
    "CLUSTER",
    "JUDGED",
    "Forests",
    "Habit",
    "Judgement",
    "ScopeForests",
    "features_of",
    "groups_of",
    "matrix",
    "schema_hash",
]

JUDGED: Final[tuple[str, ...]] = ("workload", "edge", "domain")
"""The scopes of windows that have forests: those that follow from one actor's rows."""

CLUSTER: Final = "cluster"
"""The group of everybody."""

# Where a window lies in time, and how much of it arrived, says nothing of how strange it is. The
# others tell what their neighbours in the catalogue tell too: every further feature thins out those
# that matter.
_LEFT_OUT: Final = (
    *("hour_of_week", "completeness"),
    *("packets_out", "packets_in", "denied_share", "first_denied", "new_edge_share"),
    *("http_redirect_share", "http_forbidden_share", "lookup_domains"),
)

_NUMBERED: Final = re.compile(r"([-.]?\d+)+$")


def features_of(scope: str) -> tuple[Feature, ...]:
    """The features that the forests of a scope look at, in the order of their columns."""
    return tuple(one for one in CATALOGUE[scope] if one.name not in _LEFT_OUT)


def schema_hash(scope: str) -> str:
    """What the windows of a scope measure, as sixteen hexadecimal digits."""
    told = [(one.name, one.unit, one.meaning, one.skewed) for one in features_of(scope)]
    text = json.dumps([scope, WINDOW_NS, told])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def matrix(scope: str, windows: pl.DataFrame) -> Rows:
    """The features of window frames (features/catalogue.py), NaN where unknown.

    float32 of shape (windows.height, features).
    """
    names = [one.name for one in features_of(scope)]
    columns = windows.select(pl.col(names).cast(pl.Float32).fill_null(float("nan")))
    return np.ascontiguousarray(columns.to_numpy(), np.float32)


def groups_of(actor: str) -> tuple[str, ...]:
    """The groups that an actor belongs to, the narrowest first.

    >>> groups_of("shop/cache-2")
    ('workload:shop/cache-2', 'role:cache', 'namespace:shop', 'cluster')
    >>> groups_of("ip:10.0.0.7")
    ('workload:ip:10.0.0.7', 'role:ip:', 'cluster')
    """
    namespace, slash, name = actor.partition("/")
    if not slash or ":" in namespace:
        return f"workload:{actor}", f"role:{actor.partition(':')[0]}:", CLUSTER
    role = _NUMBERED.sub("", name) or name
    return f"workload:{actor}", f"role:{role}", f"namespace:{namespace}", CLUSTER


class Habit(NamedTuple):
    """What an actor is held against in a scope.

    forest: number of the forest. calibration: what its depths are worth. ordinary: the actor's
    usual features, float32 of shape (features,). own: whether both rest on its own windows.
    """

    forest: int
    calibration: Calibration
    ordinary: Rows
    own: bool


class Judgement(NamedTuple):
    """What forests make of some windows: depths, p-values (parts per trillion), micro-nats."""

    depth: Depths
    p: Integers
    evidence: Integers
    own: np.typing.NDArray[np.bool_]


@dataclass(frozen=True)
class ScopeForests:
    """The forests of one scope.

    groups: the forest of each group that has one. medians: of what each forest was trained on; they
    stand for what is unknown; float32 of shape (forests, features). pooled: of each forest, by all
    that it speaks for. own: by actor, whose own windows suffice. windows: how many were learnt.
    windows_per_day: how many there were in a day, learnt or not.
    """

    scope: str
    forests: tuple[Forest, ...]
    groups: dict[str, int]
    medians: Rows
    pooled: tuple[Calibration, ...]
    own: dict[str, Habit] = field(default_factory=dict)
    windows: int = 0
    windows_per_day: float = 0.0

    def habit(self, actor: str) -> Habit:
        """What an actor is held against; anybody is, if only against the cluster."""
        if found := self.own.get(actor):
            return found
        forest = next(self.groups[group] for group in groups_of(actor) if group in self.groups)
        return Habit(forest, self.pooled[forest], self.medians[forest], False)

    def judge(self, windows: pl.DataFrame) -> Judgement:
        """The judgement on each window of a frame of this scope; rows do not affect each other."""
        rows = matrix(self.scope, windows)
        depth = np.zeros(len(rows), np.int64)
        p, evidence, own = np.zeros_like(depth), np.zeros_like(depth), np.zeros(len(rows), np.bool_)
        actors, of = np.unique(windows["actor"].to_numpy(), return_inverse=True)
        habits = [self.habit(actor) for actor in actors]
        forest = np.array([habit.forest for habit in habits], np.int64)[of]
        for number in np.unique(forest):
            at = np.flatnonzero(forest == number)
            depth[at] = self.depths(int(number), rows[at])
        for number, habit in enumerate(habits):
            at = np.flatnonzero(of == number)
            step = habit.calibration.steps(depth[at])
            p[at], evidence[at] = habit.calibration.p[step], habit.calibration.evidence[step]
            own[at] = habit.own
        return Judgement(depth, p, evidence, own)

    def depths(self, forest: int, rows: Rows) -> Depths:
        """The depths of some rows in a forest, what is unknown taken as ordinary."""
        known = np.where(np.isnan(rows), self.medians[forest], rows)
        return self.forests[forest].depths(known)

    @cached_property
    def quantiles(self) -> dict[str, float]:
        """Quantiles of the scores of all windows that calibrate the cluster's forest."""
        forest = self.groups[CLUSTER]
        calibration = self.pooled[forest]
        scores = self.forests[forest].score_of(calibration.limits)
        places = {"0.5": 0.5, "0.99": 0.01, "0.999": 0.001}
        found = {
            name: int(np.searchsorted(calibration.p, share * ONE)) for name, share in places.items()
        }
        last = len(scores) - 1
        return {name: round(float(scores[min(at, last)]), 4) for name, at in found.items()}


@dataclass(frozen=True)
class Forests:
    """All forests of a baseline, by scope; none at all while too little was seen."""

    scopes: dict[str, ScopeForests] = field(default_factory=dict)

    def description(self) -> dict[str, object]:
        """For the manifest: what there is, from how much, and how scores were distributed."""
        return {
            scope: {
                "schema": schema_hash(scope),
                "forests": len(forests.forests),
                "own": len(forests.own),
                "windows": forests.windows,
                "windows_per_day": round(forests.windows_per_day, 1),
                "score_quantiles": forests.quantiles,
            }
            for scope, forests in self.scopes.items()
        }
