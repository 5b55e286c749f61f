"""What one row says of the contact it belongs to: an attempt, an answer, a refusal, a denial.

In NumPy, since expressions of so many parts cost more to set up than to compute over the hundred
rows that a live stream brings at a time.
"""

from typing import Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.schema import PROTOCOLS, TCP_FLAGS, VERDICTS

__all__ = ["ANSWER", "DENIAL", "PROBE", "REFUSAL", "event_of", "with_events"]

PROBE: Final = 1
ANSWER: Final = 2
REFUSAL: Final = 3
DENIAL: Final = 4

Flags: TypeAlias = NDArray[np.bool_]

_SYN, _ACK, _RST, _FIN, _PSH = (TCP_FLAGS[name] for name in ("SYN", "ACK", "RST", "FIN", "PSH"))
_XMAS: Final = _FIN | _PSH | TCP_FLAGS["URG"]
_PROTOCOLS, _VERDICTS = PROTOCOLS.categories.to_list(), VERDICTS.categories.to_list()
_TCP, _UDP, _ICMP = (_PROTOCOLS.index(name) for name in ("TCP", "UDP", "ICMP"))
_DROPPED, _ERROR = (_VERDICTS.index(name) for name in ("DROPPED", "ERROR"))
_NONE: Final = 255  # where a row has no protocol or verdict

# Drop reasons by which policy speaks (Cilium's DropReason 133, 181, 189); all others are the
# datapath's own troubles.
_POLICY_DROPS: Final = ("POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED")


# What is read of a row, in one step: each costs as much to ask for as all of them.
_READ: Final = (
    pl.col("protocol").to_physical().fill_null(_NONE),
    pl.col("verdict").to_physical().fill_null(_NONE),
    pl.col("tcp_flags").is_not_null().alias("flagged"),
    pl.col("tcp_flags").fill_null(0),
    pl.col("l7").is_not_null(),
    pl.col("drop_reason").is_null().alias("unexplained"),
)


def event_of(rows: pl.DataFrame) -> pl.Series:
    """PROBE, ANSWER, REFUSAL, DENIAL, or 0 for a row that says nothing of its contact; Int8.

    Takes rows of `FLOW_SCHEMA` whose `reply` is known. A row is an ANSWER when the service speaks,
    or when a request reached it over a connection that stands.
    """
    event, _ = _events(rows)
    return event


def with_events(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with `event`, and with `stealth`.

    That is whether they are TCP probes that no honest stack sends: no flags at all, FIN alone, or
    FIN, PSH and URG.
    """
    return rows.hstack(_events(rows))


def _events(rows: pl.DataFrame) -> list[pl.Series]:
    read = {column.name: column.to_numpy() for column in rows.select_seq(_READ)}
    protocol, verdict, flags = read["protocol"], read["verdict"], read["tcp_flags"]
    tcp = protocol == _TCP
    flagged = tcp & read["flagged"]
    back = rows["reply"].to_numpy()
    dropped, error = verdict == _DROPPED, verdict == _ERROR
    lost = dropped | error

    bare_reset = flagged & ((flags & _RST) != 0) & ((flags & (_SYN | _PSH)) == 0)
    stealth = flagged & ((flags == 0) | (flags == _FIN) | (flags == _XMAS))
    syn = flagged & ((flags & (_SYN | _ACK)) == _SYN)
    connected = tcp & ~flagged & read["l7"]
    knocks = syn | stealth | (protocol == _UDP) | (protocol == _ICMP)
    event = np.select(
        [
            ~back & dropped & (read["unexplained"] | _says(rows, dropped, _BY_POLICY)),
            back & (bare_reset | (error & _says(rows, error, _BY_ICMP))),
            np.where(back, ~bare_reset, connected) & ~lost,
            ~back & ~lost & knocks,
        ],
        [np.int8(DENIAL), np.int8(REFUSAL), np.int8(ANSWER), np.int8(PROBE)],
        np.int8(0),
    )
    return [pl.Series("event", event), pl.Series("stealth", stealth)]


_BY_POLICY: Final = pl.col("drop_reason").is_in(_POLICY_DROPS).fill_null(False)
_BY_ICMP: Final = pl.col("drop_reason").str.starts_with("ICMP_").fill_null(False)


def _says(rows: pl.DataFrame, where: Flags, what: pl.Expr) -> Flags:
    """What a reason says, asked only if there is a row for which it matters."""
    return rows.select_seq(what).to_series().to_numpy() if where.any() else where
