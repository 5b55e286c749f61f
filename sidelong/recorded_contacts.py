"""Who talked to whom in a run: one row per edge, however many flows there were."""

from typing import Final

import polars as pl

from sidelong.features.events import ANSWER, DENIAL, REFUSAL
from sidelong.ingest.schema import PROTOCOLS, schema_of
from sidelong.recorded_rows import RecordedRows

__all__ = ["CONTACT_SCHEMA", "RecordedContacts", "moments"]

_TIME: Final = pl.Datetime("ns", "UTC")
CONTACT_SCHEMA: Final = schema_of(
    {
        "src": pl.String,
        "dst": pl.String,
        "port": pl.UInt16,
        "protocol": PROTOCOLS,
        "events": pl.Int64,
        "bytes": pl.UInt64,
        "answered": pl.Int64,
        "denied": pl.Int64,
        "failed": pl.Int64,
        "first_seen": _TIME,
        "last_seen": _TIME,
    }
)
"""One edge. src: who opened it; port: that of the server, 0 for dynamic ports and for ICMP, as in a
baseline. events and bytes: of both directions, bytes null where no source saw any. answered, denied
and failed: events in which the server spoke, policy dropped, a reset or an ICMP error came back."""

_KEY: Final = ("src", "dst", "port", "protocol")
_SUMS: Final = ("events", "bytes", "sized", "answered", "denied", "failed")


def moments() -> dict[str, pl.Expr]:
    """The first and the last moment that a row speaks of; a time nobody believed is the clock's."""
    first = pl.min_horizontal(pl.col("time").fill_null(pl.col("clock")), "clock")
    return {
        "first_seen": first,
        "last_seen": pl.max_horizontal(first, pl.min_horizontal("end", "clock")),
    }


class RecordedContacts:
    """Adds up edges; keeps `most` of them, those with the most events."""

    def __init__(self, most: int) -> None:
        self._rows = RecordedRows(most, _KEY, "events", _summed)

    @property
    def dropped(self) -> int:
        """Rows that were beyond the bound."""
        return self._rows.dropped

    def add(self, rows: pl.DataFrame) -> None:
        """Count rows of `sides`."""
        if rows.is_empty():
            return
        events = pl.col("count").cast(pl.Int64)
        facts = rows.select(
            src="actor",
            dst="peer",
            port="edge_port",
            protocol="protocol",
            events=events,
            bytes=pl.col("bytes").fill_null(0),
            sized=pl.col("bytes").is_not_null().cast(pl.Int64),
            answered=pl.when(pl.col("event") == ANSWER).then(events).otherwise(0),
            denied=pl.when(pl.col("event") == DENIAL).then(events).otherwise(0),
            failed=pl.when(pl.col("event") == REFUSAL).then(events).otherwise(0),
            **moments(),
        )
        self._rows.add(facts)

    def tidy(self) -> None:
        """Put together what came since, and drop what is beyond the bound."""
        self._rows.tidy()

    def frame(self) -> pl.DataFrame:
        """The edges so far (`CONTACT_SCHEMA`), in the order in which they were first seen."""
        rows = self._rows.frame()
        if rows.is_empty():
            return CONTACT_SCHEMA.to_frame()
        seen = rows.with_columns(bytes=pl.when(pl.col("sized") > 0).then("bytes"))
        return seen.sort("first_seen", *_KEY).match_to_schema(
            CONTACT_SCHEMA, extra_columns="ignore"
        )


def _summed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by(*_KEY).agg(
        pl.col(*_SUMS).sum(), pl.col("first_seen").min(), pl.col("last_seen").max()
    )
