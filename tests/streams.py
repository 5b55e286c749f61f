"""Streams of flows for property tests: small, but full of everything that detectors react to."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import polars as pl
from hypothesis import strategies as st

from sidelong.ingest.schema import TCP_FLAGS, conform

__all__ = ["START_NS", "cuts", "events", "flows_of", "pieces"]

START_NS: Final = int(datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp()) * 1_000_000_000

_PODS: Final = {
    "shop/web": "10.0.1.10",
    "shop/api": "10.0.1.11",
    "data/db": "10.0.2.20",
    "data/cache": "10.0.2.21",
    "ip:10.0.1.99": "10.0.1.99",
    "world:203.0.0.0/16": "203.0.113.7",
}
_NAMES: Final = tuple(_PODS)
_SYN: Final = TCP_FLAGS["SYN"]
_SYN_ACK: Final = TCP_FLAGS["SYN"] | TCP_FLAGS["ACK"]
_RST_ACK: Final = TCP_FLAGS["RST"] | TCP_FLAGS["ACK"]

# What can happen between a client and a server: each is one row of telemetry.
_KINDS: Final = (
    "syn",
    "refused",
    "answered",
    "denied",
    "fin",
    "icmp",
    "lookup",
    "no_such_name",
    "no_such_service",
    "not_found",
    "found",
    "lost",
    "again_hubble",
    "again_proxy",
)

# Mostly a second or two; now and then a silence in which ticks fall and incidents end.
_GAPS: Final = (*[0, 1, 50, 400, 1_100, 2_500] * 3, 9_000, 310_000, 700_000)

events = st.lists(
    st.tuples(
        st.sampled_from(_KINDS),
        st.integers(0, len(_NAMES) - 1),  # client
        st.integers(0, len(_NAMES) - 1),  # server
        st.integers(0, 40),  # port or name
        st.sampled_from(_GAPS),  # ms since the one before
        st.sampled_from([0, 0, 0, 30, 900, 3_000]),  # ms by which the record comes late
    ),
    min_size=1,
    max_size=60,
)
"""Events in order of arrival: kind, client, server, port, milliseconds since the last, lateness."""


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Where to cut a stream of `size` rows."""
    return st.lists(st.integers(0, size), max_size=4).map(sorted)


def pieces(flows: pl.DataFrame, at: list[int]) -> list[pl.DataFrame]:
    """The flows, cut."""
    bounds = [0, *at, flows.height]
    return [flows[low:high] for low, high in pairwise(bounds)]


def flows_of(happened: list[tuple[str, int, int, int, int, int]]) -> pl.DataFrame:
    """The events as flows in `FLOW_SCHEMA`."""
    rows: list[dict[str, Any]] = []
    now = START_NS
    for number, (kind, client, server, port, gap, late) in enumerate(happened):
        now += gap * 1_000_000
        time_ns = now - late * 1_000_000
        if kind.startswith("again"):
            rows.append(_again(kind, rows[-1] if rows else {"origin": "test"}, time_ns))
        else:
            rows.append(_row(kind, _NAMES[client], _NAMES[server], port, time_ns, number))
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return conform(frame.with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC"))))


def _again(kind: str, row: dict[str, Any], time_ns: int) -> dict[str, Any]:
    """What the row before it tells, as another observer saw it."""
    if kind == "again_hubble":
        return row | {"time": time_ns, "origin": "hubble", "bytes": None, "src_principal": None}
    account = "spiffe://cluster.local/ns/shop/sa/web"
    return row | {
        "time": time_ns,
        "origin": "envoy:outbound",
        "bytes": 70,
        "src_principal": account,
    }


def _row(
    kind: str, client: str, server: str, port: int, time_ns: int, number: int
) -> dict[str, Any]:
    if kind == "lost":
        return {"time": time_ns, "lost": 7, "origin": "hubble"}
    back = kind in ("refused", "answered", "no_such_name", "no_such_service", "icmp", "found")
    back = back or kind == "not_found"
    dns = kind in ("lookup", "no_such_name", "no_such_service")
    http = kind in ("found", "not_found")
    here = (client, _PODS[client], 40_000 + number % 20_000)
    there = (server, _PODS[server], 53 if dns else 5_420 + port)
    source, target = (there, here) if back else (here, there)
    row: dict[str, Any] = {
        "time": time_ns,
        "src": source[0],
        "src_ip": source[1],
        "src_port": source[2],
        "dst": target[0],
        "dst_ip": target[1],
        "dst_port": target[2],
        "protocol": "UDP" if dns else "TCP",
        "reply": back,
        "verdict": {"denied": "DROPPED", "icmp": "ERROR"}.get(kind, "FORWARDED"),
        "drop_reason": {"denied": "POLICY_DENIED", "icmp": "ICMP_PORT_UNREACHABLE"}.get(kind),
        "tcp_flags": {
            "syn": _SYN,
            "denied": _SYN,
            "refused": _RST_ACK,
            "answered": _SYN_ACK,
            "fin": TCP_FLAGS["FIN"],
        }.get(kind),
        "origin": "test",
        # What the mesh always encrypts ends in plain text now and then.
        "encrypted": {"answered": True, "fin": False}.get(kind),
        "src_pod": _pod(source[0], number),
        "dst_pod": _pod(target[0], number),
    }
    if dns:
        name = f"{'x' * (10 + 3 * port)}{port}.exfil.example.net"
        if kind == "no_such_service":
            name = f"svc{port}.data.svc.cluster.local"
        row |= {"dns_name": name, "dns_type": "TXT", "dns_rcode": 3 if back else None, "l7": "dns"}
    if http:
        row |= {
            "method": "GET",
            "path": f"/p{port}x",
            "status": 404 if kind == "not_found" else 200,
        }
        row |= {"l7": "http"}
    return row


def _pod(name: str, number: int) -> str | None:
    """A pod of a workload, which is rolled out now and then."""
    if ":" in name:
        return None
    template = ("7d9f8c6b5", "6c5d7f8b9", "5b4c6d7f8")[number // 45 % 3]
    return f"{name}-{template}-x2x4z"
