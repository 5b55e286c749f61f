"""Sums of evidence that begin again with every alarm, so that alarms keep to a budget.

A one-sided sum that starts again at zero when it reaches its threshold: a lower threshold is never
reached later, so a looser budget never gives fewer alarms. (Say the lower one alarmed the n-th time
no later than the higher. From then on its sum is no smaller, for it started from zero earlier and
lost nothing since; so it reaches its own, lower threshold no later either.)
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidelong.features.segments import Segments
from sidelong.ingest.keys import Keys
from sidelong.ingest.table import Table
from sidelong.models.calibration import Integers

__all__ = ["BudgetedSums", "Moved"]

_DAY_NS: Final = 86_400_000_000_000


class Moved(NamedTuple):
    """What became of each row: the sum with it, whether that is an alarm, whether to tell of it."""

    level: Integers
    alarm: NDArray[np.bool_]
    told: NDArray[np.bool_]


class BudgetedSums:
    """One sum by 64-bit group, carried from batch to batch; at most `capacity` of them, for a day.

    What is worth telling is told, and once more when a sum that was told of is back at zero.
    """

    def __init__(self, capacity: int) -> None:
        self._table = Table(
            {"level": np.int64, "told": np.bool_}, capacity=capacity, ttl_ns=_DAY_NS
        )

    @property
    def evicted(self) -> int:
        """Sums dropped because there were too many."""
        return self._table.evicted

    def add(
        self,
        groups: Keys,
        evidence: Integers,
        threshold: Integers,
        worth: NDArray[np.bool_],
        time_ns: Integers,
    ) -> Moved:
        """Add evidence (micro-nats, of either sign) row by row, in stream order.

        threshold: of each row's sum. worth: whether the row is worth telling of by itself.
        """
        level = np.zeros(len(groups), np.int64)
        alarm, told = np.zeros(len(groups), np.bool_), worth.copy()
        if not len(groups):
            return Moved(level, alarm, told)
        segments = Segments.of(groups)
        order, starts, ends = segments.order, segments.starts, segments.ends
        mine = groups[order][starts]
        found = self._table.find(mine)
        sums = self._table.get("level", found, 0)
        known = self._table.get("told", found, False)
        turn = np.arange(len(order)) - starts[segments.segment]
        for number in range(int(turn.max()) + 1):  # as many as windows of one group close at once
            at = segments.segment[turn == number]
            row = order[turn == number]
            level[row] = np.maximum(sums[at] + evidence[row], 0)
            alarm[row] = level[row] >= threshold[row]
            told[row] |= alarm[row] | (known[at] & (level[row] == 0))
            sums[at] = np.where(alarm[row], 0, level[row])
            known[at] = (known[at] | told[row]) & (sums[at] > 0)
        latest = segments.running(np.maximum, time_ns[order])[ends]
        seen = np.maximum(self._table.get("seen", found, np.iinfo(np.int64).min), latest)
        self._table.put(mine, level=sums, told=known, seen=seen)
        return Moved(level, alarm, told)

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bound."""
        self._table.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The sums as a value."""
        return self._table.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._table.restore(state)
