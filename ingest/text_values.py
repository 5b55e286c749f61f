"""Columns of text to columns of flows: times, addresses, ports, protocols, counts, TCP flags.

Logs give every value as text. What a text cannot mean is null, so that a decoder can tell a row
that is wrong from one that leaves something out.
"""

from typing import Final

import polars as pl

from sidelong.ingest.schema import FLOW_SCHEMA, TCP_FLAGS

__all__ = [
    "LATEST_SECOND",
    "address_of",
    "epoch_time",
    "flag_letters",
    "is_address",
    "is_port_if_any",
    "iso_time",
    "natural",
    "port_of",
    "protocol_of",
    "seconds_time",
    "span",
]

LATEST_SECOND: Final = 4_102_444_800
"""The year 2100. Times before 1970 and from then on are nonsense."""

_NS: Final = 1_000_000_000
_TIME: Final = FLOW_SCHEMA["time"]
_ADDRESS: Final = r"^(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]*)(?:%\w+)?$"
# Numbers of IANA's registry, and the names that tools print for them.
_PROTOCOLS: Final = {
    **dict.fromkeys(("6", "tcp"), "TCP"),
    **dict.fromkeys(("17", "udp"), "UDP"),
    **dict.fromkeys(("1", "58", "icmp", "icmp6", "icmpv6", "ipv6-icmp"), "ICMP"),
    **dict.fromkeys(("132", "sctp"), "SCTP"),
}
_NUMBERS: Final = r"^(?:0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])$"
_LETTERS: Final = {"F": "FIN", "S": "SYN", "R": "RST", "P": "PSH", "A": "ACK", "U": "URG"} | {
    "E": "ECE",
    "C": "CWR",
}


def seconds_time(text: pl.Expr) -> pl.Expr:
    """The time of seconds since 1970 with a fraction, to the microsecond."""
    micros = (text.cast(pl.Float64, strict=False) * 1e6).round()
    known = micros.is_between(0, LATEST_SECOND * 1e6, closed="left")
    return (pl.when(known).then(micros).cast(pl.Int64) * 1000).cast(_TIME)


def epoch_time(text: pl.Expr, per_second: int = 1) -> pl.Expr:
    """The time of a whole number since 1970, of which a second has `per_second`."""
    number = text.cast(pl.Int64, strict=False)
    known = number.is_between(0, LATEST_SECOND * per_second, closed="left")
    return (pl.when(known).then(number) * (_NS // per_second)).cast(_TIME)


def iso_time(text: pl.Expr) -> pl.Expr:
    """The time of a text such as 2026-11-24T09:14:02.118Z; without an offset it is UTC."""
    year = text.str.slice(0, 5)
    offset = text.str.contains(r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})$")
    whole = pl.when(offset).then(text).otherwise(text + "Z").str.replace(" ", "T", literal=True)
    time = whole.str.to_datetime("%+", time_unit="ns", strict=False)
    # By text: a year that does not fit the type comes out as another one.
    return pl.when(year.is_between(pl.lit("1970-"), pl.lit("2099-"))).then(time).cast(_TIME)


def span(seconds: pl.Expr) -> pl.Expr:
    """A length of seconds with a fraction; null where it is negative or beyond a century."""
    number = (seconds.cast(pl.Float64, strict=False) * _NS).round()
    known = number.is_between(0, LATEST_SECOND * _NS)
    return pl.when(known).then(number).cast(pl.Int64).cast(pl.Duration("ns"))


def is_address(text: pl.Expr) -> pl.Expr:
    """Whether a text may be an IP address."""
    return text.str.contains(_ADDRESS)


def address_of(text: pl.Expr) -> pl.Expr:
    """The address as RFC 5952 has its letters."""
    return pl.when(is_address(text)).then(text.str.to_lowercase())


def port_of(text: pl.Expr) -> pl.Expr:
    """The port; null where it is none."""
    return text.cast(pl.UInt16, strict=False)


def is_port_if_any(text: pl.Expr) -> pl.Expr:
    """Whether a text is a port, or there is no text at all."""
    return port_of(text).is_not_null() | text.is_null()


def protocol_of(text: pl.Expr) -> pl.Expr:
    """The protocol by its number or its name; OTHER for others, null for what is neither."""
    name = text.str.to_lowercase()
    known = name.replace_strict(_PROTOCOLS, default=None, return_dtype=pl.String)
    other = pl.when(name.str.contains(_NUMBERS) | name.str.contains("^[a-z]")).then(pl.lit("OTHER"))
    return pl.coalesce(known, other).cast(FLOW_SCHEMA["protocol"])


def natural(text: pl.Expr) -> pl.Expr:
    """A count; null where it is none."""
    return text.cast(pl.UInt64, strict=False)


def flag_letters(text: pl.Expr) -> pl.Expr:
    """TCP flags written as letters in any order, such as `...AP.S.`; null for other texts."""
    letters = text.str.contains("^[CEUAPRSF.]+$")
    bits = (
        pl.when(text.str.contains(letter, literal=True)).then(TCP_FLAGS[name]).otherwise(0)
        for letter, name in _LETTERS.items()
    )
    return pl.when(letters).then(pl.sum_horizontal(bits).cast(pl.UInt8))
