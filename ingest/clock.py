"""The clock of a stream: event time that only moves forward, and the ticks that tidy state.

The clock stands at the latest time seen so far. It is the same however the stream is cut into
batches, because it is carried from one to the next, and so are the ticks taken from it.
"""

from itertools import pairwise
from typing import Final, TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = [
    "CLOCK_COLUMNS",
    "CROWDED_TICK_ROWS",
    "LEAP_NS",
    "QUIET_TICK_NS",
    "TICK_NS",
    "TICK_ROWS",
    "Clock",
    "ClockState",
]

TICK_NS: Final = 10 * 1_000_000_000
"""State is tidied at multiples of ten seconds of event time, where there is something to tidy."""

TICK_ROWS: Final = 5_000
"""Rows after which it is worth tidying at the next multiple."""

QUIET_TICK_NS: Final = 300 * 1_000_000_000
"""After five minutes it is worth tidying however few rows there were."""

CROWDED_TICK_ROWS: Final = 1_000_000
"""After so many rows state is tidied wherever the clock stands: a flood must not outrun it."""

LEAP_NS: Final = 3600 * 1_000_000_000
"""A time further ahead of all before it than this needs a second row to be believed."""

CLOCK_COLUMNS: Final = pl.Schema(
    {
        "row": pl.UInt64(),
        "clock": pl.Datetime("ns", "UTC"),
        "clock_before": pl.Datetime("ns", "UTC"),
    }
)
"""What `Clock.cut` adds to each row: its number in the stream, the clock at it and just before."""

_LIMIT: Final = 2**62  # a time beyond it, the year 2116, counts as that: sums stay in 64 bits


class ClockState(TypedDict):
    """Rows seen, the clock, the time of the last row that had one, and where the last tick was."""

    rows: int
    clock: int
    previous: int | None
    tick_row: int
    tick: int


class Clock:
    """Adds row numbers and the clock to flows, and cuts them where a tick falls.

    One absurd time must not freeze detection by sending the clock into the far future. So a row
    moves the clock to its own time only when that is at most one hour ahead of the clock or of the
    row before it; else it moves the clock just as far as the row before it, whose time it confirms
    by being later still. A real gap in the stream, such as that between two captures, is thus
    crossed by the second row after it, and a lone absurd row never moves the clock. `clock` is
    therefore behind `time` on a row that was not believed. The very first time is taken as it is;
    until there is one, the clock stands at the epoch.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._clock = 0
        self._previous: int | None = None
        self._tick_row = 0
        self._tick = 0

    def cut(self, flows: pl.DataFrame) -> list[tuple[pl.DataFrame, int | None]]:
        """The flows with `CLOCK_COLUMNS` added, in pieces whose clock lies between two ticks.

        Beside each piece stands the tick (ns, a multiple of `TICK_NS`) that passes just before it,
        None when there is none. A tick passes at the first row beyond a multiple of `TICK_NS` that
        comes `TICK_ROWS` rows or `QUIET_TICK_NS` after the last tick, or `CROWDED_TICK_ROWS` rows
        after it in any case: properties of the stream, not of its cuts. A row without a time takes
        the clock as it stands.
        """
        if flows.is_empty():
            return []
        after = self._advance(flows["time"].to_physical())
        before = np.concatenate([[self._clock if self._rows else after[0]], after[:-1]])
        rows = np.arange(self._rows, self._rows + len(flows), dtype=np.uint64)
        columns = zip(CLOCK_COLUMNS.items(), (rows, after, before), strict=True)
        stamped = flows.hstack(
            [pl.Series(name, values).cast(dtype) for (name, dtype), values in columns]
        )
        passed = self._passed(before, after)
        self._rows += len(flows)
        self._clock = int(after[-1])
        bounds = sorted({0, *passed, len(flows)})
        return [(stamped[low:high], passed.get(low)) for low, high in pairwise(bounds)]

    def _passed(self, before: NDArray[np.int64], after: NDArray[np.int64]) -> dict[int, int]:
        """Where in the batch ticks pass, and which; remembers the last."""
        ticks = after // TICK_NS * TICK_NS
        crowded = self._tick_row + CROWDED_TICK_ROWS - self._rows
        passed: dict[int, int] = {}
        # The loop is over multiples of ten seconds, not over rows.
        for place in [*np.flatnonzero(ticks > before).tolist(), len(after)]:
            while crowded < place:
                self._note(passed, crowded, int(ticks[crowded]))
                crowded += CROWDED_TICK_ROWS
            if place == len(after):
                break
            due = self._rows + place - self._tick_row >= TICK_ROWS
            if due or int(ticks[place]) - self._tick >= QUIET_TICK_NS:
                self._note(passed, place, int(ticks[place]))
                crowded = place + CROWDED_TICK_ROWS
        return passed

    def _note(self, passed: dict[int, int], place: int, tick: int) -> None:
        passed[place] = tick
        self._tick_row, self._tick = self._rows + place, tick

    def snapshot(self) -> ClockState:
        """All that `restore` needs to go on from here."""
        return {
            "rows": self._rows,
            "clock": self._clock,
            "previous": self._previous,
            "tick_row": self._tick_row,
            "tick": self._tick,
        }

    def restore(self, state: ClockState) -> None:
        """Go on from where `snapshot` was taken."""
        self._rows, self._clock = state["rows"], state["clock"]
        self._previous = state["previous"]
        self._tick_row, self._tick = state["tick_row"], state["tick"]

    def _advance(self, times: pl.Series) -> NDArray[np.int64]:
        """The clock after each row; remembers the last known time."""
        own = np.clip(times.drop_nulls().to_numpy(), -_LIMIT, _LIMIT)
        if not len(own):
            return np.full(len(times), self._clock)
        first = own[0] if self._previous is None else self._previous
        previous = np.concatenate([[first], own[:-1]])
        start = max(self._clock, int(own[0])) if self._previous is None else self._clock
        clock = np.concatenate([[self._clock], _believe(own, previous, start)])
        self._previous = int(own[-1])
        after: NDArray[np.int64] = clock[np.cumsum(times.is_not_null().to_numpy())]
        return after


def _believe(own: NDArray[np.int64], previous: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """The clock after each of these times, given the time before each and the clock at `start`.

    Whether a row is believed depends on the clock, and the clock on the rows believed. The clock
    is therefore raised from below until nothing changes; mostly that is at once, and each further
    round covers an hour of a stream whose rows jump to and fro by more than that.
    """
    moved = np.where(own - LEAP_NS <= previous, own, previous)
    while True:
        clock: NDArray[np.int64] = np.maximum.accumulate(np.maximum(moved, start))
        before = np.concatenate([[start], clock[:-1]])
        late_to_believe = (own > clock) & (own - LEAP_NS <= before)
        if not late_to_believe.any():
            return clock
        moved[late_to_believe] = own[late_to_believe]
