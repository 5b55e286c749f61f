"""Zeek's conn, dns, http and ssl logs, one of them or all of a folder, as one source.

Zeek writes a record when a connection has ended, so a log is in no order of time; its flows are
put in order before the first is given out. What several logs say of one connection is joined by
its uid: a connection whose lookups are in dns.log is told by those, and a handshake in ssl.log by
its connection.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from sidelong.ingest.files import consumed
from sidelong.ingest.lines import line_blocks
from sidelong.ingest.source import Batch
from sidelong.ingest.spool import Part, in_order
from sidelong.ingest.unordered import bad_rows
from sidelong.ingest.zeek_lines import ZeekLines

__all__ = ["ZeekLog", "ZeekLogs"]


class ZeekLog(NamedTuple):
    """One log: its name, what opens its decompressed bytes, and its size on disk."""

    name: str
    open: Callable[[], BinaryIO]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ZeekLogs:
    """Flows out of the logs of one Zeek, in the order of time.

    logs: all that may speak of the same connections; those that hold other things are passed over.
    rows_per_batch: how many are given out at once. held_rows: how many are sorted in memory; more
    go to disk. block_bytes: how much is decoded at once. A position is as in `in_order`; going on
    from one reads the logs again.
    """

    name: str
    logs: Sequence[ZeekLog]
    rows_per_batch: int = 1 << 18
    held_rows: int = 1 << 19
    block_bytes: int = 8 << 20

    @property
    def size_bytes(self) -> int | None:
        """Bytes on disk of all logs."""
        return sum(log.size_bytes for log in self.logs)

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after position `since`; what cannot be read is counted with the first."""
        size = self.size_bytes or 0
        return in_order(self._parts(), size, since, self.rows_per_batch, self.held_rows)

    def _parts(self) -> Iterator[Part]:
        before = 0
        for log in self.logs:
            with log.open() as stream, ZeekLines() as lines:
                for block in line_blocks(stream, 0, self.block_bytes):
                    told = lines.told(block)
                    bad = bad_rows(log.name, stream, block, told.bad, told.faults)
                    yield Part(told.flows, bad, before + consumed(stream, block.end))
            before += log.size_bytes
