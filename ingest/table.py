"""A table of state: rows by 64-bit key, in NumPy columns, bounded in size and in time.

What a stage remembers of the rows it has seen lies here, looked up and written for a whole batch at
once. A table grows freely between two calls of `tidy`; `tidy` is the only place where rows leave
it, so that what is remembered depends on event time alone and never on how a stream was cut.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sidelong.errors import ConfigError
from sidelong.ingest.groups import Positions, multipliers
from sidelong.ingest.keys import Keys

__all__ = ["Column", "Table", "TableState"]

Column: TypeAlias = NDArray[Any]  # of whatever dtype the table was given for it
TableState: TypeAlias = dict[str, NDArray[Any]]

_FEWEST: Final = 1_024  # rows for which a table has room at least
_CHOICE: Final = next(multipliers())


class Table:
    """Rows by 64-bit key in NumPy columns; bounded, and its state is a value.

    columns: the dtype of each column. There is always a column `seen`, int64 nanoseconds, the
    moment a row was last of use; `tidy` goes by it. `object` is allowed, for strings.
    capacity: rows left by `tidy`. ttl_ns: how long an unseen row stays, None for ever.

    `evicted` counts the rows that left because the table was full, never those that were old.

    >>> table = Table({"port": np.uint16}, capacity=2, ttl_ns=None)
    >>> table.put(np.array([7, 5], np.uint64), port=[80, 443], seen=[1, 2])
    >>> table.get("port", table.find(np.array([5, 6], np.uint64)), default=0)
    array([443,   0], dtype=uint16)

    Looking up m keys costs O(m), and so does adding them: keys are found by hashing, the next place
    being tried where one is taken (linear probing), in an index that is half empty at least. A row
    that leaves stays behind, its key spoilt, until half of all have left, so that a tick costs no
    copy of the table.
    """

    def __init__(
        self, columns: Mapping[str, DTypeLike], *, capacity: int, ttl_ns: int | None
    ) -> None:
        if reserved := {"key", "evicted"} & columns.keys():
            raise ValueError(f"a table keeps {sorted(reserved)} itself")
        self._dtypes = {**{k: np.dtype(v) for k, v in columns.items()}, "seen": np.dtype(np.int64)}
        self.capacity: Final = capacity
        self.ttl_ns: Final = ttl_ns
        self.evicted = 0
        self._fill(np.empty(0, np.uint64), {k: np.empty(0, v) for k, v in self._dtypes.items()})

    def __len__(self) -> int:
        return self._rows - self._left

    def find(self, keys: Keys) -> Positions:
        """Where the rows of `keys` lie, -1 where there is none; good until the next `tidy`."""
        if not self._rows:
            return np.full(len(keys), -1, np.int64)
        place = self._home(keys)
        found = self._index[place]
        asked = np.flatnonzero((found >= 0) & (self._keys[found] != keys))
        place = place[asked]
        while len(asked):
            place = (place + 1) & (len(self._index) - 1)
            there = self._index[place]
            found[asked] = there
            on = (there >= 0) & (self._keys[there] != keys[asked])
            asked, place = asked[on], place[on]
        return found

    def get(self, column: str, positions: Positions, default: object) -> Column:
        """The values of a column at `positions`, `default` where a position is -1."""
        values = self._columns[column]
        absent = positions < 0
        if not self._rows:
            return np.full(len(positions), default, values.dtype)
        found: Column = values[np.where(absent, 0, positions)]
        found[absent] = default
        return found

    def column(self, name: str) -> Column:
        """The values of a column, one per row in no stated order; writing changes the table.

        Some may be of rows that have left; what is written there changes nothing.
        """
        return self._columns[name][: self._rows]

    def put(self, keys: Keys, at: Positions | None = None, **columns: ArrayLike) -> None:
        """Write one row per key: a new row, or a new value of every column of the row it had.

        The keys of one call must differ from each other. at: what `find` said of them, if it was
        asked. Errors: TypeError when a column is missing or unknown.
        """
        if columns.keys() != self._dtypes.keys():
            wrong = sorted(columns.keys() ^ self._dtypes.keys())
            raise TypeError(f"put needs each column of the table once; see {wrong}")
        rows = self.find(keys) if at is None else at.copy()
        new = np.flatnonzero(rows < 0)
        if len(new):
            rows[new] = np.arange(self._rows, self._rows + len(new))
            self._add(keys[new])
        for name, values in columns.items():
            self._columns[name][rows] = values

    def tidy(self, now_ns: int) -> None:
        """Drop what was last seen before `now_ns - ttl_ns`, then the oldest beyond capacity.

        Of rows seen at the same moment the smaller key goes first.
        """
        seen = self._columns["seen"][: self._rows]
        stays = self._stays[: self._rows]
        leave = stays & (self.ttl_ns is not None and seen < now_ns - self.ttl_ns)
        excess = len(self) - int(np.count_nonzero(leave)) - self.capacity
        if excess > 0:
            leave[self._oldest(np.flatnonzero(stays & ~leave), excess)] = True
            self.evicted += excess
        gone = np.flatnonzero(leave)
        if not len(gone):
            return
        self._keys[gone] = ~self._keys[gone]
        self._stays[gone] = False
        self._left += len(gone)
        if self._left > len(self):
            rows = np.flatnonzero(self._stays[: self._rows])
            kept = {name: column[rows] for name, column in self._columns.items()}
            self._fill(self._keys[rows], kept)

    def snapshot(self) -> TableState:
        """The table as arrays in the order of its keys, without a reference into it."""
        rows = np.flatnonzero(self._stays[: self._rows])
        rows = rows[np.argsort(self._keys[rows])]
        columns = {name: column[rows] for name, column in self._columns.items()}
        return {"key": self._keys[rows], **columns, "evicted": np.array(self.evicted)}

    def restore(self, state: TableState) -> None:
        """Become the table that `snapshot` described.

        Errors: ConfigError when the state is that of a table with other columns.
        """
        expected = {"key", "evicted", *self._dtypes}
        if state.keys() != expected:
            raise ConfigError(
                f"saved state has columns {sorted(state)}, this version keeps {sorted(expected)}",
                hint="start without the saved state; what was remembered is learnt again",
            )
        rows = {name: np.array(state[name], dtype) for name, dtype in self._dtypes.items()}
        self._fill(np.array(state["key"], np.uint64), rows)
        self.evicted = int(state["evicted"])

    def _fill(self, keys: Keys, columns: dict[str, Column]) -> None:
        """Hold these rows and no others: row i of each column is that of key i."""
        self._columns = columns
        self._keys = keys
        self._stays = np.ones(len(keys), np.bool_)
        self._rows = len(keys)
        self._left = 0
        self._reindex()

    def _add(self, keys: Keys) -> None:
        """Rows of new keys, their columns to be written."""
        first, self._rows = self._rows, self._rows + len(keys)
        room = len(self._keys)
        if self._rows > room:
            extra = max(self._rows - room, room // 4, _FEWEST)
            self._keys = _longer(self._keys, extra)
            self._stays = _longer(self._stays, extra)
            self._columns = {name: _longer(one, extra) for name, one in self._columns.items()}
        self._keys[first : self._rows] = keys
        self._stays[first : self._rows] = True
        if self._rows * 2 > len(self._index):
            self._reindex()
        else:
            self._place(np.arange(first, self._rows))

    def _reindex(self) -> None:
        bits = max(self._rows * 3, _FEWEST).bit_length()
        self._index: Positions = np.full(1 << bits, -1, np.int64)
        self._shift = np.uint64(64 - bits)
        self._place(np.arange(self._rows))

    def _home(self, keys: Keys) -> Positions:
        """Where in the index a key is looked for first."""
        return (keys * _CHOICE >> self._shift).view(np.int64)

    def _place(self, rows: Positions) -> None:
        """Enter rows into the index."""
        place = self._home(self._keys[rows])
        while len(rows):
            free = self._index[place] < 0
            self._index[place[free]] = rows[free]
            on = self._index[place] != rows  # taken before, or by another of these
            rows, place = rows[on], (place[on] + 1) & (len(self._index) - 1)

    def _oldest(self, rows: Positions, count: int) -> Positions:
        """Of some rows so many that were seen longest ago, of equal ones those of smaller keys."""
        seen = self._columns["seen"][rows]
        youngest = np.partition(seen, count - 1)[count - 1]
        equal = rows[seen == youngest]
        older = rows[seen < youngest]
        return np.concatenate([older, equal[np.argsort(self._keys[equal])][: count - len(older)]])


def _longer(values: Column, extra: int) -> Column:
    return np.concatenate([values, np.empty(extra, values.dtype)])
