"""Files of lines whose records are in no order of time, because each was written at its end.

What collectors of flows and Zeek write lags behind by as long as a flow may last. From a file its
flows are given in the order of time, after all of it was read; from a pipe, which need not end, as
they come.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from sidelong.ingest.files import consumed, damage
from sidelong.ingest.line_files import SAMPLES, Decoded
from sidelong.ingest.lines import LONGEST_LINE, Block, line_blocks
from sidelong.ingest.source import BadRows, Batch
from sidelong.ingest.spool import Part, in_order

__all__ = ["HeadedDecoder", "UnorderedFile", "bad_rows"]


class HeadedDecoder(Protocol):
    """Turns lines into flows; what a line means may depend on headers before it."""

    def decode(self, block: Block) -> Decoded:
        """The flows of a block, which follows what was decoded and remembered before."""
        ...

    def remember(self, content: bytes) -> None:
        """Take note of headers in lines that are not wanted."""
        ...


@dataclass(frozen=True, slots=True)
class UnorderedFile:
    """Flows out of lines: those of a file in the order of time, those of a pipe as they come.

    open: gives the decompressed bytes from their start. size_bytes: on disk; None for a pipe.
    decoder: makes the decoder of one reading, closed at its end. rows_per_batch: how many flows of
    a file are given out at once. held_rows: how many are sorted in memory; more go to disk.
    block_bytes: how much is decoded at once.

    A position is as in `in_order`, and an offset in the decompressed bytes of a pipe. Going on from
    a position reads a file again.
    """

    name: str
    open: Callable[[], BinaryIO]
    size_bytes: int | None
    decoder: Callable[[], AbstractContextManager[HeadedDecoder]]
    rows_per_batch: int = 1 << 18
    held_rows: int = 1 << 19
    block_bytes: int = 8 << 20

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after position `since`; lines that cannot be read are counted in `bad`."""
        if self.size_bytes is None:
            return self._as_they_come(since)
        return in_order(self._parts(), self.size_bytes, since, self.rows_per_batch, self.held_rows)

    def _parts(self) -> Iterator[Part]:
        with self.open() as stream, self.decoder() as decoder:
            for block in line_blocks(stream, 0, self.block_bytes):
                found = decoder.decode(block)
                bad = bad_rows(self.name, stream, block, found.bad, found.faults)
                yield Part(found.flows, bad, consumed(stream, block.end))

    def _as_they_come(self, since: int) -> Iterator[Batch]:
        with self.open() as stream, self.decoder() as decoder:
            for block in line_blocks(stream, 0, self.block_bytes):
                if block.end <= since and block.end:
                    decoder.remember(block.content)
                    continue
                rest = _after(block, since, decoder)
                found = decoder.decode(rest)
                bad = bad_rows(self.name, stream, rest, found.bad, found.faults)
                if rest.end or bad.count:
                    yield Batch(found.flows, rest.end, consumed(stream, rest.end), bad)


def _after(block: Block, since: int, decoder: HeadedDecoder) -> Block:
    if block.start >= since:
        return block
    seen = since - block.start
    decoder.remember(block.content[:seen])
    rest = block.content[seen:]
    too_long = tuple(at for at in block.too_long if at >= since)
    return Block(since, block.end, rest, rest.count(b"\n"), too_long, block.paused, block.last)


_TOO_LONG: Final = f"longer than {LONGEST_LINE >> 20} MiB"


def bad_rows(
    name: str, stream: BinaryIO, block: Block, bad: int, faults: tuple[tuple[int, str], ...]
) -> BadRows:
    """What is bad of a block, with the damage of its stream if it is the last."""
    too_long = [(at, _TOO_LONG) for at in block.too_long]
    shown = sorted([*faults, *too_long])[:SAMPLES]
    samples = tuple(f"{name} at byte {at:,}: {why}" for at, why in shown)
    rows = BadRows(bad + len(too_long), samples)
    if block.last and (damaged := damage(stream)):
        rows = BadRows(1, (f"{name}: {damaged}; what came before was read",)) + rows
    return rows
