"""What a new edge weighs: its rarity, and what its ends and its policies add or take away.

Each weight is the logarithm of how much likelier an intruder's edge has a property than a benign
new edge, at least: docs/detection.md does the arithmetic.
"""

from typing import Final

import numpy as np
import polars as pl

from sidelong.features.sides import principal
from sidelong.models.evidence import ALERT, MICRO, PARTS, micro_nats

__all__ = ["SENSITIVE", "WEIGHTS", "weighed"]

SENSITIVE: Final = micro_nats(np.log(100))
"""At most one benign new edge in a hundred leads to an administrative or data service."""

CROSSING: Final = micro_nats(np.log(10))
"""At most one in ten crosses namespaces."""

CLIENT_ONLY: Final = micro_nats(np.log(20))
"""And of those that lead to a sensitive service, at most one in twenty to one that only was a
client: servers are administered every day, two clients rarely log in to each other."""

DENIED: Final = micro_nats(3.0)
"""Policy denied it: at most one in twenty."""

UNLAWFUL: Final = micro_nats(np.log(100))
"""Declared policies deny it, and it passed: at most one in a hundred, where policies are kept."""

IMPOSTOR: Final = micro_nats(5.0)
"""The mesh saw another identity than the workload's own."""

FORBIDDEN: Final = ALERT
"""A person confirmed an incident in which the edge was used: no more is needed."""

BEHIND_NODE: Final = micro_nats(np.log(30))
"""The address of a node stands for the pods behind it, one of which may well do something new."""

_STILL_LEARNING: Final = ALERT // 4 - 1
_WRONG: Final = ("denied", "impostor", "unlawful")
_SURPRISES: Final = ("rarity", "sensitive", "unserved", "crossed")
WEIGHTS: Final = (
    *_SURPRISES,
    "refused",
    "passed",
    "impersonated",
    "confirmed",
    "unsure",
    "expected",
    "shared",
)
"""The columns that `weighed` adds up, in micro-nats; the last three are never positive."""


def weighed(rows: pl.DataFrame) -> pl.DataFrame:
    """New edges with `log_evidence`, its `WEIGHTS`, and `parts`, which say of what it is made.

    Takes rows of `Rarity.of` and `Intent.of` with `target` (of interest, else null), `crossing`,
    `denied`, `impostor`, `own_accounts` (in words) and `forbidden`.
    """

    def where(condition: str | pl.Expr, weight: int | pl.Expr) -> pl.Expr:
        return pl.when(condition).then(weight).otherwise(0).cast(pl.Int64)

    def surprise(*more: str) -> pl.Expr:
        return pl.sum_horizontal(*_SURPRISES, *more)

    interesting = pl.col("target").is_not_null()
    rows = rows.with_columns(
        sensitive=where(interesting, SENSITIVE),
        unserved=where(interesting & pl.col("never_served"), CLIENT_ONLY),
        crossed=where("crossing", CROSSING),
        refused=where("denied", DENIED),
        passed=where("unlawful", UNLAWFUL),
        impersonated=where("impostor", IMPOSTOR),
        confirmed=where("forbidden", FORBIDDEN),
    )
    # While habits are learnt, not even four such edges in a row may alarm without one of interest.
    unsure = (pl.col("state") == "learning") & ~interesting & ~pl.any_horizontal(_WRONG)
    rows = rows.with_columns(
        unsure=where(unsure, (_STILL_LEARNING - surprise()).clip(upper_bound=0))
    )
    # Of the n edges that a rule allows one is taken: its surprise is ln n at most.
    most = (pl.col("breadth").log() * MICRO).round(0).cast(pl.Int64)
    rows = rows.with_columns(
        expected=where(
            pl.col("breadth").is_not_null(), (most - surprise("unsure")).clip(upper_bound=0)
        )
    )
    so_far = surprise("unsure", "expected", "refused", "passed", "impersonated")
    behind_node = pl.col("actor").str.starts_with("reserved:")
    rows = rows.with_columns(
        shared=where(behind_node, -so_far.clip(lower_bound=0, upper_bound=BEHIND_NODE))
    )
    return rows.with_columns(
        log_evidence=pl.sum_horizontal(WEIGHTS),
        parts=pl.concat_list(_parts())
        .list.eval(pl.element().filter(pl.element().struct.field("log_evidence") != 0))
        .cast(PARTS),
    )


def _parts() -> list[pl.Expr]:
    return [
        _part(
            "new_edge",
            pl.format("{}:{}", "peer", "port"),
            pl.format(
                "in {} active seconds it used {} other{}",
                "active_seconds",
                "used",
                pl.when(pl.col("used") == 1).then(pl.lit("")).otherwise(pl.lit("s")),
            ),
            "rarity",
        ),
        _part("sensitive_service", pl.col("target"), pl.lit("1 in 100 new edges"), "sensitive"),
        _part("only_a_client", pl.col("peer"), pl.lit("never served anybody"), "unserved"),
        _part(
            "other_namespace",
            pl.col("peer").str.extract(r"^([^/]+)/"),
            pl.col("actor").str.extract(r"^([^/]+)/"),
            "crossed",
        ),
        _part("policy_denied", pl.lit("denied"), pl.lit("allowed"), "refused"),
        _part("policy_ignored", pl.lit("passed"), pl.lit("denied by declared policies"), "passed"),
        _part("identity", principal(), pl.col("own_accounts"), "impersonated"),
        _part("confirmed_before", pl.lit("seen again"), pl.lit("forbidden"), "confirmed"),
        _part(
            "declared",
            pl.lit("allowed by a declared policy"),
            pl.format("one of {}", "breadth"),
            "expected",
        ),
        _part(
            "still_learning",
            pl.lit("known for minutes"),
            pl.lit("half an hour and more"),
            "unsure",
        ),
        _part("via_node", pl.col("actor"), pl.lit("stands for the pods behind it"), "shared"),
    ]


def _part(feature: str, observed: pl.Expr, expected: pl.Expr, evidence: str) -> pl.Expr:
    return pl.struct(
        feature=pl.lit(feature),
        observed=observed.cast(pl.String),
        expected=expected.cast(pl.String),
        log_evidence=pl.col(evidence).cast(pl.Int64),
    )
