"""Connections that Istio's ambient mesh logs: ztunnel, as text of `key=value` and as JSON.

One event for each connection, when it has ended: "connection opened" is passed over, and so are
lines that are not of the access log. Both ends are told with pod, namespace and identity.

Between two ztunnels connections share a tunnel to port 15008. What counts is where the client
wanted to go, `dst.hbone_addr`, so both ends agree on that; the client's port is its own on one end
and the tunnel's on the other, and is left out. Where the tunnel leads to a waypoint instead, its
identity and pod are not those of the server.

| error | outcome |
| --- | --- |
| none | ANSWERED |
| `policy rejection`; `401`, by which the other end tells the same | DENIED, by the policy named |
| connection refused | REFUSED |
| anything else after bytes came back | ANSWERED |
| anything else: timed out, unreachable, no healthy upstream, TLS | UNANSWERED |

Source: ztunnel's proxy/metrics.rs and the lines it wrote in Istio's documentation, 1.22 to 1.28.
"""

from typing import Final

import polars as pl

from sidelong.ingest.exchanges import exchange_flows
from sidelong.ingest.iso_times import iso_times
from sidelong.ingest.log_lines import JsonLog, TextLog
from sidelong.ingest.schema import line_of

__all__ = ["ztunnel_json", "ztunnel_lines"]

_TEXT_KEYS: Final = (
    *(f"{end}.{key}" for end in ("src", "dst") for key in ("addr", "workload", "namespace")),
    *("src.identity", "dst.identity", "dst.hbone_addr", "dst.service", "direction"),
    *("bytes_sent", "bytes_recv", "duration"),
)
_HEAD: Final = (
    r"^(?P<time>\d{4}-\d\d-\d\dT[0-9:.]+Z) +(?:trace|debug|info|warn|error) +(?P<scope>[^ ]+) +"
    r"(?P<message>connection (?:complete|failed|opened))?"
)
_WHOLE: Final = r'^(?:[^ "=]+=(?:"(?:[^"\\]|\\.)*"|[^ "]+)(?: +|$))+$'
_ENDED: Final = ("connection complete", "connection failed")
_ADDRESS: Final = r"^\[?(?P<ip>[0-9A-Fa-f.:]+?)\]?:(?P<port>\d{1,5})$"
_DURATION: Final = r"^(?P<number>[0-9.]+)(?P<unit>ns|us|µs|ms|s)$"
_UNITS: Final = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_SERVICE: Final = r"^([^.]+)\.([^.]+)\.svc(?:\.|$)"
_DENIED: Final = r"policy rejection|http status: 401"
_REFUSED: Final = r"(?i)connection refused|os error 111\b"
_POLICY: Final = r"explicitly denied by: ([^\s/]+/[^\s/]+)"


def ztunnel_lines() -> TextLog:
    """Decodes lines of text."""
    return TextLog(_of_text, _flows)


def ztunnel_json() -> JsonLog:
    """Decodes lines of JSON."""
    keys = {name: name for name in ("time", "scope", "message", "error", *_TEXT_KEYS)}
    return JsonLog(keys, _judged, _flows)


def _of_text(lines: pl.Series) -> pl.DataFrame:
    """What stands behind `error=` is looked at for nothing else: others have a say in it."""
    blanks = lines.str.replace_all("\t", " ", literal=True)
    cut = blanks.str.splitn(" src.addr=", 2).struct.unnest()
    values = "src.addr=" + pl.col("field_1")
    whole = pl.when(values.str.contains(_WHOLE)).then(" " + values)
    entries = (
        cut.select(pl.col("field_0").str.extract_groups(_HEAD).alias("head"), told=whole)
        .unnest("head")
        .with_columns(pl.col("told").str.splitn(" error=", 2))
        .unnest("told")
        .rename({"field_0": "told", "field_1": "error"})
    )
    return _judged(
        entries.with_columns(
            *(_value(key).alias(key) for key in _TEXT_KEYS),
            error=pl.col("error").str.strip_chars('"'),
        )
    )


def _value(key: str) -> pl.Expr:
    """What stands behind a key, up to the next blank: no value but the error has one."""
    behind = pl.col("told").str.splitn(f" {key}=", 2).struct.field("field_1")
    value = behind.str.splitn(" ", 2).struct.field("field_0").str.strip_chars('"')
    return pl.when(value != "").then(value)


def _judged(entries: pl.DataFrame) -> pl.DataFrame:
    """The entries with their times, `fault` and `usable`; other lines of ztunnel are neither."""
    told = pl.col("message").is_in(_ENDED) & pl.col("src.addr").is_not_null()
    other = pl.col("scope").is_not_null() & (
        (pl.col("scope") != "access") | (pl.col("message") == "connection opened")
    )
    return entries.with_columns(time=iso_times(entries["time"])).with_columns(
        usable=(told & pl.col("time").is_not_null() & ~other.fill_null(False)).fill_null(False),
        fault=pl.when(other.fill_null(False))
        .then(None)
        .when(pl.col("time").is_null())
        .then(pl.lit("no line of ztunnel: it has no time"))
        .when(~told.fill_null(False))
        .then(pl.lit("no connection of ztunnel's access log")),
    )


def _flows(entries: pl.DataFrame) -> pl.DataFrame:
    ended = entries
    tunnel = pl.col("dst.hbone_addr")
    for name in ("src.addr", "dst.addr", "dst.hbone_addr"):
        ended = ended.with_columns(
            pl.col(name)
            .str.extract_groups(_ADDRESS)
            .struct.rename_fields([f"{name}.ip", f"{name}.port"])
            .alias(f"{name} parts")
        ).unnest(f"{name} parts")
    span = pl.col("duration").str.extract_groups(_DURATION).struct
    nanoseconds = span.field("number").cast(pl.Float64, strict=False) * span.field(
        "unit"
    ).replace_strict(_UNITS, default=None, return_dtype=pl.Float64)
    inside = pl.col("dst.service").str.extract_groups(_SERVICE).struct
    tunnelled = tunnel.is_not_null()
    elsewhere = tunnelled & (pl.col("dst.hbone_addr.ip") != pl.col("dst.addr.ip")).fill_null(True)
    server_ip = (
        pl.when(tunnelled).then("dst.hbone_addr.ip").otherwise("dst.addr.ip").str.to_lowercase()
    )
    inbound, error = pl.col("direction") == "inbound", pl.col("error")
    sent, received = (
        pl.col(name).cast(pl.UInt64, strict=False) for name in ("bytes_sent", "bytes_recv")
    )
    back = pl.when(inbound).then(sent).otherwise(received)
    return exchange_flows(
        ended.select(
            *line_of(ended),
            time=pl.col("time") - pl.duration(nanoseconds=nanoseconds.fill_null(0), time_unit="ns"),
            end="time",
            outcome=pl.when(error.is_null())
            .then(pl.lit("ANSWERED"))
            .when(error.str.contains(_DENIED))
            .then(pl.lit("DENIED"))
            .when(error.str.contains(_REFUSED))
            .then(pl.lit("REFUSED"))
            .when(back > 0)
            .then(pl.lit("ANSWERED"))
            .otherwise(pl.lit("UNANSWERED")),
            policy=error.str.extract(_POLICY),
            client_ip=pl.col("src.addr.ip").str.to_lowercase(),
            client_port=pl.when(~tunnelled).then(_port("src.addr.port")),
            client_pod=pl.col("src.namespace") + "/" + pl.col("src.workload"),
            client_principal="src.identity",
            server=pl.when(server_ip.is_null()).then(inside.field("2") + "/" + inside.field("1")),
            server_ip=server_ip,
            server_port=pl.when(tunnelled)
            .then(pl.coalesce(_port("dst.hbone_addr.port"), _port_of(tunnel)))
            .otherwise(_port("dst.addr.port")),
            server_pod=pl.when(~elsewhere).then(
                pl.col("dst.namespace") + "/" + pl.col("dst.workload")
            ),
            server_principal=pl.when(~elsewhere).then("dst.identity"),
            bytes_sent=pl.when(inbound).then(received).otherwise(sent),
            bytes_received=back,
            protocol=pl.lit("TCP"),
            encrypted=tunnelled,
            origin=pl.format("ztunnel:{}", pl.col("direction").fill_null("unknown")),
        )
    )


def _port(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.UInt16, strict=False)


def _port_of(address: pl.Expr) -> pl.Expr:
    return address.str.extract(r":(\d{1,5})$").cast(pl.UInt16, strict=False)
