"""Outages: when a destination fails for everybody, failing there is nobody's scan.

A failure is excused if within the last minute three or more other actors tried the same destination
and at least half of them failed too. Needs several actors, so it is asked behind the watermark.
"""

from typing import Any, Final

import polars as pl

from sidelong.ingest.schema import schema_of

__all__ = ["Outages"]

_MINUTE_NS: Final = 60_000_000_000
_OTHERS: Final = 3

_SEEN: Final = schema_of(
    {
        "row": pl.UInt64,
        "time_ns": pl.Int64,
        "object": pl.String,
        "actor": pl.String,
        "failed": pl.Boolean,
    }
)


class Outages:
    """How first contacts of the last minutes ended, by destination.

    Bounded: the newest `capacity` outcomes; older than two minutes goes at ticks.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._seen = _SEEN.to_frame()

    def add(self, evidence: pl.DataFrame) -> None:
        """Take in the outcomes among some evidence."""
        contacts = evidence.filter(pl.col("statistic").is_in(["vertical", "horizontal"]))
        if not contacts.is_empty():
            self._seen = self._seen.vstack(
                contacts.select(
                    "row",
                    time_ns=pl.col("time").to_physical(),
                    object="object",
                    actor="actor",
                    failed=pl.col("reason").is_in(["REFUSED", "UNANSWERED"]),
                )
            )

    def excuse(self, objects: pl.Series, actor: str, time_ns: int, row: int) -> set[str]:
        """Those of `objects` that failed for others in the minute before `time_ns`.

        row: the last row of the stream that may be known.
        """
        others = self._seen.filter(
            pl.col("object").is_in(objects.implode()),
            pl.col("actor") != actor,
            pl.col("row") <= row,
            pl.col("time_ns").is_between(time_ns - _MINUTE_NS, time_ns),
        )
        share = (
            others.group_by("object", "actor")
            .agg(pl.col("failed").any())
            .group_by("object")
            .agg(actors=pl.len(), share=pl.col("failed").mean())
        )
        failing = share.filter(pl.col("actors") >= _OTHERS, pl.col("share") >= 0.5)
        return set(failing["object"])

    def tidy(self, now_ns: int) -> None:
        """Forget, at an event-time tick, what nobody can ask about any more."""
        recent = self._seen.filter(pl.col("time_ns") >= now_ns - 2 * _MINUTE_NS)
        self._seen = recent.tail(self._capacity).rechunk()

    def snapshot(self) -> dict[str, Any]:
        """The outcomes as a value."""
        return {"seen": self._seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._seen = state["seen"]
