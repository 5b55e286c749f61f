"""What a sum of many small things was held against, so that an incident can tell it.

It travels as a part without weight of the evidence that may open one: by itself, or together with
what strange windows add.
"""

from typing import Final

import polars as pl

from sidelong.models.evidence import ALERT, PARTS

__all__ = ["EXPECTED", "expecting"]

EXPECTED: Final = "expected"
"""The feature of such a part."""


def expecting(expected: pl.Expr) -> pl.Expr:
    """`parts` that hold what was expected, in words; of rows with `level` and `decisive`."""
    part = pl.struct(
        feature=pl.lit(EXPECTED),
        observed=pl.lit(""),
        expected=expected,
        log_evidence=pl.lit(0, pl.Int64),
    )
    near = pl.col("decisive") | pl.col("level").is_between(ALERT // 2, ALERT)
    return pl.when(near).then(pl.concat_list(part).cast(PARTS)).alias("parts")
