"""How unlikely a new edge is under the baseline graph.

Two independent surprises, each a probability estimated from the frozen baseline:

- that this actor's next contact opens an edge at all: Good and Turing's estimate from the edges it
  used in only one second of its history, (singletons + 1) / (active seconds + 1) (Good, 1953). It
  says how well a workload is known, whether ten minutes or ten days were handed to `learn`.
- that a new edge leads to this service rather than another: (k + 1/M) / (K + 1), with k of the K
  known edges leading there and M services (back-off of the two-parameter Pitman-Yor kind).

Rarity is minus the logarithm of their product; for an actor the baseline does not know the first is
one. Who is known little borrows as much experience as it has, a minute at most, from those like it:
workloads of its name in other namespaces, which are estimated from their namespace, and that from
the cluster (the rule of Dirichlet's prior at each step). It can only learn from them that new edges
are less of a surprise. docs/detection.md does the arithmetic of false alarms.
"""

import math
from typing import Final

import polars as pl

from sidelong.models.acquaintance import states
from sidelong.models.baseline import Baseline
from sidelong.models.evidence import MICRO, micro_nats

__all__ = ["RARITY_CAP", "Rarity"]

RARITY_CAP: Final = 10.0
"""Nats: no history is worth more than one in 22,000, for it may have been a quiet one."""


_BORROWED: Final = 60
"""Seconds of experience, at most, that are taken from others."""

_HALF_HOUR: Final = 1_800
_ONCE_A_DAY: Final = micro_nats(math.log(48))


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
        self._actors = (
            baseline.workloads.join(states(baseline), on="actor")
            .join(used, on="actor", how="left")
            .with_columns(like_it=_like_it())
            .select(
                "actor",
                "active_seconds",
                "singletons",
                "used",
                "state",
                opens=_opens(),
                onward=_onward(),
            )
        )

    def of(self, edges: pl.DataFrame) -> pl.DataFrame:
        """`edges` with `rarity` (micro-nats, capped) and what it rests on.

        Takes `actor`, `peer`, `edge_port`, `protocol`; adds also `active_seconds`, `used` (edges of
        the actor) and `clients` (of the service), 0 where the baseline knows nothing;
        `never_served`: the baseline knows the peer well enough to say that it was only a client;
        `state` (`STATES`); and `onward` (micro-nats): how seldom the actor opens a new edge within
        the half hour after it was reached itself.
        """
        rows = edges.join(self._actors, on="actor", how="left", maintain_order="left").join(
            self._targets,
            on=["peer", "edge_port", "protocol"],
            how="left",
            maintain_order="left",
        )
        known = pl.col("active_seconds") > 0
        chosen = (pl.col("clients") + 1 / self._services) / (self._edges + 1)
        return rows.with_columns(
            pl.col("active_seconds").fill_null(0),
            pl.col("singletons").fill_null(0),
            pl.col("clients").fill_null(0),
            pl.col("used").fill_null(0),
            pl.col("onward").fill_null(0),
            pl.col("state").fill_null("learning"),
            never_served=pl.col("peer").is_in(self._never_served),
        ).with_columns(
            rarity=pl.when(known)
            .then(_micro(-pl.col("opens").log()) + _micro(-chosen.log()))
            .otherwise(0)
            .clip(0, micro_nats(RARITY_CAP))
        )


def _like_it() -> pl.Expr:
    """How often the next contact of a workload like this one opens an edge: app, namespace, all."""
    app = pl.col("actor").str.extract(r"/(.+)$")
    space = pl.col("actor").str.extract(r"^([^/:]+)/")
    active, once = pl.col("active_seconds"), pl.col("singletons")
    likely = (once.sum() + 1) / (active.sum() + 1)
    for group in (space, app):
        within = (once.sum().over(group) + _BORROWED * likely) / (
            active.sum().over(group) + _BORROWED
        )
        likely = pl.when(group.is_null()).then(likely).otherwise(within)
    return likely


def _opens() -> pl.Expr:
    """How likely the next contact of an actor opens an edge."""
    own = (pl.col("singletons") + 1, pl.col("active_seconds") + 1)
    borrowed = pl.col("active_seconds").clip(upper_bound=_BORROWED)
    shared = (own[0] + borrowed * pl.col("like_it")) / (own[1] + borrowed)
    return pl.max_horizontal(own[0] / own[1], shared)


def _onward() -> pl.Expr:
    """From the rate of its own new edges, by Good and Turing again; one a day at the least."""
    halves = pl.col("watched").dt.total_seconds().clip(1) / _HALF_HOUR
    seldom = _micro((halves / (pl.col("singletons") + 1)).log())
    return pl.when(pl.col("active_seconds") > 0).then(seldom.clip(0, _ONCE_A_DAY)).otherwise(0)


def _micro(nats: pl.Expr) -> pl.Expr:
    return (nats * MICRO).round(0).cast(pl.Int64).clip(0)
