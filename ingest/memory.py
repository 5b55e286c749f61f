"""What was last learnt of a key, at each row of a stream.

A fact holds from the row that states it until a later row states another, or until it is too old.
Facts of the batch in hand and facts from before it are looked up alike, so it does not matter in
which batch a fact came.
"""

from typing import Final, NamedTuple, TypeAlias, TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.groups import Groups, first_and_last, latest
from sidelong.ingest.keys import Keys
from sidelong.ingest.table import Column, Table

__all__ = ["Facts", "Integers", "Memory", "MemoryState", "is_among", "unknown"]

Integers: TypeAlias = NDArray[np.int64]

_NEVER: Final = -(2**62)


class Facts(NamedTuple):
    """What rows state, each row about a key. rows: in stream order; clock: in nanoseconds.

    names: what is stated, for a memory of names.
    """

    keys: Keys
    rows: Integers
    clock: Integers
    names: Column | None = None


class MemoryState(TypedDict):
    """The facts held, one row per key, and how many were evicted so far."""

    facts: pl.DataFrame
    evicted: int


class Memory:
    """Facts by 64-bit key; bounded.

    named: whether a fact is a name; else it is only that it was stated. capacity: keys left by
    `tidy`, those learnt last. within_ns: how old a fact may be, by the clock, to be recalled; after
    that `tidy` drops it.
    """

    def __init__(self, *, named: bool = True, capacity: int, within_ns: int) -> None:
        self._named: Final = named
        self._within_ns: Final = within_ns
        columns = {"name": object} if named else {}
        self._table: Final = Table(columns, capacity=capacity, ttl_ns=within_ns)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def evicted(self) -> int:
        """Facts that left because the memory was full."""
        return self._table.evicted

    def ages(self, keys: Keys, first: Integers, last: Integers) -> NDArray[np.bool_]:
        """Which keys' facts grow too old for recall after `first` and until `last` on the clock."""
        learnt = self._table.get("seen", self._table.find(keys), _NEVER)
        ages = (first - learnt <= self._within_ns) & (last - learnt > self._within_ns)
        return ages & (learnt > _NEVER)

    def known(
        self, keys: Keys, rows: Integers, clock: Integers, facts: Facts | None = None
    ) -> NDArray[np.bool_]:
        """Whether there was a fact young enough of each key at each row; see `recall`."""
        _, _, learnt = self._last(keys, rows, facts)
        return (learnt > _NEVER) & (clock - learnt <= self._within_ns)

    def recall(
        self, keys: Keys, rows: Integers, clock: Integers, facts: Facts | None = None
    ) -> Column:
        """What was known of each key at each row: the name in the last fact at that row or before.

        facts: those of the batch in hand, that are not learnt yet. None where there is no fact, or
        none young enough.
        """
        of_facts, found, learnt = self._last(keys, rows, facts)
        names = self._table.get("name", found, None)
        if facts is not None and facts.names is not None:
            stated = of_facts >= 0
            names[stated] = facts.names[of_facts[stated]]
        names[clock - learnt > self._within_ns] = None
        return names

    def learn(self, facts: Facts) -> None:
        """Take facts in; of each key the last."""
        if not len(facts.keys):
            return
        order = np.argsort(facts.rows, kind="stable")
        _, last = first_and_last(facts.keys[order])
        at = order[last]
        names = {} if facts.names is None else {"name": facts.names[at]}
        self._table.put(facts.keys[at], seen=facts.clock[at], **names)

    def tidy(self, now_ns: int) -> None:
        """Drop facts too old to be recalled, then the oldest beyond capacity."""
        self._table.tidy(now_ns)

    def snapshot(self) -> MemoryState:
        """The facts as a frame in the order of their keys."""
        state = self._table.snapshot()
        evicted = int(state.pop("evicted"))
        names = {"name": pl.Series(state["name"].tolist(), dtype=pl.String)} if self._named else {}
        return {"facts": pl.DataFrame({**state, **names}), "evicted": evicted}

    def restore(self, state: MemoryState) -> None:
        """Become the memory that `snapshot` described. Errors: ConfigError for other columns."""
        columns: dict[str, Column] = {
            c.name: np.array(c.to_list(), object) if c.dtype == pl.String else c.to_numpy()
            for c in state["facts"]
        }
        self._table.restore({**columns, "evicted": np.array(state["evicted"])})

    def _last(
        self, keys: Keys, rows: Integers, facts: Facts | None
    ) -> tuple[Integers, Integers, Integers]:
        """The fact that counts at each row: its place among the facts in hand, -1 where there is
        none; else that in the table; and when it was learnt."""
        found = self._table.find(keys)
        learnt = self._table.get("seen", found, _NEVER)
        if facts is None or not len(facts.keys):
            return np.full(len(keys), -1), found, learnt
        of_facts = _last_facts(facts, keys, rows)
        stated = of_facts >= 0
        learnt[stated] = facts.clock[of_facts[stated]]
        return of_facts, found, learnt


def _last_facts(facts: Facts, keys: Keys, rows: Integers) -> Integers:
    """For each row the place of the last fact of its key so far; -1 for none."""
    count = len(facts.keys)
    # A row's own facts come first.
    order = np.argsort(np.concatenate([facts.rows, rows]), kind="stable")
    stated = order < count
    last = latest(Groups(np.concatenate([facts.keys, keys])[order]), stated)
    found = np.empty(len(keys), np.int64)
    found[order[~stated] - count] = np.where(last < 0, -1, order[last])[~stated]
    return found


def is_among(keys: Keys, some: Keys) -> NDArray[np.bool_]:
    """Which of the keys are among some others."""
    if not len(some):
        return np.zeros(len(keys), np.bool_)
    groups = Groups(np.concatenate([some, keys]))
    return groups.first[groups.of[len(some) :]] < len(some)


def unknown(names: Column) -> NDArray[np.bool_]:
    """Where there is no name but None."""
    nothing: Column = np.array(None, object)
    return np.asarray(names == nothing, np.bool_)
