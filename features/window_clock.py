"""When windows close, and how much of the stream arrived in the time of each.

Both follow from the pulse of the stream alone, so that every part of it knows the same.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from sidelong.features.catalogue import LATENESS_NS, WINDOW_NS
from sidelong.features.segments import Integers

__all__ = ["NEVER", "Closings", "WindowClock"]

NEVER: Final = -(1 << 40)
"""Before the first row of the pulse all windows are open: they are counted from here."""


class Closings(NamedTuple):
    """Rows at which windows close, in order, and the first window that is open from each on."""

    rows: Integers
    open_from: Integers

    def opened(self, rows: Integers, before: int, *, noticed: bool) -> Integers:
        """The first open window at each row of the stream, given what it was `before` all these.

        noticed: the row itself noticed something just before windows closed at it.
        """
        steps = np.append(before, self.open_from)
        # A row that noticed something counts as before the closing at it.
        passed = np.searchsorted(self.rows, rows - 1 if noticed else rows, side="right")
        return np.asarray(steps[passed])

    def row_of(self, windows: Integers) -> Integers:
        """The row at which each of some windows closed, all of which did."""
        return np.asarray(self.rows[np.searchsorted(self.open_from, windows, side="right")])


class WindowClock:
    """Follows the pulse. Remembers where in the stream the last few windows began."""

    def __init__(self) -> None:
        self.open_from = NEVER
        # By window that the clock entered: which, at which row, with how many events lost by then.
        self._entered = np.empty((0, 3), np.int64)
        self._latest = np.array([[NEVER, 0, 0]])

    def see(self, pulse: pl.DataFrame) -> Closings | None:
        """Follow a stretch of the pulse (`PULSE_SCHEMA`); where windows close, if any do."""
        if pulse.is_empty():
            return None
        last_ns = int(pulse["clock"].to_physical()[-1])
        lost = int(pulse["lost"][-1])
        window, open_from = last_ns // WINDOW_NS, (last_ns - LATENESS_NS) // WINDOW_NS
        entered = window > self._latest[0, 0]
        if entered or open_from > self.open_from:
            return self._advance(pulse)
        self._latest = np.array([[window, int(pulse["row"][-1]), lost]])
        return None

    def end(self, row: int) -> Closings:
        """All windows close, at a row after the last."""
        self._latest[0, 1] = row
        return Closings(np.array([row]), np.array([-NEVER]))

    def arrived(self, windows: Integers) -> tuple[Integers, Integers]:
        """How many rows the stream had in the time of each window, and how many events it lost."""
        marks = np.concatenate([self._entered, self._latest])
        last = len(marks) - 1
        begins, ends = (
            marks[np.minimum(np.searchsorted(self._entered[:, 0], windows + step), last)]
            for step in (0, 1)
        )
        return ends[:, 1] - begins[:, 1], ends[:, 2] - begins[:, 2]

    def forget(self) -> None:
        """Forget of closed windows when they began."""
        self._entered = self._entered[self._entered[:, 0] >= self.open_from]

    def snapshot(self) -> dict[str, Any]:
        """What was seen, as a value."""
        return {
            "open_from": self.open_from,
            "entered": self._entered.copy(),
            "latest": self._latest.copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.open_from = state["open_from"]
        self._entered, self._latest = state["entered"].copy(), state["latest"].copy()

    def _advance(self, pulse: pl.DataFrame) -> Closings | None:
        clock = pulse["clock"].to_physical().to_numpy()
        beats = np.column_stack([clock // WINDOW_NS, pulse["row"], pulse["lost"]]).astype(np.int64)
        self._entered = np.concatenate(
            [self._entered, beats[_grows(beats[:, 0], int(self._latest[0, 0]))]]
        )
        self._latest = beats[-1:]
        open_from = (clock - LATENESS_NS) // WINDOW_NS
        closing = _grows(open_from, self.open_from)
        if not closing.any():
            return None
        self.open_from = int(open_from[-1])
        return Closings(beats[closing, 1], open_from[closing])


def _grows(values: Integers, before: int) -> np.typing.NDArray[np.bool_]:
    """Where a sequence that never falls rises."""
    return np.asarray(np.diff(values, prepend=before) > 0)
