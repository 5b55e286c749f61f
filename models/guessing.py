"""Guessing: asking for things until one exists, over connections that all succeed.

Two sequential tests beside that on contacts: the first answer on each path of an HTTP service (401,
403, 404 and 501 against success), and the first answer on each name of a cluster service (NXDOMAIN
against an address).
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.ingest.keys import hash_columns
from sidelong.ingest.table import Table
from sidelong.models.evidence import NO_EVIDENCE, micro_nats
from sidelong.models.statistic import Statistic

__all__ = ["GuessingDetector"]

# A benign client succeeds with nine of ten first paths, a guesser with one of five.
_PATH_REFUSED: Final = micro_nats(np.log(0.8 / 0.1))
_PATH_SERVED: Final = micro_nats(np.log(0.2 / 0.9))
_REFUSALS: Final = (401, 403, 404, 501)
_IDENTIFIER: Final = r"/(?:\d+|[0-9a-fA-F-]{16,})(?:/|$)"

# A program with a typing mistake or a wrong search path asks for a few names in vain.
_NO_SUCH_SERVICE: Final = micro_nats(np.log(0.8 / 0.2))
_SUCH_SERVICE: Final = micro_nats(np.log(0.2 / 0.8))
_SERVICE: Final = r"^[^.]+\.[^.]+\.svc\."

_DAY_NS: Final = 86_400_000_000_000


class GuessingDetector:
    """Judges first answers. Bounded by `bounds.tried` and `bounds.sums`."""

    def __init__(self, bounds: Bounds) -> None:
        self._paths = Statistic("paths", ("actor", "peer"), bounds)
        self._services = Statistic("services", ("actor",), bounds)
        self._tried = Table({}, capacity=bounds.tried, ttl_ns=_DAY_NS)

    @property
    def evicted(self) -> int:
        """Sums, paths and names dropped because there were too many."""
        return self._paths.evicted + self._services.evicted + self._tried.evicted

    def judge_paths(self, oriented: pl.DataFrame) -> pl.DataFrame:
        """Evidence from the first answer on each (peer, method, path); ids in paths fold to one."""
        rows = oriented.filter(pl.col("status") > 0, pl.col("path").is_not_null())
        if rows.is_empty():
            return NO_EVIDENCE
        rows = rows.with_columns(
            template=pl.col("path").str.replace_all(_IDENTIFIER, "/{}"),
            weight=pl.when(pl.col("status").is_in(_REFUSALS))
            .then(_PATH_REFUSED)
            .when(pl.col("status") < 400)
            .then(_PATH_SERVED)
            .otherwise(0),
            object="peer",
            object_ip="peer_ip",
            reason=pl.format("HTTP_{}", "status"),
            sample=pl.concat_str("method", "path", separator=" ", ignore_nulls=True),
        )
        first = self._first(rows, ["actor", "peer", "method", "template"])
        return self._paths.evidence(first, "scan")

    def judge_services(self, lookups: pl.DataFrame) -> pl.DataFrame:
        """Evidence from answers on names of services: those that do not exist are guesses.

        Takes DNS rows with the columns of `name_parts`. Only `service.namespace.svc` counts: longer
        names are what search paths make of others.
        """
        rows = lookups.filter(
            pl.col("internal"),
            pl.col("dns_rcode").is_in([0, 3]),
            pl.col("dns_name").str.contains(_SERVICE),
        )
        if rows.is_empty():
            return NO_EVIDENCE
        missing = pl.col("dns_rcode") == 3
        rows = rows.with_columns(
            weight=pl.when(missing).then(_NO_SUCH_SERVICE).otherwise(_SUCH_SERVICE),
            object="dns_name",
            sample="dns_name",
            reason=pl.when(missing).then(pl.lit("NXDOMAIN")).otherwise(pl.lit("NOERROR")),
        )
        return self._services.evidence(self._first(rows, ["actor", "dns_name"]), "scan")

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        self._paths.tidy(now_ns)
        self._services.tidy(now_ns)
        self._tried.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """Sums and what was tried, as a value."""
        return {
            "paths": self._paths.snapshot(),
            "services": self._services.snapshot(),
            "tried": self._tried.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._paths.restore(state["paths"])
        self._services.restore(state["services"])
        self._tried.restore(state["tried"])

    def _first(self, rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
        """The rows whose value of `names` was not seen before today."""
        keys = hash_columns(rows, names)
        rows = rows.with_columns(tried=pl.Series(keys, dtype=pl.UInt64))
        rows = rows.filter(pl.Series(self._tried.find(keys) < 0, dtype=pl.Boolean))
        rows = rows.unique("tried", keep="first", maintain_order=True)
        self._tried.put(rows["tried"].to_numpy(), seen=rows["time"].to_physical().to_numpy())
        return rows
