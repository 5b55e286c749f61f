"""What was read: flows, the time they span, what was lost or could not be decoded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from sidelong.ingest.source import BadRows, Batch
from sidelong.terminal import duration, moment, plural

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """Counts over the batches of a run; `first` and `last` are event times."""

    flows: int = 0
    lost: int = 0
    bad: BadRows = field(default_factory=BadRows)
    read_bytes: int = 0
    first: datetime | None = None
    last: datetime | None = None

    @property
    def completeness(self) -> float:
        """The share, in [0, 1], of what the sources saw that reached us: neither lost nor bad."""
        missing = self.lost + self.bad.count
        return self.flows / (self.flows + missing) if missing else 1.0

    def counted(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, each counted before it is handed on."""
        for batch in batches:
            self.add(batch)
            yield batch

    def add(self, batch: Batch) -> None:
        """Count one batch. A row that only reports a loss is not a flow."""
        self.bad += batch.bad
        self.read_bytes = max(self.read_bytes, batch.read_bytes)
        seen = pl.col("src_ip").is_not_null() | pl.col("lost").is_null()
        flows, lost, first, last = batch.flows.select(
            seen.sum().alias("flows"),
            pl.col("lost").sum(),
            pl.col("time").filter(seen).dt.cast_time_unit("us").min().alias("first"),
            pl.col("end").filter(seen).dt.cast_time_unit("us").max().alias("last"),
        ).row(0)
        self.flows += flows
        self.lost += lost
        if first is not None:
            self.first = first if self.first is None else min(self.first, first)
            self.last = last if self.last is None else max(self.last, last)

    def __str__(self) -> str:
        """As a sentence goes on: "17,036 flows over 2 min 17 s (from ... to ...)"."""
        counted = plural(self.flows, "flow")
        if self.first is None or self.last is None:
            return counted
        span = duration(self.last - self.first)
        return f"{counted} over {span} ({moment(self.first)} to {moment(self.last)})"
