"""Resolvers that pass a question on: the pod that asked is to blame, not they."""

from typing import Final

import polars as pl

from sidelong.ingest.keys import hash_column, mix
from sidelong.ingest.memory import Memory, MemoryState

__all__ = ["Resolvers"]

_WITHIN_NS: Final = 30 * 1_000_000_000


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
        client, server = (
            pl.when("reply").then(_known_as(back)).otherwise(_known_as(there))
            for back, there in (("dst", "src"), ("src", "dst"))
        )
        dns = (
            flows.with_row_index("at")
            .filter(pl.col("dns_name").is_not_null() & pl.col("reply").is_not_null())
            .select("at", "row", "clock", "dns_name", client=client, server=server)
            .drop_nulls()
        )
        if dns.is_empty():
            return flows.with_columns(forwarded=pl.lit(False))
        name = hash_column(dns["dns_name"])
        # a row asks before it tells, so that only earlier rows count
        order = pl.col("row").cast(pl.Int64) * 2
        clock = pl.col("clock").to_physical()
        asks = dns.select(clock, key=mix(hash_column(dns["client"]), name), row=order)
        tells = dns.select(
            clock,
            key=mix(hash_column(dns["server"]), name),
            row=order + 1,
            passes_on=pl.col("client") != pl.col("server"),
        )
        learnt = self._questions.recall(asks, tells.filter("passes_on").drop("passes_on"))
        passed_on = dns["at"].filter(learnt["learnt"].is_not_null())
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


def _known_as(side: str) -> pl.Expr:
    name = pl.col(side)
    by_address = name.str.starts_with("world:").fill_null(True)
    return pl.when(by_address).then(f"{side}_ip").otherwise(name)
