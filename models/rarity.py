"""How unlikely a new edge is under the baseline graph.

Two independent surprises, each a probability estimated from the frozen baseline:

- that this actor's next contact opens an edge at all: Good and Turing's estimate from the edges it
  used in only one second of its history, (singletons + 1) / (active seconds + 1) (Good, 1953). It
  says how well a workload is known, whether ten minutes or ten days were handed to `learn`.
- that a new edge leads to this service rather than another: (k + 1/M) / (K + 1), with k of the K
known
  edges leading there and M services (back-off of the two-parameter Pitman-Yor kind).

Rarity is minus the logarithm of their product; for an actor the baseline does not know the first is
one. docs/detection.md does the arithmetic of false alarms.
"""

from typing import Final

import polars as pl

from sidelong.models.baseline import Baseline
from sidelong.models.evidence import MICRO, micro_nats

__all__ = ["RARITY_CAP", "Rarity"]

RARITY_CAP: Final = 10.0
"""Nats: no history is worth more than one in 22,000, for it may have been a quiet one."""


class Rarity:
    """Looks up the rarity of edges; frozen with its baseline."""

    def __init__(self, baseline: Baseline) -> None:
        edges = baseline.contacts.unique(["actor", "peer", "edge_port", "protocol"])
        self._targets = edges.group_by("peer", "edge_port", "protocol").agg(clients=pl.len())
        self._edges = edges.height
        self._services = max(1, self._targets.height)
        used = edges.group_by("actor").agg(used=pl.len())
        clients_only = set(baseline.workloads["actor"]) - set(edges["peer"])
        self._never_served = pl.Series(sorted(clients_only), dtype=pl.String).implode()
        self._actors = baseline.workloads.select("actor", "active_seconds", "singletons").join(
            used, on="actor", how="left"
        )

    def of(self, edges: pl.DataFrame) -> pl.DataFrame:
        """`edges` with `rarity` (micro-nats, capped) and what it rests on.

        Takes `actor`, `peer`, `edge_port`, `protocol`; adds also `active_seconds`, `used` (edges of
        the actor) and `clients` (of the service), 0 where the baseline knows nothing, and
        `never_served`: the baseline knows the peer well enough to say that it was only a client.
        """
        rows = edges.join(self._actors, on="actor", how="left", maintain_order="left").join(
            self._targets,
            on=["peer", "edge_port", "protocol"],
            how="left",
            maintain_order="left",
        )
        known = pl.col("active_seconds") > 0
        opens = (pl.col("singletons") + 1) / (pl.col("active_seconds") + 1)
        chosen = (pl.col("clients") + 1 / self._services) / (self._edges + 1)
        return rows.with_columns(
            pl.col("active_seconds").fill_null(0),
            pl.col("singletons").fill_null(0),
            pl.col("clients").fill_null(0),
            pl.col("used").fill_null(0),
            never_served=pl.col("peer").is_in(self._never_served),
        ).with_columns(
            rarity=pl.when(known)
            .then(_micro(-opens.log()) + _micro(-chosen.log()))
            .otherwise(0)
            .clip(0, micro_nats(RARITY_CAP))
        )


def _micro(nats: pl.Expr) -> pl.Expr:
    return (nats * MICRO).round(0).cast(pl.Int64).clip(0)
