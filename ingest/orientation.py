"""Which way: whether a row travels from the client or comes back from the server.

Decided once per row, before anything is counted, so that both directions of a connection agree on
who began it. What a row says itself comes first: a SYN opens a connection and a SYN with ACK
answers one, whatever a source may claim, for Hubble's `is_reply` can be wrong. Then the source's
own `reply`. Then what earlier rows of the connection settled. The first row of a connection of
which nothing is known is judged by its looks:

- dropped: it comes from the client, an answer would belong to something seen before;
- a bare RST: it answers;
- TCP without any flag, with FIN alone or FIN, PSH and URG: probes, from a client;
- else a port below 1024, or below 32768 facing one above, is the server's;
- else whoever sends first is the client.

ICMP has no connection: without a word from the source a row is not a reply.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.keys import Keys, hash_column, hash_columns, mix
from sidelong.ingest.schema import TCP_FLAGS
from sidelong.ingest.table import Table, TableState, first_and_last, latest

__all__ = ["Orientation"]

_IDLE_NS: Final = 300 * 1_000_000_000
_WELL_KNOWN: Final = 1024
_DYNAMIC: Final = 32768
_STEALTH: Final = (0, TCP_FLAGS["FIN"], TCP_FLAGS["FIN"] | TCP_FLAGS["PSH"] | TCP_FLAGS["URG"])
_UNKNOWN: Final = -1


class Orientation:
    """Decides `reply`, and remembers the client of each connection.

    Remembers 1,000,000 connections for five minutes after their last row.
    """

    def __init__(self) -> None:
        self._connections: Final = Table(
            {"lower_is_client": np.int8}, capacity=1_000_000, ttl_ns=_IDLE_NS
        )

    @property
    def evicted(self) -> int:
        """Connections forgotten for want of room."""
        return self._connections.evicted

    def orient(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows with `reply` decided; rows with a null address keep what they have.

        Takes `FLOW_SCHEMA` with the columns of `Clock.cut`.
        """
        addressed = pl.col("src_ip").is_not_null() & pl.col("dst_ip").is_not_null()
        icmp = (pl.col("protocol") == "ICMP").fill_null(False)
        flows = flows.with_columns(
            pl.when(addressed & icmp)
            .then(pl.col("reply").fill_null(False))
            .otherwise("reply")
            .alias("reply")
        )
        rows = flows.with_row_index("at").filter(addressed & ~icmp)
        if rows.is_empty():
            return flows
        reply = flows["reply"].scatter(rows["at"], pl.Series(self._decide(rows)))
        return flows.with_columns(reply.alias("reply"))

    def tidy(self, now_ns: int) -> None:
        """Forget idle connections, then the longest idle beyond capacity."""
        self._connections.tidy(now_ns)

    def snapshot(self) -> TableState:
        """The connections, as a value."""
        return self._connections.snapshot()

    def restore(self, state: TableState) -> None:
        """Go on from `snapshot`."""
        self._connections.restore(state)

    def _decide(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        keys, sender_is_lower = _connection(rows)
        told = rows.select(_told().cast(pl.Int8).fill_null(_UNKNOWN)).to_series().to_numpy()
        guess = rows.select(_guess()).to_series().to_numpy()

        client = np.where(told == _UNKNOWN, _UNKNOWN, (told == 0) == sender_is_lower)
        first, last = first_and_last(keys)
        known = self._connections.get(
            "lower_is_client", self._connections.find(keys[first]), _UNKNOWN
        )
        guessed = ~guess[first] == sender_is_lower[first]
        at_first = np.where(known == _UNKNOWN, guessed, known)
        client[first] = np.where(client[first] == _UNKNOWN, at_first, client[first])
        client = client[latest(keys, client != _UNKNOWN)]

        seen = rows["clock"].to_physical().to_numpy()[last]
        self._connections.put(keys[last], lower_is_client=client[last], seen=seen)
        decided: NDArray[np.bool_] = np.where(
            told == _UNKNOWN, client != sender_is_lower, told == 1
        )
        return decided


def _connection(rows: pl.DataFrame) -> tuple[Keys, NDArray[np.bool_]]:
    """The key of each row's connection, and whether its sender is the end with the lower key."""
    here = hash_columns(rows, ["src_ip", "src_port"])
    there = hash_columns(rows, ["dst_ip", "dst_port"])
    ends = np.minimum(here, there), np.maximum(here, there)
    return mix(*ends, hash_column(rows["protocol"])), here <= there


def _has(flag: str) -> pl.Expr:
    flags = pl.when(pl.col("protocol") == "TCP").then("tcp_flags")
    return flags & pl.lit(TCP_FLAGS[flag], pl.UInt8) != 0


def _told() -> pl.Expr:
    """What a row itself says of its direction; null where it says nothing.

    An ICMP error may answer an answer, as when a client has closed its port before the resolver
    spoke: only the connection knows which.
    """
    error = (pl.col("verdict") == "ERROR").fill_null(False)
    return pl.when(_has("SYN")).then(_has("ACK")).when(~error).then("reply")


def _guess() -> pl.Expr:
    """The direction of the first row of an unknown connection, by its looks."""
    src, dst = pl.col("src_port"), pl.col("dst_port")
    serves = (src < dst) & ((src < _WELL_KNOWN) | ((src < _DYNAMIC) & (dst >= _DYNAMIC)))
    bare_reset = _has("RST") & ~_has("PSH")
    stealth = (pl.col("protocol") == "TCP") & pl.col("tcp_flags").is_in(_STEALTH)
    return (
        pl.when(pl.col("verdict") == "DROPPED")
        .then(False)
        .when(bare_reset)
        .then(True)
        .when(stealth)
        .then(False)
        .otherwise(serves.fill_null(False))
    )
