"""Forgetting on request: a baseline without a workload, an edge or a domain.

What is forgotten is new the next time that it is seen. Keys of DNS names do not tell whose they
were, so that names that were asked under a forgotten domain go on costing nothing.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Self

import msgspec
import polars as pl

from sidelong.features.edges import EDGE
from sidelong.features.sides import DYNAMIC_PORT
from sidelong.models.baseline import Baseline
from sidelong.models.feedback import Edge, Feedback
from sidelong.models.workload_rows import recounted

__all__ = ["Forgotten", "Subject"]

_EDGE: Final = re.compile(r"(?P<actor>.+?)\s*->\s*(?P<peer>.+?)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A baseline without something, what people said of it included, and how many rows that was."""

    baseline: Baseline
    feedback: Feedback
    edges: int
    domains: int
    workloads: int


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be forgotten: an edge, or all of one name: a workload, an address, a domain."""

    name: str = ""
    actor: str = ""
    peer: str = ""
    port: int | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """`shop/web`, `example.org`, `shop/web -> data/db` or `shop/web -> data/db:5432`."""
        match = _EDGE.fullmatch(text.strip())
        if match is None:
            return cls(name=text.strip())
        port = int(match["port"]) if match["port"] else None
        return cls(actor=match["actor"], peer=match["peer"], port=port)

    def forget(self, baseline: Baseline, feedback: Feedback) -> Forgotten:
        """The baseline (as it was learnt) and the feedback without the subject."""
        contacts = baseline.contacts.filter(~self._is_edge())
        trial = baseline.trial.filter(~self._is_edge())
        domains = baseline.domains.filter((pl.col("actor") != self.name) & self._is_other_domain())
        before = baseline.workloads
        workloads = recounted(contacts, before.filter(pl.col("actor") != self.name))
        said = msgspec.structs.replace(
            feedback,
            known_edges=tuple(one for one in feedback.known_edges if not self._names(one)),
            allowed_domains=tuple(
                one for one in feedback.allowed_domains if self.name not in (one.actor, one.domain)
            ),
        )
        edges = [_edges(baseline.contacts, baseline.trial), _edges(contacts, trial)]
        return Forgotten(
            replace(baseline, contacts=contacts, trial=trial, domains=domains, workloads=workloads),
            said,
            edges=edges[0] - edges[1],
            domains=baseline.domains.height - domains.height,
            workloads=before.height - workloads.height,
        )

    def _is_edge(self) -> pl.Expr:
        if self.name:
            return (pl.col("actor") == self.name) | (pl.col("peer") == self.name)
        ours = (pl.col("actor") == self.actor) & (pl.col("peer") == self.peer)
        if self.port is None:
            return ours
        dynamic = self.port if self.port < DYNAMIC_PORT else 0
        return ours & ((pl.col("port") == self.port) | (pl.col("edge_port") == dynamic))

    def _is_other_domain(self) -> pl.Expr:
        if self.name:
            return pl.col("domain") != self.name
        return (pl.col("actor") != self.actor) | (pl.col("domain") != self.peer)

    def _names(self, edge: Edge) -> bool:
        if self.name:
            return self.name in (edge.actor, edge.peer)
        return (edge.actor, edge.peer) == (self.actor, self.peer) and self.port in (None, edge.port)


def _edges(*tables: pl.DataFrame) -> int:
    return sum(table.select(EDGE).unique().height for table in tables)
