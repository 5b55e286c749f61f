"""One-sided sums, the statistic behind every decision: evidence for minus evidence against.

S_n = max(0, S_{n-1} - leak_n) + charge_n, a CUSUM when the leak is evidence against (Page, 1954), a
leaky bucket when it is time. No loop is needed: with C the running total of a group, D_n = C_n -
charge_n its value just before each charge and s the level carried in,

    S_n = max(s + C_n, C_n - min over k <= n of D_k).

All terms are integers, so that the level does not depend on where a stream was cut.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.table import Table

__all__ = ["OneSidedSums", "one_sided"]


def one_sided(rows: pl.DataFrame) -> pl.Series:
    """The level after each row.

    `rows`, in order, has `group` (UInt64), `charge`, `leak` (Int64, >= 0) and `carried` (Int64), the
    level of the row's group before the first row.

    >>> one_sided(pl.DataFrame({"group": [1, 1, 1], "charge": [5, 0, 2], "leak": [0, 9, 0],
    ...                         "carried": [1, 1, 1]})).to_list()
    [6, 0, 2]
    """
    total = (pl.col("charge") - pl.col("leak")).cum_sum().over("group")
    before = total - pl.col("charge")
    return rows.select(
        level=pl.max_horizontal(pl.col("carried") + total, total - before.cum_min().over("group"))
    )["level"]


class OneSidedSums:
    """One-sided sums by 64-bit group, carried from batch to batch.

    leak_per_day: lost with time, in the unit of the charges, below 1e11. threshold: a sum that reached it and
    then saw no charge for `silence_ns` starts again at zero, as its incident closes then.
    Bounded: at most `capacity` groups, the longest untouched dropped first; none lives past `ttl_ns`
    without a charge.
    """

    def __init__(
        self,
        *,
        threshold: int,
        silence_ns: int,
        leak_per_day: int = 0,
        capacity: int,
        ttl_ns: int = 86_400_000_000_000,
    ) -> None:
        self._threshold = threshold
        self._silence_ns = silence_ns
        self._leak_per_day = leak_per_day
        self._table = Table({"level": np.int64, "last": np.int64}, capacity=capacity, ttl_ns=ttl_ns)

    @property
    def evicted(self) -> int:
        """Sums dropped because the table was full."""
        return self._table.evicted

    def add(self, rows: pl.DataFrame) -> pl.Series:
        """Add `charge` and subtract `leak` (both Int64) per `group`, at `time_ns`; levels after each.

        Rows are in stream order. Time that runs backwards within a group leaks nothing.
        """
        if rows.is_empty():
            return pl.Series("level", [], dtype=pl.Int64)
        groups = rows["group"].to_numpy()
        found = self._table.find(groups)
        rows = rows.select(
            "group",
            "charge",
            "leak",
            "time_ns",
            carried=pl.Series(self._table.get("level", found, 0)),
            last=pl.Series(self._table.get("last", found, -1)),
        )
        rows = self._leak_with_time(rows)
        rows = rows.with_columns(one_sided(rows))
        after = rows.group_by("group").agg(
            pl.col("level").last(),
            pl.col("now").last(),
            charged=pl.col("now").filter(pl.col("charge") > 0).last(),
        )
        keys = after["group"].to_numpy()
        seen = self._table.get("seen", self._table.find(keys), 0)
        charged = after["charged"].fill_null(0).to_numpy()
        self._table.put(
            keys,
            level=after["level"].to_numpy(),
            last=after["now"].to_numpy(),
            seen=np.where(charged > 0, charged, np.where(seen > 0, seen, after["now"].to_numpy())),
        )
        return rows["level"]

    def _leak_with_time(self, rows: pl.DataFrame) -> pl.DataFrame:
        now = pl.max_horizontal(pl.col("time_ns").cum_max().over("group"), pl.col("last"))
        rows = rows.with_columns(now=now)
        if not self._leak_per_day:
            return rows
        before = (
            pl.col("now")
            .shift(1)
            .over("group")
            .fill_null(pl.when(pl.col("last") < 0).then(pl.col("now")).otherwise(pl.col("last")))
        )
        # Whole milliseconds, so that a day of them times a day's leak stays within 63 bits.
        gap = (pl.col("now") // 1_000_000 - before // 1_000_000).clip(0, 86_400_000)
        return rows.with_columns(leak=pl.col("leak") + gap * self._leak_per_day // 86_400_000)

    def levels(self, groups: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The present level of each group, 0 where there is none."""
        return self._table.get("level", self._table.find(groups), 0)

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old, and settle the sums whose incident has closed."""
        level = self._table.column("level")
        quiet = now_ns - self._table.column("seen") >= self._silence_ns
        level[quiet & (level >= self._threshold)] = 0
        self._table.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The sums as a value."""
        return self._table.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._table.restore(state)
