"""The totals of open windows: facts are added, windows are taken out when they close.

All totals are sums, extremes, unions of bits and last values in stream order, so that totals of
pieces make up the totals of the whole, whatever the pieces.
"""

from typing import Any, Final

import polars as pl

from sidelong.ingest.schema import PROTOCOLS, schema_of

__all__ = ["EDGE_SUMS", "EDGE_TOTALS", "LOOKUP_TOTALS", "NAME_TOTALS", "Totals"]

_WINDOW: Final = {"group": pl.UInt64, "window": pl.Int64}
_ACTOR: Final = {"actor": pl.String, "actor_pod": pl.String, "actor_ip": pl.String}
_SPAN: Final = {"row": pl.UInt64, "first_ns": pl.Int64, "last_ns": pl.Int64, "seconds": pl.UInt64}

EDGE_SUMS: Final = (
    *("events", "attempts", "refusals", "denials"),
    *("bytes_out", "bytes_in", "sized", "packets_out", "packets_in", "counted"),
    *("responses", "redirects", "client_errors", "forbidden", "server_errors"),
    *("contacts", "contacts_answered", "contacts_refused", "contacts_denied"),
    *("contacts_silent", "new_edges", "new_paths"),
)
"""What is summed up for edges, and so for workloads."""

EDGE_TOTALS: Final = schema_of(
    {
        **_WINDOW,
        **_ACTOR,
        "peer": pl.String,
        "peer_ip": pl.String,
        "port": pl.UInt16,
        "edge_port": pl.UInt16,
        "protocol": PROTOCOLS,
        **_SPAN,
        **dict.fromkeys(EDGE_SUMS, pl.Int64),
    }
)
"""Totals of an edge in a window: `group` is the edge's key, `window` counts windows since 1970."""

LOOKUP_TOTALS: Final = schema_of(
    {
        **_WINDOW,
        **_ACTOR,
        "domain": pl.String,
        "sample": pl.String,
        **_SPAN,
        "longest": pl.Int64,
        **dict.fromkeys(
            (
                *("events", "queries", "replies", "nxdomain", "rare_types"),
                *("answer_bytes", "answers_sized"),
                *("name_bytes", "labels", "digits", "entropy_microbits"),
            ),
            pl.Int64,
        ),
    }
)
"""Totals of a pod's lookups below a domain; `domain` is null for names within the cluster."""

NAME_TOTALS: Final = schema_of({**_WINDOW, "name": pl.UInt64, "row": pl.UInt64})
"""The distinct names of each window of lookups."""

_KEYS: Final = ("group", "window", "name")
_FEW: Final = 4_096


def _merged(name: str, dtype: pl.DataType) -> pl.Expr:
    """How a column of pieces becomes that of the whole."""
    column = pl.col(name)
    if name in ("row", "last_ns", "longest"):
        return column.max()
    if name == "first_ns":
        return column.min()
    if name == "seconds":
        return column.bitwise_or()
    return column.sum() if dtype == pl.Int64 else column.last()


class Totals:
    """Totals by group and window, all in the columns of a schema of this module.

    Bounded by `capacity` rows; at ticks the longest untouched beyond it go and count as evicted.
    """

    def __init__(self, schema: pl.Schema, capacity: int) -> None:
        self._keys = [name for name in _KEYS if name in schema]
        self._aggregates = {
            name: _merged(name, dtype) for name, dtype in schema.items() if name not in self._keys
        }
        self._nothing = schema.to_frame()
        self.capacity = capacity
        self._parts: list[pl.DataFrame] = []  # each without two rows of the same keys
        self.evicted = 0

    def __len__(self) -> int:
        """Rows held, those of one window counted for each part."""
        return sum(part.height for part in self._parts)

    def add(self, facts: pl.DataFrame) -> None:
        """Add facts, in stream order; columns that they lack count as nothing."""
        if facts.is_empty():
            return
        lacking = [name for name in self._aggregates if name not in facts.columns]
        part = self._grouped(facts, lacking)
        if lacking:
            part = part.with_columns(
                pl.lit(0 if dtype.is_numeric() else None, dtype).alias(name)
                for name, dtype in self._nothing.schema.items()
                if name in lacking
            )
        self._parts.append(part.select(self._nothing.columns))
        if len(self) > _FEW + 2 * self._parts[0].height:
            self._merge()

    def take(self, before: int) -> pl.DataFrame:
        """The totals of all windows before that one, which are held no longer."""
        self._merge()
        closed = pl.col("window") < before
        (whole,) = self._parts or [self._nothing]
        taken = whole.filter(closed)
        if taken.height:
            self._parts = [whole.filter(~closed)]
        return taken

    def tidy(self) -> None:
        """Evict what is beyond capacity."""
        if len(self) <= self.capacity:
            return
        self._merge()
        (whole,) = self._parts
        excess = whole.height - self.capacity
        if excess > 0:
            self._parts = [whole.sort("row", *self._keys)[excess:]]
            self.evicted += excess

    def snapshot(self) -> dict[str, Any]:
        """The totals as a value."""
        self._merge()
        return {"rows": self._parts[0] if self._parts else self._nothing, "evicted": self.evicted}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._parts = [state["rows"]]
        self.evicted = state["evicted"]

    def _merge(self) -> None:
        if len(self._parts) > 1:
            self._parts = [self._grouped(pl.concat(self._parts), [])]

    def _grouped(self, rows: pl.DataFrame, lacking: list[str]) -> pl.DataFrame:
        return rows.group_by(self._keys).agg(
            merged.alias(name) for name, merged in self._aggregates.items() if name not in lacking
        )
