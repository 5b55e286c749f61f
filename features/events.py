"""What one row says of the contact it belongs to: an attempt, an answer, a refusal, a denial.

Expressions over rows of `sides`; none of them is ever null.
"""

from typing import Final

import polars as pl

from sidelong.ingest.schema import TCP_FLAGS

__all__ = ["ANSWER", "DENIAL", "PROBE", "REFUSAL", "event_of", "is_answer", "is_stealth"]

PROBE: Final = 1
ANSWER: Final = 2
REFUSAL: Final = 3
DENIAL: Final = 4

_SYN, _ACK, _RST, _FIN, _PSH = (TCP_FLAGS[name] for name in ("SYN", "ACK", "RST", "FIN", "PSH"))
_XMAS: Final = _FIN | _PSH | TCP_FLAGS["URG"]

# Drop reasons by which policy speaks (Cilium's DropReason 133, 181, 189); all others are the
# datapath's own troubles.
_POLICY_DROPS: Final = ("POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED")

_FLAGS: Final = pl.col("tcp_flags")


def event_of() -> pl.Expr:
    """PROBE, ANSWER, REFUSAL, DENIAL, or 0 for a row that says nothing of its contact."""
    policy = pl.col("drop_reason").is_null() | pl.col("drop_reason").is_in(_POLICY_DROPS)
    udp, icmp = (pl.col("protocol") == name for name in ("UDP", "ICMP"))
    syn = _tcp() & ((_FLAGS & (_SYN | _ACK)) == _SYN).fill_null(False)
    return (
        pl.when(_forth() & _dropped() & policy)
        .then(DENIAL)
        .when(~_forth() & (_is_bare_reset() | _is_icmp_error()))
        .then(REFUSAL)
        .when(is_answer())
        .then(ANSWER)
        .when(_forth() & ~_error() & ~_dropped() & (syn | is_stealth() | udp | icmp))
        .then(PROBE)
        .otherwise(0)
        .cast(pl.Int8)
    )


def is_answer() -> pl.Expr:
    """The service speaks, or a request reached it over a connection that stands."""
    connected = _tcp() & _FLAGS.is_null() & pl.col("l7").is_not_null()
    spoken = (~_forth() & ~_is_bare_reset()) | (_forth() & connected)
    return spoken & ~_error() & ~_dropped()


def is_stealth() -> pl.Expr:
    """A TCP probe that no honest stack sends: no flags at all, FIN alone, or FIN, PSH and URG."""
    return _tcp() & _FLAGS.is_in([0, _FIN, _XMAS]).fill_null(False)


def _forth() -> pl.Expr:
    return ~pl.col("reply")


def _tcp() -> pl.Expr:
    return pl.col("protocol") == "TCP"


def _error() -> pl.Expr:
    return (pl.col("verdict") == "ERROR").fill_null(False)


def _dropped() -> pl.Expr:
    return (pl.col("verdict") == "DROPPED").fill_null(False)


def _is_icmp_error() -> pl.Expr:
    return _error() & pl.col("drop_reason").str.starts_with("ICMP_").fill_null(False)


def _is_bare_reset() -> pl.Expr:
    bare = ((_FLAGS & _RST) != 0) & ((_FLAGS & (_SYN | _PSH)) == 0)
    return _tcp() & bare.fill_null(False)
