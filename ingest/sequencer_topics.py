"""What a sequencer asks of the two topics it stands between."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from sidelong.ingest.journal import Entry
from sidelong.ingest.raw_merge import RawChunk

__all__ = ["BatchTopic", "RawTopic", "Sending"]


class Sending(Protocol):
    """A message on its way."""

    def offset(self) -> int:
        """Wait until it is acknowledged; its offset."""
        ...


class BatchTopic(Protocol):
    """The topic `flows.batches`."""

    @property
    def partitions(self) -> int:
        """How many there are."""
        ...

    def send(self, partition: int, value: bytes, headers: Mapping[str, bytes]) -> Sending:
        """Send a message; those of one partition arrive in the order of their sending."""
        ...

    def bounds(self) -> tuple[int, int]:
        """Of partition 0 the offset of its first message, and that behind its last."""
        ...

    def journal(self, low: int, high: int) -> Iterable[Entry]:
        """The messages of partition 0 from offset `low` up to but not including `high`."""
        ...


class RawTopic(Protocol):
    """The topic `flows.raw`, decoded."""

    def bounds(self) -> Mapping[int, tuple[int, int]] | None:
        """Of each partition the offset of its first message, and that behind its last; None while
        nobody can tell."""
        ...

    def ends(self) -> Mapping[int, int] | None:
        """Of each partition the offset behind its last message, as of now, also of those that were
        added since; None while nobody can tell. Asked for often."""
        ...

    def start(self, offsets: Mapping[int, int]) -> None:
        """Read all partitions from these offsets on."""
        ...

    def read(self, timeout: float, paused: frozenset[int]) -> list[tuple[int, RawChunk]]:
        """What came within `timeout` seconds, of partitions that are not `paused`."""
        ...
