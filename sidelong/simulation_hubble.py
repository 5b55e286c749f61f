"""Flows as lines of JSON in the form of Hubble's exporter: what `ingest/hubble_json.py` reads.

Only what Hubble itself could have told is written: no bytes, no principals.
"""

import json
from typing import Final

import polars as pl

from sidelong.ingest.schema import TCP_FLAGS

__all__ = ["hubble_lines"]

_FLAGS: Final = {
    bits: ',"flags":' + json.dumps({name: True for name, bit in TCP_FLAGS.items() if bits & bit})
    for bits in range(256)
}
_TIME: Final = "%Y-%m-%dT%H:%M:%S%.9fZ"
_LINE: Final = (
    '{"flow":{"time":"@","verdict":"@",@"IP":{"source":"@","destination":"@","ipVersion":"IPv4"},'
    '"l4":{"@":{"source_port":@,"destination_port":@@}},"source":@,"destination":@,"Type":"@",'
    '"node_name":"@",@@"Summary":""},"node_name":"@","time":"@"}'
)
_POD: Final = (
    '{"namespace":"@","labels":["k8s:app=@","k8s:io.kubernetes.pod.namespace=@"],"pod_name":"@",'
    '"workloads":[{"name":"@"}]}'
)
_NOTHING: Final = pl.lit("")


def hubble_lines(flows: pl.DataFrame) -> pl.Series:
    """One line of JSON for each flow in `FLOW_SCHEMA`, without the end of the line."""
    answer = pl.col("dns_rcode").is_not_null() | pl.col("status").is_not_null()
    kind = pl.when(answer).then(pl.lit("RESPONSE")).otherwise(pl.lit("REQUEST"))
    told = pl.coalesce(_dns(), _http())
    layer7 = _filled('"l7":{"type":"@",@},', kind, told).fill_null("")
    node, time = pl.col("node").fill_null(""), pl.col("time").dt.strftime(_TIME)
    line = _filled(
        _LINE,
        time,
        pl.col("verdict").cast(pl.String).fill_null("VERDICT_UNKNOWN"),
        _denial(),
        pl.col("src_ip"),
        pl.col("dst_ip"),
        pl.col("protocol").cast(pl.String).replace("ICMP", "ICMPv4"),
        pl.col("src_port").fill_null(0),
        pl.col("dst_port").fill_null(0),
        pl.col("tcp_flags")
        .replace_strict(_FLAGS, default="", return_dtype=pl.String)
        .fill_null(""),
        pl.col("source"),
        pl.col("destination"),
        pl.when(told.is_null()).then(pl.lit("L3_L4")).otherwise(pl.lit("L7")),
        node,
        _filled('"is_reply":@,', pl.col("reply").cast(pl.String)).fill_null(""),
        layer7,
        node,
        time,
    )
    ends = flows.with_columns(_ends(flows, "src", "source"), _ends(flows, "dst", "destination"))
    return ends.select(line.alias("line")).to_series()


def _filled(template: str, *values: pl.Expr) -> pl.Expr:
    """The template with each `@` replaced by a value; null where one of them is."""
    first, *rest = template.split("@")
    pieces = [pl.lit(first)]
    for value, piece in zip(values, rest, strict=True):
        pieces += [value.cast(pl.String), pl.lit(piece)]
    return pl.concat_str(pieces)


def _ends(flows: pl.DataFrame, side: str, name: str) -> pl.Series:
    """The object for one end of each flow; few ends occur, and each is written once."""
    columns = [side, f"{side}_pod"]
    workload, pod = (pl.col(column) for column in columns)
    namespace, short = workload.str.extract(r"^([^/:]+)/"), workload.str.extract(r"/(.+)$")
    inside = _filled(_POD, namespace, short, namespace, pod.str.extract(r"/(.+)$"), short)
    reserved = pl.when(workload.str.starts_with("reserved:")).then(workload)
    label = reserved.fill_null("reserved:world")
    distinct = flows.select(columns).unique()
    texts = distinct.with_columns(
        pl.coalesce(inside, _filled('{"labels":["@"]}', label)).alias(name)
    )
    return flows.select(columns).join(
        texts, on=columns, how="left", nulls_equal=True, maintain_order="left"
    )[name]


def _denial() -> pl.Expr:
    reason = _filled('"drop_reason_desc":"@",', pl.col("drop_reason")).fill_null("")
    policy = _filled('"ingress_denied_by":[{"name":"@"}],', pl.col("policy")).fill_null("")
    denied = pl.col("verdict") == "DROPPED"
    return pl.when(denied).then(pl.concat_str(reason, policy)).otherwise(_NOTHING)


def _dns() -> pl.Expr:
    """Of a question or an answer; null for the rest."""
    rcode = _filled(',"rcode":@', pl.col("dns_rcode")).fill_null("")
    listed = _filled('"@"', pl.col("dns_answers").list.join('","'))
    ips = pl.when(pl.col("dns_answers").list.len() > 0).then(_filled(',"ips":[@]', listed))
    name, asked = _escaped("dns_name"), pl.col("dns_type").fill_null("A")
    return _filled('"dns":{"query":"@.","qtypes":["@"]@@}', name, asked, rcode, ips.fill_null(""))


def _http() -> pl.Expr:
    """Of a request or a response; null for the rest."""
    code = _filled('"code":@,', pl.col("status")).fill_null("")
    method = pl.when(pl.col("l7") == "http").then("method")
    return _filled(
        '"http":{@"method":"@","url":"@"}', code, method, _escaped("path").fill_null("/")
    )


def _escaped(column: str) -> pl.Expr:
    text = pl.col(column).str.replace_all("\\", "\\\\", literal=True)
    return text.str.replace_all('"', '\\"', literal=True)
