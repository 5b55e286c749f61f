"""Nested columns of Hubble events to flows, by expressions alone.

Sources: `flow/flow.proto` of Cilium 1.19; the JSON mapping of proto3, which leaves out zeroes and
writes what an enumeration does not know as its number.
"""

import json
from typing import Final

import polars as pl

from sidelong.ingest.hubble_names import DROP_REASONS, RESERVED, VERDICTS_BY_NUMBER
from sidelong.ingest.hubble_shape import DECISIONS, DIRECTIONS, EVERY_SHAPE, OTHER_EVENTS, Shape
from sidelong.ingest.schema import FLOW_SCHEMA, TCP_FLAGS, VERDICTS, conform, line_of

__all__ = [
    "ADDRESS",
    "EARLIEST",
    "LATEST",
    "MOST_COUNTED",
    "dns_names",
    "flatten",
    "flows_of",
    "path_of",
]

EARLIEST, LATEST = "1990", "2100"
"""Years outside of which a time is nonsense; the type of the column ends at 2262."""

ADDRESS: Final = r"^[0-9A-Fa-f.:]{2,}(%\w+)?$"
"""What may be an address; polars' syntax."""

MOST_COUNTED: Final = 2**32 - 1
"""The most events that one row may stand for: its column ends there."""

_SECONDS: Final = "%Y-%m-%dT%H:%M:%S"
_LONGEST_TIME: Final = len("2026-11-23T09:14:02.118406213Z")
_VERDICT: Final = {**VERDICTS_BY_NUMBER, **{name: name for name in VERDICTS.categories}}
_REDACTED: Final = "HUBBLE_REDACTED"


def flatten(events: pl.DataFrame, shape: Shape) -> pl.DataFrame:
    """The columns of `FLOW_SCHEMA` that Hubble knows, one row per event in order, and four more.

    is_flow, is_lost: what the event is. silent: something else that carries no flow. readable: a
    flow or loss with a time, ports and addresses that can be. partial: it lacks an address, a
    transport or ports, as a frame that is not IP does, and one where these are no objects.
    """
    value, present = shape.value, shape.present
    flow_marks = ("flow.verdict", "flow.IP", "flow.l4") if shape is EVERY_SHAPE else ()
    ports = {
        end: [value(f"flow.l4.{name}.{end}_port") for name in ("TCP", "UDP", "SCTP")]
        for end in ("source", "destination")
    }
    columns = {
        "is_flow": present("flow", *flow_marks),
        "is_lost": present("lost_events"),
        "silent": present(*OTHER_EVENTS) if shape is EVERY_SHAPE else pl.lit(False),
        "time": _time(value("flow.time", "time"), any_offset=shape is EVERY_SHAPE),
        "src_ip": value("flow.IP.source"),
        "dst_ip": value("flow.IP.destination"),
        "src_port_text": pl.coalesce(ports["source"]),
        "dst_port_text": pl.coalesce(ports["destination"]),
        "protocol": _protocol(shape),
        "reply": _reply(shape),
        "verdict": value("flow.verdict").replace_strict(
            _VERDICT, default=None, return_dtype=VERDICTS
        ),
        "drop_reason": pl.coalesce(
            _drop_reason(value("flow.drop_reason_desc")), _drop_reason(value("flow.drop_reason"))
        ),
        "policy": _policy(shape),
        "flags_text": value("flow.l4.TCP.flags"),
        "dns_name": value("flow.l7.dns.query"),
        "dns_type": value("flow.l7.dns.qtypes[]"),
        "dns_rcode": _dns_rcode(shape),
        "dns_answers": _dns_answers(shape),
        "method": value("flow.l7.http.method"),
        "path": path_of(value("flow.l7.http.url")),
        "status": value("flow.l7.http.code").replace("0", None).cast(pl.UInt16, strict=False),
        "l7": _l7(shape),
        "encrypted": _boolean(value("flow.IP.encrypted")),
        "count": _count(shape),
        "node": value("node_name", "flow.node_name"),
        "lost": value("lost_events.num_events_lost").cast(pl.UInt64, strict=False),
    }
    for end, name in (("source", "src"), ("destination", "dst")):
        namespace, pod = value(f"flow.{end}.namespace"), value(f"flow.{end}.pod_name")
        columns[name] = pl.coalesce(
            namespace + "/" + value(f"flow.{end}.workloads[].name"),
            _reserved(shape, end, pod),
        )
        columns[f"{name}_pod"] = namespace + "/" + pod
    rows = events.select(**columns)
    texts = ["src_port_text", "dst_port_text"]
    ported = [pl.col(text).cast(pl.UInt16, strict=False) for text in texts]
    possible = pl.all_horizontal(
        *(
            pl.col(text).is_null() | port.is_not_null()
            for text, port in zip(texts, ported, strict=True)
        ),
        *(pl.col(ip).str.contains(ADDRESS).fill_null(True) for ip in ("src_ip", "dst_ip")),
    )
    return rows.with_columns(
        src_port=ported[0],
        dst_port=ported[1],
        readable=(pl.col("is_flow") | pl.col("is_lost")) & pl.col("time").is_not_null() & possible,
        lost=pl.when("is_lost").then(pl.col("lost").fill_null(0)),
        partial=pl.col("src_ip").is_null()
        | pl.col("protocol").is_null()
        | (pl.col("protocol") == "OTHER")
        | ((pl.col("protocol") != "ICMP") & pl.all_horizontal(pl.col(texts).is_null())),
        tcp_flags=_tcp_flags(rows["flags_text"]),
        dns_name=dns_names(rows["dns_name"]),
    ).drop(*texts, "flags_text")


def flows_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `flatten` in `FLOW_SCHEMA`."""
    known = rows.select(*(name for name in rows.columns if name in FLOW_SCHEMA), *line_of(rows))
    return conform(known.with_columns(origin=pl.lit("hubble")))


def _time(text: pl.Expr, *, any_offset: bool) -> pl.Expr:
    """The exporter ends its times in Z: those are read in a third of the time."""
    if any_offset:
        time = text.str.to_datetime("%+", time_unit="ns", strict=False)
    else:
        seconds = text.str.slice(0, 19).str.to_datetime(_SECONDS, time_unit="ns", strict=False)
        digits = text.str.slice(20).str.strip_suffix("Z").str.pad_end(9, "0")
        fraction = pl.duration(nanoseconds=digits.cast(pl.Int64, strict=False), time_unit="ns")
        usual = text.str.ends_with("Z") & (text.str.len_bytes() <= _LONGEST_TIME)
        time = pl.when(usual).then((seconds + fraction).dt.replace_time_zone("UTC"))
    # By text: a year that does not fit the type comes out as another one.
    return pl.when(text.str.slice(0, 5).is_between(pl.lit(EARLIEST), pl.lit(LATEST))).then(time)


def _protocol(shape: Shape) -> pl.Expr:
    return (
        pl.when(shape.present("flow.l4.TCP"))
        .then(pl.lit("TCP"))
        .when(shape.present("flow.l4.UDP"))
        .then(pl.lit("UDP"))
        .when(shape.present("flow.l4.ICMPv4", "flow.l4.ICMPv6"))
        .then(pl.lit("ICMP"))
        .when(shape.present("flow.l4.SCTP"))
        .then(pl.lit("SCTP"))
        .when(shape.present("flow.l4"))
        .then(pl.lit("OTHER"))
        .cast(FLOW_SCHEMA["protocol"])
    )


def _boolean(text: pl.Expr) -> pl.Expr:
    return text.replace_strict({"true": True, "false": False}, default=None)


def _reply(shape: Shape) -> pl.Expr:
    """Unknown on drops; the older field has no way to say that, so its false says nothing."""
    older = pl.when(shape.value("flow.reply") == "true").then(True)
    return pl.coalesce(_boolean(shape.value("flow.is_reply")), older)


def _drop_reason(text: pl.Expr) -> pl.Expr:
    return text.replace({**DROP_REASONS, "0": None, "DROP_REASON_UNKNOWN": None})


def _policy(shape: Shape) -> pl.Expr:
    """The first that denied, else the first that allowed; without a namespace, cluster-wide."""
    names = (
        pl.concat_str(
            shape.value(f"{by}.namespace").fill_null("") + "/", shape.value(f"{by}.name")
        ).str.strip_prefix("/")
        for by in (f"flow.{d}_{decision}_by[]" for decision in DECISIONS for d in DIRECTIONS)
    )
    return pl.coalesce(*names)


def _tcp_flags(texts: pl.Series) -> pl.Series:
    """Few combinations occur: each is parsed once."""
    distinct = texts.unique().drop_nulls()
    bits = pl.Series([_flag_bits(text) for text in distinct], dtype=pl.UInt8)
    return texts.replace_strict(distinct, bits, default=None, return_dtype=pl.UInt8)


def _flag_bits(text: str) -> int | None:
    try:
        flags = json.loads(text)
    except ValueError:
        return None
    if not isinstance(flags, dict):
        return None
    return sum(bit for name, bit in TCP_FLAGS.items() if flags.get(name) is True)


def dns_names(queries: pl.Series) -> pl.Series:
    """Cilium escapes as RFC 4343 does; what others left unescaped is escaped here."""
    odd = queries.filter(queries.str.contains(r"[^\x21-\x7e]")).unique()
    if not odd.is_empty():
        escaped = pl.Series([_escape(name) for name in odd], dtype=pl.String)
        queries = queries.replace(odd, escaped)
    return queries.str.strip_suffix(".").str.to_lowercase()


def _escape(name: str) -> str:
    octets = name.encode()
    return "".join(chr(octet) if 0x21 <= octet <= 0x7E else f"\\{octet:03d}" for octet in octets)


def _dns_rcode(shape: Shape) -> pl.Expr:
    rcode = shape.value("flow.l7.dns.rcode").fill_null("0").cast(pl.UInt8, strict=False)
    return pl.when(_is_dns_answer(shape)).then(rcode)


def _dns_answers(shape: Shape) -> pl.Expr:
    given = shape.value("flow.l7.dns.ips")
    addresses = given.list.eval(pl.element().filter(pl.element().str.contains(ADDRESS)))
    return pl.when(_is_dns_answer(shape)).then(addresses.fill_null([]))


def _is_dns_answer(shape: Shape) -> pl.Expr:
    return shape.value("flow.l7.type").is_in(["RESPONSE", "2"]) & shape.present("flow.l7.dns")


def path_of(url: pl.Expr) -> pl.Expr:
    """The path of a URL without its query; null where Hubble was told to hide it."""
    path = url.str.replace(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "").str.extract(r"^([^?#]*)")
    return pl.when(~path.str.contains(_REDACTED, literal=True)).then(path.replace("", "/"))


def _l7(shape: Shape) -> pl.Expr:
    grpc = shape.value("flow.l7.http.headers").str.contains("(?i)application/grpc")
    return (
        pl.when(shape.present("flow.l7.dns"))
        .then(pl.lit("dns"))
        .when(grpc)
        .then(pl.lit("grpc"))
        .when(shape.present("flow.l7.http"))
        .then(pl.lit("http"))
        .when(shape.present("flow.l7.kafka"))
        .then(pl.lit("kafka"))
    )


def _count(shape: Shape) -> pl.Expr:
    """Events that an aggregating exporter summed up in one."""
    total = pl.sum_horizontal(
        shape.value(f"flow.aggregate.{name}_flow_count").cast(pl.UInt64, strict=False)
        for name in (*DIRECTIONS, "unknown_direction")
    )
    return pl.when(total > 0).then(total.clip(upper_bound=MOST_COUNTED))


def _reserved(shape: Shape, end: str, pod: pl.Expr) -> pl.Expr:
    """Cilium's own identities. Of the world nothing is said here: its peers are told apart."""
    labels = pl.when(pod.is_null()).then(shape.value(f"flow.{end}.labels"))
    names = (
        pl.when(labels.list.contains(pl.lit(f"reserved:{name}"))).then(pl.lit(f"reserved:{name}"))
        for name in RESERVED
    )
    return pl.coalesce(names)
