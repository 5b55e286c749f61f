"""The seam between sidelong and everything that emits telemetry.

A source yields batches in the order it saw the events. Each batch carries the position from which
the source can go on, so that a restart resumes exactly there; what a position means is the source's
own affair (a byte offset, a row number, an offset of Kafka), callers only hand it back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

__all__ = ["BadRows", "Batch", "Source"]


@dataclass(frozen=True, slots=True)
class BadRows:
    """Rows of a batch that could not be decoded: how many, and the first few with where and why."""

    count: int = 0
    samples: tuple[str, ...] = ()

    def __add__(self, other: "BadRows") -> "BadRows":
        return BadRows(self.count + other.count, (self.samples + other.samples)[:5])


@dataclass(frozen=True, slots=True)
class Batch:
    """Flows in `FLOW_SCHEMA`; `source.batches(since=position)` yields what comes after them.

    read_bytes: how much of the source, as it lies on disk, had been consumed by then.
    """

    flows: pl.DataFrame
    position: int
    read_bytes: int = 0
    bad: BadRows = field(default_factory=BadRows)


class Source(Protocol):
    """Anything that yields flows.

    `batches` may be called again with any position it gave out; rows, their order and their bad
    rows do not depend on how they were cut into batches. Errors: SourceError when the source cannot
    be opened or is not what it claims to be. Damage further in is counted in `Batch.bad`.
    """

    @property
    def name(self) -> str:
        """What to call the source in messages: a path, an address."""
        ...

    @property
    def size_bytes(self) -> int | None:
        """How much there is to read, in the unit of `Batch.read_bytes`; None when it is endless."""
        ...

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after position `since`, in the order of the source."""
        ...
