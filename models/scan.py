"""Scanning: a sequential test on how first contacts end.

Each outcome is a log-likelihood ratio between a scanner, whose contacts succeed with probability
theta1, and the workload's own habit theta0 (Jung et al., 2004, as a one-sided CUSUM; thresholds and
measurements in docs/detection.md). Separate sums watch

    vertical    the ports of one peer
    horizontal  the peers, of which each counts for at most three failures, so that one dead
                destination with many ports cannot look like a sweep
    paths       first (peer, method, path) of HTTP answered with 404, 401, 403 or 501
    services    names of the cluster's own zone that do not exist
    spread      new internal edges of a workload whose habits are known, faster than it ever made
                them, whether or not they succeed

Five plain failures, four denials or three unused addresses alarm.
"""

import math
from functools import cache
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.features.bounds import Bounds
from sidelong.features.sides import is_external
from sidelong.features.sums import OneSidedSums
from sidelong.ingest.keys import hash_columns, hash_strings, mix
from sidelong.ingest.table import Table
from sidelong.models.baseline import Baseline
from sidelong.models.beta import beta_quantile
from sidelong.models.evidence import (
    ALERT,
    NO_EVIDENCE,
    SILENCE_NS,
    as_evidence,
    crosses,
    micro_nats,
)

__all__ = ["PER_DESTINATION", "ScanDetector"]

THETA0: Final = 0.95
"""How often a benign workload's first contact succeeds, where its own habit is unknown."""

THETA1: Final = 0.2
"""How often a scanner's does; measured 0.00-0.03, so this errs towards calling it benign."""

PER_DESTINATION: Final = 3
"""Failures for which one peer counts in a sweep."""

_DAY_NS: Final = 86_400_000_000_000

_DENIED: Final = micro_nats(4.0)  # benign denial rate below 1.5 %
_UNUSED_ADDRESS: Final = micro_nats(np.log(100)) + 1  # three make 1e6
_UDP_SILENCE: Final = micro_nats(0.7)  # a silent UDP service is common

# HTTP: a benign client succeeds with nine of ten first paths.
_PATH_REFUSED: Final = micro_nats(np.log(0.8 / 0.1))
_PATH_SERVED: Final = micro_nats(np.log(0.2 / 0.9))
_PATH_REFUSALS: Final = (401, 403, 404, 501)

# Names of services: a program with a typing mistake or a wrong search path asks a few in vain.
_NO_SUCH_SERVICE: Final = micro_nats(np.log(0.8 / 0.2))
_SUCH_SERVICE: Final = micro_nats(np.log(0.2 / 0.8))

# Spread: new edges at one in ten seconds against twenty an hour; a deployment may bring four at once.
_SPREAD: Final = micro_nats(np.log(20))
_SPREAD_LEAK_PER_DAY: Final = micro_nats(0.1 * 86_400)

_IDENTIFIER: Final = r"/(?:\d+|[0-9a-fA-F-]{16,})(?:/|$)"
_SERVICE: Final = r"^[^.]+\.[^.]+\.svc\."
_PREFIX: Final = r"^(\d+\.\d+\.\d+)\."


class ScanDetector:
    """Judges first contacts, paths, service names and new edges.

    networks: IPv4 /24 prefixes (`10.244.1`) in which every address in use belongs to a known
    workload, so that any other address there is unused. State: sums and counters, all bounded.
    """

    def __init__(self, baseline: Baseline, networks: frozenset[str], bounds: Bounds) -> None:
        self._habits = _habits(baseline)
        self._networks = networks | frozenset(baseline.networks["network"])
        self._known = baseline.workloads["actor"]
        self._sums = {
            "vertical": _sums(bounds),
            "horizontal": _sums(bounds),
            "paths": _sums(bounds),
            "services": _sums(bounds),
            "spread": _sums(bounds, leak_per_day=_SPREAD_LEAK_PER_DAY),
        }
        self._failures = Table({"count": np.int64}, capacity=bounds.sums, ttl_ns=_DAY_NS)
        self._tried = Table({}, capacity=bounds.tried, ttl_ns=_DAY_NS)

    @property
    def evicted(self) -> int:
        """Sums and counters dropped because there were too many."""
        tables = (self._failures, self._tried)
        return sum(t.evicted for t in tables) + sum(s.evicted for s in self._sums.values())

    def judge_contacts(self, outcomes: pl.DataFrame) -> pl.DataFrame:
        """Evidence from first contacts (`OUTCOME_SCHEMA`): one row each, zero or negative included.

        The level is that of the sum that stands higher, vertical or horizontal.
        """
        if outcomes.is_empty():
            return NO_EVIDENCE
        rows = self._weigh(outcomes)
        rows = self._capped(rows)
        rows = rows.with_columns(
            vertical=self._add("vertical", rows, ["actor", "object"], "weight"),
            horizontal=self._add("horizontal", rows, ["actor"], "capped"),
        )
        across = pl.col("horizontal") >= pl.col("vertical")
        return as_evidence(
            rows.with_columns(
                kind=pl.lit("scan"),
                statistic=pl.when(across).then(pl.lit("horizontal")).otherwise(pl.lit("vertical")),
                group=pl.Series(_groups(rows, "contacts", ["actor"]), dtype=pl.UInt64),
                reason=pl.when(pl.col("unused"))
                .then(pl.lit("UNUSED_ADDRESS"))
                .otherwise(pl.col("outcome").cast(pl.String)),
                log_evidence="weight",
                level=pl.max_horizontal("vertical", "horizontal"),
                decisive=crosses(pl.col("vertical"), pl.col("weight"))
                | crosses(pl.col("horizontal"), pl.col("capped")),
            )
        )

    def judge_paths(self, oriented: pl.DataFrame) -> pl.DataFrame:
        """Evidence from the first answer on each (peer, method, path); numbers and ids fold to one."""
        rows = oriented.filter(pl.col("status") > 0, pl.col("path").is_not_null())
        if rows.is_empty():
            return NO_EVIDENCE
        rows = rows.with_columns(
            template=pl.col("path").str.replace_all(_IDENTIFIER, "/{}"),
            weight=pl.when(pl.col("status").is_in(_PATH_REFUSALS))
            .then(_PATH_REFUSED)
            .when(pl.col("status") < 400)
            .then(_PATH_SERVED)
            .otherwise(0),
        )
        rows = self._first(rows, ["actor", "peer", "method", "template"])
        return self._evidence(
            "paths",
            ["actor", "peer"],
            rows.with_columns(
                object="peer",
                object_ip="peer_ip",
                reason=pl.format("HTTP_{}", "status"),
                sample=pl.concat_str("method", "path", separator=" ", ignore_nulls=True),
            ),
        )

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
        rows = rows.with_columns(
            weight=pl.when(pl.col("dns_rcode") == 3).then(_NO_SUCH_SERVICE).otherwise(_SUCH_SERVICE)
        )
        rows = self._first(rows, ["actor", "dns_name"])
        return self._evidence(
            "services",
            ["actor"],
            rows.with_columns(
                object="dns_name",
                sample="dns_name",
                reason=pl.when(pl.col("dns_rcode") == 3)
                .then(pl.lit("NXDOMAIN"))
                .otherwise(pl.lit("NOERROR")),
            ),
        )

    def judge_spread(self, new_edges: pl.DataFrame) -> pl.DataFrame:
        """Evidence from new internal edges of workloads that the baseline knows."""
        rows = new_edges.filter(
            ~is_external(pl.col("peer")), pl.col("actor").is_in(self._known.implode())
        )
        if rows.is_empty():
            return NO_EVIDENCE
        rows = rows.with_columns(
            weight=pl.lit(_SPREAD, pl.Int64),
            object="peer",
            object_ip="peer_ip",
            reason=pl.lit("NEW_EDGE"),
        )
        return self._evidence("spread", ["actor"], rows)

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what is old or beyond the bounds."""
        parts: list[Table | OneSidedSums] = [*self._sums.values(), self._failures, self._tried]
        for part in parts:
            part.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """Sums and counters as a value."""
        return {
            "sums": {name: sums.snapshot() for name, sums in self._sums.items()},
            "failures": self._failures.snapshot(),
            "tried": self._tried.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        for name, sums in self._sums.items():
            sums.restore(state["sums"][name])
        self._failures.restore(state["failures"])
        self._tried.restore(state["tried"])

    def _weigh(self, outcomes: pl.DataFrame) -> pl.DataFrame:
        """Adds `weight`, the log-likelihood ratio of each outcome, and `unused`."""
        udp = (pl.col("protocol") == "UDP") & ~pl.col("stealth")
        silence = (
            pl.when(pl.col("protocol") == "ICMP")
            .then(0)
            .when(udp)
            .then(_UDP_SILENCE)
            .otherwise("failed")
        )
        outcome = pl.col("outcome").cast(pl.String)
        failed = outcome.is_in(["REFUSED", "UNANSWERED", "DENIED"])
        unused = (
            failed
            & (pl.col("peer") == "ip:" + pl.col("object"))
            & pl.col("object").str.extract(_PREFIX).is_in(list(self._networks)).fill_null(False)
        )
        return (
            outcomes.join(self._habits, on="actor", how="left", maintain_order="left")
            .with_columns(
                pl.col("failed").fill_null(_failure(THETA0)),
                pl.col("answered").fill_null(_success(THETA0)),
                unused=unused,
            )
            .with_columns(
                weight=pl.when("unused")
                .then(_UNUSED_ADDRESS)
                .when(outcome == "ANSWERED")
                .then("answered")
                .when(outcome == "REFUSED")
                .then("failed")
                .when(outcome == "DENIED")
                .then(_DENIED)
                .when(outcome == "UNANSWERED")
                .then(silence)
                .otherwise(pl.col("answered") - silence)
                .cast(pl.Int64)
            )
        )

    def _capped(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds `capped`: the weight, but nothing from the fourth failure at one peer on."""
        keys = _groups(rows, "failures", ["actor", "object"])
        before = self._failures.get("count", self._failures.find(keys), 0)
        failed = (pl.col("weight") > 0).cast(pl.Int64)
        rows = rows.with_columns(
            pair=pl.Series(keys, dtype=pl.UInt64), before=pl.Series(before, dtype=pl.Int64)
        ).with_columns(nth=pl.col("before") + failed.cum_sum().over("pair"))
        last = rows.group_by("pair", maintain_order=True).agg(
            pl.col("nth").last(), pl.col("time").last().to_physical()
        )
        self._failures.put(
            last["pair"].to_numpy(), count=last["nth"].to_numpy(), seen=last["time"].to_numpy()
        )
        spent = (pl.col("weight") > 0) & (pl.col("nth") > PER_DESTINATION)
        return rows.with_columns(capped=pl.when(spent).then(0).otherwise("weight"))

    def _first(self, rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
        """The rows whose value of `names` was not seen before today."""
        keys = _groups(rows, "+".join(names), names)
        rows = rows.with_columns(tried=pl.Series(keys, dtype=pl.UInt64))
        rows = rows.filter(pl.Series(self._tried.find(keys) < 0, dtype=pl.Boolean))
        rows = rows.unique("tried", keep="first", maintain_order=True)
        self._tried.put(rows["tried"].to_numpy(), seen=rows["time"].to_physical().to_numpy())
        return rows

    def _evidence(self, statistic: str, by: list[str], rows: pl.DataFrame) -> pl.DataFrame:
        if rows.is_empty():
            return NO_EVIDENCE
        return as_evidence(
            rows.with_columns(
                kind=pl.lit("scan"),
                statistic=pl.lit(statistic),
                sub=pl.lit(1),
                group=pl.Series(_groups(rows, statistic, by), dtype=pl.UInt64),
                log_evidence="weight",
                level=self._add(statistic, rows, by, "weight"),
            ).with_columns(decisive=crosses(pl.col("level"), pl.col("weight")))
        )

    def _add(self, statistic: str, rows: pl.DataFrame, by: list[str], weight: str) -> pl.Series:
        weights = rows[weight].to_numpy()
        level = self._sums[statistic].add(
            _groups(rows, statistic, by),
            charge=weights.clip(0),
            leak=(-weights).clip(0),
            time_ns=rows["time"].to_physical().to_numpy(),
        )
        return pl.Series(level, dtype=pl.Int64)


def _sums(bounds: Bounds, *, leak_per_day: int = 0) -> OneSidedSums:
    return OneSidedSums(
        threshold=ALERT, silence_ns=SILENCE_NS, leak_per_day=leak_per_day, capacity=bounds.sums
    )


def _groups(rows: pl.DataFrame, statistic: str, by: list[str]) -> NDArray[np.uint64]:
    """Keys that keep the sums of different statistics apart."""
    return mix(hash_columns(rows, by), np.broadcast_to(_statistic_key(statistic), rows.height))


@cache
def _statistic_key(statistic: str) -> NDArray[np.uint64]:
    return hash_strings([statistic])


def _failure(theta0: float) -> int:
    return micro_nats(math.log((1 - THETA1) / (1 - theta0)))


def _success(theta0: float) -> int:
    return micro_nats(math.log(THETA1 / theta0))


def _habits(baseline: Baseline) -> pl.DataFrame:
    """Per known actor, the weight of a failed and of an answered first contact."""
    actors = baseline.workloads
    theta0 = [
        min(0.99, max(0.80, beta_quantile(0.05, 19 + answered, 1 + tried - answered)))
        for tried, answered in actors.select("first_contacts", "answered").iter_rows()
    ]
    return pl.DataFrame(
        {
            "actor": actors["actor"],
            "failed": pl.Series([_failure(theta) for theta in theta0], dtype=pl.Int64),
            "answered": pl.Series([_success(theta) for theta in theta0], dtype=pl.Int64),
        }
    )
