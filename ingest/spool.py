"""Flows put in the order of time, however many there are: what is too much for memory is on disk.

Logs that are written when connections end are in no order of their beginnings. Rows wait here
until all of them are there. What does not fit in memory is sorted piece by piece, and the pieces,
called runs, are merged as they are read again: of each only a little is held, and only of those
whose time has come.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

from sidelong.errors import SourceError
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.source import BadRows, Batch

__all__ = ["Part", "Spool", "in_order"]

_JOINED: Final = ("tells", "unless_told")
_NUMBER: Final = "number"
_AT_ONCE: Final = 8_192  # rows of a run that are read together
_BROKEN: Final = (pl.exceptions.PolarsError, OSError)
_Key = tuple[int, int]  # time in nanoseconds, then the number in the order they came


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
        given = read = 0
        for flows, left in spool.ordered(rows_per_batch):
            fresh = flows.slice(max(since - 1 - given, 0))
            given += flows.height
            if fresh.height:
                read = size - (size - size // 2) * left // spool.count
                yield Batch(fresh, given + 1, read, bad)
                bad = BadRows()
        if read < size or bad.count:
            yield Batch(FLOW_SCHEMA.to_frame(), given + 1, size, bad)


class Spool:
    """Takes flows in any order and gives them back sorted. Use as a context manager.

    held_rows: how many are held in memory before they go to disk, to the folder for temporary
    files.
    """

    def __init__(self, held_rows: int) -> None:
        self._held_rows: Final = held_rows
        self._held: list[pl.DataFrame] = []
        self._holding = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._runs: list[_Run] = []
        self.count = 0  # of all rows that were added

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder:
            self._folder.cleanup()

    def add(self, rows: pl.DataFrame) -> None:
        """Take rows of `FLOW_SCHEMA`, which may have `tells` and `unless_told`, numbers or null.

        A row goes missing where its `unless_told` is what any other row `tells`.
        """
        known = [name for name in rows.columns if name in FLOW_SCHEMA or name in _JOINED]
        numbers = pl.int_range(self.count, self.count + rows.height, dtype=pl.Int64)
        self._held.append(
            rows.select(
                *known,
                *(pl.lit(None, pl.UInt64).alias(name) for name in _JOINED if name not in known),
                numbers.alias(_NUMBER),
            ).select(*FLOW_SCHEMA, *_JOINED, _NUMBER)
        )
        self.count += rows.height
        self._holding += rows.height
        if self._holding >= self._held_rows:
            self._store()

    def ordered(self, rows_per_batch: int) -> Iterator[tuple[pl.DataFrame, int]]:
        """Flows in `FLOW_SCHEMA` in the order of `time`; of equal ones in the order they came.

        With each batch comes how many rows there may still be. Errors: SourceError when there is no
        room on disk, or it cannot be read again.
        """
        if not self._runs:
            whole = self._from_memory()
            for start in range(0, whole.height, rows_per_batch):
                rows = whole.slice(start, rows_per_batch)
                yield rows, whole.height - start - rows.height
            return
        self._store()
        try:
            yield from _cut(_merged(self._runs, self._told()), rows_per_batch)
        except _BROKEN as error:
            raise _no_room(error) from error

    def _from_memory(self) -> pl.DataFrame:
        if not self._held:
            return FLOW_SCHEMA.to_frame()
        rows = pl.concat(self._held)
        self._held = []
        if rows["unless_told"].null_count() < rows.height:
            told = rows.select("tells").unique().drop_nulls()
            rows = rows.join(told, left_on="unless_told", right_on="tells", how="anti")
        return rows.sort("time", _NUMBER).select(FLOW_SCHEMA.names())

    def _told(self) -> pl.LazyFrame:
        runs = [run.path for run in self._runs]
        return pl.scan_parquet(runs, glob=False).select("tells").drop_nulls()

    def _store(self) -> None:
        if not self._holding:
            return
        rows = pl.concat(self._held).sort("time", _NUMBER)
        self._held, self._holding = [], 0
        try:
            if not self._folder:
                self._folder = tempfile.TemporaryDirectory(prefix="sidelong-")
            path = Path(self._folder.name) / f"{len(self._runs)}.parquet"
            rows.write_parquet(path, compression="lz4", row_group_size=_AT_ONCE)
        except _BROKEN as error:
            raise _no_room(error) from error
        self._runs.append(_Run(path, rows.height, _key(rows, 0)))


class _Run(NamedTuple):
    """Sorted rows on disk: how many, and the key of the first."""

    path: Path
    height: int
    first: _Key


class _Lane:
    """A run that is being read: `rows` are those at hand, sorted."""

    def __init__(self, run: _Run, told: pl.LazyFrame) -> None:
        self._run = run
        self._read = 0
        self._stored = pl.scan_parquet(run.path, glob=False)
        asked = self._stored.select(tells="unless_told").drop_nulls().unique().collect()
        # Of what all runs tell, only what this one asks for is held.
        self._redundant = (
            told.join(asked.lazy(), on="tells", how="semi").unique().collect(engine="streaming")
            if asked.height
            else asked
        )
        self.rows = self._stored.head(0).collect()
        self.left = run.height  # rows that were not given out

    @property
    def ended(self) -> bool:
        """Whether all that is left is at hand."""
        return self._read == self._run.height

    def fill(self) -> None:
        """Have rows at hand, if there are any."""
        if not self.rows.height and not self.ended:
            self.rows = self._stored.slice(self._read, _AT_ONCE).collect()
            self._read += self.rows.height

    def release(self, until: _Key | None) -> pl.DataFrame:
        """Give out the rows whose key is not beyond `until`; all at hand for None."""
        if until is None:
            at = self.rows.height
        else:
            times = self.rows["time"].to_physical()
            below, at = (times.search_sorted(until[0], side) for side in ("left", "right"))
            alike = self.rows[_NUMBER][int(below) : int(at)]
            at = int(below) + int(alike.search_sorted(until[1], "right"))
        released, self.rows = self.rows[:at], self.rows[at:]
        self.left -= released.height
        if self._redundant.height:
            return released.join(
                self._redundant, left_on="unless_told", right_on="tells", how="anti"
            )
        return released


def _merged(runs: list[_Run], told: pl.LazyFrame) -> Iterator[tuple[pl.DataFrame, int]]:
    """Rows in order, a few thousand at a time, and how many there may still be."""
    waiting = sorted(runs, key=lambda run: run.first, reverse=True)
    lanes: list[_Lane] = []
    while lanes or waiting:
        if not lanes:
            lanes.append(_Lane(waiting.pop(), told))
        for lane in lanes:
            lane.fill()
        until = _until(lanes)
        # Whatever begins before that has to be at hand too.
        while waiting and (until is None or waiting[-1].first <= until):
            lanes.append(_Lane(waiting.pop(), told))
            lanes[-1].fill()
            until = _until(lanes)
        rows = pl.concat([lane.release(until) for lane in lanes]).sort("time", _NUMBER)
        lanes = [lane for lane in lanes if lane.left]
        left = sum(lane.left for lane in lanes) + sum(run.height for run in waiting)
        yield rows.select(FLOW_SCHEMA.names()), left


def _until(lanes: list[_Lane]) -> _Key | None:
    """The last key up to which every lane has its rows at hand; None if all are."""
    return min((_key(lane.rows, -1) for lane in lanes if not lane.ended), default=None)


def _key(rows: pl.DataFrame, row: int) -> _Key:
    return rows["time"].to_physical()[row], rows[_NUMBER][row]


def _cut(
    parts: Iterator[tuple[pl.DataFrame, int]], rows_per_batch: int
) -> Iterator[tuple[pl.DataFrame, int]]:
    """The same rows in batches of the size asked for."""
    held: list[pl.DataFrame] = []
    holding, left = 0, 0
    for rows, left in parts:
        held.append(rows)
        holding += rows.height
        while holding >= rows_per_batch:
            whole = pl.concat(held)
            held, holding = [whole[rows_per_batch:]], holding - rows_per_batch
            yield whole[:rows_per_batch], left + holding
    if holding:
        yield pl.concat(held), left


def _no_room(error: BaseException) -> SourceError:
    return SourceError(
        f"flows cannot be sorted in {tempfile.gettempdir()}: {str(error).splitlines()[0][:200]}",
        hint="free some room there, or name another folder in TMPDIR",
    )
