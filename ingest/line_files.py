"""Sources whose records are lines, of JSON or of text; what they mean is their decoder's affair."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple, Protocol, Self

import polars as pl

from sidelong.ingest.files import consumed, damage
from sidelong.ingest.lines import LONGEST_LINE, Block, line_blocks
from sidelong.ingest.source import BadRows, Batch

__all__ = ["SAMPLES", "Decoded", "LineDecoder", "LineDecoding", "LineFile", "most_faults"]

SAMPLES: Final = 5
"""How many bad lines of a block are shown with where and why."""


class Decoded(NamedTuple):
    """What a block of lines held: flows in `FLOW_SCHEMA`, in the order of the lines.

    bad: how many lines could not be read. faults: the first `SAMPLES` of them, or fewer, as where
    in the stream each begins and why. Of a block that is `numbered` flows have the column `LINE`
    too, and all faults are there.
    """

    flows: pl.DataFrame
    bad: int = 0
    faults: tuple[tuple[int, str], ...] = ()


def most_faults(block: Block) -> int | None:
    """How many bad lines of a block are to be explained; None for all."""
    return None if block.numbered else SAMPLES


class LineDecoder(Protocol):
    """Turns whole lines into flows. What becomes of a line depends on it alone."""

    def decode(self, block: Block) -> Decoded:
        """The flows of a block. Blank lines are nothing, and no fault either."""
        ...


class LineDecoding:
    """A decoder that holds nothing open, as a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class LineFile:
    """Flows out of lines, in the order of the lines.

    open: gives the decompressed bytes from their start. size_bytes: on disk, None for a pipe.
    decoder: makes the decoder of one reading, closed at its end. block_bytes: how much is decoded
    at once. A position is an offset in the decompressed bytes.
    """

    name: str
    open: Callable[[], BinaryIO]
    size_bytes: int | None
    decoder: Callable[[], AbstractContextManager[LineDecoder]]
    block_bytes: int = 16 << 20

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after position `since`; lines that cannot be read are counted in `bad`.

        While the caller looks at a batch, the next is decoded, in a thread of its own.
        """
        with (
            self.open() as stream,
            self.decoder() as decoder,
            ThreadPoolExecutor(1, "lines") as decoding,
        ):
            waiting: Future[Batch] | None = None
            for block in line_blocks(stream, since, self.block_bytes):
                bad = BadRows()
                if block.last and (damaged := damage(stream)):
                    bad = BadRows(1, (f"{self.name}: {damaged}; what came before was read",))
                read = consumed(stream, block.end)
                started = decoding.submit(self._batch, decoder, block, read, bad)
                if waiting:
                    yield from _worth_it(waiting.result())
                waiting = started
                if block.paused:
                    yield from _worth_it(waiting.result())
                    waiting = None
            if waiting:
                yield from _worth_it(waiting.result())

    def _batch(self, decoder: LineDecoder, block: Block, read: int, bad: BadRows) -> Batch:
        flows, count, faults = decoder.decode(block)
        too_long = [(at, f"longer than {LONGEST_LINE >> 20} MiB") for at in block.too_long]
        samples = tuple(
            f"{self.name} at byte {at:,}: {why}"
            for at, why in sorted([*faults, *too_long])[:SAMPLES]
        )
        unreadable = BadRows(count + len(too_long), samples)
        return Batch(flows, block.end, read, bad + unreadable)


def _worth_it(batch: Batch) -> Iterator[Batch]:
    """The batch, unless it says nothing: no progress, as at the end of an empty file."""
    if batch.position or batch.bad.count:
        yield batch
