"""Which edges of a map are the object of an incident, and who the actors are."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.features.sides import DYNAMIC_PORT
from sidelong.ingest.schema import schema_of

__all__ = ["RANKS", "implicated", "marked", "worst_first"]

RANKS: Final = ("critical", "high", "medium", "low", "info")
"""Severities, worst first."""

_TIME: Final = pl.Datetime("ns", "UTC")
_EDGE: Final = ("src", "dst", "port", "protocol")
_COUNTED: Final = ("events", "denied", "failed", "active_seconds")
_TARGETS: Final = schema_of(
    {
        "src": pl.String,
        "dst": pl.String,
        "port": pl.UInt16,
        "asked": pl.Boolean,
        "order": pl.Int64,
        "incident": pl.String,
        "alarming": pl.Boolean,
        "sweeping": pl.Boolean,
    }
)
_SWEEPS: Final = schema_of(
    {
        "src": pl.String,
        "first": _TIME,
        "last": _TIME,
        "order": pl.Int64,
        "incident": pl.String,
        "alarming": pl.Boolean,
    }
)


def worst_first(incidents: Iterable[Incident]) -> list[Incident]:
    """Incidents by severity, then by time."""
    return sorted(incidents, key=lambda one: (RANKS.index(one.severity), one.detected_at, one.id))


def implicated(incidents: Iterable[Incident]) -> pl.DataFrame:
    """One row per actor: name, incidents (how many), incident and severity (those of the worst)."""
    rows = [(one.actor.workload, one.id, one.severity) for one in worst_first(incidents)]
    schema = ["name", "incident", "severity"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String), orient="row")
    return frame.group_by("name", maintain_order=True).agg(
        incidents=pl.len().cast(pl.Int64),
        incident=pl.first("incident"),
        severity=pl.first("severity"),
    )


def marked(edges: pl.DataFrame, incidents: Sequence[Incident]) -> pl.DataFrame:
    """The edges with `incident` and `strange`, and those added that an incident alone tells of.

    A scan is told with its first twenty targets. What its actor used besides, at the same peers,
    or, where there were more, anywhere in its time, is part of it unless the baseline knows it.
    """
    ranked = list(enumerate(worst_first(incidents)))
    targets = _targets(ranked)
    found = pl.concat(
        [
            _told(edges, targets),
            _swept(edges, targets.filter("sweeping").select("src", "dst", *_MARK)),
            _all_over(edges, _sweeps(ranked)),
        ]
    )
    marks = (
        found.sort("order")
        .group_by(_EDGE, maintain_order=True)
        .agg(pl.first("incident"), strange=pl.col("alarming").any())
    )
    both = edges.join(marks, on=_EDGE, how="left", nulls_equal=True)
    both = both.with_columns(pl.col("strange").fill_null(False))
    return pl.concat([both, _untold(edges, targets)], how="diagonal")


_MARK: Final = ("order", "incident", "alarming")


def _told(edges: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Edges that are targets themselves; a target without a port is each of them."""
    pairs = edges.select(*_EDGE).join(
        targets.filter(~pl.col("asked")), on=["src", "dst"], suffix="_told"
    )
    same = pl.col("port_told").is_null() | (pl.col("port_told") == pl.col("port"))
    return pairs.filter(same).select(*_EDGE, *_MARK)


def _swept(edges: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Edges towards whoever was scanned."""
    fresh = edges.filter(~pl.col("known")).select(*_EDGE)
    return fresh.join(pairs.unique(["src", "dst", *_MARK]), on=["src", "dst"]).select(
        *_EDGE, *_MARK
    )


def _all_over(edges: pl.DataFrame, sweeps: pl.DataFrame) -> pl.DataFrame:
    """Edges of who scanned more peers than an incident can tell, in its time."""
    fresh = edges.filter(~pl.col("known")).select(*_EDGE, "first_seen")
    during = pl.col("first_seen").is_between("first", "last")
    return fresh.join(sweeps, on="src").filter(during).select(*_EDGE, *_MARK)


def _untold(edges: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Edges that no contact is known of: domains that were asked for, and what was let go."""
    alarming = targets.filter("alarming").sort("order")
    absent = alarming.join(edges.select("src", "dst").unique(), on=["src", "dst"], how="anti")
    protocol = pl.when("asked").then(pl.lit("DNS")).otherwise(pl.lit("OTHER"))
    port = pl.when("asked").then(53).otherwise(pl.col("port").fill_null(0)).cast(pl.UInt16)
    return (
        absent.with_columns(port=port, protocol=protocol)
        .unique(list(_EDGE), keep="first", maintain_order=True)
        .select(
            *_EDGE,
            *(pl.lit(0, pl.Int64).alias(name) for name in _COUNTED),
            "incident",
            known=pl.lit(False),
            strange=pl.lit(True),
        )
    )


def _targets(ranked: Iterable[tuple[int, Incident]]) -> pl.DataFrame:
    rows = [
        (
            one.actor.workload,
            target.domain or target.workload or target.ip,
            None if target.port is None else target.port * (target.port < DYNAMIC_PORT),
            target.domain is not None,
            order,
            one.id,
            one.severity != "info",
            one.kind == "scan",
        )
        for order, one in ranked
        for target in one.objects
    ]
    return pl.DataFrame(rows, schema=_TARGETS, orient="row").drop_nulls("dst")


def _sweeps(ranked: Iterable[tuple[int, Incident]]) -> pl.DataFrame:
    rows = [
        (
            one.actor.workload,
            one.first_seen,
            one.last_seen + timedelta(microseconds=1),  # it is told to the microsecond
            order,
            one.id,
            one.severity != "info",
        )
        for order, one in ranked
        if one.kind == "scan"
        and one.counts.get("peers", 0) > len({target.workload for target in one.objects})
    ]
    return pl.DataFrame(rows, schema=_SWEEPS, orient="row")
