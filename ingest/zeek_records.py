"""What the records of Zeek's conn, dns, http and ssl logs say, as flows.

A connection becomes its first packet and the first answer to it; a DNS record its query and its
answer; a request over HTTP the request and the answer. What Zeek writes of one connection in
several logs bears one `uid`, which stays with the flows so that they can be told apart from what
says the same again.

Source: the logs' own scripts in Zeek 8, `base/protocols/{conn,dns,http,ssl}/main.zeek`.
"""

import re
from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from sidelong.ingest.checked_rows import Checked, checked
from sidelong.ingest.dns_wire import type_text
from sidelong.ingest.exchanges import exchange_flows
from sidelong.ingest.hubble_flows import dns_names, path_of
from sidelong.ingest.keys import hash_column
from sidelong.ingest.schema import FLOW_SCHEMA, TCP_FLAGS
from sidelong.ingest.text_values import (
    address_of,
    is_address,
    iso_time,
    natural,
    port_of,
    protocol_of,
    seconds_time,
    span,
)

__all__ = ["FIELDS", "LISTS", "STREAMS", "TOLD_SCHEMA", "no_records", "stream_of", "told_flows"]

STREAMS: Final = ("conn", "dns", "http", "ssl")
"""The logs that hold flows; all others are passed over."""

LISTS: Final = ("answers",)
FIELDS: Final = (
    *("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto"),
    *("_system_name", "_node_name", "service", "duration", "conn_state", "history"),
    *("orig_bytes", "resp_bytes", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes"),
    *("query", "qtype", "qtype_name", "rcode", "rtt", "answers"),
    *("method", "uri", "status_code", "version", "established"),
)
"""The columns that are read, by their names in the logs."""

TOLD_SCHEMA: Final = pl.Schema(
    {**FLOW_SCHEMA, "tells": pl.UInt64(), "unless_told": pl.UInt64(), "line": pl.UInt32()}
)
"""Flows and, of each, `tells`: the number of the connection it tells of; `unless_told`: the number
by which another row makes it redundant; `line`: the row it comes from."""

_SYN, _ACK, _RST, _FIN = (TCP_FLAGS[name] for name in ("SYN", "ACK", "RST", "FIN"))
_SOON: Final = pl.duration(milliseconds=100, time_unit="ns")
_NONE: Final = pl.duration(nanoseconds=0, time_unit="ns")
_MILLISECONDS: Final = 1e11  # a `ts` beyond that counts milliseconds, as JSON::TS_MILLIS writes it
# Types of ICMP and ICMPv6 that report an error: they answer somebody's packet.
_ERRORS: Final = (("3", "4", "5", "11", "12"), ("1", "2", "3", "4"))
_ESCAPED: Final = re.compile(r"\\x([0-9A-Fa-f]{2})")
_CONN_SALT: Final = 0x9E37_79B9_7F4A_7C15


def stream_of(rows: pl.DataFrame, names: tuple[str, ...]) -> pl.Series:
    """Which log each row of JSON is of: what stands in one of `names`, else by its fields.

    Takes more fields than `FIELDS`: those that tell logs apart are in `zeek_lines`.
    """
    here = {name: pl.col(name).is_not_null() for name in rows.columns}
    sip = here["call_id"] | here["request_path"] | here["response_path"]
    guessed = (
        pl.when(here["conn_state"] | here["missed_bytes"])
        .then(pl.lit("conn"))
        .when(here["qtype"] | here["rejected"])
        .then(pl.lit("dns"))
        .when((here["request_body_len"] | here["status_code"]) & ~sip)
        .then(pl.lit("http"))
        .when(here["established"])
        .then(pl.lit("ssl"))
    )
    return rows.select(pl.coalesce(*names, guessed)).to_series()


def no_records() -> pl.DataFrame:
    """A frame of no rows in `TOLD_SCHEMA`."""
    return TOLD_SCHEMA.to_frame()


def told_flows(rows: pl.DataFrame, stream: str) -> tuple[pl.DataFrame, Checked]:
    """Flows in `TOLD_SCHEMA` out of rows of `FIELDS`, with a `line` each, all of one of `STREAMS`.

    Rows that cannot be what they claim are in the second part.
    """
    found = checked(_timed(rows), _CHECKS)
    good = found.rows
    if stream == "dns":
        good = good.filter(pl.col("query").is_not_null())
    if good.is_empty():
        return no_records(), found
    told = _BUILD[stream](good)
    flows = exchange_flows(told)
    record = (~flows["reply"]).cast(pl.UInt32).cum_sum() - 1
    uids = hash_column(good["uid"].fill_null(""))
    named = good["uid"].is_not_null().to_numpy()
    salted = uids ^ np.uint64(_CONN_SALT)
    of_conn = pl.Series(salted if stream in ("conn", "ssl") else uids).set(pl.Series(~named), None)
    of_dns = pl.Series(uids).set(pl.Series(~named), None)
    none = pl.repeat(None, good.height, dtype=pl.UInt64, eager=True)
    tells = {"conn": of_conn, "dns": of_dns}.get(stream, none)
    unless = {"conn": of_dns, "ssl": of_conn}.get(stream, none)
    flows = flows.with_columns(
        tells=tells.gather(record),
        unless_told=unless.gather(record),
        line=good["line"].gather(record),
    )
    if stream == "conn":
        error = good.select(_is_icmp_error()).to_series().gather(record)
        flows = flows.with_columns(reply=pl.col("reply") | error)
    return flows.select(TOLD_SCHEMA.names()), found


def _timed(rows: pl.DataFrame) -> pl.DataFrame:
    """With a column `time`: `ts` is seconds, or milliseconds, or a text as in ISO 8601."""
    ts = pl.col("ts")
    millis = pl.col("time").is_null() & (ts.cast(pl.Float64, strict=False) >= _MILLISECONDS)
    timed = rows.with_columns(time=seconds_time(ts))
    if not timed["time"].has_nulls():
        return timed
    scaled = (ts.cast(pl.Float64, strict=False) / 1e3).cast(pl.String)
    return timed.with_columns(
        time=pl.coalesce("time", pl.when(millis).then(seconds_time(scaled)), iso_time(ts))
    )


_CHECKS: Final = {
    "ts": pl.col("time").is_not_null(),
    **{
        name: check
        for end in ("orig", "resp")
        for name, check in (
            (f"id.{end}_h", is_address(pl.col(f"id.{end}_h"))),
            (f"id.{end}_p", port_of(pl.col(f"id.{end}_p")).is_not_null()),
        )
    },
}


def _ends(protocol: pl.Expr) -> dict[str, pl.Expr]:
    """Of ICMP the columns hold type and code."""
    ported = (protocol != "ICMP").fill_null(True)
    return {
        "client_ip": address_of(pl.col("id.orig_h")),
        "server_ip": address_of(pl.col("id.resp_h")),
        "client_port": pl.when(ported).then(port_of(pl.col("id.orig_p"))),
        "server_port": pl.when(ported).then(port_of(pl.col("id.resp_p"))),
        "protocol": protocol,
        "origin": pl.lit("zeek"),
        "node": pl.coalesce("_system_name", "_node_name"),
    }


def _connections(rows: pl.DataFrame) -> pl.DataFrame:
    protocol = protocol_of(pl.col("proto"))
    tcp = protocol == "TCP"
    history = pl.col("history").fill_null("")
    length = span(pl.col("duration")).fill_null(_NONE)
    heard = natural(pl.col("resp_pkts")) > 0
    # Logs without packet counts tell by the responder's letters, or by its bytes.
    spoke = history.str.contains("[a-z]") | (natural(pl.col("resp_bytes")) > 0).fill_null(False)
    answered = heard.fill_null(spoke)
    first = history.str.extract("([adfr])")
    received = (
        pl.when(history.str.contains("h", literal=True))
        .then(_SYN | _ACK)
        .when(first == "r")
        .then(_RST | _ACK)
        .otherwise(_ACK)
    )
    return rows.select(
        "time",
        **_ends(protocol),
        end=pl.col("time") + length,
        answer_time=pl.col("time") + pl.min_horizontal(length, _SOON),
        outcome=pl.when(answered).then(pl.lit("ANSWERED")).otherwise(pl.lit("UNANSWERED")),
        flags_sent=pl.when(tcp).then(
            pl.when(history.str.contains("S", literal=True))
            .then(_SYN)
            .when(history.str.starts_with("F"))
            .then(_FIN)
            .otherwise(_ACK)
        ),
        flags_received=pl.when(tcp).then(received),
        bytes_sent=pl.coalesce(natural(pl.col("orig_ip_bytes")), natural(pl.col("orig_bytes"))),
        bytes_received=pl.coalesce(natural(pl.col("resp_ip_bytes")), natural(pl.col("resp_bytes"))),
        packets_sent=natural(pl.col("orig_pkts")),
        packets_received=natural(pl.col("resp_pkts")),
        l7=pl.when(_speaks_tls()).then(pl.lit("tls")),
    )


def _speaks_tls() -> pl.Expr:
    return pl.col("service").str.contains(r"(?:^|,)(?:ssl|quic)(?:,|$)")


def _is_icmp_error() -> pl.Expr:
    six = pl.col("id.orig_h").str.contains(":", literal=True)
    kind = pl.col("id.orig_p")
    error = pl.when(six).then(kind.is_in(_ERRORS[1])).otherwise(kind.is_in(_ERRORS[0]))
    return ((protocol_of(pl.col("proto")) == "ICMP") & error).fill_null(False)


def _lookups(rows: pl.DataFrame) -> pl.DataFrame:
    rows = rows.with_columns(query=dns_names(_escaped_names(rows["query"])))
    protocol = protocol_of(pl.col("proto"))
    answered = pl.col("rcode").is_not_null()
    addresses = pl.col("answers").list.eval(
        pl.element().filter(is_address(pl.element())).str.to_lowercase()
    )
    rcode = pl.col("rcode").cast(pl.UInt8, strict=False)
    return rows.select(
        "time",
        **_ends(protocol),
        answer_time=pl.col("time") + span(pl.col("rtt")).fill_null(_SOON),
        outcome=pl.when(answered).then(pl.lit("ANSWERED")).otherwise(pl.lit("UNANSWERED")),
        dns_name="query",
        dns_type=_types(rows),
        dns_rcode=rcode,
        dns_answers=pl.when(answered).then(addresses.fill_null([])),
        l7=pl.lit("dns"),
    )


def _types(rows: pl.DataFrame) -> pl.Series:
    """Names of record types; those of Zeek only where it gives no number."""
    numbers = rows["qtype"].cast(pl.UInt16, strict=False)
    known = type_text(numbers.fill_null(0).to_numpy().astype(np.int64))
    return known.set(numbers.is_null(), None).fill_null(rows["qtype_name"])


def _requests(rows: pl.DataFrame) -> pl.DataFrame:
    rows = rows.with_columns(uri=_unescaped(rows["uri"]))
    status = pl.col("status_code").cast(pl.UInt16, strict=False)
    return rows.select(
        "time",
        **_ends(pl.lit("TCP", FLOW_SCHEMA["protocol"])),
        outcome=pl.when(status.is_not_null())
        .then(pl.lit("ANSWERED"))
        .otherwise(pl.lit("UNANSWERED")),
        method="method",
        path=path_of(pl.col("uri")),
        status=status,
        l7=pl.lit("http"),
    )


def _handshakes(rows: pl.DataFrame) -> pl.DataFrame:
    spoken = pl.col("version").is_not_null() | pl.col("established").is_in(["T", "true"])
    return rows.select(
        "time",
        **_ends(pl.lit("TCP", FLOW_SCHEMA["protocol"])),
        outcome=pl.when(spoken).then(pl.lit("ANSWERED")).otherwise(pl.lit("UNANSWERED")),
        l7=pl.lit("tls"),
    )


_BUILD: Final[dict[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "conn": _connections,
    "dns": _lookups,
    "http": _requests,
    "ssl": _handshakes,
}


def _escaped_names(names: pl.Series) -> pl.Series:
    r"""Zeek writes an octet as `\xHH`, RFC 4343 as `\DDD`."""

    def octet(found: re.Match[str]) -> str:
        number = int(found[1], 16)
        return chr(number) if 0x21 <= number <= 0x7E and number not in b".\\" else f"\\{number:03d}"

    return _rewritten(names, octet)


def _unescaped(texts: pl.Series) -> pl.Series:
    return _rewritten(texts, lambda found: chr(int(found[1], 16)))


def _rewritten(texts: pl.Series, replacement: Callable[[re.Match[str]], str]) -> pl.Series:
    """Few texts have escapes: each is rewritten once."""
    odd = texts.filter(texts.str.contains(r"\x", literal=True)).unique()
    if odd.is_empty():
        return texts
    plain = pl.Series([_ESCAPED.sub(replacement, text) for text in odd], dtype=pl.String)
    return texts.replace(odd, plain)
