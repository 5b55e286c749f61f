"""Mesh bypass: an edge in plain text that was always encrypted.

Whoever takes over a pod and goes round its proxy, or stands in for another, has no certificate. So
plain text on an edge that the mesh encrypts is as rare as the baseline says, by the rule of Laplace
(plain + 1) / (seconds + 2). A sidecar that was taken away does the same to all edges of a workload;
alone it alarms only where the edge leads to a sensitive service.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.features.edges import EDGE, edge_keys
from sidelong.ingest.table import Table
from sidelong.models.baseline import Baseline
from sidelong.models.edge_weights import SENSITIVE
from sidelong.models.evidence import ALERT, MICRO, NO_EVIDENCE, PARTS, as_evidence, micro_nats
from sidelong.models.rarity import RARITY_CAP
from sidelong.models.sensitive_services import sensitive_target

__all__ = ["MeshBypassDetector"]

_LEAST: Final = 30  # seconds seen encrypted, before that is a habit
_SHARE: Final = 0.95
_DAY_NS: Final = 86_400_000_000_000


class MeshBypassDetector:
    """Judges rows in plain text against a frozen baseline. Bounded by `bounds.edges`.

    An edge is told once a day.
    """

    def __init__(self, baseline: Baseline, bounds: Bounds) -> None:
        told = pl.col("encrypted") + pl.col("plain")
        habits = baseline.edges.filter(
            pl.col("encrypted") >= _LEAST, pl.col("encrypted") >= _SHARE * told
        )
        unlikely = -((pl.col("plain") + 1) / (told + 2)).log() * MICRO
        self._habits = habits.select(
            *EDGE,
            edge=pl.Series(edge_keys(habits), dtype=pl.UInt64),
            told=told,
            habit="encrypted",
            rarity=unlikely.round(0).cast(pl.Int64).clip(0, micro_nats(RARITY_CAP)),
        ).drop(EDGE)
        self._table = Table({"told": np.int64}, capacity=bounds.edges, ttl_ns=_DAY_NS)

    @property
    def evicted(self) -> int:
        """Edges forgotten because there were too many."""
        return self._table.evicted

    def judge(self, flows: pl.DataFrame) -> pl.DataFrame:
        """Evidence from rows of `Observed.flows`, one row each for an edge and day."""
        if self._habits.is_empty():
            return NO_EVIDENCE
        plain = flows.filter(~pl.col("encrypted"))
        rows = plain.join(self._habits, on="edge", maintain_order="left")
        rows = self._first(rows) if not rows.is_empty() else rows
        if rows.is_empty():
            return NO_EVIDENCE
        rows = rows.with_columns(target=sensitive_target(pl.col("peer_ip"))).with_columns(
            sensitive=pl.when(pl.col("target").is_not_null()).then(SENSITIVE).otherwise(0)
        )
        parts = [
            pl.struct(
                feature=pl.lit("mesh_bypass"),
                observed=pl.lit("in plain text"),
                expected=pl.format("encrypted in {} of {} seconds", "habit", "told"),
                log_evidence="rarity",
            ),
            pl.struct(
                feature=pl.lit("sensitive_service"),
                observed="target",
                expected=pl.lit("1 in 100 new edges"),
                log_evidence=pl.col("sensitive").cast(pl.Int64),
            ),
        ]
        weight = pl.col("rarity") + pl.col("sensitive")
        return as_evidence(
            rows.with_columns(
                kind=pl.lit("lateral_movement"),
                statistic=pl.lit("plaintext"),
                sub=pl.lit(3),
                group="edge",
                object="peer",
                object_ip="peer_ip",
                reason=pl.lit("PLAINTEXT"),
                log_evidence=weight,
                level=weight,
                decisive=weight >= ALERT,
                parts=pl.concat_list(parts)
                .list.eval(pl.element().filter(pl.element().struct.field("log_evidence") > 0))
                .cast(PARTS),
            )
        )

    def _first(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The first row of each edge that was not told within a day, by the clock."""
        found = self._table.find(rows["edge"].to_numpy())
        clock = rows["clock"].to_physical().to_numpy()
        due = (found < 0) | (clock >= self._table.get("told", found, 0) + _DAY_NS)
        rows = rows.filter(pl.Series(due, dtype=pl.Boolean))
        rows = rows.unique("edge", keep="first", maintain_order=True)
        at = rows["clock"].to_physical().to_numpy()
        self._table.put(rows["edge"].to_numpy(), told=at, seen=at)
        return rows

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what was told a day ago, or is beyond the bound."""
        self._table.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The edges that were told, as a value."""
        return {"told": self._table.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._table.restore(state["told"])
