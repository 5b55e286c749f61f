"""One event, reported twice, counts once.

Hubble reports an event from each node and at each observation point it passes, and a denial both
as a policy verdict and as a drop. Such twins agree in everything that is counted, and lie close in
time.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.keys import Keys, hash_columns
from sidelong.ingest.table import Column, Table, TableState, first_and_last

__all__ = ["TWIN_KEY", "WITHIN_NS", "Twins"]

TWIN_KEY: Final = (
    *("src_ip", "dst_ip", "src_port", "dst_port", "protocol", "verdict", "tcp_flags", "reply"),
    *("dns_name", "dns_type", "dns_rcode", "method", "path", "status"),
)
"""Twins have these columns in common."""

WITHIN_NS: Final = 100_000_000
"""Twins are at most so far apart, in either direction."""

_KEEP_NS: Final = 60 * 1_000_000_000
_LIMIT: Final = 2**62 - 1  # differences of times stay within 64 bits


class Twins:
    """Drops the second report of an event.

    A row of origin `hubble` goes when the last row kept of the same `TWIN_KEY` lies within
    `WITHIN_NS` of it. Rows of other origins, rows that report loss and rows without a time are
    never touched. Remembers 1,000,000 events for a minute.
    """

    def __init__(self) -> None:
        self._events: Final = Table({"time": np.int64}, capacity=1_000_000, ttl_ns=_KEEP_NS)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def evicted(self) -> int:
        """Events forgotten for want of room."""
        return self._events.evicted

    def drop(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows without the twins of earlier rows, order kept.

        Takes `FLOW_SCHEMA` with the columns of `Clock.cut`.
        """
        rows = flows.with_row_index("at").filter(
            pl.col("origin") == "hubble", pl.col("lost").is_null(), pl.col("time").is_not_null()
        )
        if rows.is_empty():
            return flows
        keys = hash_columns(rows, TWIN_KEY)
        times = np.clip(rows["time"].to_physical().to_numpy(), -_LIMIT, _LIMIT)
        kept = self._kept(keys, times)
        self._remember(keys[kept], times[kept], rows["clock"].to_physical().to_numpy()[kept])
        if kept.all():
            return flows
        stays = np.ones(len(flows), np.bool_)
        stays[rows["at"].to_numpy()] = kept
        return flows.filter(pl.Series(stays))

    def tidy(self, now_ns: int) -> None:
        """Forget old events, then the oldest beyond capacity."""
        self._events.tidy(now_ns)

    def snapshot(self) -> TableState:
        """The events remembered, as a value."""
        return self._events.snapshot()

    def restore(self, state: TableState) -> None:
        """Go on from `snapshot`."""
        self._events.restore(state)

    def _kept(self, keys: Keys, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows are the first report of their event.

        Whether a row is kept depends on the last row kept before it, so this goes in rounds, all
        keys at once: each keeps the next row that is no twin, and there are as many rounds as one
        key has rows kept.
        """
        order = np.argsort(keys, kind="stable")
        event = np.cumsum(np.diff(keys[order], prepend=keys[order[:1]]) != 0)
        time = times[order]
        first, _ = first_and_last(keys)
        position = self._events.find(keys[first])
        never = time[np.searchsorted(event, np.arange(len(first)))] - 2 * WITHIN_NS
        last_kept: Column = np.where(position < 0, never, self._events.get("time", position, 0))

        kept = np.zeros(len(keys), np.bool_)
        undecided = np.arange(len(keys))
        while len(undecided):
            of = event[undecided]
            apart = undecided[np.abs(time[undecided] - last_kept[of]) > WITHIN_NS]
            events, place = np.unique(event[apart], return_index=True)
            new = apart[place]
            kept[order[new]] = True
            last_kept[events] = time[new]
            decided_to = np.full(len(first), len(keys))
            decided_to[events] = new
            undecided = undecided[undecided > decided_to[of]]
        return kept

    def _remember(self, keys: Keys, times: NDArray[np.int64], clock: NDArray[np.int64]) -> None:
        _, last = first_and_last(keys)
        self._events.put(keys[last], time=times[last], seen=clock[last])
