"""Flows from Zeek logs, for the labelled captures that are published as logs only.

A log has one row a connection, written when it ended; what is rebuilt here are the records that
decide: the first packet, and the first answer.
"""

import gzip
import json
from pathlib import Path
from typing import Final

import polars as pl

from sidelong.ingest.schema import TCP_FLAGS, conform

__all__ = ["conn_flows", "dns_flows", "rows"]

_ANSWERED_WITHIN: Final = 0.1  # seconds: a log tells a connection's length, not its round trip
_SYN, _ACK, _RST, _FIN = (TCP_FLAGS[name] for name in ("SYN", "ACK", "RST", "FIN"))


def rows(path: Path, stream: str) -> pl.DataFrame:
    """A log as text columns; `.` in their names becomes `_`. JSON may mix streams, TSV has one."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if content.startswith(b"{"):
        objects = [json.loads(line) for line in content.splitlines()]
        wanted = [one for one in objects if one.get("@stream", stream) == stream]
        names = sorted({name for one in wanted for name in one})
        table = pl.DataFrame(
            {name: [_text(one.get(name)) for one in wanted] for name in names},
            schema=dict.fromkeys(names, pl.String),
        )
    else:
        header = next(line for line in content.splitlines() if line.startswith(b"#fields\t"))
        table = pl.read_csv(
            content,
            separator="\t",
            comment_prefix="#",
            has_header=False,
            new_columns=header.decode().split("\t")[1:],
            null_values=["-"],
            quote_char=None,
            infer_schema=False,
        )
    return table.rename(lambda name: name.replace(".", "_"))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def conn_flows(path: Path) -> pl.DataFrame:
    """The first packet and the first answer of each connection in a conn.log, in time order."""
    table = rows(path, "conn")
    history = pl.col("history").fill_null("")
    length = pl.col("duration").cast(pl.Float64).fill_null(0.0).clip(0.0, _ANSWERED_WITHIN)
    begun = _flows(table).with_columns(
        tcp_flags=pl.when(pl.col("protocol") == "TCP").then(
            pl.when(history.str.contains("S", literal=True))
            .then(_SYN)
            .when(history.str.starts_with("F"))
            .then(_FIN)
            .otherwise(_ACK)
        )
    )
    answered = table.filter(pl.col("resp_pkts").cast(pl.Int64).fill_null(0) > 0)
    answers = _turned(_flows(answered)).with_columns(
        time=_time(pl.col("ts").cast(pl.Float64) + length),
        tcp_flags=pl.when(pl.col("protocol") == "TCP").then(
            pl.when(history.str.contains("h", literal=True))
            .then(_SYN | _ACK)
            .when(history.str.contains("r", literal=True))
            .then(_RST | _ACK)
            .otherwise(_ACK)
        ),
    )
    return conform(pl.concat([begun, answers], how="diagonal")).sort("time", maintain_order=True)


def dns_flows(path: Path) -> pl.DataFrame:
    """The question and the answer of each row of a dns.log, in time order."""
    table = rows(path, "dns").filter(pl.col("query").is_not_null())
    asked = _flows(table).with_columns(
        dns_name=pl.col("query").str.to_lowercase().str.strip_suffix("."), dns_type="qtype_name"
    )
    rtt = pl.col("rtt").cast(pl.Float64).fill_null(_ANSWERED_WITHIN)
    answers = _turned(asked.filter(pl.col("rcode").is_not_null())).with_columns(
        time=_time(pl.col("ts").cast(pl.Float64) + rtt), dns_rcode=pl.col("rcode").cast(pl.UInt8)
    )
    return conform(pl.concat([asked, answers], how="diagonal")).sort("time", maintain_order=True)


def _flows(table: pl.DataFrame) -> pl.DataFrame:
    protocol = pl.col("proto").str.to_uppercase()
    known = protocol.is_in(["TCP", "UDP", "ICMP"])
    return table.with_columns(
        time=_time(pl.col("ts").cast(pl.Float64)),
        src_ip="id_orig_h",
        dst_ip="id_resp_h",
        # Of ICMP the columns hold type and code.
        src_port=pl.when(protocol != "ICMP").then(pl.col("id_orig_p").cast(pl.UInt16)),
        dst_port=pl.when(protocol != "ICMP").then(pl.col("id_resp_p").cast(pl.UInt16)),
        protocol=pl.when(known).then(protocol).otherwise(pl.lit("OTHER")),
        origin=pl.lit("zeek"),
    )


def _turned(flows: pl.DataFrame) -> pl.DataFrame:
    """The same, travelling back."""
    return flows.with_columns(
        src_ip="dst_ip", dst_ip="src_ip", src_port="dst_port", dst_port="src_port"
    )


def _time(seconds: pl.Expr) -> pl.Expr:
    return pl.from_epoch((seconds * 1e6).round().cast(pl.Int64), "us").dt.replace_time_zone("UTC")
