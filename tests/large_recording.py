"""A recording as large as a report must bear: many incidents, workloads, edges and domains."""

from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from sidelong.alerts.incident import Actor, Incident, Kind, Observation, Severity, Target
from sidelong.ingest.schema import PROTOCOLS
from sidelong.recorded_contacts import CONTACT_SCHEMA
from sidelong.recorded_names import NAME_SCHEMA
from sidelong.recorded_samples import SAMPLE_SCHEMA
from sidelong.recorded_timeline import TIMELINE_SCHEMA
from sidelong.recording import Recording, Sight

__all__ = ["large_recording"]

START: Final = datetime(2026, 11, 23, tzinfo=UTC)
KINDS: Final[tuple[Kind, ...]] = ("scan", "dns_exfiltration", "lateral_movement", "anomaly")
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low")
NAMESPACES: Final = 60
TARGETS: Final = 20
EDGES_EACH: Final = 10
SAMPLES: Final = 50
BUCKETS: Final = 120


def large_recording(incidents: int = 1_000, workloads: int = 5_000) -> Recording:
    """Every incident with twenty targets, fifty flows and a policy; four of them make a story."""
    told = tuple(_incident(number, workloads) for number in range(incidents))
    return Recording(
        incidents=told,
        contacts=_contacts(workloads),
        names=_names(workloads),
        samples={one.id: _samples(one) for one in told},
        timeline=_timeline(told),
        sight=Sight(
            flows=10_000_000,
            completeness=0.998,
            lost=20_000,
            bad=3,
            bad_samples=("a.json at byte 9: no JSON",),
            sources=("a.json",),
            origins=("hubble",),
            first=START,
            last=START + timedelta(days=1),
            dropped={"samples": 7},
        ),
    )


def _name(number: int) -> str:
    return f"namespace-{number % NAMESPACES}/workload-with-a-long-name-{number}"


def _incident(number: int, workloads: int) -> Incident:
    kind = KINDS[number % len(KINDS)]
    severity = "info" if kind == "anomaly" else SEVERITIES[number // 4 % len(SEVERITIES)]
    at = START + timedelta(seconds=80 * number)
    actor = _name(number * 5 % workloads)
    targets = tuple(
        Target(domain=f"x{place}.evil-{number}.example")
        if kind == "dns_exfiltration"
        else Target(_name((number * 7 + place) % workloads), f"10.9.{place}.7", 1_000 + place)
        for place in range(TARGETS)
    )
    long_name = ".".join(["a" * 60] * 4)
    return Incident(
        id=f"{number:016x}",
        status="closed",
        kind=kind,
        severity=severity,
        score=0.9,
        detected_at=at + timedelta(seconds=1),
        first_seen=at,
        last_seen=at + timedelta(seconds=30),
        actor=Actor(actor, f"{actor}-7d9f8c6b5-x2x4z", "10.244.9.9"),
        objects=targets,
        counts={"contacts": 4_321, "peers": 20, "ports": 20, "refused": 4_000},
        techniques=("T1048.003", "T1071.004"),
        completeness=0.998,
        evidence=tuple(
            Observation("name", f"{long_name}.evil-{number}.example", "never asked before", 1.5)
            for _ in range(6)
        ),
        story=f"{number // 4:016x}",
        summary=f"{actor} did what it never did before, towards twenty others within 30 s. " * 2,
        policy="apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n" + "  - port: '443'\n" * 60,
    )


def _contacts(workloads: int) -> pl.DataFrame:
    number = pl.int_range(workloads * EDGES_EACH, dtype=pl.Int64, eager=True)
    frame = pl.DataFrame({"number": number})
    src, dst = pl.col("number") // EDGES_EACH, (pl.col("number") * 31 + 7) % workloads

    def name(of: pl.Expr) -> pl.Expr:
        return pl.format("namespace-{}/workload-with-a-long-name-{}", of % NAMESPACES, of)

    return frame.select(
        src=name(src),
        dst=name(dst),
        port=(pl.col("number") % 7 + 8_000).cast(pl.UInt16),
        protocol=pl.lit("TCP", PROTOCOLS),
        events=pl.col("number") % 997 + 1,
        bytes=pl.lit(None, pl.UInt64),
        answered=pl.lit(1, pl.Int64),
        denied=(pl.col("number") % 5_000 == 0).cast(pl.Int64),
        failed=pl.lit(0, pl.Int64),
        first_seen=pl.lit(START).dt.cast_time_unit("ns"),
        last_seen=pl.lit(START).dt.cast_time_unit("ns"),
    ).match_to_schema(CONTACT_SCHEMA)


def _names(workloads: int) -> pl.DataFrame:
    number = pl.int_range(workloads, dtype=pl.Int64, eager=True)
    return (
        pl.DataFrame({"number": number})
        .select(
            workload=pl.format("namespace-{}/w-{}", pl.col("number") % NAMESPACES, "number"),
            domain=pl.format("evil-{}.example", "number"),
            queries=pl.col("number"),
            names=pl.col("number"),
            name_bytes=pl.col("number") * 10,
            types=pl.lit(["A", "AAAA"], pl.List(pl.String)),
            nxdomain=pl.lit(3, pl.Int64),
            first_seen=pl.lit(START).dt.cast_time_unit("ns"),
            last_seen=pl.lit(START).dt.cast_time_unit("ns"),
        )
        .match_to_schema(NAME_SCHEMA)
    )


def _samples(one: Incident) -> pl.DataFrame:
    row = {
        "time": one.first_seen,
        "src": one.actor.workload,
        "dst": "namespace-1/workload-with-a-long-name-1",
        "dst_port": 443,
        "reply": False,
        "verdict": "FORWARDED",
        "protocol": "TCP",
        "tcp_flags": 2,
        "dns_name": ".".join(["b" * 60] * 4),
        "dns_type": "TXT",
        "reason": "TXT",
        "decisive": False,
        "log_evidence": 1.0,
    }
    filled = {name: row.get(name) for name in SAMPLE_SCHEMA.names()}
    return pl.DataFrame([filled] * SAMPLES, schema=SAMPLE_SCHEMA)


def _timeline(told: tuple[Incident, ...]) -> pl.DataFrame:
    ids = pl.DataFrame({"incident": pl.Series([None, *(one.id for one in told)])})
    second = pl.DataFrame({"second": pl.int_range(BUCKETS, dtype=pl.Int64, eager=True)})
    time = pl.lit(START).dt.cast_time_unit("ns") + pl.duration(
        seconds=pl.col("second") * 700, time_unit="ns"
    )
    return (
        ids.join(second, how="cross")
        .select(
            "incident",
            time=time,
            seconds=pl.lit(700, pl.Int64),
            events=pl.col("second") + 1,
            denied=pl.lit(0, pl.Int64),
            failed=pl.lit(0, pl.Int64),
            signals=pl.col("second") % 3,
            log_evidence=pl.lit(1.0),
        )
        .match_to_schema(TIMELINE_SCHEMA)
    )
