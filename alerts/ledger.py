"""The ledger: evidence that is no incident yet, kept so that an incident can tell why."""

from collections.abc import Collection
from typing import Any, Final, TypeAlias

import polars as pl

from sidelong.models.evidence import EVIDENCE_SCHEMA

__all__ = ["Ledger", "Place"]

Place: TypeAlias = tuple[int, int]
"""Where in the stream: the row, and which of the things it brought."""

_KEPT_NS: Final = 86_400_000_000_000


class Ledger:
    """Evidence by actor and sum, back to the moment the sum last stood at zero.

    Bounded: the newest `capacity` rows of the last 24 h; the rest goes at ticks, counted in
    `evicted`.
    """

    def __init__(self, capacity: int) -> None:
        self._rows = EVIDENCE_SCHEMA.to_frame()
        self._capacity = capacity
        self.evicted = 0

    def add(self, evidence: pl.DataFrame) -> None:
        """Keep evidence, given in stream order."""
        if not evidence.is_empty():
            self._rows = self._rows.vstack(evidence)

    def climb(self, group: int, decided: Place, upto: Place, fresh: pl.DataFrame) -> pl.DataFrame:
        """The rows of a sum from when it last stood at zero before it decided, up to a place.

        fresh: evidence that came with the deciding row and is not kept yet. Both places count in.
        """
        ours = (pl.col("group") == group) & ~_later(upto)
        rows = self._rows.filter(ours).vstack(fresh.filter(ours))
        return _since_zero(rows.filter(~_later(decided))).vstack(rows.filter(_later(decided)))

    def level(
        self, actor: str, kind: str, before: Place, since_ns: int, fresh: pl.DataFrame
    ) -> int:
        """The highest present level of the sums of (actor, kind) that moved since `since_ns`."""
        moment = pl.lit(since_ns).cast(pl.Datetime("ns", "UTC"))
        ours = (
            (pl.col("actor") == actor)
            & (pl.col("kind") == kind)
            & ~_later(before)
            & (pl.col("time") >= moment)
        )
        rows = self._rows.filter(ours).vstack(fresh.filter(ours))
        last = rows.group_by("group").agg(pl.col("level").last())
        return int(last["level"].max() or 0)  # type: ignore[arg-type]

    def forget(self, groups: Collection[int]) -> None:
        """Drop what was told in incidents that are over: what comes next begins anew."""
        if groups and not self._rows.is_empty():
            self._rows = self._rows.filter(~pl.col("group").is_in(list(groups)))

    def tidy(self, now_ns: int) -> None:
        """Drop at an event-time tick what no sum stands on any more."""
        oldest = pl.lit(now_ns - _KEPT_NS).cast(pl.Datetime("ns", "UTC"))
        rows = _since_zero(self._rows.filter(pl.col("time") >= oldest))
        self.evicted += max(0, rows.height - self._capacity)
        self._rows = rows.tail(self._capacity).rechunk()

    def snapshot(self) -> dict[str, Any]:
        """The evidence as a value."""
        return {"rows": self._rows, "evicted": self.evicted}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._rows = state["rows"]
        self.evicted = state["evicted"]


def _later(place: Place) -> pl.Expr:
    row, sub = place
    return (pl.col("row") > row) | ((pl.col("row") == row) & (pl.col("sub") > sub))


def _since_zero(rows: pl.DataFrame) -> pl.DataFrame:
    zeros = (pl.col("level") == 0).cast(pl.Int64)
    after = zeros.cum_sum().over("group") == zeros.sum().over("group")
    return rows.filter(after & (pl.col("level") > 0))
