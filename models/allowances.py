"""What a workload may say to a domain: a rate of never-seen bytes, beside a depth for bursts.

A scanner of mail or of file hashes asks for new names for ever, so what its bucket reached in a
capture says little: sooner or later it is reached again. What lasts is the rate. New names are
counted as a Poisson process of which at first nothing is known but that a day without any is
ordinary: the posterior of n names in t hours is Gamma(n + 1/2, t + 24) names an hour (Jeffreys'
prior, and one day of silence). Its upper 5 % point, times the mean size of a name, is what drains
from the bucket beside the general leak. Twenty names in ten minutes thus allow one an hour, as
little is known; twenty an hour for a week allow nineteen. What a person calls ordinary may go on
as fast as it went.
"""

from typing import Final

import polars as pl

from sidelong.models.baseline import Baseline

__all__ = ["ALERT_BYTES", "LEAK_BYTES_PER_DAY", "SCALE", "allowances"]

ALERT_BYTES: Final = 1_024
"""The depth of a bucket for which nothing is known."""

LEAK_BYTES_PER_DAY: Final = 4_096
"""What drains from any bucket (Paxson et al., USENIX Security 2013)."""

SCALE: Final = 1_000
"""Levels are kept in thousandths of a byte, so that the leak has a grain."""

_SILENT_HOURS: Final = 24
_NORMAL: Final = 1.645  # the upper 5 % point of the normal distribution
_MOST: Final = 90_000_000_000  # thousandths of a byte a day: 90 MB, about all a sum can drain
_WORKING_DAYS: Final = 3  # of eight hours in a day
_HOUR: Final = 3_600
_DAY: Final = 86_400


def allowances(baseline: Baseline) -> pl.DataFrame:
    """Where `limit` and `leak_per_day` (thousandths of a byte) differ from what holds for all.

    Columns `actor`, `domain`, `limit`, `leak_per_day`; one row each. What a person confirmed to be
    a tunnel has no allowance: a byte is enough.
    """
    said = [
        (one.actor, one.domain, one.bytes * SCALE * _DAY // max(one.seconds, _HOUR))
        for one in baseline.feedback.allowed_domains
    ]
    schema = {"actor": pl.String, "domain": pl.String, "said": pl.Int64}
    learnt = (
        baseline.domains.join(
            pl.DataFrame(said, schema=schema, orient="row").unique(["actor", "domain"]),
            on=["actor", "domain"],
            how="left",
            maintain_order="left",
        )
        .with_columns(learnt=_per_day())
        .with_columns(rate=pl.max_horizontal("learnt", "said").clip(0, _MOST))
        .select(
            "actor",
            "domain",
            # Bursts: twice the highest that was seen, or a working day's worth of the rate.
            limit=pl.max_horizontal(
                ALERT_BYTES * SCALE, 2 * pl.col("level"), pl.col("learnt") // _WORKING_DAYS
            ),
            leak_per_day=LEAK_BYTES_PER_DAY * SCALE + pl.col("rate"),
        )
    )
    refused = {(one.actor, one.domain) for one in baseline.feedback.forbidden_domains}
    rows = [(*pair, SCALE, LEAK_BYTES_PER_DAY * SCALE) for pair in sorted(refused)]
    forbidden = pl.DataFrame(rows, schema=learnt.schema, orient="row")
    return pl.concat([learnt.join(forbidden, on=["actor", "domain"], how="anti"), forbidden])


def _per_day() -> pl.Expr:
    """The rate that training makes credible, in thousandths of a byte a day; 0 without any name.

    The quantile is that of Wilson and Hilferty (1931), within 2 % from a single name on.
    """
    shape = pl.col("names") + 0.5
    hours = pl.col("seconds") / 3_600 + _SILENT_HOURS
    upper = shape * (1 - 1 / (9 * shape) + _NORMAL / (3 * shape.sqrt())).pow(3) / hours
    size = pl.col("bytes") / pl.col("names")
    rate = pl.when(pl.col("names") > 0).then(24 * upper * size * SCALE).otherwise(0)
    return rate.round(0).cast(pl.Int64)
