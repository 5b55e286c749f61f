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

from sidelong.ingest.groups import Groups, latest
from sidelong.ingest.keys import Keys, column_keys, hash_columns, mix
from sidelong.ingest.schema import TCP_FLAGS
from sidelong.ingest.table import Table, TableState

__all__ = ["Orientation"]

_IDLE_NS: Final = 300 * 1_000_000_000
_WELL_KNOWN: Final = 1024
_DYNAMIC: Final = 32768
_STEALTH: Final = (0, TCP_FLAGS["FIN"], TCP_FLAGS["FIN"] | TCP_FLAGS["PSH"] | TCP_FLAGS["URG"])
_UNKNOWN: Final = -1
_NO_PORT: Final = -1


_ADDRESSED: Final = pl.col("src_ip").is_not_null() & pl.col("dst_ip").is_not_null()
_ICMP: Final = (pl.col("protocol") == "ICMP").fill_null(False).alias("icmp")


class Orientation:
    """Decides `reply`, and remembers the client of each connection.

    Remembers 1,000,000 connections for five minutes after their last row.
    """

    def __init__(self) -> None:
        self._connections: Final = Table(
            {"lower_is_client": np.int8}, capacity=1_000_000, ttl_ns=_IDLE_NS
        )

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def evicted(self) -> int:
        """Connections forgotten for want of room."""
        return self._connections.evicted

    def orient(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows with `reply` decided; rows with a null address keep what they have.

        Takes `FLOW_SCHEMA` with the columns of `Clock.cut`.
        """
        addressed, icmp = flows.select_seq(_ADDRESSED, _ICMP)
        if icmp.any():
            flows = flows.with_columns(
                pl.when(addressed & icmp)
                .then(pl.col("reply").fill_null(False))
                .otherwise("reply")
                .alias("reply")
            )
        decided = addressed & ~icmp
        rows = flows if decided.all() else flows.filter(decided)
        if rows.is_empty():
            return flows
        reply = self._decide(rows)
        if len(rows) < len(flows):
            reply = flows["reply"].scatter(decided.arg_true(), reply)
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

    def _decide(self, rows: pl.DataFrame) -> pl.Series:
        keys, sender_is_lower = _connection(rows)
        told, guess = _looks(rows)

        client = np.where(told == _UNKNOWN, _UNKNOWN, (told == 0) == sender_is_lower)
        groups = Groups(keys)
        known_at = self._connections.find(keys[groups.first])
        if (told == _UNKNOWN).any():
            first = groups.first
            known = self._connections.get("lower_is_client", known_at, _UNKNOWN)
            guessed = ~guess[first] == sender_is_lower[first]
            at_first = np.where(known == _UNKNOWN, guessed, known)
            client[first] = np.where(client[first] == _UNKNOWN, at_first, client[first])
            client = client[latest(groups, client != _UNKNOWN)]

        last = groups.last
        seen = rows["clock"].to_physical().to_numpy()[last]
        self._connections.put(keys[groups.first], known_at, lower_is_client=client[last], seen=seen)
        return pl.Series(np.where(told == _UNKNOWN, client != sender_is_lower, told == 1))


def _connection(rows: pl.DataFrame) -> tuple[Keys, NDArray[np.bool_]]:
    """The key of each row's connection, and whether its sender is the end with the lower key."""
    here = hash_columns(rows, ["src_ip", "src_port"])
    there = hash_columns(rows, ["dst_ip", "dst_port"])
    ends = np.minimum(here, there), np.maximum(here, there)
    return mix(*ends, column_keys(rows, "protocol")), here <= there


_TCP: Final = pl.col("protocol") == "TCP"
_READ: Final = (
    pl.when(_TCP).then("tcp_flags").is_not_null().alias("flagged"),
    pl.col("tcp_flags").fill_null(0),
    pl.col("reply").cast(pl.Int8).fill_null(_UNKNOWN),
    (pl.col("verdict") == "ERROR").fill_null(False).alias("error"),
    (pl.col("verdict") == "DROPPED").fill_null(False).alias("dropped"),
    pl.col("src_port", "dst_port").cast(pl.Int32).fill_null(_NO_PORT),
)


def _looks(rows: pl.DataFrame) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """What each row says itself of its direction, and what it looks like if it says nothing.

    An ICMP error may answer an answer, as when a client has closed its port before the resolver
    spoke: only the connection knows which.
    """
    read = {column.name: column.to_numpy() for column in rows.select_seq(_READ)}
    flags, flagged = read["tcp_flags"], read["flagged"]
    syn, ack, rst, psh = (
        flagged & ((flags & TCP_FLAGS[name]) != 0) for name in ("SYN", "ACK", "RST", "PSH")
    )
    told = np.where(syn, ack.astype(np.int8), np.where(read["error"], _UNKNOWN, read["reply"]))

    src, dst = read["src_port"], read["dst_port"]
    serves = (src < dst) & ((src < _WELL_KNOWN) | ((src < _DYNAMIC) & (dst >= _DYNAMIC)))
    serves &= (src != _NO_PORT) & (dst != _NO_PORT)
    stealth = flagged & np.isin(flags, _STEALTH)
    guess = ~read["dropped"] & ((rst & ~psh) | (~stealth & serves))
    return told.astype(np.int8), guess
