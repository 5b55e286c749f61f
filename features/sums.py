"""One-sided sums, the statistic behind every decision: evidence for minus evidence against.

S_n = max(0, S_{n-1} - leak_n) + charge_n, a CUSUM when the leak is evidence against (Page, 1954), a
leaky bucket when it is time. No loop is needed: with C the running total of a group, D_n = C_n -
charge_n its value just before each charge and s the level carried in,

    S_n = max(s + C_n, C_n - min over k <= n of D_k).

All terms are integers, so that the level does not depend on where a stream was cut.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sidelong.features.segments import Integers, Segments
from sidelong.ingest.table import Table

__all__ = ["OneSidedSums", "one_sided"]

_MS: Final = 1_000_000
_DAY_MS: Final = 86_400_000
_NEVER: Final = np.iinfo(np.int64).min


def one_sided(segments: Segments, charge: Integers, leak: Integers, carried: Integers) -> Integers:
    """The level after each row, all in the order of `segments`.

    charge, leak: not negative. carried: the level of each row's group before the first row.

    >>> segments = Segments.of(np.array([1, 1, 1], np.uint64))
    >>> one_sided(segments, np.array([5, 0, 2]), np.array([0, 9, 0]), np.array([1, 1, 1])).tolist()
    [6, 0, 2]
    """
    total = segments.total(charge - leak)
    lowest = segments.running(np.minimum, total - charge)
    return np.asarray(np.maximum(carried + total, total - lowest))


class OneSidedSums:
    """One-sided sums by 64-bit group, carried from batch to batch.

    leak_per_day: lost with time, in the unit of the charges, at most 1e11. threshold: a sum that
    reached it and then saw no charge for `silence_ns` starts again at zero, as its incident closes
    then. Bounded: at most `capacity` groups, the longest untouched dropped first; none lives past
    `ttl_ns` without a charge.
    """

    def __init__(
        self,
        *,
        threshold: int,
        silence_ns: int,
        leak_per_day: int = 0,
        capacity: int,
        ttl_ns: int = 86_400_000_000_000,
    ) -> None:
        self._threshold = threshold
        self._silence_ns = silence_ns
        self._leak_per_day = leak_per_day
        self._table = Table({"level": np.int64, "last": np.int64}, capacity=capacity, ttl_ns=ttl_ns)

    @property
    def evicted(self) -> int:
        """Sums dropped because the table was full."""
        return self._table.evicted

    def add(
        self,
        groups: NDArray[np.uint64],
        charge: Integers,
        leak: Integers,
        time_ns: Integers,
        leak_per_day: Integers | None = None,
    ) -> Integers:
        """Add `charge` and subtract `leak`; the level of each row's group after it.

        Neither is negative. Rows are in stream order. Time that runs backwards within a group leaks
        nothing. leak_per_day: where groups leak differently, how fast that of each row does, at
        most 1e11.
        """
        if not len(groups):
            return np.empty(0, np.int64)
        segments = Segments.of(groups)
        order, starts, ends = segments.order, segments.starts, segments.ends
        keys = groups[order][starts]
        found = self._table.find(keys)
        first = time_ns[order][starts]
        last = self._table.get("last", found, np.iinfo(np.int64).min)
        last = np.where(found < 0, first, last)
        now = np.maximum(segments.running(np.maximum, time_ns[order]), last[segments.segment])
        # Whole milliseconds, so that a day of them times a day's leak stays within 63 bits.
        gap = np.clip(now // _MS - segments.previous(now, last) // _MS, 0, _DAY_MS)
        charge = charge[order]
        per_day = self._leak_per_day if leak_per_day is None else leak_per_day[order]
        leak = leak[order] + gap * per_day // _DAY_MS
        carried = self._table.get("level", found, 0)
        level = one_sided(segments, charge, leak, carried[segments.segment])
        charged = segments.running(np.maximum, np.where(charge > 0, now, _NEVER))[ends]
        seen = np.where(found < 0, first, self._table.get("seen", found, 0))
        self._table.put(
            keys,
            level=level[ends],
            last=now[ends],
            seen=np.where(charged > _NEVER, charged, seen),
        )
        return segments.unsorted(level)

    def levels(self, groups: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The present level of each group, 0 where there is none."""
        return self._table.get("level", self._table.find(groups), 0)

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old; settle the sums whose incident has closed."""
        level = self._table.column("level")
        quiet = now_ns - self._table.column("seen") >= self._silence_ns
        level[quiet & (level >= self._threshold)] = 0
        self._table.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The sums as a value."""
        return self._table.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._table.restore(state)
