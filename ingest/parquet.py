"""Flows kept as Parquet or as Arrow IPC, and written as Parquet.

The columns are those of `FLOW_SCHEMA`, its enumerations as text, which every tool reads. Columns
may be missing, of another width, or more than that.
"""

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from polars.io.plugins import register_io_source

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.draft import draft_of
from sidelong.ingest.schema import FLOW_SCHEMA, conform
from sidelong.ingest.source import BadRows, Batch

__all__ = [
    "STORED",
    "ParquetFile",
    "check_columns",
    "encoded",
    "misfits",
    "stored_flows",
    "write_flows",
]

_SAMPLES: Final = 5
_YEARS: Final = (1990, 2099)
_BROKEN: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
STORED: Final = pl.Schema(
    {
        name: pl.String() if isinstance(dtype, pl.Enum) else dtype
        for name, dtype in FLOW_SCHEMA.items()
    }
)
"""`FLOW_SCHEMA` as it is kept: its enumerations as text."""


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """Flows out of a Parquet or Arrow IPC file, as `write_flows` or any other tool has written it.

    path: a file that can be read at any place, so neither a pipe nor compressed as a whole.
    rows_per_batch: how much is decoded at once; an Arrow stream is always read whole.

    A position is a number of rows. Rows that do not fit the schema are counted and left out.
    """

    name: str
    path: Path
    rows_per_batch: int = 1 << 18

    @property
    def size_bytes(self) -> int | None:
        """Bytes on disk."""
        try:
            return self.path.stat().st_size
        except OSError:
            return None

    @property
    def earliest_ns(self) -> int | None:
        """No flow is earlier than this, in nanoseconds; None when that cannot be told."""
        try:
            stored = self._scan()
            dtype = stored.collect_schema().get("time")
            if not isinstance(dtype, pl.Datetime):
                return None
            times = stored.select(_cast("time", dtype).to_physical().min())
            earliest: int | None = times.collect().item()
        except _BROKEN:
            return None
        return earliest

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after row `since`. Errors: SourceError when these are no flows."""
        try:
            stored = self._scan()
            schema = stored.collect_schema()
            total = stored.select(pl.len()).collect().item()
        except _BROKEN as error:
            raise SourceError(
                f"{self.name} is no Parquet or Arrow file that can be read: {_first_line(error)}",
                hint="write it anew, or say what it is with --format",
            ) from error
        check_columns(schema, self.name)
        known = stored.select(name for name in FLOW_SCHEMA if name in schema)
        for start in range(since, total, self.rows_per_batch):
            end = min(start + self.rows_per_batch, total)
            flows, bad = self._decode(known, start, end)
            yield Batch(flows, end, (self.size_bytes or 0) * end // total, bad)

    def _scan(self) -> pl.LazyFrame:
        with self.path.open("rb") as file:
            start = file.read(8)
        if start.startswith(b"PAR1"):
            return pl.scan_parquet(self.path, glob=False, hive_partitioning=False)
        if start.startswith(b"ARROW1"):
            return pl.scan_ipc(self.path, glob=False, hive_partitioning=False)
        return pl.read_ipc_stream(self.path).lazy()

    def _decode(self, known: pl.LazyFrame, start: int, end: int) -> tuple[pl.DataFrame, BadRows]:
        try:
            return stored_flows(known.slice(start, end - start).collect(), self.name, start)
        except _BROKEN as error:
            where = f"{self.name}, rows {start:,} to {end - 1:,}"
            return FLOW_SCHEMA.to_frame(), BadRows(
                end - start, (f"{where} cannot be decoded: {_first_line(error)}",)
            )


def check_columns(schema: pl.Schema, name: str) -> None:
    """Errors: SourceError when columns of this schema hold no flows; `name` is for the message."""
    found = schema.names()
    if "time" not in found or not {"src_ip", "src"} & set(found):
        raise SourceError(
            f"{name} holds no flows: its columns are {', '.join(found[:12]) or 'none'}",
            hint="it needs time, and src_ip or src",
        )
    if not isinstance(schema["time"], pl.Datetime):
        raise SourceError(
            f"{name} has {schema['time']} in its column time, which needs timestamps",
            hint="convert the column to a timestamp in UTC",
        )
    for column, dtype in schema.items():
        if column in FLOW_SCHEMA and not _alike(dtype, FLOW_SCHEMA[column]):
            raise SourceError(
                f"{name} has {dtype} in its column {column}, not {FLOW_SCHEMA[column]}",
                hint="give one value a row, and a list of them in dns_answers",
            )


def stored_flows(stored: pl.DataFrame, name: str, start: int = 0) -> tuple[pl.DataFrame, BadRows]:
    """Flows in `FLOW_SCHEMA` out of columns that `check_columns` lets pass, all of them ours.

    What does not fit is counted and left out. name, and start, the number of the first row, are for
    the samples. Errors: polars' own for what it cannot convert at all.
    """
    flows, misfits = _converted(stored)
    bad = _any(misfits)
    rows = bad.arg_true()
    if not len(rows):
        return conform(flows), BadRows()
    samples = []
    for row in rows.head(_SAMPLES):
        wrong = next(column for column in misfits.columns if misfits[column][row])
        value = ascii(stored[wrong][row])[:40]
        samples.append(f"{name}, row {start + row:,}: its {wrong} is {value}")
    return conform(flows.filter(~bad)), BadRows(len(rows), tuple(samples))


def misfits(stored: pl.DataFrame) -> pl.Series:
    """Which rows `stored_flows` leaves out of these columns: a Boolean for each."""
    return _any(_converted(stored)[1]).alias("misfits")


def _converted(stored: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The columns in their types, and which values that matter did not fit."""
    flows = stored.select(_cast(column, dtype) for column, dtype in stored.schema.items())
    strict = [column for column in stored.columns if not isinstance(FLOW_SCHEMA[column], pl.Enum)]
    lost = [stored[column].is_not_null() & flows[column].is_null() for column in strict]
    return flows, pl.DataFrame(lost).with_columns(time=flows["time"].is_null())


def _any(misfits: pl.DataFrame) -> pl.Series:
    return misfits.select(pl.any_horizontal(pl.all())).to_series()


def _alike(stored: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether both are lists of single values, or both single values."""
    if isinstance(stored, pl.List) and isinstance(wanted, pl.List):
        return not stored.inner.is_nested()
    return stored == pl.Null or not (stored.is_nested() or wanted.is_nested())


def _cast(name: str, dtype: pl.DataType) -> pl.Expr:
    column, wanted = pl.col(name), FLOW_SCHEMA[name]
    if isinstance(dtype, pl.Categorical | pl.Enum):
        column, dtype = column.cast(pl.String), pl.String()
    if name in ("time", "end") and isinstance(dtype, pl.Datetime):
        # Checked before the cast: a year that does not fit nanoseconds would become another one.
        column = pl.when(column.dt.year().is_between(*_YEARS)).then(column)
        if dtype.time_zone is None:
            column = column.dt.replace_time_zone("UTC")
        return column.dt.convert_time_zone("UTC").cast(wanted, strict=False)
    if dtype == pl.Boolean and wanted != pl.Boolean:
        return pl.lit(None, dtype=wanted).alias(name)
    return column.cast(wanted, strict=False)


def write_flows(frames: Iterable[pl.DataFrame], path: str | os.PathLike[str]) -> int:
    """Write flows in `FLOW_SCHEMA` as one Parquet file, frame by frame; returns how many.

    The file is there in whole or not at all: a file of that name is only replaced at the end.
    Errors: ConfigError when it cannot be written; what `frames` raises is raised.
    """
    target = Path(path)
    written = 0
    failed: list[BaseException] = []

    def stored(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        nonlocal written
        try:
            for frame in frames:
                written += frame.height
                yield conform(frame).cast(STORED)
        except BaseException as error:
            failed.append(error)  # polars would make it one of its own
            raise

    try:
        with draft_of(target) as draft:
            source = register_io_source(stored, schema=STORED)
            source.sink_parquet(draft, maintain_order=True, sync_on_close="data")
    except _BROKEN as error:
        if failed:
            raise failed[0] from None
        raise _not_writable(target, error) from error
    return written


def encoded(flows: pl.DataFrame) -> bytes:
    """Flows in `FLOW_SCHEMA` as a Parquet file in memory, its size known before it is written."""
    whole = io.BytesIO()
    conform(flows).cast(STORED).write_parquet(whole, compression="zstd", statistics=True)
    return whole.getvalue()


def _not_writable(target: Path, error: BaseException) -> ConfigError:
    return ConfigError(
        f"{target} cannot be written: {_first_line(error)}",
        hint="name a place that can be written and has room",
    )


def _first_line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error) or type(error).__name__).splitlines()[0]
