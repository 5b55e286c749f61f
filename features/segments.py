"""Running totals, maxima and minima within groups of rows, without a loop over rows."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Integers", "Segments"]

Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segments:
    """Rows put in order of their group, arrival order kept within it.

    `order` sorts rows into segments, `starts` says where each begins, `segment` numbers the sorted
    rows' segments. Methods take and return values in sorted order.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    segment: NDArray[np.int64]

    @classmethod
    def of(cls, groups: NDArray[np.uint64]) -> "Segments":
        """The segments of rows that belong to `groups`; there must be at least one row."""
        order = np.argsort(groups, kind="stable")
        ordered = groups[order]
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        return cls(order, np.flatnonzero(begins), np.cumsum(begins) - 1)

    @property
    def ends(self) -> NDArray[np.int64]:
        """Where each segment's last row stands."""
        return np.append(self.starts[1:], len(self.order)) - 1

    def total(self, values: Integers) -> Integers:
        """The running total within each segment."""
        sums = np.cumsum(values)
        before = sums[self.starts] - values[self.starts]
        return np.asarray(sums - before[self.segment])

    def running(self, extreme: np.ufunc, values: Integers) -> Integers:
        """The running minimum or maximum (`np.minimum`, `np.maximum`) within each segment.

        Doubles its reach each round (Hillis and Steele, 1986), so it takes as many rounds as the
        longest segment has bits.
        """
        found = values.copy()
        longest = int((self.ends - self.starts).max()) + 1
        reach = 1
        while reach < longest:
            same = self.segment[reach:] == self.segment[:-reach]
            found[reach:] = np.where(same, extreme(found[reach:], found[:-reach]), found[reach:])
            reach *= 2
        return found

    def previous(self, values: Integers, first: Integers) -> Integers:
        """The value one row earlier in the segment; `first` (one per segment) where it begins."""
        found = np.empty_like(values)
        found[1:] = values[:-1]
        found[self.starts] = first
        return found

    def unsorted(self, values: Integers) -> Integers:
        """Values in sorted order, back in the order of the rows."""
        found = np.empty_like(values)
        found[self.order] = values
        return found
