"""The sums behind an incident, written out so that anybody can do them by hand."""

import math
from collections.abc import Iterator
from typing import Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.features.names import registered_domains
from sidelong.features.sides import DYNAMIC_PORT
from sidelong.models.allowances import ALERT_BYTES, LEAK_BYTES_PER_DAY, SCALE, allowances
from sidelong.models.baseline import Baseline
from sidelong.models.evidence import ALERT, MICRO
from sidelong.models.outcome_weights import THETA1
from sidelong.models.rarity import RARITY_CAP, Rarity

__all__ = ["THRESHOLD", "arithmetic", "nats_of"]

THRESHOLD: Final = ALERT / MICRO
"""ln 1,000,000: by chance a sum crosses it in one piece of evidence of a million."""

_CLOSE: Final = 0.02
_DAY_SECONDS: Final = 86_400
_KINDS_TOLD: Final = 4


def nats_of(incident: Incident) -> float:
    """What was held against the actor in all, by the score: nats / (nats + threshold)."""
    said = sum(one.log_evidence for one in incident.evidence)
    by_score = THRESHOLD * incident.score / max(1e-9, 1 - incident.score)
    # The score is rounded to four places, and evidence that supports a sum is no part of it.
    return said if said and abs(said - by_score) / by_score < 0.1 else by_score


def arithmetic(
    incident: Incident, samples: pl.DataFrame | None, baseline: Baseline | None
) -> tuple[str, ...]:
    """The sums, a line each. samples: `SAMPLE_SCHEMA`, flows of its evidence, if there are any."""
    features = {one.feature for one in incident.evidence}
    lines: list[str] = []
    if incident.kind == "lateral_movement":
        lines += _lateral(incident, baseline)
    elif "new_name_bytes" in features:
        lines += _names(incident, baseline)
    elif incident.kind == "scan":
        known = baseline is not None and incident.actor.workload in baseline.workloads["actor"]
        lines += _outcomes(samples, known=known)
    total = nats_of(incident)
    if incident.kind == "anomaly":
        lines.append(f"{total:,.2f} nats in all; an anomaly informs, and never alarms alone.")
    else:
        lines.append(
            f"{total:,.2f} nats in all; an incident opens at ln 1,000,000 = {THRESHOLD:.2f}, "
            f"which ordinary traffic reaches by chance once in a million pieces of evidence."
        )
    lines.append(
        f"score {incident.score:.4g} = {total:,.2f} / ({total:,.2f} + {THRESHOLD:.2f}), "
        f"0.5 at the threshold."
    )
    return tuple(lines)


def _lateral(incident: Incident, baseline: Baseline | None) -> Iterator[str]:
    parts = [one for one in incident.evidence if one.log_evidence]
    if len(parts) > 1:
        terms = " ".join(f"{one.log_evidence:+.2f} {one.feature}" for one in parts)
        yield f"{terms.removeprefix('+')} = {sum(one.log_evidence for one in parts):.2f}"
    new_edge = next((one for one in parts if one.feature == "new_edge"), None)
    if new_edge is None or baseline is None or not incident.objects:
        return
    target = incident.objects[0]
    port = target.port or 0
    edge = pl.DataFrame(
        {
            "actor": [incident.actor.workload],
            "peer": [target.workload],
            "edge_port": pl.Series([port if port < DYNAMIC_PORT else 0], dtype=pl.UInt16),
            "protocol": pl.Series(["TCP"], dtype=baseline.contacts.schema["protocol"]),
        }
    )
    row = Rarity(baseline).of(edge).row(0, named=True)
    edges = baseline.contacts.unique(["actor", "peer", "edge_port", "protocol"])
    services = max(1, edges.unique(["peer", "edge_port", "protocol"]).height)
    opens = (row["singletons"] + 1) / (row["active_seconds"] + 1)
    leads = (row["clients"] + 1 / services) / (edges.height + 1)
    rare = -math.log(opens) - math.log(leads)
    if not row["active_seconds"]:
        return
    yield (
        f"new_edge: -ln(({row['singletons']} + 1) / ({row['active_seconds']:,} + 1)) = "
        f"{-math.log(opens):.2f} for opening a connection that is new "
        f"(edges used in one second only: {row['singletons']}, of {row['active_seconds']:,} active "
        f"seconds)"
    )
    yield (
        f"new_edge: -ln(({row['clients']} + 1/{services}) / ({edges.height:,} + 1)) = "
        f"{-math.log(leads):.2f} for leading there "
        f"({row['clients']} of {edges.height:,} known edges do, to {services:,} services)"
    )
    if rare > RARITY_CAP:
        yield f"new_edge: {rare:.2f} counts as {RARITY_CAP:.0f}, for no history is worth more"
    elif abs(rare - new_edge.log_evidence) > _CLOSE:
        yield (
            f"new_edge: {rare:.2f} is told as {new_edge.log_evidence:.2f}: who is known little "
            f"borrows from workloads like it, or was judged by another baseline"
        )


def _outcomes(samples: pl.DataFrame | None, *, known: bool) -> Iterator[str]:
    if samples is None or samples.is_empty():
        return
    charged = samples.filter(pl.col("log_evidence") > 0).drop_nulls("reason")
    weights = charged.group_by("reason", maintain_order=True).agg(pl.col("log_evidence").median())
    for reason, weight in weights.head(_KINDS_TOLD).iter_rows():
        needed = math.ceil(THRESHOLD / weight)
        line = (
            f"a contact that ends {reason} weighs {weight:.2f} nats: {needed} in a row reach "
            f"{needed * weight:.2f}"
        )
        if reason == "REFUSED":
            theta = 1 - (1 - THETA1) / math.exp(weight)
            line += f"; it is ln({1 - THETA1:.1f} / (1 - {theta:.3f})), for {100 * theta:.1f} % of "
            line += (
                "this workload's own first contacts succeed at least"
                if known
                else "first contacts are taken to succeed where no habit is known"
            )
        yield line


def _names(incident: Incident, baseline: Baseline | None) -> Iterator[str]:
    said, queries = incident.counts.get("bytes", 0), incident.counts.get("queries", 0)
    domains = pl.Series([one.domain for one in incident.objects if one.domain], dtype=pl.String)
    limit, leak = ALERT_BYTES, LEAK_BYTES_PER_DAY
    if baseline is not None and len(domains):
        registered = registered_domains(domains).drop_nulls().implode()
        allowed = allowances(baseline).filter(
            pl.col("actor") == incident.actor.workload, pl.col("domain").is_in(registered)
        )
        if allowed.height:
            limit, leak = (
                int(allowed[name].to_list()[0]) // SCALE for name in ("limit", "leak_per_day")
            )
    seconds = (incident.last_seen - incident.first_seen).total_seconds()
    drained = leak * seconds / _DAY_SECONDS
    each = THRESHOLD / max(1, limit)
    yield (
        f"{said:,} bytes in {queries:,} names that nobody asked before; {limit:,} fill the bucket "
        f"of this workload and domain, so each weighs {THRESHOLD:.2f} / {limit:,} = {each:.5f} nats"
    )
    yield (
        f"meanwhile the bucket leaks {leak:,} bytes a day: {drained:,.1f} in {seconds:,.0f} s; "
        f"({said:,} - {drained:,.1f}) x {each:.5f} = {max(0.0, said - drained) * each:,.2f}"
    )
