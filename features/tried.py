"""What was tried for the first time within a day: paths of services, names of services.

Who guesses asks for much that does not exist, over connections that all succeed.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.ingest.groups import Groups, Positions
from sidelong.ingest.keys import (
    Keys,
    column_keys,
    hash_column,
    hash_rows,
    hash_strings,
    mix,
    numbered,
)
from sidelong.ingest.table import Table

__all__ = ["Tried"]

_IDENTIFIER: Final = r"/(?:\d+|[0-9a-fA-F-]{16,})(?:/|$)"
_NXDOMAIN: Final = 3
_ANSWERED: Final = (pl.col("status") > 0).fill_null(False) & pl.col("path").is_not_null()
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
        if oriented["status"].null_count() == oriented.height:
            return oriented.clear().with_columns(template=pl.lit(None, pl.String))
        at = np.flatnonzero(oriented.select_seq(_ANSWERED).to_series().to_numpy())
        numbers, paths = numbered(oriented["path"][at])
        templates = paths.str.replace_all(_IDENTIFIER, "/{}")
        keys = mix(
            column_keys(oriented, "actor")[at],
            column_keys(oriented, "peer")[at],
            hash_column(oriented["method"][at]),
            hash_strings(templates)[numbers],
        )
        first = self._first(at, keys, oriented["time"])
        return oriented[at[first]].with_columns(template=templates[numbers[first]])

    def services(self, lookups: pl.DataFrame) -> pl.DataFrame:
        """The first answer on each (actor, name of a service).

        Takes rows of `NameParts`. Only `service.namespace.svc` counts: longer names are what search
        paths make of others.
        """
        if lookups["dns_rcode"].null_count() == lookups.height:
            return lookups.clear()
        code = lookups["dns_rcode"].to_numpy()
        told = lookups["internal"].to_numpy() & lookups["service"].to_numpy()
        rows = np.flatnonzero(told & ((code == 0) | (code == _NXDOMAIN)))
        keys = hash_rows(lookups, ["actor", "dns_name"], rows)
        return lookups[rows[self._first(rows, keys, lookups["time"])]]

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        self._tried.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """What was tried, as a value."""
        return {"table": self._tried.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._tried.restore(state["table"])

    def _first(self, rows: Positions, keys: Keys, time: pl.Series) -> Positions:
        """The places, among these rows, of those of which the key was not seen before today."""
        first = Groups(keys).first
        first = first[self._tried.find(keys[first]) < 0]
        if len(first):
            self._tried.put(keys[first], seen=time[rows[first]].to_physical().to_numpy())
        return first
