"""Flows put in the order of time, however many there are: what is too much for memory is on disk.

Logs that are written when connections end are in no order of their beginnings. Rows wait here
until all of them are there; DuckDB sorts what had to go to disk, within a bound of memory.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import duckdb
import polars as pl

from sidelong.errors import SourceError
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.source import BadRows, Batch

__all__ = ["Part", "Spool", "in_order"]

_MEMORY: Final = "512MB"  # of DuckDB, beyond what is held here
_JOINED: Final = ("tells", "unless_told")
_TIMES: Final = ("time", "end")
_BROKEN: Final = (pl.exceptions.PolarsError, duckdb.Error, OSError)
_STORED: Final = {
    # DuckDB has no nanoseconds with a time zone, and no enumeration of ours.
    **{name: pl.col(name).to_physical() for name in _TIMES},
    **{
        name: pl.col(name).cast(pl.String)
        for name, dtype in FLOW_SCHEMA.items()
        if isinstance(dtype, pl.Enum)
    },
}


class Part(NamedTuple):
    """Some flows of a source whose rows are in no order, as `Spool.add` takes them.

    read: how much of the source had been consumed by then.
    """

    flows: pl.DataFrame
    bad: BadRows
    read: int


def in_order(
    parts: Iterator[Part], size: int, since: int, rows_per_batch: int, held_rows: int
) -> Iterator[Batch]:
    """The batches of a source after position `since`, its flows in the order of time.

    size: of the source, in the unit of `Part.read`. A position is one more than the number of flows
    given out, and 0 before all parts were read. Until then there are empty batches, which tell how
    far it has come: that is half of the way. What is bad is counted with the first flows.
    """
    with Spool(held_rows) as spool:
        bad = BadRows()
        for part in parts:
            spool.add(part.flows)
            bad += part.bad
            if since == 0:
                yield Batch(FLOW_SCHEMA.to_frame(), 0, min(part.read, size) // 2)
        bad = BadRows() if since else bad
        given = max(since - 1, 0)
        for flows, total in spool.ordered(rows_per_batch, given):
            given += flows.height
            yield Batch(flows, given + 1, size // 2 + (size - size // 2) * given // total, bad)
            bad = BadRows()
        if since == 0 and not given and (size or bad.count):
            yield Batch(FLOW_SCHEMA.to_frame(), 1, size, bad)


class Spool:
    """Takes flows in any order and gives them back sorted. Use as a context manager.

    held_rows: how many are held in memory before they go to disk, to the folder for temporary
    files.
    """

    def __init__(self, held_rows: int) -> None:
        self._held_rows: Final = held_rows
        self._held: list[pl.DataFrame] = []
        self._count = 0
        self._added = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._runs = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder:
            self._folder.cleanup()

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows of `FLOW_SCHEMA`, which may have `tells` and `unless_told`, numbers or null.

        A row goes missing where its `unless_told` is what any other row `tells`.
        """
        known = [name for name in rows.columns if name in FLOW_SCHEMA or name in _JOINED]
        rows = rows.select(
            *known, *(pl.lit(None, pl.UInt64).alias(name) for name in _JOINED if name not in known)
        )
        numbers = pl.int_range(self._added, self._added + rows.height, dtype=pl.Int64)
        self._added += rows.height
        self._held.append(rows.with_columns(number=numbers))
        self._count += rows.height
        if self._count >= self._held_rows:
            self._store()

    def ordered(self, rows_per_batch: int, since: int = 0) -> Iterator[tuple[pl.DataFrame, int]]:
        """Flows in `FLOW_SCHEMA` in the order of `time`; of equal ones in the order they came.

        since: how many to leave out. Each batch comes with the number of all flows there are.
        Errors: SourceError when there is no room on disk.
        """
        whole = self._from_disk() if self._runs else self._from_memory()
        total = int(whole.select(pl.len()).collect().item())
        for start in range(since, total, rows_per_batch):
            rows = whole.slice(start, rows_per_batch).collect()
            yield rows.select(pl.col(name).cast(kind) for name, kind in FLOW_SCHEMA.items()), total

    def _from_memory(self) -> pl.LazyFrame:
        if not self._held:
            return FLOW_SCHEMA.to_frame().lazy()
        rows = pl.concat(self._held)
        self._held = []
        if rows["unless_told"].null_count() < rows.height:
            told = rows.select("tells").unique().drop_nulls()
            rows = rows.join(told, left_on="unless_told", right_on="tells", how="anti")
        return rows.sort("time", "number").select(FLOW_SCHEMA.names()).lazy()

    def _from_disk(self) -> pl.LazyFrame:
        self._store()
        folder = self._where()
        runs, whole = folder / "run*.parquet", folder / "whole.parquet"
        columns = ", ".join(f'"{name}"' for name in FLOW_SCHEMA)
        try:
            with duckdb.connect(
                config={
                    "threads": min(4, os.cpu_count() or 1),
                    "memory_limit": _MEMORY,
                    "temp_directory": str(folder / "sorting"),
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                }
            ) as connection:
                connection.execute("SET enable_progress_bar = false")  # it goes to standard output
                connection.execute(
                    f"COPY (SELECT {columns} FROM read_parquet($runs) AS rows "
                    "WHERE unless_told IS NULL OR NOT EXISTS (SELECT 1 FROM read_parquet($runs) "
                    "AS others WHERE others.tells = rows.unless_told) "
                    "ORDER BY time, number) TO '" + str(whole).replace("'", "''") + "'"
                    " (FORMAT parquet)",
                    {"runs": str(runs)},
                )
        except _BROKEN as error:
            raise _no_room(error) from error
        for run in folder.glob("run*.parquet"):
            run.unlink()
        return pl.scan_parquet(whole, glob=False)

    def _store(self) -> None:
        if not self._count:
            return
        rows = pl.concat(self._held).with_columns(**_STORED)
        self._held, self._count = [], 0
        try:
            rows.write_parquet(self._where() / f"run{self._runs}.parquet", compression="zstd")
        except _BROKEN as error:
            raise _no_room(error) from error
        self._runs += 1

    def _where(self) -> Path:
        if not self._folder:
            self._folder = tempfile.TemporaryDirectory(prefix="sidelong-")
        return Path(self._folder.name)


def _no_room(error: BaseException) -> SourceError:
    return SourceError(
        f"flows cannot be sorted in {tempfile.gettempdir()}: {str(error).splitlines()[0][:200]}",
        hint="free some room there, or name another folder in TMPDIR",
    )
