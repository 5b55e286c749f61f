"""Rows of a run that are added up by their key, those that weigh the most kept."""

from collections.abc import Callable, Sequence

import polars as pl

__all__ = ["RecordedRows"]


class RecordedRows:
    """Adds up rows by `key`; keeps `most` of them, those with the most in `weight`, of equals those
    first seen.

    summed: one row for each key, of rows that may be sums already. What it gives must not depend on
    how the rows came together.
    """

    def __init__(
        self,
        most: int,
        key: Sequence[str],
        weight: str,
        summed: Callable[[pl.DataFrame], pl.DataFrame],
    ) -> None:
        self._most = most
        self._order = [weight, "first_seen", *key]
        self._summed = summed
        self._kept = pl.DataFrame()
        self._fresh: list[pl.DataFrame] = []
        self.dropped = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Count rows; the bound holds at the next `tidy`."""
        self._fresh.append(self._summed(rows))

    def tidy(self) -> None:
        """Put together what came since, and drop what is beyond the bound."""
        if not self._fresh:
            return
        kept = [self._kept] if self._kept.height else []
        rows = self._summed(pl.concat([*kept, *self._fresh]))
        self._fresh = []
        self.dropped += max(0, rows.height - self._most)
        descending = [True] + [False] * (len(self._order) - 1)
        self._kept = rows.sort(self._order, descending=descending).head(self._most)

    def frame(self) -> pl.DataFrame:
        """What is kept, tidied; of no columns where nothing came."""
        self.tidy()
        return self._kept
