"""Access log entries whose values are still text, as `ENVOY_FIELDS`; from lines or from JSON."""

from typing import Final

import polars as pl

from sidelong.ingest.envoy_exchanges import ENVOY_FIELDS
from sidelong.ingest.envoy_operators import TimeForm, time_form
from sidelong.ingest.iso_times import iso_times

__all__ = ["FIELD_NAMES", "envoy_fields"]

_ADDRESSES: Final = (
    *("downstream_remote", "downstream_direct_remote", "downstream_local"),
    *("upstream_host", "upstream_remote", "upstream_local"),
)

FIELD_NAMES: Final = frozenset(
    {
        *ENVOY_FIELDS,
        *(f"{name}{part}" for name in _ADDRESSES for part in ("", "_ip", "_port", "_apart")),
        *("pod_name", "pod_namespace"),
    }
)
"""What `envoy_fields` knows: `ENVOY_FIELDS`, addresses in parts, a pod's name in parts."""

_NUMBERS: Final = ("status", "bytes_received", "bytes_sent", "duration_ms")
_LAST_COLON: Final = r"^([^\[\]]*:[^\[\]]*):(\d+)$"
_FIRST_YEAR, _LAST_YEAR = 1990, 2099


def envoy_fields(entries: pl.DataFrame, time: TimeForm | None = None) -> pl.DataFrame:
    """The entries with columns of `ENVOY_FIELDS` in their types, and others kept as they are.

    Takes texts by names of `FIELD_NAMES`, null where absent, and `fault`, null where there is none
    so far. time: how `start_time` is written, ISO 8601 for None. What cannot be is a fault.
    """
    have = set(entries.columns)
    columns = {name: pl.col(name) for name in _NUMBERS if name in have}
    typed = {name: text.cast(ENVOY_FIELDS[name], strict=False) for name, text in columns.items()}
    faults = [
        pl.when(pl.col("fault").is_null() & text.is_not_null() & typed[name].is_null()).then(
            pl.format("its {} is {}", pl.lit(name), text.str.slice(0, 40))
        )
        for name, text in columns.items()
    ]
    texts = {name: address for name in _ADDRESSES if (address := _address(name, have)) is not None}
    remote = texts.pop("upstream_remote", None)
    if remote is not None:
        texts["upstream_host"] = pl.coalesce(texts.get("upstream_host", pl.lit(None)), remote)
    if {"pod_name", "pod_namespace"} <= have:
        pod = pl.col("pod_namespace") + "/" + pl.col("pod_name")
        texts["pod"] = pl.coalesce("pod", pod) if "pod" in have else pod
    began = pl.col("start_time")
    read = entries.with_columns(
        _time(entries["start_time"], time).alias("start_time"),
        began.alias("began"),
        *(value.alias(name) for name, value in (typed | texts).items()),
        fault=pl.coalesce("fault", *faults) if faults else pl.col("fault"),
    )
    timed = pl.col("start_time").is_not_null()
    untimed = (
        pl.when(pl.col("began").is_null())
        .then(pl.lit("it has no time"))
        .otherwise(pl.format("its time is {}", pl.col("began").str.slice(0, 40)))
    )
    fault = pl.coalesce("fault", pl.when(~timed).then(untimed))
    unknown = [name for name in read.columns if name in FIELD_NAMES and name not in ENVOY_FIELDS]
    return read.with_columns(fault=fault).drop("began", *unknown)


def _address(name: str, have: set[str]) -> pl.Expr | None:
    """An address of all that is told of it, as Envoy would print it whole."""
    ways = [pl.col(name)] if name in have else []
    if f"{name}_apart" in have:
        ways.append(pl.col(f"{name}_apart").str.replace(_LAST_COLON, "[${1}]:${2}"))
    if f"{name}_ip" in have:
        ip = pl.col(f"{name}_ip")
        if f"{name}_port" in have:
            six = ip.str.contains(":", literal=True) & ~ip.str.starts_with("[")
            whole = pl.when(six).then(pl.format("[{}]", ip)).otherwise(ip)
            ways.append(pl.format("{}:{}", whole, pl.col(f"{name}_port")))
        ways.append(ip)
    return pl.coalesce(ways) if ways else None


def _time(texts: pl.Series, form: TimeForm | None) -> pl.Series:
    if form is None or form == _DEFAULT:
        return iso_times(texts)
    if form.epoch is not None:
        digits = texts.str.replace_all(r"[^0-9]", "").cast(pl.Int64, strict=False)
        microseconds = digits * 10 ** (6 - min(form.epoch, 6)) // 10 ** max(form.epoch - 6, 0)
        times = microseconds.cast(pl.Datetime("us"))
    else:
        times = texts.str.to_datetime(form.chrono, time_unit="us", strict=False)
    utc = times.dt.replace_time_zone("UTC") if form.utc else times.dt.convert_time_zone("UTC")
    possible = utc.dt.year().is_between(_FIRST_YEAR, _LAST_YEAR)
    times = pl.select(pl.when(possible).then(utc)).to_series()
    return times.dt.cast_time_unit("ns")


_DEFAULT: Final = time_form(None)
