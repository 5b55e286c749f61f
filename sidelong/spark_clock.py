"""What a chunk of a stream does to its clock, known without the chunks before it.

The clock of a stream stands at the latest time so far, so a chunk can say in a few numbers how it
moves the clock on, and these numbers of all chunks, one after the other, give the state of the
clock at the beginning of each. The chunks are then taken up in any order, on any machine.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.clock import (
    CROWDED_TICK_ROWS,
    LEAP_NS,
    QUIET_TICK_NS,
    TICK_NS,
    TICK_ROWS,
    Clock,
    ClockState,
)

__all__ = ["FIRST", "Passage", "after", "passage"]

FIRST: Final = Clock().snapshot()
"""The clock of a stream that has not begun."""

_TIME: Final = pl.Datetime("ns", "UTC")


class Passage(NamedTuple):
    """A chunk as its clock sees it.

    rows: how many. first, last, latest: times in nanoseconds. places, ticks: at which rows of the
    chunk, and into which multiple of `TICK_NS`, the clock goes, as far as these rows can tell.
    leaps: whether some row is so far ahead of the row before that the clock may not believe it.
    """

    rows: int
    first: int
    last: int
    latest: int
    places: NDArray[np.int64]
    ticks: NDArray[np.int64]
    leaps: bool

    def value(self) -> list[Any]:
        """As plain values, for a message."""
        return list(self)

    @classmethod
    def of(cls, value: list[Any]) -> "Passage":
        """From plain values again."""
        return cls(*value)


def passage(times: NDArray[np.int64]) -> Passage:
    """How these times, one or more, in the order of the stream, move a clock."""
    latest = np.maximum.accumulate(times)
    ticks = latest // TICK_NS * TICK_NS
    places = np.flatnonzero(np.diff(ticks, prepend=ticks[0] - 1))
    leaps = bool((times[1:] - LEAP_NS > times[:-1]).any())
    return Passage(
        len(times),
        int(times[0]),
        int(times[-1]),
        int(latest[-1]),
        places,
        ticks[places],
        leaps,
    )


def after(state: ClockState, seen: Passage, times: Callable[[], NDArray[np.int64]]) -> ClockState:
    """The clock after a chunk, given the clock before it.

    times: reads the times of the chunk, which is only needed where time leaps by an hour.
    """
    previous = seen.first if state["previous"] is None else state["previous"]
    if seen.leaps or seen.first - LEAP_NS > max(previous, state["clock"]):
        clock = Clock()
        clock.restore(state)
        clock.cut(pl.DataFrame({"time": pl.Series(times()).cast(_TIME)}))
        return clock.snapshot()
    start = state["clock"] if state["rows"] else seen.first
    tick_row, tick = _last_tick(state, seen, start)
    return {
        "rows": state["rows"] + seen.rows,
        "clock": max(start, seen.latest),
        "previous": seen.last,
        "tick_row": tick_row,
        "tick": tick,
    }


def _last_tick(state: ClockState, seen: Passage, start: int) -> tuple[int, int]:
    """Where the last tick passed; the rule is that of `Clock.cut`."""
    rows, tick_row, tick = state["rows"], state["tick_row"], state["tick"]
    entered = seen.ticks > start
    places, ticks = seen.places[entered], seen.ticks[entered]
    crowded = tick_row + CROWDED_TICK_ROWS - rows
    # The loop is over multiples of ten seconds, not over rows.
    for place, new in [*zip(places.tolist(), ticks.tolist(), strict=True), (seen.rows, 0)]:
        while crowded < place:
            reached = int(np.searchsorted(places, crowded, side="right")) - 1
            tick = int(ticks[reached]) if reached >= 0 else start // TICK_NS * TICK_NS
            tick_row = rows + crowded
            crowded += CROWDED_TICK_ROWS
        if place == seen.rows:
            break
        if rows + place - tick_row >= TICK_ROWS or new - tick >= QUIET_TICK_NS:
            tick_row, tick = rows + place, new
            crowded = place + CROWDED_TICK_ROWS
    return tick_row, tick
