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
from sidelong.ingest.keys import Keys

__all__ = ["Column", "Positions", "Table", "TableState", "first_and_last", "latest"]

Positions: TypeAlias = NDArray[np.int64]
Column: TypeAlias = NDArray[Any]  # of whatever dtype the table was given for it
TableState: TypeAlias = dict[str, NDArray[Any]]

_RECENT: Final = 8192  # keys that may wait outside the large index, whatever its size


class Table:
    """Rows by 64-bit key: sorted keys beside NumPy columns; bounded, and its state is a value.

    columns: the dtype of each column. There is always a column `seen`, int64 nanoseconds, the
    moment a row was last of use; `tidy` goes by it. `object` is allowed, for strings.
    capacity: rows left by `tidy`. ttl_ns: how long an unseen row stays, None for ever.

    `evicted` counts the rows that left because the table was full, never those that were old.

    >>> table = Table({"port": np.uint16}, capacity=2, ttl_ns=None)
    >>> table.put(np.array([7, 5], np.uint64), port=[80, 443], seen=[1, 2])
    >>> table.get("port", table.find(np.array([5, 6], np.uint64)), default=0)
    array([443,   0], dtype=uint16)

    Looking up m keys in n rows costs O(m log n). Keys are indexed in two levels, a large one and a
    recent one that is merged into it when it outgrows a sixteenth of it, so that adding few rows to
    a large table does not copy the table.
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
        return self._rows

    def find(self, keys: Keys) -> Positions:
        """Where the rows of `keys` lie, -1 where there is none; good until the next `tidy`."""
        found = _search(self._keys, self._slots, keys)
        if len(self._recent_keys):
            missing = np.flatnonzero(found < 0)
            found[missing] = _search(self._recent_keys, self._recent_slots, keys[missing])
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
        """The values of a column, one per row in no stated order; writing changes the table."""
        return self._columns[name][: self._rows]

    def put(self, keys: Keys, **columns: ArrayLike) -> None:
        """Write one row per key: a new row, or a new value of every column of the row it had.

        The keys of one call must differ from each other. Errors: TypeError when a column is missing
        or unknown.
        """
        if columns.keys() != self._dtypes.keys():
            wrong = sorted(columns.keys() ^ self._dtypes.keys())
            raise TypeError(f"put needs each column of the table once; see {wrong}")
        slots = self.find(keys)
        new = np.flatnonzero(slots < 0)
        if len(new):
            slots[new] = np.arange(self._rows, self._rows + len(new))
            self._reserve(self._rows + len(new))
            self._rows += len(new)
            self._index(keys[new], slots[new])
        for name, values in columns.items():
            self._columns[name][slots] = values

    def tidy(self, now_ns: int) -> None:
        """Drop what was last seen before `now_ns - ttl_ns`, then the oldest beyond capacity.

        Of rows seen at the same moment the smaller key goes first.
        """
        seen = self._columns["seen"][: self._rows]
        keep = np.ones(self._rows, np.bool_)
        if self.ttl_ns is not None:
            keep = seen >= now_ns - self.ttl_ns
        excess = int(np.count_nonzero(keep)) - self.capacity
        if excess <= 0 and keep.all():
            return
        self._merge()
        keys, slots = self._keys, self._slots
        if excess > 0:
            alive = np.flatnonzero(keep[slots])
            # positions in `alive` are in key order, so a stable sort by age breaks ties by key
            oldest = alive[np.argsort(seen[slots[alive]], kind="stable")[:excess]]
            keep[slots[oldest]] = False
            self.evicted += excess
        stay = keep[slots]
        slots = slots[stay]
        self._fill(keys[stay], {name: column[slots] for name, column in self._columns.items()})

    def snapshot(self) -> TableState:
        """The table as arrays in the order of its keys, without a reference into it."""
        self._merge()
        rows = {name: column[self._slots] for name, column in self._columns.items()}
        return {"key": self._keys.copy(), **rows, "evicted": np.array(self.evicted)}

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
        """Hold these rows and no others: row i of each column is that of key i, keys sorted."""
        self._columns = columns
        self._rows = len(keys)
        self._keys = keys
        self._slots: Positions = np.arange(len(keys))
        self._recent_keys: Keys = np.empty(0, np.uint64)
        self._recent_slots: Positions = np.empty(0, np.int64)

    def _reserve(self, rows: int) -> None:
        room = len(self._columns["seen"])
        if rows > room:
            extra = max(rows - room, room // 4, 1024)
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.empty(extra, column.dtype)])

    def _index(self, keys: Keys, slots: Positions) -> None:
        order = np.argsort(keys)
        self._recent_keys, self._recent_slots = _interleave(
            self._recent_keys, self._recent_slots, keys[order], slots[order]
        )
        if len(self._recent_keys) > _RECENT + len(self._keys) // 16:
            self._merge()

    def _merge(self) -> None:
        if len(self._recent_keys):
            self._keys, self._slots = _interleave(
                self._keys, self._slots, self._recent_keys, self._recent_slots
            )
            self._recent_keys, self._recent_slots = self._recent_keys[:0], self._recent_slots[:0]


def _search(index: Keys, slots: Positions, keys: Keys) -> Positions:
    if not len(index):
        return np.full(len(keys), -1, np.int64)
    place = np.searchsorted(index, keys)
    place[place == len(index)] = 0
    return np.where(index[place] == keys, slots[place], -1)


def _interleave(
    keys: Keys, slots: Positions, new_keys: Keys, new_slots: Positions
) -> tuple[Keys, Positions]:
    place = np.searchsorted(keys, new_keys)
    return np.insert(keys, place, new_keys), np.insert(slots, place, new_slots)


def latest(keys: Keys, marked: NDArray[np.bool_]) -> Positions:
    """For each row the last marked row of the same key, itself or one before it; -1 for none.

    The counterpart of a table within one batch: `values[latest(keys, known)]` fills each row with
    what was last known of its key.

    >>> latest(np.array([1, 2, 1, 1], np.uint64), np.array([True, False, False, True]))
    array([ 0, -1,  0,  3])
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    ranks = np.arange(len(keys))
    starts = np.zeros(len(keys), np.bool_)
    starts[:1] = True
    starts[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(starts, ranks, 0))
    last = np.maximum.accumulate(np.where(marked[order], ranks, -1))
    found = np.empty(len(keys), np.int64)
    found[order] = np.where(last >= first, order[last], -1)
    return found


def first_and_last(keys: Keys) -> tuple[Positions, Positions]:
    """The first and the last row of each distinct key, in the order of the keys.

    >>> first, last = first_and_last(np.array([8, 2, 8], np.uint64))
    >>> first, last
    (array([1, 0]), array([1, 2]))
    """
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(keys[order][1:] != keys[order][:-1])
    ends = np.concatenate([bounds, np.full(min(len(keys), 1), len(keys) - 1)])
    starts = np.concatenate([np.zeros(min(len(keys), 1), np.int64), bounds + 1])
    return order[starts], order[ends]
