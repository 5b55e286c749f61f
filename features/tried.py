"""What was tried for the first time within a day: paths of services, names of services.

Who guesses asks for much that does not exist, over connections that all succeed.
"""

from typing import Any, Final

import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.ingest.keys import hash_columns
from sidelong.ingest.table import Table

__all__ = ["Tried"]

_IDENTIFIER: Final = r"/(?:\d+|[0-9a-fA-F-]{16,})(?:/|$)"
_SERVICE: Final = r"^[^.]+\.[^.]+\.svc\."
_DAY_NS: Final = 86_400_000_000_000


class Tried:
    """Finds first answers. Bounded by `bounds.tried`."""

    def __init__(self, bounds: Bounds) -> None:
        self._tried = Table({}, capacity=bounds.tried, ttl_ns=_DAY_NS)

    @property
    def evicted(self) -> int:
        """Paths and names dropped because there were too many."""
        return self._tried.evicted

    def paths(self, oriented: pl.DataFrame) -> pl.DataFrame:
        """The first answer on each (actor, peer, method, path), rows of `sides` with `template`.

        That is the path with numbers and long identifiers folded to one.
        """
        rows = _told(oriented, "status").filter(pl.col("status") > 0, pl.col("path").is_not_null())
        rows = rows.with_columns(template=pl.col("path").str.replace_all(_IDENTIFIER, "/{}"))
        return self._first(rows, ["actor", "peer", "method", "template"])

    def services(self, lookups: pl.DataFrame) -> pl.DataFrame:
        """The first answer on each (actor, name of a service).

        Takes DNS rows with the columns of `name_parts`. Only `service.namespace.svc` counts: longer
        names are what search paths make of others.
        """
        rows = _told(lookups, "dns_rcode").filter(
            pl.col("internal"),
            pl.col("dns_rcode").is_in([0, 3]),
            pl.col("dns_name").str.contains(_SERVICE),
        )
        return self._first(rows, ["actor", "dns_name"])

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        self._tried.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """What was tried, as a value."""
        return {"table": self._tried.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._tried.restore(state["table"])

    def _first(self, rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
        """The rows whose value of `names` was not seen before today."""
        if rows.is_empty():
            return rows
        keys = hash_columns(rows, names)
        rows = rows.with_columns(tried=pl.Series(keys, dtype=pl.UInt64))
        rows = rows.filter(pl.Series(self._tried.find(keys) < 0, dtype=pl.Boolean))
        rows = rows.unique("tried", keep="first", maintain_order=True)
        self._tried.put(rows["tried"].to_numpy(), seen=rows["time"].to_physical().to_numpy())
        return rows


def _told(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """The rows, or none where no row has the column, as most often."""
    return rows.clear() if rows[column].null_count() == rows.height else rows
