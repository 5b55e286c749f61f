"""Rows of text, told apart by whether they can be what they claim to be."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from sidelong.ingest.line_files import SAMPLES
from sidelong.ingest.schema import line_of

__all__ = ["Checked", "checked", "shown"]


class Checked(NamedTuple):
    """rows: those without fault. bad: the numbers of the others, in order.

    faults: of the first of them, its number and what is wrong with it.
    """

    rows: pl.DataFrame
    bad: pl.Series
    faults: tuple[tuple[int, str], ...] = ()


def checked(
    rows: pl.DataFrame, checks: Mapping[str, pl.Expr], numbers: pl.Series | None = None
) -> Checked:
    """The rows of which every check is true.

    checks: for each column that is looked at, whether its text will do; null counts as false.
    numbers: those of the rows, where they are not counted from 0. Rows that bear the number of
    their line are explained one and all, others only the first `SAMPLES` that are bad.
    """
    verdicts = rows.select(check.fill_null(False).alias(name) for name, check in checks.items())
    good = verdicts.select(pl.all_horizontal(pl.all())).to_series()
    if good.all():
        return Checked(rows, pl.Series(dtype=pl.UInt32))
    bad = (~good).arg_true()
    faults = []
    for row in (bad if line_of(rows) else bad.head(SAMPLES)).to_list():
        name = next(name for name in checks if not verdicts[name][row])
        value = rows[name][row]
        why = f"it has no {name}" if value is None else f"its {name} is {shown(value)}"
        faults.append((row if numbers is None else numbers[row], why))
    return Checked(
        rows.filter(good), bad if numbers is None else numbers.gather(bad), tuple(faults)
    )


def shown(value: object) -> str:
    """A value as a message may quote it: printable, and not long."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
