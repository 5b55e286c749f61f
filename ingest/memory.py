"""What was last learnt of a key, at each row of a stream.

A fact holds from the row that states it until a later row states another, or until it is too old.
Facts of the batch in hand and facts from before it are looked up alike, so it does not matter in
which batch a fact came.
"""

from collections.abc import Sequence
from typing import Final, TypedDict

import numpy as np
import polars as pl

from sidelong.ingest.table import Column, Positions, Table, first_and_last, latest

__all__ = ["Memory", "MemoryState"]

_NEVER: Final = -(2**62)


class MemoryState(TypedDict):
    """The facts held, one row per key, and how many were evicted so far."""

    facts: pl.DataFrame
    evicted: int


class Memory:
    """Facts by 64-bit key, each a row of texts; bounded.

    columns: the texts of a fact. capacity: keys left by `tidy`, those learnt last. within_ns: how
    old a fact may be, by the clock, to be recalled; after that `tidy` drops it.
    """

    def __init__(self, columns: Sequence[str], *, capacity: int, within_ns: int) -> None:
        self._columns: Final = tuple(columns)
        self._within_ns: Final = within_ns
        self._table: Final = Table(
            dict.fromkeys(columns, object), capacity=capacity, ttl_ns=within_ns
        )

    def __len__(self) -> int:
        return len(self._table)

    @property
    def evicted(self) -> int:
        """Facts that left because the memory was full."""
        return self._table.evicted

    def recall(self, asked: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
        """Learn the facts, and answer what was known at the rows that ask.

        Both frames have `key` (UInt64), `row` (any integer, in stream order) and `clock` (Int64,
        ns); facts also have the columns of the memory. Returns, for each row of `asked`, the
        columns of the last fact of its key at that row or before, and its clock as `learnt`; nulls
        where there is none young enough.
        """
        if asked.is_empty():
            self._learn(facts)
            return facts.select(*self._columns, learnt="clock").clear()
        keys, place = np.unique(asked["key"].to_numpy(), return_inverse=True)
        chosen = place + len(facts)
        if len(facts):
            of_asked = _last_facts(facts, asked)
            chosen = np.where(of_asked < 0, chosen, of_asked)
        found = self._table.find(keys)
        learnt = np.concatenate([facts["clock"].to_numpy(), self._table.get("seen", found, _NEVER)])
        answer = learnt[chosen]
        young = (answer > _NEVER) & (asked["clock"].to_numpy() - answer <= self._within_ns)
        # What is not young enough is answered by a null at the end.
        at = pl.Series(np.where(young, chosen, len(learnt)))
        answers = {}
        for c in self._columns:
            held = pl.Series([*self._table.get(c, found, None).tolist(), None], dtype=pl.String)
            answers[c] = pl.concat([facts[c], held]).gather(at)
        answers["learnt"] = pl.Series(learnt).extend_constant(None, 1).gather(at)
        self._learn(facts)
        return pl.DataFrame(answers)

    def tidy(self, now_ns: int) -> None:
        """Drop facts too old to be recalled, then the oldest beyond capacity."""
        self._table.tidy(now_ns)

    def snapshot(self) -> MemoryState:
        """The facts as a frame in the order of their keys."""
        state = self._table.snapshot()
        evicted = int(state.pop("evicted"))
        texts = {c: pl.Series(state[c].tolist(), dtype=pl.String) for c in self._columns}
        return {"facts": pl.DataFrame({**state, **texts}), "evicted": evicted}

    def restore(self, state: MemoryState) -> None:
        """Become the memory that `snapshot` described. Errors: ConfigError for other columns."""
        columns: dict[str, Column] = {
            c.name: np.array(c.to_list(), object) if c.dtype == pl.String else c.to_numpy()
            for c in state["facts"]
        }
        self._table.restore({**columns, "evicted": np.array(state["evicted"])})

    def _learn(self, facts: pl.DataFrame) -> None:
        if facts.is_empty():
            return
        order = np.argsort(facts["row"].to_numpy(), kind="stable")
        keys = facts["key"].to_numpy()[order]
        _, last = first_and_last(keys)
        at = order[last]
        texts = {c: np.array(facts[c].gather(at).to_list(), object) for c in self._columns}
        self._table.put(keys[last], seen=facts["clock"].to_numpy()[at], **texts)


def _last_facts(facts: pl.DataFrame, asked: pl.DataFrame) -> Positions:
    """For each row of `asked`, the place of the last fact of its key so far; -1 for none."""
    both = pl.concat([facts.select("key", "row"), asked.select("key", "row")])
    order = np.argsort(both["row"].to_numpy(), kind="stable")  # a row's own facts come first
    stated = order < len(facts)
    last = latest(both["key"].to_numpy()[order], stated)
    of_asked: Positions = np.empty(len(asked), np.int64)
    of_asked[order[~stated] - len(facts)] = np.where(last < 0, -1, order[last])[~stated]
    return of_asked
