"""Rollouts: a workload whose pods come from another template than before.

A Deployment names its pods after a hash of their template, so that a new hash in a pod's name is a
new version or configuration, and with it new dependencies come. What a stream shows first of a
workload is no change; it is one when another hash was seen before.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.ingest.groups import Groups, Positions
from sidelong.ingest.keys import Keys, hash_column, hash_strings, mix
from sidelong.ingest.table import Table
from sidelong.ingest.workloads import template_hash

__all__ = ["WINDOW_NS", "Rollouts"]

WINDOW_NS: Final = 600_000_000_000
"""How long after the first sign of a new template a workload changes its habits."""

_DAY_NS: Final = 86_400_000_000_000
_NEVER: Final = -(2**62)
_NO_KEYS: Final = np.empty(0, np.uint64)


class Rollouts:
    """Notices rollouts by the names of pods. Bounded by `bounds.workloads`, for 30 days each."""

    def __init__(self, bounds: Bounds) -> None:
        capacity, ttl_ns = bounds.workloads, 30 * _DAY_NS
        self._templates = Table({}, capacity=capacity, ttl_ns=ttl_ns)
        self._actors = Table({"since": np.int64}, capacity=capacity, ttl_ns=ttl_ns)
        self._used = [_NO_KEYS]  # templates and actors, since the last tick
        self._lately = _no_pods()

    @property
    def evicted(self) -> int:
        """Templates and workloads forgotten because there were too many."""
        return self._templates.evicted + self._actors.evicted

    def observe(self, oriented: pl.DataFrame, edges: pl.DataFrame) -> pl.DataFrame:
        """`edges` with `rollout`: when that of the actor began (clock, ns), if it is under way.

        Takes rows of `sides`, and some of them again; within one event-time tick. Null where no
        rollout began in the last ten minutes.
        """
        rows, keys = self._shown(oriented)
        actors = oriented["actor_key"].to_numpy()[rows]
        self._used += [keys, actors]
        fresh = self._templates.find(keys) < 0
        if not fresh.any():
            return self._marked(edges, None)
        shown = oriented.select("actor_key", "row", pl.col("clock").to_physical())[rows]
        shown = shown.with_columns(
            template=pl.Series(keys, dtype=pl.UInt64),
            fresh=pl.Series(fresh, dtype=pl.Boolean),
            known=pl.Series(self._actors.find(actors) >= 0, dtype=pl.Boolean),
            nth=pl.int_range(pl.len()).over("actor_key"),
        )
        begun = shown.filter("fresh", pl.col("known") | (pl.col("nth") > 0))
        marked = self._marked(edges, begun.select("actor_key", "row", now="clock"))
        new = shown.filter("fresh")
        self._templates.put(new["template"].to_numpy(), seen=new["clock"].to_numpy())
        latest = shown.group_by("actor_key", maintain_order=True).agg(pl.col("clock").last())
        latest = latest.join(
            begun.group_by("actor_key").agg(since=pl.col("clock").last()),
            on="actor_key",
            how="left",
            maintain_order="left",
        )
        actors = latest["actor_key"].to_numpy()
        before = pl.Series(self._actors.get("since", self._actors.find(actors), _NEVER))
        since = latest["since"].fill_null(before)
        self._actors.put(actors, since=since.to_numpy(), seen=latest["clock"].to_numpy())
        return marked

    def _shown(self, oriented: pl.DataFrame) -> tuple[Positions, Keys]:
        """Each template of each actor in these rows: where it first shows, and its key."""
        actors = oriented["actor_key"].to_numpy()
        keys = mix(actors, hash_column(oriented["actor_pod"]))
        rows = Groups(keys).first
        keys = keys[rows]
        if len(self._lately) > _MOST_PODS:
            self._lately = _no_pods()
        at = self._lately.find(keys)
        new = np.flatnonzero(at < 0)
        if len(new):
            pods = oriented.select("actor_pod")[rows[new]]
            hashes = pods.select(template_hash(pl.col("actor_pod"))).to_series()
            self._lately.put(
                keys[new],
                template=mix(actors[rows[new]], hash_strings(hashes)),
                has=hashes.is_not_null().to_numpy(),
                seen=np.zeros(len(new), np.int64),
            )
            at = self._lately.find(keys)
        has = self._lately.get("has", at, False)
        rows, templates = rows[has], self._lately.get("template", at[has], 0)
        first = Groups(templates).first
        return rows[first], templates[first]

    def _marked(self, edges: pl.DataFrame, begun: pl.DataFrame | None) -> pl.DataFrame:
        if edges.is_empty():
            return edges.with_columns(rollout=pl.lit(None, pl.Int64))
        keys = edges["actor_key"].to_numpy()
        since = pl.Series(self._actors.get("since", self._actors.find(keys), _NEVER))
        rows = edges.with_columns(rollout=since.cast(pl.Int64))
        if begun is not None and not begun.is_empty():
            now = rows.select("actor_key", "row").join_asof(
                begun.sort("row"), on="row", by="actor_key", check_sortedness=False
            )["now"]
            rows = rows.with_columns(rollout=pl.coalesce(now, "rollout"))
        under_way = pl.col("clock").to_physical() - pl.col("rollout") < WINDOW_NS
        return rows.with_columns(rollout=pl.when(under_way).then("rollout"))

    def tidy(self, now_ns: int) -> None:
        """Forget, at an event-time tick, what was not seen for 30 days or is beyond the bound."""
        used = np.unique(np.concatenate(self._used))
        for table in (self._templates, self._actors):
            found = table.find(used)
            table.column("seen")[found[found >= 0]] = now_ns
            table.tidy(now_ns)
        self._used = [_NO_KEYS]

    def snapshot(self) -> dict[str, Any]:
        """What was seen as a value."""
        return {
            "templates": self._templates.snapshot(),
            "actors": self._actors.snapshot(),
            "used": np.unique(np.concatenate(self._used)),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._templates.restore(state["templates"])
        self._actors.restore(state["actors"])
        self._used = [state["used"]]


_MOST_PODS: Final = 50_000


def _no_pods() -> Table:
    """No pods of which the template is known."""
    return Table({"template": np.uint64, "has": np.bool_}, capacity=_MOST_PODS, ttl_ns=None)
