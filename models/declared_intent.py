"""What policies declare of an edge: that it is expected, or that it should not pass."""

import polars as pl

from sidelong.features.edges import EDGE
from sidelong.models.baseline import Baseline

__all__ = ["Intent"]

_ENDS = ("actor", "peer", "protocol")


class Intent:
    """Looks up what was declared of edges; frozen with its baseline."""

    def __init__(self, baseline: Baseline) -> None:
        self._declared = baseline.declared
        guarded = baseline.guarded
        self._here = guarded["workload"].implode()
        self._ingress = guarded.filter("ingress")["workload"].implode()
        self._egress = guarded.filter("egress")["workload"].implode()

    def of(self, edges: pl.DataFrame) -> pl.DataFrame:
        """`edges`, each once, with what was declared of them.

        Takes the columns `EDGE`, `port` and `verdict`; adds `breadth`, that of the narrowest rule
        that expressly allows the edge, null without one, and `unlawful`: both ends were declared,
        policies name all that may pass between them and not this, and it passed.
        """
        if self._declared.is_empty() and self._here.item().is_empty():
            return edges.with_columns(breadth=pl.lit(None, pl.Int64), unlawful=pl.lit(False))
        port = pl.col("port").fill_null(0)
        allowed = (
            edges.select(*EDGE, "port")
            .join(self._declared, on=list(_ENDS))
            .filter(port >= pl.col("low"), port <= pl.col("high"))
            .group_by(EDGE)
            .agg(pl.col("breadth").min(), lawful=pl.lit(True))
        )
        passed = ~(pl.col("verdict").is_in(["DROPPED", "ERROR"])).fill_null(False)
        known = pl.col("actor").is_in(self._here) & pl.col("peer").is_in(self._here)
        named = pl.col("peer").is_in(self._ingress) | pl.col("actor").is_in(self._egress)
        judged = pl.col("protocol").is_in(["TCP", "UDP"])
        rows = edges.join(allowed, on=list(EDGE), how="left", maintain_order="left")
        return rows.with_columns(
            unlawful=pl.col("lawful").is_null() & known & named & passed & judged
        ).drop("lawful")
