"""The pulse of a stream: the few rows by which everybody knows how far event time has come.

Some things are noticed without a row of whom they concern: that an attempt stays unanswered, that
nothing earlier can come any more, that a window is over. They are noticed at a row of the pulse,
never elsewhere, so that who sees a part of the stream only, with its whole pulse, notices the same
at the same place.
"""

from typing import Final, TypedDict

import numpy as np
import polars as pl

from sidelong.ingest.schema import schema_of

__all__ = ["PULSE_SCHEMA", "SLOT_NS", "Pulse", "PulseState"]

SLOT_NS: Final = 100_000_000
"""Event time is told whenever it enters a new tenth of a second."""

PULSE_SCHEMA: Final = schema_of(
    {"row": pl.UInt64, "clock": pl.Datetime("ns", "UTC"), "lost": pl.UInt64}
)
"""One row of the pulse: its number in the stream, the clock at it, the events lost so far."""


class PulseState(TypedDict):
    """The events lost so far."""

    lost: int


class Pulse:
    """Takes the pulse of the pieces of `Clock.cut`: the rows at which the clock enters a new slot
    of `SLOT_NS`, and those that report lost events."""

    def __init__(self) -> None:
        self._lost = 0

    def of(self, piece: pl.DataFrame) -> pl.DataFrame:
        """The pulse (`PULSE_SCHEMA`) of a piece; a property of its rows, wherever it was cut."""
        clock, before = (piece[name].to_physical() for name in ("clock", "clock_before"))
        beats = clock.to_numpy() // SLOT_NS > before.to_numpy() // SLOT_NS
        lost = np.full(piece.height, self._lost, np.uint64)
        if piece["lost"].null_count() < piece.height:
            told = piece["lost"].fill_null(0).to_numpy()
            beats |= told > 0
            lost += np.cumsum(told, dtype=np.uint64)
            self._lost = int(lost[-1])
        at = np.flatnonzero(beats)
        return piece.select("row", "clock")[at].hstack([pl.Series("lost", lost[at])])

    def at(self, row: int, clock_ns: int) -> pl.DataFrame:
        """The pulse of a single row that nobody has sent, such as the end of a stream."""
        lone = {"row": [row], "clock": [clock_ns], "lost": [self._lost]}
        return pl.DataFrame(lone, schema_overrides={"row": pl.UInt64, "lost": pl.UInt64}).cast(
            PULSE_SCHEMA
        )

    def snapshot(self) -> PulseState:
        """All that `restore` needs to go on from here."""
        return {"lost": self._lost}

    def restore(self, state: PulseState) -> None:
        """Go on from where `snapshot` was taken."""
        self._lost = state["lost"]
