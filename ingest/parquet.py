"""Flows kept as Parquet or as Arrow IPC, and written as Parquet.

The columns are those of `FLOW_SCHEMA`, its enumerations as text, which every tool reads. Columns
may be missing, of another width, or more than that.
"""

import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from polars.io.plugins import register_io_source

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.schema import FLOW_SCHEMA, conform
from sidelong.ingest.source import BadRows, Batch

__all__ = ["ParquetFile", "encoded", "write_flows"]

_SAMPLES: Final = 5
_YEARS: Final = (1990, 2099)
_BROKEN: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
_STORED: Final = pl.Schema(
    {
        name: pl.String() if isinstance(dtype, pl.Enum) else dtype
        for name, dtype in FLOW_SCHEMA.items()
    }
)


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
        self._check(schema)
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

    def _check(self, schema: pl.Schema) -> None:
        found = schema.names()
        if "time" not in found or not {"src_ip", "src"} & set(found):
            raise SourceError(
                f"{self.name} holds no flows: its columns are {', '.join(found[:12]) or 'none'}",
                hint="it needs time, and src_ip or src",
            )
        if not isinstance(schema["time"], pl.Datetime):
            raise SourceError(
                f"{self.name} has {schema['time']} in its column time, which needs timestamps",
                hint="convert the column to a timestamp in UTC",
            )
        for name, dtype in schema.items():
            if name in FLOW_SCHEMA and not _alike(dtype, FLOW_SCHEMA[name]):
                raise SourceError(
                    f"{self.name} has {dtype} in its column {name}, not {FLOW_SCHEMA[name]}",
                    hint="give one value a row, and a list of them in dns_answers",
                )

    def _decode(self, known: pl.LazyFrame, start: int, end: int) -> tuple[pl.DataFrame, BadRows]:
        try:
            stored = known.slice(start, end - start).collect()
            flows = stored.select(_cast(name, dtype) for name, dtype in stored.schema.items())
        except _BROKEN as error:
            where = f"{self.name}, rows {start:,} to {end - 1:,}"
            return FLOW_SCHEMA.to_frame(), BadRows(
                end - start, (f"{where} cannot be decoded: {_first_line(error)}",)
            )
        strict = [name for name in stored.columns if not isinstance(FLOW_SCHEMA[name], pl.Enum)]
        lost = [stored[name].is_not_null() & flows[name].is_null() for name in strict]
        misfits = pl.DataFrame(lost).with_columns(time=flows["time"].is_null())
        bad = misfits.select(pl.any_horizontal(pl.all())).to_series()
        rows = bad.arg_true()
        if not len(rows):
            return conform(flows), BadRows()
        samples = []
        for row in rows.head(_SAMPLES):
            column = next(name for name in misfits.columns if misfits[name][row])
            value = ascii(stored[column][row])[:40]
            samples.append(f"{self.name}, row {start + row:,}: its {column} is {value}")
        return conform(flows.filter(~bad)), BadRows(len(rows), tuple(samples))


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
                yield conform(frame).cast(_STORED)
        except BaseException as error:
            failed.append(error)  # polars would make it one of its own
            raise

    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _not_writable(target, error) from error
    os.close(descriptor)
    try:
        source = register_io_source(stored, schema=_STORED)
        source.sink_parquet(draft, maintain_order=True, sync_on_close="data")
        os.chmod(draft, 0o666 & ~_umask())
        os.replace(draft, target)
    except _BROKEN as error:
        if failed:
            raise failed[0] from None
        raise _not_writable(target, error) from error
    finally:
        Path(draft).unlink(missing_ok=True)
    return written


def encoded(flows: pl.DataFrame) -> bytes:
    """Flows in `FLOW_SCHEMA` as a Parquet file in memory, its size known before it is written."""
    whole = io.BytesIO()
    conform(flows).cast(_STORED).write_parquet(whole, compression="zstd", statistics=True)
    return whole.getvalue()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _not_writable(target: Path, error: BaseException) -> ConfigError:
    return ConfigError(
        f"{target} cannot be written: {_first_line(error)}",
        hint="name a place that can be written and has room",
    )


def _first_line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return (reason or str(error) or type(error).__name__).splitlines()[0]
