"""Anomaly: windows unlike what a workload's windows are, by the isolation forests of a baseline.

The fourth voice beside scan, DNS and edges, and the quietest. A window's evidence is calibrated by
the actor's own windows (models/calibration.py), widened where that calibration proves wrong
(models/adaptive_level.py), and added up for each thing that windows are of; a sum that crosses what
the budget of alarms a day allows tells of an anomaly, which is information and never more. What it
adds to the other detectors stands in models/joint.py.
"""

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.features.bounds import Bounds
from sidelong.features.windows import Closed
from sidelong.ingest.keys import hash_column, hash_strings, mix
from sidelong.ingest.schema import schema_of
from sidelong.models.adaptive_level import FINE, AdaptiveLevels
from sidelong.models.anomaly_parts import parts_of
from sidelong.models.budgeted_sums import BudgetedSums, Moved
from sidelong.models.calibration import ONE, Integers, budget_threshold
from sidelong.models.evidence import EVIDENCE_SCHEMA, as_evidence, micro_nats
from sidelong.models.forests import JUDGED, Forests, ScopeForests, features_of, matrix
from sidelong.models.window_sample import LEAST_COMPLETENESS

__all__ = ["ALARMS_PER_DAY", "ANOMALY_SCHEMA", "NO_ANOMALIES", "STRANGE", "AnomalyDetector"]

ALARMS_PER_DAY: Final = 1.0
"""How many anomalies in a day a cluster may bring by chance, all scopes together."""

STRANGE: Final = ONE // 1_000
"""The p-value below which a window supports what other detectors hold against its actor."""

_WORTH: Final = ONE // 100  # windows less strange than this are not told of
_LEAST: Final = micro_nats(-np.log(2.0))  # of a p-value of 1

ANOMALY_SCHEMA: Final = schema_of(
    {**EVIDENCE_SCHEMA, "p": pl.Int64, "own": pl.Boolean, "old": pl.Boolean}
)
"""Evidence of kind `anomaly`, and for models/joint.py: the p-value (parts per trillion), whether
the actor is calibrated by its own windows, and whether the window is of a habit that is not new."""

NO_ANOMALIES: Final = ANOMALY_SCHEMA.to_frame()


class AnomalyDetector:
    """Judges closed windows. Bounded by `bounds.sums`, in each scope.

    budget: alarms a day that are bearable; a larger one never brings fewer alarms.
    """

    def __init__(self, forests: Forests, bounds: Bounds, budget: float = ALARMS_PER_DAY) -> None:
        self._forests = forests.scopes
        self._threshold = {
            scope: budget_threshold(one.windows_per_day * len(self._forests), budget)
            for scope, one in self._forests.items()
        }
        self._levels = AdaptiveLevels(bounds.sums)
        self._sums = BudgetedSums(bounds.sums)
        # No two scopes share a key.
        self._salt = dict(zip(JUDGED, hash_strings(JUDGED), strict=True))

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of windows that can be judged; without any, no window is needed."""
        return tuple(self._forests)

    @property
    def evicted(self) -> int:
        """Levels and sums dropped because there were too many."""
        return self._levels.evicted + self._sums.evicted

    def judge(self, closed: Closed) -> pl.DataFrame:
        """Evidence (`ANOMALY_SCHEMA`) from windows that have closed, in stream order.

        All windows of an actor that close at a row must come together.
        """
        found = [self._judge(one, getattr(closed, scope)) for scope, one in self._forests.items()]
        found = [one for one in found if not one.is_empty()]
        if not found:
            return NO_ANOMALIES
        return pl.concat(found).sort("row", "actor", "statistic", "group")

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        self._levels.tidy(now_ns)
        self._sums.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """Levels and sums as a value."""
        return {"levels": self._levels.snapshot(), "sums": self._sums.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._levels.restore(state["levels"])
        self._sums.restore(state["sums"])

    def _judge(self, forests: ScopeForests, windows: pl.DataFrame) -> pl.DataFrame:
        rows = windows.filter(pl.col("completeness") >= LEAST_COMPLETENESS).sort("row", "group")
        if rows.is_empty():
            return NO_ANOMALIES
        found = forests.judge(rows)
        salt = np.full(rows.height, self._salt[forests.scope], np.uint64)
        time_ns = rows["last"].to_physical().to_numpy()
        factors = self._levels.widen(
            mix(salt, hash_column(rows["actor"])), rows["row"].to_numpy(), found.p, time_ns
        )
        p = np.minimum(found.p // FINE * factors, ONE)
        evidence = np.maximum(found.evidence - AdaptiveLevels.cost(factors), _LEAST)
        groups = mix(salt, rows["group"].to_numpy())
        threshold = np.full(rows.height, self._threshold[forests.scope], np.int64)
        moved = self._sums.add(groups, evidence, threshold, p <= _WORTH, time_ns)
        told = np.flatnonzero(moved.told)
        if not len(told):
            return NO_ANOMALIES
        return _evidence(forests, rows, told, groups, p, evidence, moved, found.own)


def _evidence(
    forests: ScopeForests,
    rows: pl.DataFrame,
    told: NDArray[np.int64],
    groups: NDArray[np.uint64],
    p: Integers,
    evidence: Integers,
    moved: Moved,
    own: NDArray[np.bool_],
) -> pl.DataFrame:
    scope = forests.scope
    chosen = rows[told]
    object_ = {
        "workload": pl.lit(None, pl.String),
        "edge": pl.col("peer"),
        "domain": pl.col("domain"),
    }
    old = {"edge": pl.col("new_edge").fill_null(0) == 0}
    judged = chosen.with_columns(
        p=pl.Series(p[told]),
        own=pl.Series(own[told]),
        old=old.get(scope, pl.lit(True)),
        kind=pl.lit("anomaly"),
        statistic=pl.lit(scope),
        sub=pl.lit(2**16 - 1),  # after what the row itself brought
        group=pl.Series(groups[told], dtype=pl.UInt64),
        time="last",
        object=object_[scope],
        object_ip=pl.col("peer_ip") if scope == "edge" else pl.lit(None, pl.String),
        reason=pl.lit("STRANGE"),
        log_evidence=pl.Series(evidence[told]),
        level=pl.Series(moved.level[told]),
        decisive=pl.Series(moved.alarm[told]),
        parts=_parts(forests, chosen, evidence[told]),
    )
    extra = judged.select("p", "own", "old")
    return as_evidence(judged).hstack(extra).match_to_schema(ANOMALY_SCHEMA)


def _parts(forests: ScopeForests, windows: pl.DataFrame, evidence: Integers) -> pl.Series:
    features = matrix(forests.scope, windows)
    observed = windows.select(one.name for one in features_of(forests.scope)).rows()
    parts = [
        parts_of(forests, forests.habit(actor), row, values) if weight > 0 else None
        for actor, row, values, weight in zip(
            windows["actor"], features, observed, evidence, strict=True
        )
    ]
    return pl.Series(parts, dtype=EVIDENCE_SCHEMA["parts"])
