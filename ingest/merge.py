"""Several sources as one stream in the order of time, such as the exports of a cluster's nodes.

Sources are merged batch by batch. Rows wait until no other source can still give earlier ones,
which is known from how far each has come: only the one that is furthest behind is read on, so that
little more than a batch of each is ever held. A source that knows its earliest time, as a Parquet
file does, is not even opened before its turn: a folder of a thousand files is read like one.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

import polars as pl

from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import BadRows, Batch, Source

__all__ = ["merged"]

_KEY: Final = "__key"
_OPEN: Final = 16  # sources that are left open between their first batch and their turn


class _Lane:
    """One source, as far as it was read: `held` are its rows not yet given out.

    Each row has the latest time so far as its key: rows of one source keep their order, however
    their times jitter.
    """

    def __init__(self, source: Source, place: int) -> None:
        self._source = source
        self.place = place
        earliest: int | None = getattr(source, "earliest_ns", None)
        self.earliest = earliest
        self._batches: Iterator[Batch] | None = None
        self._position = 0
        self.held = _keyed(empty_flows(), None)
        self.reached: int | None = None  # key of the last row read, nanoseconds
        self.ended = False
        self.read_bytes = 0
        self._bad = BadRows()

    def read_on(self) -> None:
        """Hold the next rows, or end."""
        if self._batches is None:
            self._batches = self._source.batches(self._position)
        for batch in self._batches:
            self._position, self.read_bytes = batch.position, batch.read_bytes
            self._bad += batch.bad
            if batch.flows.height:
                rows = _keyed(batch.flows, self.reached)
                self.held = pl.concat([self.held, rows]) if self.held.height else rows
                self.reached = rows[_KEY][-1]
                return
        self.ended = True

    def pause(self) -> None:
        """Close the source until its turn; not a pipe, which could not be opened again."""
        if self._batches is not None and self._source.size_bytes is not None and not self.ended:
            self._batches = None

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to come of it, held rows and bad rows included."""
        return self.ended and not self.held.height and not self._bad.count

    def report(self) -> BadRows:
        """The bad rows since the last report."""
        bad, self._bad = self._bad, BadRows()
        return bad

    def release(self, before: int | None) -> pl.DataFrame:
        """Give out the rows whose key is below `before`; all of them for None."""
        if before is None:
            released, self.held = self.held, self.held.clear()
            return released
        below = self.held[_KEY].search_sorted(before)
        released, self.held = self.held[:below], self.held[below:]
        return released


def merged(sources: Sequence[Source]) -> Iterator[Batch]:
    """The flows of all `sources` in the order of time; where times are equal, in that of `sources`.

    A source whose times jitter keeps its own order. `read_bytes` is the sum over the sources,
    `position` the number of flows given out: a merged stream is not resumed, its sources are.
    """
    if len(sources) == 1:
        yield from sources[0].batches()
        return
    lanes = [_Lane(source, place) for place, source in enumerate(sources)]
    # Those that know when they begin wait for that, the first of them first.
    later = [lane for lane in lanes if lane.earliest is not None]
    waiting = deque(sorted(later, key=lambda lane: (lane.earliest or 0, lane.place)))
    lanes = [lane for lane in lanes if lane.earliest is None]
    given = read_bytes = 0
    for lane, opened in zip(lanes, count(1), strict=False):
        lane.read_on()
        if opened > _OPEN:
            lane.pause()
    while lanes or waiting:
        behind = min(
            (lane for lane in lanes if not lane.ended),
            key=lambda lane: lane.reached or 0,
            default=None,
        )
        if waiting and (behind is None or (waiting[0].earliest or 0) <= (behind.reached or 0)):
            behind = waiting.popleft()
            before = behind.earliest
            lanes = sorted([*lanes, behind], key=lambda lane: lane.place)
        else:
            before = behind.reached if behind else None
        flows = _in_order([lane.release(before) for lane in lanes])
        given += flows.height
        bad = sum((lane.report() for lane in lanes), BadRows())
        if flows.height or bad.count:
            now = read_bytes + sum(lane.read_bytes for lane in lanes)
            yield Batch(flows, given, now, bad)
        read_bytes += sum(lane.read_bytes for lane in lanes if lane.finished)
        lanes = [lane for lane in lanes if not lane.finished]
        if behind is None:
            return
        behind.read_on()


def _keyed(flows: pl.DataFrame, reached: int | None) -> pl.DataFrame:
    key = pl.col("time").to_physical().cum_max()
    return flows.with_columns(key.clip(lower_bound=reached).alias(_KEY))


def _in_order(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    parts = [part for part in parts if part.height]
    if not parts:
        return empty_flows()
    rows = parts[0] if len(parts) == 1 else pl.concat(parts).sort(_KEY, maintain_order=True)
    return rows.drop(_KEY)
