"""Resolvers that pass a question on: the pod that asked is to blame, not they."""

from typing import Final

import polars as pl

from sidelong.ingest.keys import hash_column, mix
from sidelong.ingest.memory import Memory, MemoryState

__all__ = ["Resolvers"]

_WITHIN_NS: Final = 30 * 1_000_000_000


_NEEDED: Final = ("row", "clock", "dns_name", "reply", "src", "dst", "src_ip", "dst_ip")
_ASKS: Final = pl.col("dns_name").is_not_null() & pl.col("reply").is_not_null()


def _known_as(side: str) -> pl.Expr:
    name = pl.col(side)
    by_address = name.str.starts_with("world:").fill_null(True)
    return pl.when(by_address).then(f"{side}_ip").otherwise(name)


_ENDS: Final = (
    pl.col("at", "dns_name"),
    pl.col("row").cast(pl.Int64),
    pl.col("clock").to_physical(),
    pl.when("reply").then(_known_as("dst")).otherwise(_known_as("src")).alias("client"),
    pl.when("reply").then(_known_as("src")).otherwise(_known_as("dst")).alias("server"),
)


class Resolvers:
    """Marks DNS rows whose client only forwards what another asked of it.

    A resolver may have several addresses, so it is known by its workload; outside the cluster,
    where a name stands for a whole network, by its address. Remembers the last 200,000 questions
    for 30 seconds.
    """

    def __init__(self) -> None:
        self._questions: Final = Memory([], capacity=200_000, within_ns=_WITHIN_NS)

    @property
    def evicted(self) -> int:
        """Questions forgotten for want of room."""
        return self._questions.evicted

    def mark(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows with `forwarded` added.

        True on a question or answer whose client was itself asked the same name, by somebody else,
        on an earlier row at most 30 s before. Takes rows with names attached and `reply` decided.
        """
        asked = flows.select_seq(_NEEDED).with_row_index("at").filter(_ASKS)
        asked = asked.select_seq(_ENDS).drop_nulls()
        if asked.is_empty():
            return flows.with_columns(forwarded=pl.lit(False))
        name = hash_column(asked["dns_name"])
        # a row asks before it tells, so that only earlier rows count
        asks = asked.select(
            "clock",
            pl.Series("key", mix(hash_column(asked["client"]), name)),
            row=pl.col("row") * 2,
        )
        tells = asked.select(
            "clock",
            pl.Series("key", mix(hash_column(asked["server"]), name)),
            row=pl.col("row") * 2 + 1,
        ).filter(asked["client"] != asked["server"])
        learnt = self._questions.recall(asks, tells)
        passed_on = asked["at"].filter(learnt["learnt"].is_not_null())
        marks = pl.repeat(False, len(flows), eager=True).scatter(passed_on, True)
        return flows.with_columns(forwarded=marks)

    def tidy(self, now_ns: int) -> None:
        """Forget old questions, then the oldest beyond capacity."""
        self._questions.tidy(now_ns)

    def snapshot(self) -> MemoryState:
        """The questions remembered, as a value."""
        return self._questions.snapshot()

    def restore(self, state: MemoryState) -> None:
        """Go on from `snapshot`."""
        self._questions.restore(state)
