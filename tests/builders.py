"""Flows written the way one tells them: "0.5s shop/web -> data/db:5432 SYN"."""

import ipaddress
import re
from typing import Any, Final

import polars as pl
from streams import START_NS

from sidelong.features.sides import sides
from sidelong.ingest.clock import Clock
from sidelong.ingest.keys import hash_strings
from sidelong.ingest.schema import TCP_FLAGS, conform

__all__ = ["address", "flows", "lookups", "normal", "oriented"]

_TOLD: Final = re.compile(
    r"(?P<at>[\d.]+)s (?P<client>\S+) (?P<way>->|<-) (?P<server>\S+?)(?::(?P<port>\d+))?"
    r"(?: (?P<what>.+))?$"
)

_FLAGS: Final = {
    "SYN": TCP_FLAGS["SYN"],
    "SYN-ACK": TCP_FLAGS["SYN"] | TCP_FLAGS["ACK"],
    "RST": TCP_FLAGS["RST"] | TCP_FLAGS["ACK"],
    "ACK": TCP_FLAGS["ACK"],
    "FIN": TCP_FLAGS["FIN"],
    "NULL": 0,
    "XMAS": TCP_FLAGS["FIN"] | TCP_FLAGS["PSH"] | TCP_FLAGS["URG"],
    "DATA": TCP_FLAGS["PSH"] | TCP_FLAGS["ACK"],
}


def address(name: str) -> str:
    """The address of a workload in these tests; `ip:...` names say theirs."""
    if name.startswith("ip:"):
        return name.removeprefix("ip:")
    if name.startswith("world:"):
        return name.removeprefix("world:").replace(".0.0/16", ".113.7")
    return str(ipaddress.ip_address(0x0A000000 + int(hash_strings([name])[0] % 0xFFFF00) + 1))


def flows(*told: str) -> pl.DataFrame:
    """Flows in `FLOW_SCHEMA`.

    Each is told as `TIMEs CLIENT -> SERVER:PORT WHAT`, or with `<-` when the server speaks. WHAT is
    a TCP flag name, DENIED, UNREACHABLE, UDP, `NXDOMAIN name`, `QUERY name`, or an HTTP status with
    a path, as in `404 /admin`.
    """
    rows = [_row(one) for one in told]
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return conform(frame.with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC"))))


def lookups(actor: str, names: list[str], *, gap_seconds: float = 0.1) -> pl.DataFrame:
    """Queries by one actor, one after the other."""
    return flows(
        *(
            f"{number * gap_seconds:.3f}s {actor} -> kube-system/coredns:53 QUERY {name}"
            for number, name in enumerate(names)
        )
    )


def normal(frame: pl.DataFrame) -> pl.DataFrame:
    """The flows as the normalise stage would hand them on, when names and directions are given."""
    pieces = [piece for piece, _ in Clock().cut(frame)]
    return pl.concat(pieces).with_columns(forwarded=pl.lit(False))


def oriented(*told: str) -> pl.DataFrame:
    """Flows with their two sides, ready for features."""
    return sides(normal(flows(*told)))


def _row(told: str) -> dict[str, Any]:
    match = _TOLD.match(told)
    assert match, f"cannot read {told!r}"
    back = match["way"] == "<-"
    what, _, rest = (match["what"] or "SYN").partition(" ")
    port = int(match["port"]) if match["port"] else None
    client = (match["client"], address(match["client"]), 40_000)
    server = (match["server"], address(match["server"]), port)
    source, target = (server, client) if back else (client, server)
    row: dict[str, Any] = {
        "time": START_NS + round(float(match["at"]) * 1e9),
        "src": source[0],
        "src_ip": source[1],
        "src_port": source[2],
        "dst": target[0],
        "dst_ip": target[1],
        "dst_port": target[2],
        "protocol": "UDP" if what in ("UDP", "QUERY", "NXDOMAIN", "NOERROR") else "TCP",
        "reply": back,
        "verdict": {"DENIED": "DROPPED", "UNREACHABLE": "ERROR"}.get(what, "FORWARDED"),
        "drop_reason": {
            "DENIED": "POLICY_DENIED",
            "UNREACHABLE": "ICMP_PORT_UNREACHABLE",
        }.get(what),
        "tcp_flags": TCP_FLAGS["SYN"] if what == "DENIED" else _FLAGS.get(what),
        "origin": "test",
    }
    if what in ("QUERY", "NXDOMAIN", "NOERROR"):
        row |= {"dns_name": rest, "dns_type": "A", "l7": "dns"}
        row |= {"dns_rcode": {"NXDOMAIN": 3, "NOERROR": 0}.get(what)}
    if what.isdigit():
        row |= {"status": int(what), "method": "GET", "path": rest, "l7": "http"}
    return row
