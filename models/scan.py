"""Scanning: a sequential test on how first contacts end.

Each outcome is a log-likelihood ratio (models/outcome_weights.py). One sum watches the ports of one
peer (vertical), one the peers (horizontal), of which each counts for at most three failures, so
that one dead destination with many ports cannot look like a sweep. Five plain failures, four
denials or three unused addresses alarm.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.ingest.keys import hash_columns
from sidelong.ingest.table import Table
from sidelong.models.baseline import Baseline
from sidelong.models.evidence import NO_EVIDENCE, as_evidence, crosses
from sidelong.models.expectation import expecting
from sidelong.models.outcome_weights import OutcomeWeights
from sidelong.models.statistic import Statistic

__all__ = ["PER_DESTINATION", "ScanDetector"]

PER_DESTINATION: Final = 3
"""Failures for which one peer counts in a sweep."""

_DAY_NS: Final = 86_400_000_000_000


class ScanDetector:
    """Judges the outcomes of first contacts. Bounded by `bounds.sums`."""

    def __init__(self, baseline: Baseline, networks: frozenset[str], bounds: Bounds) -> None:
        self._weights = OutcomeWeights(baseline, networks)
        self._vertical = Statistic("vertical", ("actor", "object"), bounds)
        self._horizontal = Statistic("horizontal", ("actor",), bounds)
        self._failures = Table({"count": np.int64}, capacity=bounds.sums, ttl_ns=_DAY_NS)

    @property
    def evicted(self) -> int:
        """Sums and counters dropped because there were too many."""
        return self._vertical.evicted + self._horizontal.evicted + self._failures.evicted

    def judge(self, outcomes: pl.DataFrame) -> pl.DataFrame:
        """Evidence from outcomes (`OUTCOME_SCHEMA`): one row each, zero or negative included.

        The level is that of the sum that stands higher, vertical or horizontal.
        """
        if outcomes.is_empty():
            return NO_EVIDENCE
        rows = self._cap(self._weights.weigh(outcomes))
        rows = rows.with_columns(
            vertical=self._vertical.add(rows), horizontal=self._horizontal.add(rows, "capped")
        )
        across = pl.col("horizontal") >= pl.col("vertical")
        return as_evidence(
            rows.with_columns(
                kind=pl.lit("scan"),
                statistic=pl.when(across).then(pl.lit("horizontal")).otherwise(pl.lit("vertical")),
                group=pl.Series(self._horizontal.groups(rows), dtype=pl.UInt64),
                log_evidence="weight",
                level=pl.max_horizontal("vertical", "horizontal"),
                decisive=crosses(pl.col("vertical"), pl.col("weight"))
                | crosses(pl.col("horizontal"), pl.col("capped")),
            ).with_columns(
                expecting(
                    pl.format("about 1 in {} fails", (1 / (1 - pl.col("own"))).round(0).cast(int))
                )
            )
        )

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        self._vertical.tidy(now_ns)
        self._horizontal.tidy(now_ns)
        self._failures.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """Sums and counters as a value."""
        return {
            "vertical": self._vertical.snapshot(),
            "horizontal": self._horizontal.snapshot(),
            "failures": self._failures.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._vertical.restore(state["vertical"])
        self._horizontal.restore(state["horizontal"])
        self._failures.restore(state["failures"])

    def _cap(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds `capped`: the weight, but nothing from the fourth failure at one peer on."""
        keys = hash_columns(rows, ["actor", "object"])
        before = self._failures.get("count", self._failures.find(keys), 0)
        failed = (pl.col("weight") > 0).cast(pl.Int64)
        rows = rows.with_columns(
            pair=pl.Series(keys, dtype=pl.UInt64), before=pl.Series(before, dtype=pl.Int64)
        ).with_columns(nth=pl.col("before") + failed.cum_sum().over("pair"))
        last = rows.group_by("pair", maintain_order=True).agg(
            pl.col("nth").last(), pl.col("time").last().to_physical()
        )
        self._failures.put(
            last["pair"].to_numpy(), count=last["nth"].to_numpy(), seen=last["time"].to_numpy()
        )
        spent = (pl.col("weight") > 0) & (pl.col("nth") > PER_DESTINATION)
        return rows.with_columns(capped=pl.when(spent).then(0).otherwise("weight"))
