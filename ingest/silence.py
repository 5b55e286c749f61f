"""Who is silent: partitions of which nothing came for a while, and of which nothing is to come.

A partition counts as silent only on good grounds: nothing of it was read for the time to wait, and
asked after that time its broker said that there is nothing more. A broker that does not answer is
no ground. What was said holds for as long again, then it is asked once more.

At the beginning, and when nobody could be asked for a while, who writes may need some time to come
back too; so long event time stands still rather than run ahead of what they have to tell.
"""

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["Silence"]

_ASK_SECONDS: Final = 0.05  # the least time between two questions
_LASTS_SECONDS: Final = 0.2  # the least time for which an answer holds
_NEW_SECONDS: Final = 10.0  # the longest between two, for there may be new partitions
_IDLE_SECONDS: Final = 1.0  # without any row, until that is worth a row of its own
_BACK_SECONDS: Final = 30.0  # the same, at the beginning and when nobody could tell
_LONGEST_SECONDS: Final = 10.0  # between two such rows, each of which comes later than the last


class Silence:
    """What is known of the silence of partitions. wait: see the module. All times in seconds."""

    def __init__(self, wait: float) -> None:
        self._wait: Final = wait
        self._lasts: Final = max(2 * wait, _LASTS_SECONDS)
        self._heard: dict[int, float] = {}
        self._ends: Mapping[int, int] = {}
        self._asked = float("-inf")
        self._spoke = 0.0
        self._pause = _IDLE_SECONDS

    def begin(self, partitions: Iterable[int], now: float) -> None:
        """Know nothing yet."""
        self._heard = dict.fromkeys(partitions, now)
        self._ends, self._asked = {}, float("-inf")
        self._spoke, self._pause = now, _BACK_SECONDS

    def take_in(self, partition: int, now: float) -> None:
        """Know nothing of this one, which there was not before."""
        self._heard[partition] = now

    def heard(self, partition: int, now: float) -> None:
        """Something of a partition was read."""
        self._heard[partition] = now

    def spoke(self, now: float) -> None:
        """A row went into the stream."""
        self._spoke, self._pause = now, _IDLE_SECONDS

    def asks(self, now: float, *, waiting: bool) -> bool:
        """Whether it wants to be `told` how much there is. waiting: whether there are rows that
        wait for it."""
        since = now - self._asked
        if since >= _NEW_SECONDS or since < max(self._wait, _ASK_SECONDS):
            return since >= _NEW_SECONDS
        if not waiting and now - self._spoke < self._pause:
            return False
        return any(now - heard >= self._wait for heard in self._heard.values())

    def told(self, ends: Mapping[int, int] | None, now: float) -> None:
        """Of each partition the offset behind its last message; None when nobody could tell."""
        self._asked = now
        self._ends = ends or {}
        if ends is None:
            self._spoke, self._pause = now, _BACK_SECONDS  # who knows what there is

    def of(self, read: Mapping[int, int], now: float) -> frozenset[int]:
        """The partitions that are silent. read: of each the offset that is to be read next."""
        if now - self._asked > self._lasts:
            return frozenset()
        return frozenset(
            place
            for place, heard in self._heard.items()
            if self._asked - heard >= self._wait
            and place in self._ends
            and self._ends[place] <= read[place]
        )

    def passed(self, now: float) -> float | None:
        """Seconds since the last row, when they are worth a row of their own: after one second of
        silence, then each time twice as long, up to ten; None else."""
        passed = now - self._spoke
        if passed < self._pause:
            return None
        self._spoke, self._pause = now, min(2 * self._pause, _LONGEST_SECONDS)
        return passed
