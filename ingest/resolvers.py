"""Resolvers that pass a question on: the pod that asked is to blame, not they."""

from typing import Final

import numpy as np
import polars as pl

from sidelong.ingest.keys import column_keys, mix
from sidelong.ingest.memory import Facts, Memory, MemoryState

__all__ = ["Resolvers"]

_WITHIN_NS: Final = 30 * 1_000_000_000


_NEEDED: Final = (
    *("dns_name", "dns_name_key", "reply", "clock"),
    *("src", "src_key", "src_ip", "src_ip_key", "dst", "dst_key", "dst_ip", "dst_ip_key"),
)
_ASKS: Final = pl.col("dns_name").is_not_null() & pl.col("reply").is_not_null()

_BY_ADDRESS: Final = {
    side: pl.col(side).str.starts_with("world:").fill_null(True) for side in ("src", "dst")
}
_KNOWN_AS: Final = (
    *(by_address.alias(side) for side, by_address in _BY_ADDRESS.items()),
    pl.all_horizontal(
        ~by_address | pl.col(f"{side}_ip").is_not_null() for side, by_address in _BY_ADDRESS.items()
    ).alias("known"),
)


class Resolvers:
    """Marks DNS rows whose client only forwards what another asked of it.

    A resolver may have several addresses, so it is known by its workload; outside the cluster,
    where a name stands for a whole network, by its address. Remembers the last 200,000 questions
    for 30 seconds.
    """

    def __init__(self) -> None:
        self._questions: Final = Memory(named=False, capacity=200_000, within_ns=_WITHIN_NS)

    @property
    def evicted(self) -> int:
        """Questions forgotten for want of room."""
        return self._questions.evicted

    def mark(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows with `forwarded` added.

        True on a question or answer whose client was itself asked the same name, by somebody else,
        on an earlier row at most 30 s before. Takes rows with names attached and `reply` decided.
        """
        if flows["dns_name"].null_count() == flows.height:
            return flows.hstack([pl.repeat(False, flows.height, eager=True).alias("forwarded")])
        rows = np.flatnonzero(flows.select_seq(_ASKS).to_series().to_numpy())
        asked = flows.select([name for name in _NEEDED if name in flows.columns])[rows]
        told = {column.name: column.to_numpy() for column in asked.select_seq(_KNOWN_AS)}
        src, dst = (
            np.where(told[side], column_keys(asked, f"{side}_ip"), column_keys(asked, side))
            for side in ("src", "dst")
        )
        known = told["known"]
        back, name = asked["reply"].to_numpy(), column_keys(asked, "dns_name")
        client = mix(np.where(back, dst, src), name)[known]
        server = mix(np.where(back, src, dst), name)[known]
        rows, clock = rows[known], asked["clock"].to_physical().to_numpy()[known]
        # A row asks before it tells, so that only earlier rows count.
        asks, tells = rows * 2, rows * 2 + 1
        others = client != server
        stated = Facts(server[others], tells[others], clock[others])
        forwarded = np.zeros(flows.height, np.bool_)
        forwarded[rows] = self._questions.known(client, asks, clock, stated)
        self._questions.learn(stated)
        return flows.hstack([pl.Series("forwarded", forwarded)])

    def tidy(self, now_ns: int) -> None:
        """Forget old questions, then the oldest beyond capacity."""
        self._questions.tidy(now_ns)

    def snapshot(self) -> MemoryState:
        """The questions remembered, as a value."""
        return self._questions.snapshot()

    def restore(self, state: MemoryState) -> None:
        """Go on from `snapshot`."""
        self._questions.restore(state)
