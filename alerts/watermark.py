"""The watermark: evidence that needs other actors waits for all that could precede it.

Evidence comes out in event-time order, two seconds behind the clock of the stream. What arrives
later than that counts at the watermark, as if it had happened then. Where a piece of evidence comes
out, and in which order, follows from the rows and their pulse, never from how they were cut.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.ingest.schema import schema_of
from sidelong.models.evidence import EVIDENCE_SCHEMA

__all__ = ["RELEASED_SCHEMA", "Watermark"]

_REORDER_NS: Final = 2_000_000_000
_LONG_AGO: Final = -(2**62)

RELEASED_SCHEMA: Final = schema_of({**EVIDENCE_SCHEMA, "place": pl.UInt64})
"""Evidence with the row of the pulse at which the watermark passed it."""

_WAITING_SCHEMA: Final = schema_of({**EVIDENCE_SCHEMA, "due": pl.Int64})


class Watermark:
    """Holds evidence back. Bounded by what arrives within two seconds, at most `capacity` rows."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting = _WAITING_SCHEMA.to_frame()
        self._clock = _LONG_AGO  # at the last row of the pulse
        self.evicted = 0

    def pass_on(self, fresh: pl.DataFrame, pulse: pl.DataFrame) -> pl.DataFrame:
        """Take in evidence, give out what is due (`RELEASED_SCHEMA`), in the order it counts.

        pulse: `PULSE_SCHEMA` of the stretch that `fresh` comes from.
        """
        clock = pulse["clock"].to_physical().to_numpy()
        rows = pulse["row"].to_numpy()
        before = np.append(self._clock, clock)
        self._clock = int(before[-1])
        if fresh.is_empty() and self._waiting.is_empty():
            return _NOTHING
        latest = before[np.searchsorted(rows, fresh["row"].to_numpy())] - _REORDER_NS
        moment = pl.max_horizontal(pl.col("time").to_physical(), pl.Series(latest, dtype=pl.Int64))
        waiting = self._waiting.vstack(fresh.with_columns(due=moment + _REORDER_NS))
        waiting = waiting.sort("due", "row", "sub")
        # What came too late was due before its own row, but nothing counts before it has come.
        came = np.searchsorted(rows, waiting["row"].to_numpy())
        passed = np.maximum(came, np.searchsorted(clock, waiting["due"].to_numpy()))
        ready = passed < pulse.height
        self._waiting = waiting.filter(~pl.Series(ready, dtype=pl.Boolean))
        return (
            waiting.filter(pl.Series(ready, dtype=pl.Boolean))
            .drop("due")
            .with_columns(place=pl.Series(rows[passed[ready]], dtype=pl.UInt64))
        )

    def tidy(self, now_ns: int) -> None:
        """Keep to the bound, at an event-time tick; the oldest go."""
        excess = self._waiting.height - self._capacity
        if excess > 0:
            self._waiting = self._waiting.slice(excess)
            self.evicted += excess

    def snapshot(self) -> dict[str, Any]:
        """What waits, as a value."""
        return {"waiting": self._waiting, "clock": self._clock, "evicted": self.evicted}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._waiting, self._clock = state["waiting"], state["clock"]
        self.evicted = state["evicted"]


_NOTHING: Final = RELEASED_SCHEMA.to_frame()
