"""What each outcome of a first contact weighs: scanner against the workload's own habit.

theta0 is how often a benign workload's first contact is answered, theta1 how often a scanner's is
(Jung et al., 2004). Of a workload that the baseline knows, theta0 is what its record makes of it:
the mean of a Beta distribution that begins as Beta(19, 1), so that little experience moves it
little from where it is for strangers. Measurements and reasons: docs/detection.md.
"""

import math
from typing import Final

import numpy as np
import polars as pl

from sidelong.features.edges import with_edge_port
from sidelong.features.sides import is_workload
from sidelong.models.baseline import Baseline
from sidelong.models.evidence import ALERT, micro_nats
from sidelong.models.habitual_services import HABITUAL, habitual_services

__all__ = ["OutcomeWeights"]

THETA0: Final = 0.95
"""Where a workload's own habit is unknown: measured 0.91 to 0.96 on workstations."""

_PRIOR: Final = 20  # first contacts that this is worth beside a workload's own
_SCRAPED: Final = 10  # peers at one port: more than a service depends on
_BOUNDS: Final = (0.80, 0.99)

THETA1: Final = 0.2
"""Measured 0.00-0.03 for scanners, so this errs towards calling them benign."""

_DENIED: Final = micro_nats(4.0)  # benign denial rate below 1.5 %
_UNUSED_ADDRESS: Final = micro_nats(np.log(100)) + 1  # three make 1e6
_UDP_SILENCE: Final = micro_nats(0.7)  # a silent UDP service is common
# A node's address stands for the pods behind it: h + ln 30, here as lighter evidence.
_BEHIND_NODE: Final = ALERT / (ALERT + micro_nats(math.log(30)))
_FAILURES: Final = ("REFUSED", "UNANSWERED", "DENIED")
_STARTING: Final = ("REFUSED", "UNANSWERED", "TAKEN_BACK")


class OutcomeWeights:
    """Weighs outcomes; frozen with its baseline.

    networks: IPv4 /24 prefixes (`10.244.1`) in which every address in use belongs to a known
    workload, so that any other address there is unused.
    """

    def __init__(self, baseline: Baseline, networks: frozenset[str]) -> None:
        self._networks = sorted(networks | frozenset(baseline.networks["network"]))
        actors = baseline.workloads
        theta0 = [
            min(_BOUNDS[1], max(_BOUNDS[0], (THETA0 * _PRIOR + answered) / (_PRIOR + tried)))
            for tried, answered in actors.select("first_contacts", "answered").iter_rows()
        ]
        self._habits = pl.DataFrame(
            {
                "actor": actors["actor"],
                "theta0": pl.Series(theta0, dtype=pl.Float64),
                "failed": pl.Series([_failed(theta) for theta in theta0], dtype=pl.Int64),
                "answered": pl.Series([_answered(theta) for theta in theta0], dtype=pl.Int64),
            }
        )
        # Dynamic ports are many services under one number.
        visited = habitual_services(baseline, _SCRAPED).filter(pl.col("edge_port") > 0)
        self._visiting = visited.with_columns(visiting=pl.lit(True))

    def weigh(self, outcomes: pl.DataFrame) -> pl.DataFrame:
        """Outcomes (`OUTCOME_SCHEMA`) with `weight` (micro-nats) and `reason`.

        And with `own`, how often the actor's own first contacts are answered.
        """
        outcome = pl.col("outcome").cast(pl.String)
        prefix = pl.col("object").str.extract(r"^(\d+\.\d+\.\d+)\.")
        # A scraper meets workloads that have just been started; who has no name is none of them. A
        # deployment or a node makes many fail at once, so that their ratios do not multiply.
        starting = pl.col("visiting") & is_workload(pl.col("peer")) & outcome.is_in(_STARTING)
        unused = (pl.col("peer") == "ip:" + pl.col("object")) & prefix.is_in(self._networks)
        silence = (
            pl.when("unused")
            .then(_UNUSED_ADDRESS)
            .when((pl.col("protocol") == "ICMP") | (pl.col("failed") == 0))
            .then(0)
            .when((pl.col("protocol") == "UDP") & ~pl.col("stealth"))
            .then(_heard(pl.lit(_UDP_SILENCE)))
            .otherwise(_heard(pl.col("failed")))
        )
        weight = (
            pl.when(pl.col("unused") & outcome.is_in(_FAILURES))
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
        )
        rows = with_edge_port(outcomes).join(
            self._visiting, on=list(HABITUAL), how="left", maintain_order="left"
        )
        return (
            rows.join(self._habits, on="actor", how="left", maintain_order="left")
            .with_columns(
                pl.col("theta0").fill_null(THETA0),
                pl.col("failed").fill_null(_failed(THETA0)),
                pl.col("answered").fill_null(_answered(THETA0)),
                unused=unused.fill_null(False),
            )
            .with_columns(own="theta0", failed=pl.when(starting).then(0).otherwise("failed"))
            .with_columns(
                weight=pl.when((weight > 0) & pl.col("actor").str.starts_with("reserved:"))
                .then((weight * _BEHIND_NODE).round(0))
                .otherwise(weight)
                .cast(pl.Int64),
                reason=pl.when(pl.col("unused") & outcome.is_in(_FAILURES))
                .then(pl.lit("UNUSED_ADDRESS"))
                .otherwise(outcome),
            )
        )


def _heard(weight: pl.Expr) -> pl.Expr:
    """The weight of a silence when some events were lost on the way, of which answers are a part.

    With l the share lost, an answer goes missing with probability l: the ratio of silence given a
    scanner to silence given a workload at work is (1 - theta1 + theta1 l) / (1 - theta0 + theta0
    l). Where more was lost than came, silence says nothing.
    """
    lost, theta0 = pl.col("missing") / 1_000_000, pl.col("theta0")
    left = ((1 - THETA1 + THETA1 * lost) / (1 - theta0 + theta0 * lost)).log()
    whole = ((1 - THETA1) / (1 - theta0)).log()
    share = pl.when(lost < 0.5).then(left / whole).otherwise(0)
    thinned = (weight * share).round(0).cast(pl.Int64)
    return pl.when(pl.col("missing") > 0).then(thinned).otherwise(weight)


def _failed(theta0: float) -> int:
    return micro_nats(math.log((1 - THETA1) / (1 - theta0)))


def _answered(theta0: float) -> int:
    return micro_nats(math.log(THETA1 / theta0))
