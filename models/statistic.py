"""A named sum of a detector: weights go in, evidence comes out."""

from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.features.bounds import Bounds
from sidelong.features.sums import OneSidedSums
from sidelong.ingest.keys import hash_columns, hash_strings, mix
from sidelong.models.evidence import (
    ALERT,
    NO_EVIDENCE,
    SILENCE_NS,
    as_evidence,
    crosses,
)

__all__ = ["Statistic"]


class Statistic:
    """One-sided sums of `weight` (micro-nats), one for each value of the columns `by`.

    leak_per_day: what a sum loses with time, in micro-nats. Bounded by `bounds.sums`.
    """

    def __init__(
        self, name: str, by: tuple[str, ...], bounds: Bounds, *, leak_per_day: int = 0
    ) -> None:
        self.name = name
        self._by = by
        self._sums = OneSidedSums(
            threshold=ALERT,
            silence_ns=SILENCE_NS,
            leak_per_day=leak_per_day,
            capacity=bounds.sums,
        )

    @property
    def evicted(self) -> int:
        """Sums dropped because there were too many."""
        return self._sums.evicted

    def groups(self, rows: pl.DataFrame) -> NDArray[np.uint64]:
        """The key of each row's sum; different statistics never share one."""
        return mix(hash_columns(rows, self._by), np.broadcast_to(self._key, rows.height))

    def add(self, rows: pl.DataFrame, weight: str = "weight") -> pl.Series:
        """The level of each row's sum after it."""
        weights = rows[weight].to_numpy()
        level = self._sums.add(
            self.groups(rows),
            charge=weights.clip(0),
            leak=(-weights).clip(0),
            time_ns=rows["time"].to_physical().to_numpy(),
        )
        return pl.Series(level, dtype=pl.Int64)

    def evidence(self, rows: pl.DataFrame, kind: str) -> pl.DataFrame:
        """Rows with a `weight`, and whatever else they tell, as evidence of a detector."""
        if rows.is_empty():
            return NO_EVIDENCE
        return as_evidence(
            rows.with_columns(
                kind=pl.lit(kind),
                statistic=pl.lit(self.name),
                sub=pl.lit(1),
                group=pl.Series(self.groups(rows), dtype=pl.UInt64),
                log_evidence="weight",
                level=self.add(rows),
            ).with_columns(decisive=crosses(pl.col("level"), pl.col("weight")))
        )

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bound."""
        self._sums.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The sums as a value."""
        return self._sums.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._sums.restore(state)

    @cached_property
    def _key(self) -> NDArray[np.uint64]:
        return hash_strings([self.name])
