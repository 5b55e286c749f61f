"""Adaptive levels: whether an actor's p-values are right is watched, and corrected.

Windows do not always come from the distribution that they were calibrated on: a level of 1 % that
was right for three hosts let 12 % of a fourth pass. So each actor has a level that starts at 1 %,
shrinks by every window below it and grows back with the others (Gibbs and Candes, 2021),

    level += gamma (1 % - [p <= level]),    gamma = 1 / 512,    never above 1 %,

and its p-values are widened by what the level has shrunk. Windows that close at the same row are
judged by the same level. All of it is integer arithmetic, a function of the actor's own windows.
"""

from typing import Any, Final

import numpy as np

from sidelong.features.segments import Segments
from sidelong.ingest.keys import Keys
from sidelong.ingest.table import Table
from sidelong.models.calibration import ONE, Integers
from sidelong.models.evidence import MICRO

__all__ = ["FINE", "REFERENCE", "AdaptiveLevels"]

REFERENCE: Final = ONE // 100
"""The level at which p-values are watched: one window in a hundred."""

_GAMMA: Final = 512  # its inverse; divides ONE and REFERENCE without remainder
FINE: Final = 16
"""A widening is counted in sixteenths."""

_NARROWEST: Final = 128  # p-values are widened by this at most
_LOWEST: Final = -4 * ONE // _GAMMA  # a level that low is back after 800 windows
_DAY_NS: Final = 86_400_000_000_000

# Half the logarithm, as evidence is half that of a p-value, by sixteenths of the widening.
_COST: Final = np.rint(
    0.5 * np.log(np.maximum(np.arange(FINE * _NARROWEST + 1), FINE) / FINE) * MICRO
).astype(np.int64)


class AdaptiveLevels:
    """One level by 64-bit key, carried from batch to batch; at most `capacity` of them, a week."""

    def __init__(self, capacity: int) -> None:
        self._table = Table({"level": np.int64}, capacity=capacity, ttl_ns=7 * _DAY_NS)

    @property
    def evicted(self) -> int:
        """Levels dropped because there were too many."""
        return self._table.evicted

    def widen(self, keys: Keys, rows: Keys, p: Integers, time_ns: Integers) -> Integers:
        """By how many sixteenths each p-value is to be multiplied: 16 where the level is whole.

        keys: whose level. rows: the row of the stream at which a window closed, ascending for each
        key; windows with the same key and row are judged alike, and all of them must be here.
        """
        factors = np.full(len(keys), FINE, np.int64)
        if not len(keys):
            return factors
        segments = Segments.of(keys)
        order, starts, ends = segments.order, segments.starts, segments.ends
        mine = keys[order][starts]
        found = self._table.find(mine)
        level = self._table.get("level", found, REFERENCE)
        seen = np.maximum(
            self._table.get("seen", found, np.iinfo(np.int64).min),
            segments.running(np.maximum, time_ns[order])[ends],
        )
        # Round by round: the first row of every key, then the second of those that have one.
        segment, row = segments.segment, rows[order]
        fresh = np.append(True, (segment[1:] != segment[:-1]) | (row[1:] != row[:-1]))
        turn = np.cumsum(fresh)
        turn -= turn[starts][segment]
        for number in range(int(turn.max()) + 1):
            now = np.flatnonzero(turn == number)
            at = segment[now]
            shrunk = np.maximum(level[at], REFERENCE // _NARROWEST)
            factors[order[now]] = REFERENCE * FINE // shrunk
            passed = np.bincount(at, p[order[now]] <= level[at], len(mine)).astype(np.int64)
            count = np.bincount(at, minlength=len(mine))
            moved = level + (count * REFERENCE - passed * ONE) // _GAMMA
            level = np.where(count > 0, moved.clip(_LOWEST, REFERENCE), level)
        self._table.put(mine, level=level, seen=seen)
        return factors

    @staticmethod
    def cost(factors: Integers) -> Integers:
        """What a widening takes from the evidence of a p-value, in micro-nats."""
        return _COST[factors]

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bound."""
        self._table.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The levels as a value."""
        return self._table.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._table.restore(state)
