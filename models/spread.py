"""Spread: a known workload takes up new internal peers faster than it ever did, and succeeds.

A Poisson CUSUM on new edges (one in ten seconds against twenty an hour): each weighs ln 20, and a
tenth of a nat leaks every second. Four new dependencies at once are a deployment; five within ten
seconds are not. Only internal peers count, since a page load opens dozens of outside ones, and not
on a port that the workload calls on three peers or more anyway: that is how a scraper works.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.features.sides import is_external
from sidelong.models.baseline import Baseline
from sidelong.models.evidence import NO_EVIDENCE, micro_nats
from sidelong.models.habitual_services import HABITUAL, habitual_services
from sidelong.models.statistic import Statistic

__all__ = ["SpreadDetector"]

_NEW_EDGE: Final = micro_nats(np.log(20))
_PEERS: Final = 3
_LEAK_PER_DAY: Final = micro_nats(0.1 * 86_400)


class SpreadDetector:
    """Judges new edges of workloads that the baseline knows. Bounded by `bounds.sums`."""

    def __init__(self, baseline: Baseline, bounds: Bounds) -> None:
        self._known = baseline.workloads["actor"].implode()
        self._calling = habitual_services(baseline, _PEERS)
        self._spread = Statistic("spread", ("actor",), bounds, leak_per_day=_LEAK_PER_DAY)

    @property
    def evicted(self) -> int:
        """Sums dropped because there were too many."""
        return self._spread.evicted

    def judge(self, new_edges: pl.DataFrame) -> pl.DataFrame:
        """Evidence from new edges (`Edges.observe`)."""
        if new_edges.is_empty():
            return NO_EVIDENCE
        rows = new_edges.filter(
            ~pl.col("again"),
            pl.col("rollout").is_null(),  # new dependencies come all at once
            ~is_external(pl.col("peer")),
            pl.col("actor").is_in(self._known),
        )
        if rows.is_empty():
            return NO_EVIDENCE
        rows = rows.join(self._calling, on=list(HABITUAL), how="anti", maintain_order="left")
        rows = rows.with_columns(
            weight=pl.lit(_NEW_EDGE, pl.Int64),
            object="peer",
            object_ip="peer_ip",
            reason=pl.lit("NEW_EDGE"),
        )
        return self._spread.evidence(rows, "scan")

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bound."""
        self._spread.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The sums as a value."""
        return {"spread": self._spread.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._spread.restore(state["spread"])
