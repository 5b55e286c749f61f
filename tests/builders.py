"""Flows written the way one tells them: "0.5s shop/web -> data/db:5432 SYN"."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl
from streams import START_NS

from sidelong.alerts.incident import Incident
from sidelong.features.sides import DYNAMIC_PORT, sides
from sidelong.ingest.clock import Clock
from sidelong.ingest.keys import hash_strings
from sidelong.ingest.pulse import Pulse
from sidelong.ingest.schema import TCP_FLAGS, conform
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import CONTACTS_SCHEMA, WORKLOADS_SCHEMA
from sidelong.models.detectors import Detectors
from sidelong.pipeline import Pipeline

__all__ = [
    "START",
    "address",
    "flows",
    "incidents",
    "known",
    "learnt",
    "lookups",
    "normal",
    "observed",
    "oriented",
    "pulse",
]

START: Final = datetime.fromtimestamp(START_NS // 1_000_000_000, UTC)
"""What `0s` stands for."""

_TOLD: Final = re.compile(
    r"(?P<at>[\d.]+)s (?P<client>\S+) (?P<way>->|<-) (?P<server>\S+?)(?::(?P<port>\d+))?"
    r"(?: (?P<what>.+))?$"
)
_LOST: Final = re.compile(r"(?P<at>[\d.]+)s LOST (?P<lost>\d+)$")
_EDGE: Final = re.compile(r"(?P<actor>\S+) -> (?P<peer>\S+):(?P<port>\d+)$")

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
    network, host = divmod(int(hash_strings([name])[0] % (0xFFFF * 254)), 254)
    return str(ipaddress.ip_address(0x0A000000 + network * 256 + host + 1))


def flows(*told: str) -> pl.DataFrame:
    """Flows in `FLOW_SCHEMA`.

    Each is told as `TIMEs CLIENT -> SERVER:PORT WHAT`, or with `<-` when the server speaks. WHAT is
    a TCP flag name, DENIED, UNREACHABLE, UDP, `NXDOMAIN name`, `QUERY name`, or an HTTP status with
    a path, as in `404 /admin`. `TIMEs LOST COUNT` reports lost events.
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


def learnt(*frames: pl.DataFrame) -> Baseline:
    """The baseline of some traffic."""
    learning = Learning()
    for frame in frames:
        learning.observe(frame)
    return learning.finish()


def known(edges: Mapping[str, int], *, days: float = 2) -> Baseline:
    """A baseline of edges, told as `CLIENT -> SERVER:PORT`, and the seconds in which each was used.

    days: how long it watched.
    """
    rows: list[tuple[object, ...]] = []
    for told, seconds in edges.items():
        match = _EDGE.match(told)
        assert match, f"cannot read {told!r}"
        actor, peer, port = match["actor"], match["peer"], int(match["port"])
        edge_port = port if port < DYNAMIC_PORT else 0
        span = (START - timedelta(days=days), START)
        rows.append((actor, peer, peer, port, edge_port, "TCP", *span, seconds, [], *[0] * 5))
    contacts = pl.DataFrame(rows, schema=CONTACTS_SCHEMA, orient="row")
    workloads = contacts.group_by("actor", maintain_order=True).agg(
        pl.col("first").min(),
        pl.col("last").max(),
        pl.col("active_seconds").sum(),
        singletons=(pl.col("active_seconds") == 1).sum().cast(pl.Int64),
        first_contacts=pl.lit(0, pl.Int64),
        answered=pl.lit(0, pl.Int64),
        owner=pl.lit(None, pl.String),
        accounts=pl.lit([], pl.List(pl.String)),
    )
    nobody = Baseline.empty()
    return Baseline(
        contacts=contacts,
        workloads=workloads.match_to_schema(WORKLOADS_SCHEMA),
        names=nobody.names,
        domains=nobody.domains,
        networks=nobody.networks,
    )


def incidents(
    frames: pl.DataFrame | Iterable[pl.DataFrame], baseline: Baseline | None = None
) -> list[Incident]:
    """Everything that a pipeline tells of some traffic, to its end."""
    pipeline = Pipeline(baseline)
    pieces = [frames] if isinstance(frames, pl.DataFrame) else frames
    told = [incident for piece in pieces for incident in pipeline.process(piece)]
    return told + pipeline.finish()


def normal(frame: pl.DataFrame) -> pl.DataFrame:
    """The flows as the normalise stage would hand them on, when names and directions are given."""
    pieces = [piece for piece, _ in Clock().cut(frame)]
    return pl.concat(pieces).with_columns(forwarded=pl.lit(False))


def pulse(normalised: pl.DataFrame) -> pl.DataFrame:
    """The pulse of a whole stream of normalised rows."""
    return Pulse().of(normalised)


def observed(detectors: Detectors, frame: pl.DataFrame) -> pl.DataFrame:
    """The evidence in flows whose names and directions are given."""
    rows = normal(frame)
    return detectors.observe(rows, pulse(rows))


def oriented(*told: str) -> pl.DataFrame:
    """Flows with their two sides, ready for features."""
    return sides(normal(flows(*told)))


def _row(told: str) -> dict[str, Any]:
    if match := _LOST.match(told):
        time = START_NS + round(float(match["at"]) * 1e9)
        return {"time": time, "lost": int(match["lost"]), "origin": "test"}
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
