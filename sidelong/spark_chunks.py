"""Chunks of a stream: stretches of its order that machines can take up one without the other.

The order of a stream is that of `ingest.merge`: by the latest time so far in each file, equal times
by file. So a chunk is all rows between two times, and of each file a run of its rows.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.clock import ClockState
from sidelong.ingest.identity import IdentityState
from sidelong.ingest.parquet import misfits, stored_flows
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import BadRows
from sidelong.spark_clock import FIRST
from sidelong.spark_files import Footer, flow_columns, read_rows, to_check

__all__ = ["Chunk", "Run", "StreamFiles", "bounds_of", "flows_of", "runs_of", "times_of"]

_KEY: Final = "__key"
_BEFORE_ALL: Final = -(2**62)


class Run(NamedTuple):
    """Rows `low` up to `high` of a file that belong to one chunk. reached: the latest time, in
    nanoseconds, of the rows before them."""

    url: str
    low: int
    high: int
    reached: int


class Lookahead(TypedDict):
    """A chunk that needs questions of ours: its number, since when (ns), and its first row."""

    chunk: int
    since: int
    low: int


@dataclass(slots=True)
class Chunk:
    """One chunk, and what it begins with, which is found out on the way.

    number: over all streams. clock, lost, known: of the stream before it. ahead: later chunks that
    need its questions.
    """

    stream: int
    number: int
    runs: list[Run] = field(default_factory=list)
    clock: ClockState = field(default_factory=lambda: FIRST)
    lost: int = 0
    known: IdentityState | None = None
    ahead: list[Lookahead] = field(default_factory=list)

    def value(self) -> dict[str, Any]:
        """As plain values, for a message."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return named | {"runs": [tuple(run) for run in self.runs], "clock": dict(self.clock)}

    @classmethod
    def of(cls, value: dict[str, Any]) -> "Chunk":
        """From plain values again."""
        chunk = cls(**value)
        chunk.runs = [Run(*run) for run in chunk.runs]
        return chunk


@dataclass(slots=True)
class StreamFiles:
    """The stream of a cluster: its files in order, and where it is cut (ns)."""

    cluster: str
    urls: list[str]
    footers: list[Footer] = field(default_factory=list)
    bounds: list[int] = field(default_factory=list)


def bounds_of(footers: Sequence[Footer], rows: int) -> list[int]:
    """Times (ns) at which to cut a stream of these files, into chunks of about so many rows."""
    spread = sorted(part for footer in footers for part in footer.spread)
    bounds: list[int] = []
    held = 0
    for time, count in spread:
        if held >= rows and time > (bounds[-1] if bounds else _BEFORE_ALL):
            bounds.append(time)
            held = 0
        held += count
    return bounds


def runs_of(url: str, rows: int, bounds: Sequence[int]) -> list[tuple[int, Run]]:
    """The run of a file in each chunk, by its place among `bounds`. Errors: SourceError."""
    columns = to_check(flow_columns(url))
    stored = read_rows(url, columns, 0, rows)
    fits = ~misfits(stored)
    times = stored_flows(stored, url)[0]["time"].to_physical().to_numpy()
    reached = np.maximum.accumulate(times) if len(times) else times
    good = np.flatnonzero(fits.to_numpy())
    found: list[tuple[int, Run]] = []
    places = np.searchsorted(np.asarray(bounds, np.int64), reached, side="right")
    begins = np.flatnonzero(np.diff(places, prepend=-1))
    low = 0  # rows that do not fit go with those that follow
    for number, begin in enumerate(begins.tolist()):
        last = number + 1 == len(begins)
        high = rows if last else int(good[begins[number + 1]])
        before = int(reached[begin - 1]) if begin else _BEFORE_ALL
        found.append((int(places[begin]), Run(url, low, high, before)))
        low = high
    if not found and rows:
        found.append((0, Run(url, 0, rows, _BEFORE_ALL)))
    return found


def times_of(chunk: Chunk) -> tuple[NDArray[np.int64], int]:
    """The times of a chunk in its order, and how many events were lost in it."""
    frames, lost = [], 0
    for run in chunk.runs:
        schema = flow_columns(run.url)
        columns = list(dict.fromkeys([*to_check(schema), *[n for n in ("lost",) if n in schema]]))
        flows = stored_flows(read_rows(run.url, columns, run.low, run.high), run.url)[0]
        lost += int(flows["lost"].sum())
        frames.append(_keyed(flows.select("time"), run.reached))
    return _ordered(frames)["time"].to_physical().to_numpy(), lost


def flows_of(chunk: Chunk) -> tuple[pl.DataFrame, BadRows]:
    """The flows of a chunk (`FLOW_SCHEMA`) in its order, and what could not be read."""
    frames, bad = [], BadRows()
    for run in chunk.runs:
        columns = flow_columns(run.url).names()
        stored = read_rows(run.url, columns, run.low, run.high)
        flows, wrong = stored_flows(stored, run.url, run.low)
        bad += wrong
        if flows.height:
            frames.append(_keyed(flows, run.reached))
    return _ordered(frames) if frames else empty_flows(), bad


def place_of(bounds: Sequence[int], time_ns: int) -> int:
    """In which chunk a time lies."""
    return bisect_left(bounds, time_ns + 1)


def _keyed(flows: pl.DataFrame, reached: int) -> pl.DataFrame:
    key = pl.col("time").to_physical().cum_max().clip(lower_bound=reached)
    return flows.with_columns(key.alias(_KEY))


def _ordered(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = frames[0] if len(frames) == 1 else pl.concat(frames).sort(_KEY, maintain_order=True)
    return whole.drop(_KEY)
