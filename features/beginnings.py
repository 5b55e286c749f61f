"""When things begin, and how regularly: the rhythm of an edge, or of lookups below a domain.

Beginnings are told apart by tenths of a second, so that the packets and requests of one exchange
are one. Of each group the last 32 within an hour are remembered: what calls home every seven
minutes is seen to.

Regularity is Rayleigh's R: each beginning is a direction on a circle whose round is the median
interval, and R the length of their mean. Under chance 2 n R^2 follows chi-squared with two degrees
of freedom (Mardia and Jupp, "Directional Statistics", 2000, section 6.3). East-west nearly
everything is regular, so this explains and alarms nobody.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.features.catalogue import WINDOW_NS
from sidelong.features.segments import Integers
from sidelong.ingest.keys import Keys

__all__ = ["FEWEST", "MOST", "SLOT_NS", "Beginnings"]

SLOT_NS: Final = 100_000_000
"""Beginnings within one such slot are one."""

MOST: Final = 32
"""Beginnings by which rhythm is judged."""

FEWEST: Final = 8
"""Fewer than this have no rhythm."""

_PER_WINDOW: Final = WINDOW_NS // SLOT_NS
_HOUR: Final = 3_600_000_000_000 // SLOT_NS

# Directions come from a table of integers, so that sums of them are exact on every machine.
_ROUND: Final = 4_096
_UNIT: Final = 1 << 20
_ANGLES: Final = 2 * np.pi * np.arange(_ROUND) / _ROUND
_COS: Final = np.rint(np.cos(_ANGLES) * _UNIT).astype(np.int64)
_SIN: Final = np.rint(np.sin(_ANGLES) * _UNIT).astype(np.int64)

_MANY: Final = 65_536  # loose beginnings that may wait to be sorted in


class _Held(NamedTuple):
    """Distinct beginnings, sorted by group, then slot."""

    group: Keys
    slot: Integers


class Beginnings:
    """The last beginnings of each group.

    Bounded by `capacity` beginnings; at ticks the oldest beyond it go and count as evicted.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._held = _Held(np.empty(0, np.uint64), np.empty(0, np.int64))
        self._loose: list[_Held] = []
        self.evicted = 0

    def __len__(self) -> int:
        """Beginnings held, not all of them distinct."""
        return sum(len(part.slot) for part in (self._held, *self._loose))

    def add(self, groups: Keys, time_ns: Integers) -> None:
        """Note that something of each group began."""
        if len(groups):
            self._loose.append(_Held(groups, time_ns // SLOT_NS))
        if len(self) > _MANY + 2 * len(self._held.slot):
            self._sort_in()

    def rhythm(self, groups: Keys, windows: Integers) -> pl.DataFrame:
        """The rhythm of each group up to the end of a window.

        Returns, row for row, `interval_ns`, `interval_spread_ppm` (quartile distance over median)
        and `periodicity_ppm` (R), Int64, null where there are fewer than eight beginnings.
        """
        self._sort_in()
        ends = (windows + 1) * _PER_WINDOW
        behind = _places(self._held, groups, ends)
        count = np.minimum(behind - _places(self._held, groups, ends - _HOUR), MOST)
        enough = np.flatnonzero(count >= FEWEST)
        place = behind[enough, None] - np.arange(MOST, 0, -1)
        counts = np.arange(MOST, 0, -1) <= count[enough, None]
        found = _rhythm(self._held.slot[np.where(counts, place, 0)], counts)
        at = np.full(len(groups), -1)
        at[enough] = np.arange(len(enough))
        index = pl.Series(at).replace(-1, None)
        return pl.DataFrame(
            {name: pl.Series(values).gather(index) for name, values in found.items()}
        )

    def forget(self, before: int) -> None:
        """Keep, of all windows before that one, what the next windows can still need."""
        self._sort_in()
        end = before * _PER_WINDOW
        over = self._held.slot < end
        old = self._held.slot < end - _HOUR
        self._keep(~over | (_newest(self._held.group, over) & ~old))

    def tidy(self) -> None:
        """Evict what is beyond capacity."""
        if len(self) <= self.capacity:
            return
        self._sort_in()
        excess = len(self._held.slot) - self.capacity
        if excess > 0:
            keep = np.ones(len(self._held.slot), np.bool_)
            keep[np.lexsort(self._held)[:excess]] = False
            self._keep(keep)
            self.evicted += excess

    def snapshot(self) -> dict[str, Any]:
        """The beginnings as a value."""
        self._sort_in()
        return {"key": self._held.group, "slot": self._held.slot, "evicted": self.evicted}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._held = _Held(state["key"], state["slot"])
        self._loose = []
        self.evicted = state["evicted"]

    def _sort_in(self) -> None:
        """Make all distinct and sorted; of each window the last are enough."""
        if not self._loose:
            return
        parts = [self._held, *self._loose]
        group = np.concatenate([part.group for part in parts])
        slot = np.concatenate([part.slot for part in parts])
        order = np.lexsort((slot, group))
        group, slot = group[order], slot[order]
        new = _starts(group, slot)
        self._held, self._loose = _Held(group[new], slot[new]), []
        self._keep(_newest(self._held.group, self._held.slot // _PER_WINDOW))

    def _keep(self, which: NDArray[np.bool_]) -> None:
        if not which.all():
            self._held = _Held(self._held.group[which], self._held.slot[which])


def _starts(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows differ from the one before."""
    starts = np.ones(len(columns[0]), np.bool_)
    if len(starts):
        starts[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return starts


def _newest(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are among the last `MOST` of a run of alike rows."""
    starts = _starts(*columns)
    ends = np.append(np.flatnonzero(starts)[1:], len(starts))
    return np.asarray(ends[np.cumsum(starts) - 1] - np.arange(len(starts)) <= MOST)


def _places(held: _Held, groups: Keys, ends: Integers) -> Integers:
    """How many beginnings lie before each (group, end) in their order."""
    # What is asked goes first, so that a beginning at the very end counts as behind it.
    asked = len(groups)
    order = np.lexsort((np.concatenate([ends, held.slot]), np.concatenate([groups, held.group])))
    question = order < asked
    places = np.empty(asked, np.int64)
    places[order[question]] = np.cumsum(~question)[question]
    return places


def _rhythm(slots: Integers, counts: NDArray[np.bool_]) -> dict[str, Integers]:
    """The rhythm of rows of slots, oldest first, of which the last few count."""
    intervals = np.diff(slots, axis=1)
    intervals[~counts[:, :-1]] = np.iinfo(np.int64).max
    ordered = np.sort(intervals, axis=1)
    last = counts.sum(axis=1) - 2
    rows = np.arange(len(slots))
    lower, median, upper = (ordered[rows, last * quarter // 4] for quarter in (1, 2, 3))
    # Distinct slots lie one apart at least, so that no interval is nothing.
    round_of = (slots[:, -1:] - slots) % median[:, None] * _ROUND // median[:, None]
    x, y = (np.where(counts, table[round_of], 0).sum(axis=1) for table in (_COS, _SIN))
    length = np.sqrt((x * x + y * y).astype(np.float64))
    return {
        "interval_ns": median * SLOT_NS,
        "interval_spread_ppm": (upper - lower) * 1_000_000 // median,
        "periodicity_ppm": np.rint(length / (last + 2) / _UNIT * 1e6).astype(np.int64),
    }
