"""One event, reported twice, counts once.

Hubble reports an event from each node and at each observation point it passes, and a denial both
as a policy verdict and as a drop. Such twins agree in everything that is counted, and lie close in
time.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.groups import Groups
from sidelong.ingest.keys import Keys, hash_rows
from sidelong.ingest.table import Table, TableState

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
_ROW: Final = (
    ((pl.col("origin") == "hubble") & pl.col("lost").is_null() & pl.col("time").is_not_null())
    .fill_null(False)
    .alias("may_be_twin"),
    pl.col("time").to_physical().fill_null(0),
    pl.col("clock").to_physical(),
)


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
        may_be, times, clock = (column.to_numpy() for column in flows.select_seq(_ROW))
        if not may_be.any():
            return flows
        at = np.flatnonzero(may_be)
        kept = self._kept(
            hash_rows(flows, TWIN_KEY, at), np.clip(times[at], -_LIMIT, _LIMIT), clock[at]
        )
        if kept.all():
            return flows
        stays = np.ones(len(flows), np.bool_)
        stays[at] = kept
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

    def _kept(
        self, keys: Keys, times: NDArray[np.int64], clock: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which rows are the first report of their event; remembers the last of each.

        Whether a row is kept depends on the last row kept before it, so this goes in rounds, all
        keys at once: each keeps the next row that is no twin, and there are as many rounds as one
        key has rows kept.
        """
        events = Groups(keys)
        at = self._events.find(keys[events.first])
        never = times[events.first] - 2 * WITHIN_NS
        last_time = np.where(at < 0, never, self._events.get("time", at, 0))
        last_row = np.full(len(events), -1)
        kept = np.zeros(len(keys), np.bool_)
        undecided = np.arange(len(keys))
        decided_to = np.empty(len(events), np.int64)
        while len(undecided):
            event = events.of[undecided]
            apart = np.flatnonzero(np.abs(times[undecided] - last_time[event]) > WITHIN_NS)
            decided_to[event] = len(keys)
            decided_to[event[apart[::-1]]] = undecided[apart[::-1]]  # the first is written last
            new = apart[decided_to[event[apart]] == undecided[apart]]
            kept[undecided[new]] = True
            last_time[event[new]] = times[undecided[new]]
            last_row[event[new]] = undecided[new]
            undecided = undecided[undecided > decided_to[event]]
        told = last_row >= 0
        self._events.put(
            keys[events.first[told]], at[told], time=last_time[told], seen=clock[last_row[told]]
        )
        return kept
