"""Rows of one batch by their 64-bit key, found by hashing: no sort, a fifth of what one costs.

Every row writes its number into a slot of a scratch table that its key chooses, from the last row
to the first, so that the first row of a key wins. Rows that find a row of another key in their slot
try again, among themselves, with another choice of slots; after two rounds hardly any are left. The
choice is random, made anew by every process, so nobody can prepare keys that always meet.
"""

import secrets
from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sidelong.ingest.keys import Keys

__all__ = ["Groups", "Positions", "first_and_last", "latest", "multipliers"]

Positions: TypeAlias = NDArray[np.int64]

_SMALL: Final = 1 << 16  # numbers below it are sorted by counting, without comparisons
_CHOICE: Final = np.uint64(secrets.randbits(64) | 1)


def multipliers() -> Iterator[np.uint64]:
    """Odd numbers without end, random by process: the top bits of a key times one choose a slot."""
    choice = _CHOICE
    while True:
        yield choice
        choice = np.uint64(int(choice) * int(_CHOICE) % 2**64)


class Groups:
    """Rows that have their key in common.

    first: the row in which each key comes first, in order. of: the place of each row's key among
    these.
    """

    def __init__(self, keys: Keys) -> None:
        first = _first_rows(keys)
        begins = first == np.arange(len(keys))
        self.first: Final[Positions] = np.flatnonzero(begins)
        self.of: Final[Positions] = (np.cumsum(begins) - 1)[first]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def last(self) -> Positions:
        """The row in which each key comes last."""
        last = np.empty(len(self.first), np.int64)
        last[self.of] = np.arange(len(self.of))
        return last

    @property
    def order(self) -> Positions:
        """The rows in the order of their groups, that of the rows kept within each."""
        small = len(self.first) <= _SMALL
        return np.argsort(self.of.astype(np.uint16) if small else self.of, kind="stable")


def _first_rows(keys: Keys) -> Positions:
    """For each row the first row that has the same key."""
    bits = max(1, len(keys) * 2).bit_length()
    shift = np.uint64(64 - bits)
    slots = np.empty(1 << bits, np.int64)
    found = np.empty(len(keys), np.int64)
    rows = np.arange(len(keys))
    for multiplier in multipliers():
        own = keys[rows]
        slot = own * multiplier >> shift
        slots[slot[::-1]] = rows[::-1]
        first = slots[slot]
        found[rows] = first
        rows = rows[keys[first] != own]
        if not len(rows):
            break
    return found


def first_and_last(keys: Keys) -> tuple[Positions, Positions]:
    """The first and the last row of each distinct key, in the order in which they come.

    >>> first, last = first_and_last(np.array([8, 2, 8], np.uint64))
    >>> first, last
    (array([0, 1]), array([2, 1]))
    """
    groups = Groups(keys)
    return groups.first, groups.last


def latest(groups: Groups, marked: NDArray[np.bool_]) -> Positions:
    """For each row the last marked row of the same key, itself or one before it; -1 for none.

    The counterpart of a table within one batch: `values[latest(groups, known)]` fills each row with
    what was last known of its key.

    >>> latest(Groups(np.array([1, 2, 1, 1], np.uint64)), np.array([True, False, False, True]))
    array([ 0, -1,  0,  3])
    """
    order = groups.order
    ordered = groups.of[order]
    ranks = np.arange(len(order))
    starts = np.zeros(len(order), np.bool_)
    starts[:1] = True
    starts[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(starts, ranks, 0))
    last = np.maximum.accumulate(np.where(marked[order], ranks, -1))
    found = np.empty(len(order), np.int64)
    found[order] = np.where(last >= first, order[last], -1)
    return found
