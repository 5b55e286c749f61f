"""Edges of the communication graph, and the first time each is used.

An edge is (actor, peer, port, protocol). Ports that Linux hands out to clients count as one, since
the RPC services that live there have no habitual number.
"""

from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.features.bounds import Bounds
from sidelong.features.events import ANSWER
from sidelong.features.membership import is_member
from sidelong.features.sides import DYNAMIC_PORT
from sidelong.ingest.keys import hash_columns
from sidelong.ingest.table import Table

__all__ = ["EDGE", "SERVICE", "Edges", "edge_keys", "service_keys", "with_edge_port"]

EDGE: Final = ("actor", "peer", "edge_port", "protocol")
SERVICE: Final = ("peer", "edge_port", "protocol")

_DAY_NS: Final = 86_400_000_000_000


def with_edge_port(oriented: pl.DataFrame) -> pl.DataFrame:
    """Rows of `sides` with `edge_port`: the server's port, 0 for dynamic ports and for ICMP."""
    port = pl.col("port").fill_null(0)
    return oriented.with_columns(
        edge_port=pl.when(port < DYNAMIC_PORT).then(port).otherwise(0).cast(pl.UInt16)
    )


def edge_keys(rows: pl.DataFrame) -> NDArray[np.uint64]:
    """The 64-bit key of each row's edge."""
    return hash_columns(rows, EDGE)


def service_keys(rows: pl.DataFrame) -> NDArray[np.uint64]:
    """The 64-bit key of each row's service: peer, port and protocol, whoever uses it."""
    return hash_columns(rows, SERVICE)


class Edges:
    """Finds edges that neither the baseline nor the stream so far has used.

    To be used is not enough to become ordinary: an edge is told again a day later, if it is still
    in use, for whoever holds that it should not be.

    An attempt uses an edge when the service is known to exist, when it is answered, or when policy
    denies it; a probe of a port where nothing listens makes no edge, it is a matter of scanning.

    known, services: sorted edge and service keys of the baseline. Bounded by `bounds.edges`.
    """

    def __init__(
        self, known: NDArray[np.uint64], services: NDArray[np.uint64], bounds: Bounds
    ) -> None:
        self._known = known
        self._services = services
        self._table = Table({"told": np.int64}, capacity=bounds.edges, ttl_ns=30 * _DAY_NS)

    @property
    def evicted(self) -> int:
        """Edges forgotten because there were too many."""
        return self._table.evicted

    def observe(self, oriented: pl.DataFrame) -> pl.DataFrame:
        """The first use of each new edge, in stream order.

        Also, with `again` true, the first use a day or more after an edge was told. Takes rows of
        `sides`.
        """
        unknown = ~is_member(oriented["edge"].to_numpy(), self._known)
        rows = oriented.filter(pl.Series(unknown)) if unknown.any() else oriented.clear()
        if not rows.is_empty():
            rows = rows.filter(self._is_use(rows))
        if rows.is_empty():
            return rows.with_columns(again=pl.lit(False))
        found = self._table.find(rows["edge"].to_numpy())
        clock = rows["clock"].to_physical().to_numpy()
        due = (found < 0) | (clock >= self._table.get("told", found, 0) + _DAY_NS)
        rows = rows.with_columns(
            again=pl.Series(found >= 0, dtype=pl.Boolean), due=pl.Series(due, dtype=pl.Boolean)
        )
        self._remember(rows)
        return rows.filter("due").drop("due").unique("edge", keep="first", maintain_order=True)

    def _remember(self, rows: pl.DataFrame) -> None:
        used = rows.group_by("edge", maintain_order=True).agg(
            seen=pl.col("time").max().to_physical(),
            told=pl.col("clock").filter("due").first().to_physical(),
        )
        keys = used["edge"].to_numpy()
        found = self._table.find(keys)
        told = used["told"].fill_null(pl.Series(self._table.get("told", found, 0)))
        seen = np.maximum(self._table.get("seen", found, 0), used["seen"].to_numpy())
        self._table.put(keys, seen=seen, told=told.to_numpy())

    def _is_use(self, rows: pl.DataFrame) -> pl.Expr:
        exists = pl.Series(is_member(service_keys(rows), self._services), dtype=pl.Boolean)
        error = (pl.col("verdict") == "ERROR").fill_null(False)
        denied = (pl.col("verdict") == "DROPPED").fill_null(False)
        return (exists & ~error) | denied | (pl.col("event") == ANSWER)

    def tidy(self, now_ns: int) -> None:
        """Forget, at an event-time tick, edges unused for 30 days and those beyond the bound."""
        self._table.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The edges as a value."""
        return {"table": self._table.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._table.restore(state["table"])
