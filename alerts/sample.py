"""Invented incidents, to try templates, routes and receivers with. They call themselves samples."""

from datetime import UTC, datetime, timedelta
from typing import Final

from sidelong.alerts.incident import Actor, Incident, Observation, Target, incident_id

__all__ = ["sample_incident", "sample_incidents"]

_START: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)


def sample_incident(at: datetime = _START) -> Incident:
    """A scan of three services that has just opened, at a moment."""
    actor = "sample-shop/sample-frontend"
    id_ = incident_id("scan", actor, round(at.timestamp()) * 1_000_000_000)
    return Incident(
        id=id_,
        status="open",
        kind="scan",
        severity="medium",
        score=0.62,
        detected_at=at,
        first_seen=at - timedelta(seconds=3),
        last_seen=at,
        actor=Actor(actor, "sample-shop/sample-frontend-5c9f7-x2x4z", "192.0.2.10"),
        objects=(
            Target(workload="sample-shop/sample-cart", ip="192.0.2.20", port=6379),
            Target(workload="sample-shop/sample-db", ip="192.0.2.21", port=5432),
            Target(workload="sample-pay/sample-ledger", ip="192.0.2.22", port=8443),
        ),
        counts={"contacts": 24, "refused": 20, "answered": 4},
        techniques=("T1046",),
        completeness=0.998,
        evidence=(
            Observation("vertical_first_contacts", "20 of 24 failed", "about 1 in 20 fails", 17.4),
        ),
        story=id_,
        summary=(
            "This is a sample: sample-shop/sample-frontend tried 8 ports of 3 peers within 3.0 s: "
            "20 refused, 4 answered."
        ),
    )


def sample_incidents() -> tuple[tuple[Incident, ...], ...]:
    """Messages as different as they come: a full one, one of several, one with all left out."""
    full = sample_incident()
    domain = Target(domain="sample.example")
    bare = Incident(
        id="sample",
        status="closed",
        kind="dns_exfiltration",
        severity="high",
        score=1.0,
        detected_at=_START,
        first_seen=_START,
        last_seen=_START,
        actor=Actor("ip:192.0.2.1"),
        objects=(),
        story="sample",
        summary="This is a sample: nothing is known but that it happened.",
    )
    tunnel = Incident(
        id="sample-tunnel",
        status="update",
        kind="dns_exfiltration",
        severity="critical",
        score=0.9,
        detected_at=_START,
        first_seen=_START,
        last_seen=_START + timedelta(minutes=1),
        actor=Actor("sample-shop/sample-reviews", "sample-shop/sample-reviews-0", "192.0.2.30"),
        objects=(domain,),
        counts={"bytes": 4096, "queries": 80},
        techniques=("T1048.003", "T1071.004"),
        story=full.id,
        summary="This is a sample: bytes left in names under sample.example.",
        policy="apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n",
    )
    return (full,), (full, tunnel), (bare,)
