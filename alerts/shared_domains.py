"""Domains shared out: a tunnel that spreads its names over workloads, each below its own limit.

The never-seen names of all workloads together fill one bucket per registered domain, four times as
deep as that of one and leaking four times as fast. A name counts once in the cluster, whoever asks.
What a workload has an allowance for, or has already crossed its own limit with, does not count;
what is taken back from its own bucket is taken back here too. Needs several actors, so it takes
evidence in the order of the watermark.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.features.sums import OneSidedSums
from sidelong.ingest.keys import hash_columns
from sidelong.ingest.schema import schema_of
from sidelong.ingest.table import Table
from sidelong.models.allowances import ALERT_BYTES
from sidelong.models.evidence import ALERT, SILENCE_NS, crosses
from sidelong.models.search_paths import TAKEN_BACK

__all__ = ["SharedDomains"]

_DEPTH: Final = 4 * ALERT
_LEAK_PER_DAY: Final = 4 * _DEPTH  # like a workload's own bucket, four times its depth
_DAY_NS: Final = 86_400_000_000_000
_ASKED: Final = schema_of(
    {"domain": pl.String, "actor": pl.String, "time_ns": pl.Int64, "place": pl.UInt64}
)


class SharedDomains:
    """The common buckets. Bounded by `bounds.names` and `bounds.sums`."""

    def __init__(self, bounds: Bounds) -> None:
        self._names = Table({"who": np.uint64}, capacity=bounds.names, ttl_ns=7 * _DAY_NS)
        self._buckets = OneSidedSums(
            threshold=_DEPTH,
            silence_ns=SILENCE_NS,
            leak_per_day=_LEAK_PER_DAY,
            capacity=bounds.sums,
        )
        self._asked = _ASKED.to_frame()
        self._asked_bound = bounds.sums

    @property
    def evicted(self) -> int:
        """Names and buckets dropped because there were too many."""
        return self._names.evicted + self._buckets.evicted

    def judge(self, released: pl.DataFrame) -> pl.DataFrame:
        """The rows (`RELEASED_SCHEMA`) by which a common bucket crossed, as deciders."""
        rows = self._counted(released.filter(pl.col("statistic") == "bucket"))
        if rows.is_empty():
            return rows.select(released.columns)
        time = rows["time"].to_physical()
        asked = rows.filter(pl.col("log_evidence") > 0).select(
            "domain", "actor", "place", time_ns=pl.col("time").to_physical()
        )
        asked = asked.select(_ASKED.names()).unique(["domain", "actor"], maintain_order=True)
        self._asked = self._asked.vstack(asked)
        charge = rows["log_evidence"].to_numpy()
        level = self._buckets.add(
            hash_columns(rows, ["domain"]), charge.clip(0), (-charge).clip(0), time.to_numpy()
        )
        rows = rows.with_columns(filled=pl.Series(level, dtype=pl.Int64))
        return (
            rows.filter(crosses(pl.col("filled"), pl.col("log_evidence"), _DEPTH))
            .with_columns(statistic=pl.lit("cluster"), level=pl.col("filled") * ALERT // _DEPTH)
            .select(released.columns)
        )

    def _counted(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The names that count, each the first time, and what of these is taken back."""
        back = pl.col("reason") == TAKEN_BACK
        ordinary = pl.col("bytes") * ALERT // ALERT_BYTES
        rows = rows.filter(
            back | ((pl.col("level") < ALERT) & (pl.col("log_evidence") >= ordinary))
        )
        if rows.is_empty():
            return rows
        rows = rows.with_columns(
            name=pl.Series(hash_columns(rows, ["domain", "sample"]), dtype=pl.UInt64),
            who=pl.Series(hash_columns(rows, ["actor"]), dtype=pl.UInt64),
        )
        known = pl.Series(self._names.find(rows["name"].to_numpy()) >= 0, dtype=pl.Boolean)
        first = rows.filter(~back & ~known).unique("name", keep="first", maintain_order=True)
        self._names.put(
            first["name"].to_numpy(),
            who=first["who"].to_numpy(),
            seen=first["time"].to_physical().to_numpy(),
        )
        found = self._names.find(rows["name"].to_numpy())
        whose = pl.Series(self._names.get("who", found, 0), dtype=pl.UInt64)
        news = ~back & pl.col("row").is_in(first["row"].implode())
        counted = news | (back & (pl.col("who") == whose))
        return rows.filter(counted).unique(["name", "reason"], keep="first", maintain_order=True)

    def accomplices(self, domain: str, place: int) -> list[str]:
        """The workloads whose names filled the bucket of `domain` until the row `place`."""
        asked = self._asked.filter(pl.col("domain") == domain, pl.col("place") <= place)
        return sorted(asked["actor"].unique())

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        self._names.tidy(now_ns)
        self._buckets.tidy(now_ns)
        recent = self._asked.filter(pl.col("time_ns") >= now_ns - _DAY_NS)
        recent = recent.unique(["domain", "actor"], keep="first", maintain_order=True)
        self._asked = recent.tail(self._asked_bound)

    def snapshot(self) -> dict[str, Any]:
        """Names, buckets and who asked, as a value."""
        return {
            "names": self._names.snapshot(),
            "buckets": self._buckets.snapshot(),
            "asked": self._asked,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._names.restore(state["names"])
        self._buckets.restore(state["buckets"])
        self._asked = state["asked"]
