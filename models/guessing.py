"""Guessing: asking for things until one exists, over connections that all succeed.

Two sequential tests beside that on contacts: the first answer on each path of an HTTP service (401,
403, 404 and 501 against success), and the first answer on each name of a cluster service (NXDOMAIN
against an address).
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.models.evidence import NO_EVIDENCE, micro_nats
from sidelong.models.statistic import Statistic

__all__ = ["REFUSALS", "GuessingDetector"]

# A benign client succeeds with nine of ten first paths, a guesser with one of five.
_PATH_REFUSED: Final = micro_nats(np.log(0.8 / 0.1))
_PATH_SERVED: Final = micro_nats(np.log(0.2 / 0.9))

REFUSALS: Final = (401, 403, 404, 501)
"""Answers by which a service says that a path is not for the client, or not there."""

# A program with a typing mistake or a wrong search path asks for a few names in vain.
_NO_SUCH_SERVICE: Final = micro_nats(np.log(0.8 / 0.2))
_SUCH_SERVICE: Final = micro_nats(np.log(0.2 / 0.8))


class GuessingDetector:
    """Judges first answers. Bounded by `bounds.sums`."""

    def __init__(self, bounds: Bounds) -> None:
        self._paths = Statistic("paths", ("actor", "peer"), bounds)
        self._services = Statistic("services", ("actor",), bounds)

    @property
    def evicted(self) -> int:
        """Sums dropped because there were too many."""
        return self._paths.evicted + self._services.evicted

    def judge_paths(self, first: pl.DataFrame) -> pl.DataFrame:
        """Evidence from the first answer on each (peer, method, path): of `Tried.paths`."""
        if first.is_empty():
            return NO_EVIDENCE
        rows = first.with_columns(
            weight=pl.when(pl.col("status").is_in(REFUSALS))
            .then(_PATH_REFUSED)
            .when(pl.col("status") < 400)
            .then(_PATH_SERVED)
            .otherwise(0),
            object="peer",
            object_ip="peer_ip",
            reason=pl.format("HTTP_{}", "status"),
            sample=pl.concat_str("method", "path", separator=" ", ignore_nulls=True),
        )
        return self._paths.evidence(rows, "scan")

    def judge_services(self, first: pl.DataFrame) -> pl.DataFrame:
        """Evidence from the first answer on each name of a service: of `Tried.services`.

        Names that do not exist are guesses.
        """
        if first.is_empty():
            return NO_EVIDENCE
        missing = pl.col("dns_rcode") == 3
        rows = first.with_columns(
            weight=pl.when(missing).then(_NO_SUCH_SERVICE).otherwise(_SUCH_SERVICE),
            object="dns_name",
            sample="dns_name",
            reason=pl.when(missing).then(pl.lit("NXDOMAIN")).otherwise(pl.lit("NOERROR")),
        )
        return self._services.evidence(rows, "scan")

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        self._paths.tidy(now_ns)
        self._services.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """Sums as a value."""
        return {"paths": self._paths.snapshot(), "services": self._services.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._paths.restore(state["paths"])
        self._services.restore(state["services"])
