"""How well a workload is known: learning, provisional, or known.

It takes time, since work has rhythms, and experience, since a day in which nothing happened teaches
nothing. Twenty minutes and twenty active seconds make a workload provisional, a day and a hundred
make it known: by the estimate of Good and Turing (models/rarity.py) one contact in twenty, or in a
hundred, then opens an edge that was not seen yet.
"""

from datetime import timedelta
from typing import Final

import polars as pl

from sidelong.models.baseline import Baseline

__all__ = ["STATES", "states"]

STATES: Final = pl.Enum(["learning", "provisional", "known"])

_PROVISIONAL: Final = (timedelta(minutes=20), 20)
_KNOWN: Final = (timedelta(days=1), 100)


def states(baseline: Baseline) -> pl.DataFrame:
    """`actor`, `state` (`STATES`) and `watched` (a duration) of each workload of a baseline.

    watched: from when it was first seen to the end of the training. Whom the baseline does not
    know it is learning.
    """
    until = baseline.span[1] if baseline.span else None
    watched = pl.lit(until, pl.Datetime("ns", "UTC")) - pl.col("first")

    def holds(least: tuple[timedelta, int]) -> pl.Expr:
        return (pl.col("watched") >= least[0]) & (pl.col("active_seconds") >= least[1])

    return baseline.workloads.with_columns(watched=watched).select(
        "actor",
        state=pl.when(holds(_KNOWN))
        .then(pl.lit("known"))
        .when(holds(_PROVISIONAL))
        .then(pl.lit("provisional"))
        .otherwise(pl.lit("learning"))
        .cast(STATES),
        watched="watched",
    )
