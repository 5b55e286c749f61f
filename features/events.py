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
_TCP, _UDP, _ICMP = (list(PROTOCOLS.categories).index(name) for name in ("TCP", "UDP", "ICMP"))
_DROPPED, _ERROR = (list(VERDICTS.categories).index(name) for name in ("DROPPED", "ERROR"))
_NONE: Final = 255  # where a row has no protocol or verdict

# Drop reasons by which policy speaks (Cilium's DropReason 133, 181, 189); all others are the
# datapath's own troubles.
_POLICY_DROPS: Final = ("POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED")


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
    event, stealth = _events(rows)
    return rows.hstack([event, stealth])


def _events(rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    protocol, verdict = _codes(rows["protocol"]), _codes(rows["verdict"])
    flags = rows["tcp_flags"].fill_null(0).to_numpy()
    tcp = protocol == _TCP
    flagged = tcp & rows["tcp_flags"].is_not_null().to_numpy()
    back = rows["reply"].to_numpy()
    dropped, error = verdict == _DROPPED, verdict == _ERROR
    lost = dropped | error

    bare_reset = flagged & ((flags & _RST) != 0) & ((flags & (_SYN | _PSH)) == 0)
    stealth = flagged & ((flags == 0) | (flags == _FIN) | (flags == _XMAS))
    syn = flagged & ((flags & (_SYN | _ACK)) == _SYN)
    connected = tcp & ~flagged & rows["l7"].is_not_null().to_numpy()
    knocks = syn | stealth | (protocol == _UDP) | (protocol == _ICMP)
    event = np.select(
        [
            ~back & dropped & _by_policy(rows, dropped),
            back & (bare_reset | (error & _by_icmp(rows, error))),
            np.where(back, ~bare_reset, connected) & ~lost,
            ~back & ~lost & knocks,
        ],
        [np.int8(DENIAL), np.int8(REFUSAL), np.int8(ANSWER), np.int8(PROBE)],
        np.int8(0),
    )
    return pl.Series("event", event), pl.Series("stealth", stealth)


def _codes(column: pl.Series) -> NDArray[np.uint8]:
    codes = column.to_physical()
    return (codes.fill_null(_NONE) if codes.null_count() else codes).to_numpy()


def _by_policy(rows: pl.DataFrame, dropped: Flags) -> Flags:
    """Which drops are policy's, where it matters: where something was dropped."""
    if not dropped.any():
        return dropped
    reason = rows["drop_reason"]
    return (reason.is_null() | reason.is_in(_POLICY_DROPS)).to_numpy()


def _by_icmp(rows: pl.DataFrame, error: Flags) -> Flags:
    """Which errors are ICMP's, where it matters: where there was an error."""
    if not error.any():
        return error
    return rows["drop_reason"].str.starts_with("ICMP_").fill_null(False).to_numpy()
