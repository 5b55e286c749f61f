"""Drift: what one baseline holds and another does not, so that nothing becomes normal unseen."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import polars as pl

from sidelong.features.edges import EDGE
from sidelong.ingest.schema import PROTOCOLS, schema_of
from sidelong.models.acquaintance import states
from sidelong.models.baseline import Baseline
from sidelong.models.contact_history import edges_of

__all__ = ["DRIFT_SCHEMA", "drift", "hours_in_words"]

DRIFT_SCHEMA: Final = schema_of(
    {
        "what": pl.Enum(["workload", "edge", "trial", "domain"]),
        "change": pl.Enum(["new", "gone", "changed"]),
        "actor": pl.String,
        "peer": pl.String,
        "port": pl.UInt16,
        "protocol": PROTOCOLS,
        "domain": pl.String,
        "before": pl.String,
        "after": pl.String,
    }
)
"""One row per change. what: "trial" is an edge that may join. port: 0 for dynamic ones and ICMP.
before, after: the state of a workload, or when an edge is used; null where there is nothing."""

_COMMON_HOURS: Final = 0.5
_FEW_HOURS: Final = 3


def drift(before: Baseline, after: Baseline) -> pl.DataFrame:
    """What changed (`DRIFT_SCHEMA`): workloads, edges, edges on trial, DNS domains, in this order.

    A workload changed when its state did. An edge changed when it is used at other hours of the
    week: of all hours in both, at least three, less than half are common.
    """
    rows = pl.concat(
        [
            _compared(_workloads(before), _workloads(after), ["actor"], "workload", _is_other),
            _compared(before.edges, after.edges, list(EDGE), "edge", _moved),
            _compared(
                edges_of(before.trial), edges_of(after.trial), list(EDGE), "trial", pl.lit(False)
            ),
            _compared(before.domains, after.domains, ["actor", "domain"], "domain", pl.lit(False)),
        ],
        how="diagonal",
    )
    return rows.sort("what", "change", "actor", "peer", "port", "domain", maintain_order=True)


def hours_in_words(hours: Iterable[int]) -> str:
    """Hours of the week, 0 to 167, as a person says them.

    >>> hours_in_words([9, 10, 11, 33, 34, 35])
    '2 weekdays, 09-12 h'
    """
    days, times = set(), set()
    for hour in hours:
        days.add(hour // 24)
        times.add(hour % 24)
    if not times:
        return "never"
    spans = [f"{first:02d}-{last + 1:02d}" for first, last in _runs(sorted(times))]
    return f"{len(days)} weekday{'s' if len(days) > 1 else ''}, {', '.join(spans)} h"


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    starts = [numbers[0], *(b for a, b in pairwise(numbers) if b > a + 1)]
    ends = [*(a for a, b in pairwise(numbers) if b > a + 1), numbers[-1]]
    return list(zip(starts, ends, strict=True))


_is_other: Final = pl.col("state") != pl.col("state_after")

_common: Final = pl.col("hours").list.set_intersection("hours_after").list.len()
_all: Final = pl.col("hours").list.set_union("hours_after").list.len()
_moved: Final = (_all >= _FEW_HOURS) & (_common < _COMMON_HOURS * _all)


def _workloads(baseline: Baseline) -> pl.DataFrame:
    return states(baseline).select("actor", pl.col("state").cast(pl.String))


def _trials(before: Baseline, after: Baseline) -> tuple[pl.DataFrame, pl.DataFrame]:
    return edges_of(before.trial), edges_of(after.trial)


def _compared(
    before: pl.DataFrame,
    after: pl.DataFrame,
    key: list[str],
    what: str,
    changed: pl.Expr = pl.lit(False),  # noqa: B008, a frozen value
) -> pl.DataFrame:
    both = before.with_columns(here=True).join(
        after.with_columns(there=True),
        on=key,
        how="full",
        coalesce=True,
        suffix="_after",
        nulls_equal=True,
    )
    rows = both.with_columns(
        what=pl.lit(what),
        change=pl.when(pl.col("here").is_null())
        .then(pl.lit("new"))
        .when(pl.col("there").is_null())
        .then(pl.lit("gone"))
        .when(changed)
        .then(pl.lit("changed")),
    ).drop_nulls("change")
    told = rows.rename({"edge_port": "port"} if "edge_port" in rows.columns else {})
    return told.select(
        (told[name] if name in told.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in DRIFT_SCHEMA.items()
        if name not in ("before", "after")
    ).with_columns(before=_told(rows, ""), after=_told(rows, "_after"))


def _told(rows: pl.DataFrame, suffix: str) -> pl.Series:
    """The state or the hours on one side, in words."""
    if "state" in rows.columns:
        return rows[f"state{suffix}"]
    if "hours" not in rows.columns:
        return pl.Series([None] * rows.height, dtype=pl.String)
    hours = rows[f"hours{suffix}"].to_list()
    return pl.Series(
        [None if one is None else hours_in_words(one) for one in hours], dtype=pl.String
    )
