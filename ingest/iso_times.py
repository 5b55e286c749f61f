"""Times as programs print them, in ISO 8601."""

from typing import Final

import polars as pl

__all__ = ["in_our_days", "iso_times"]

_PLAIN: Final = "%Y-%m-%dT%H:%M:%S%.fZ"
_EARLIEST, _LATEST = "1990-", "2100-"


def iso_times(texts: pl.Series) -> pl.Series:
    """Nanoseconds in UTC of texts such as `2026-11-23T09:14:02.118Z`, with any offset.

    Null for what is no such time, or is not of our days: the type of the column ends at 2262.
    """
    possible = pl.select(pl.when(in_our_days(texts)).then(texts)).to_series()
    times = possible.str.to_datetime(_PLAIN, time_unit="ns", strict=False)
    if times.null_count() > possible.null_count():
        offset = possible.str.to_datetime("%+", time_unit="ns", strict=False)
        times = times.fill_null(offset.dt.replace_time_zone(None))
    return times.dt.replace_time_zone("UTC")


def in_our_days(texts: pl.Series) -> pl.Series:
    """Whether a text begins with a year that a log may be of."""
    year = texts.str.slice(0, 5)
    return (year >= _EARLIEST) & (year < _LATEST)
