"""Lines cut from a stream in blocks, within bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import polars as pl

from sidelong.ingest.files import idle

__all__ = ["LONGEST_LINE", "Block", "line_blocks", "text_rows"]

LONGEST_LINE: Final = 10 << 20
"""Bytes. A longer line is skipped without being held."""

_CHUNK: Final = 64 << 10
_MOST_LINES: Final = 32 << 10  # in a block: short lines cost more per byte once they are columns
_NEWLINE: Final = 0x0A


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a stream, each ended by a newline.

    start, end: where they lie in the decompressed stream. count: how many newlines there are.
    too_long: where the lines began that were left out. paused: nothing more is there for now.
    last: nothing comes after it. numbered: whether whoever decodes it is to say of each flow which
    line it comes from, counted from 0 without the blank ones, and of every bad line why.
    """

    start: int
    end: int
    content: bytes
    count: int
    too_long: tuple[int, ...] = ()
    paused: bool = False
    last: bool = False
    numbered: bool = False

    def lines(self) -> tuple[list[bytes], list[int]]:
        """The lines that are not blank, and where in the stream each begins."""
        lines, starts, at = [], [], self.start
        for line in self.content.split(b"\n"):
            if line.strip(b" \t\r"):
                lines.append(line)
                starts.append(at)
            at += len(line) + 1
        return lines, starts


def line_blocks(stream: BinaryIO, since: int, size: int) -> Iterator[Block]:
    """Blocks of about `size` bytes, from the position `since` to the end of the stream.

    A pipe that pauses gets the lines it has given so far. The last block is always there, if only
    to say that it is the last, unless nothing at all follows `since` > 0.
    """
    if not _skip(stream, since):
        return
    lines = _Lines(since)
    at = since
    while chunk := stream.read1(_CHUNK):  # type: ignore[attr-defined]  # all binary readers have it
        at += len(chunk)
        if lines.whole >= size or lines.count >= _MOST_LINES:
            yield lines.take()
        newline = chunk.find(b"\n")
        longer = newline if newline >= 0 else len(chunk)
        if not lines.skipping and lines.tail + longer > LONGEST_LINE:
            if lines.whole:
                yield lines.take()
            lines.skip()
        if lines.skipping:
            if newline < 0:
                continue
            chunk = chunk[newline + 1 :]
            lines.resume(at - len(chunk))
        lines.add(chunk)
        if lines.whole and idle(stream):
            yield lines.take(paused=True)
    if at > since or since == 0:
        yield lines.rest(at)


class _Lines:
    """What was read and not yet given out: whole lines, and the beginning of one."""

    def __init__(self, start: int) -> None:
        self.whole = 0  # bytes of whole lines
        self.tail = 0  # bytes after them
        self.count = 0
        self.skipping = False  # inside a line that is too long
        self._start = start
        self._chunks: list[bytes] = []
        self._too_long: list[int] = []

    def add(self, chunk: bytes) -> None:
        """Hold what was read; of a line that has not ended, this may be any part."""
        self._chunks.append(chunk)
        ended = chunk.rfind(b"\n") + 1
        if ended:
            self.whole += self.tail + ended
            self.tail = 0
            self.count += int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == _NEWLINE))
        self.tail += len(chunk) - ended

    def take(self, *, paused: bool = False) -> Block:
        """The whole lines."""
        held = b"".join(self._chunks)
        content, tail = (held[: self.whole], held[self.whole :]) if self.tail else (held, b"")
        end = self._start + self.whole
        block = Block(self._start, end, content, self.count, tuple(self._too_long), paused)
        self._start, self.whole, self.count = end, 0, 0
        self._chunks = [tail] if tail else []
        self._too_long.clear()
        return block

    def skip(self) -> None:
        """Let go of the beginning of a line, and note where it began."""
        self._too_long.append(self._start)
        self._chunks.clear()
        self.tail, self.skipping = 0, True

    def resume(self, start: int) -> None:
        """What comes next begins a line, at `start`."""
        self._start, self.skipping = start, False

    def rest(self, end: int) -> Block:
        """All that is left, with a last line that may lack its newline."""
        content = b"".join(self._chunks)
        if self.tail:
            content += b"\n"
        count = self.count + bool(self.tail)
        start = end if self.skipping else self._start
        return Block(start, end, content, count, tuple(self._too_long), last=True)


def _skip(stream: BinaryIO, count: int) -> bool:
    while count:
        gone = len(stream.read(min(count, 1 << 20)))
        if not gone:
            return False
        count -= gone
    return True


def text_rows(block: Block) -> pl.DataFrame:
    """The lines that are not blank: `line`, null where it is not UTF-8; `start`, in the stream.

    A carriage return at the end of a line belongs to its newline.
    """
    raw = block.content.split(b"\n")
    rows = pl.DataFrame(
        {"size": pl.Series(raw, dtype=pl.Binary).bin.size().cast(pl.Int64), "line": _texts(raw)}
    )
    return rows.select(
        start=block.start + (pl.col("size") + 1).cum_sum() - pl.col("size") - 1,
        line=pl.col("line").str.strip_suffix("\r"),
    ).filter((pl.col("line").str.strip_chars(" \t") != "").fill_null(True))


def _texts(raw: list[bytes]) -> pl.Series:
    column = pl.Series(raw, dtype=pl.Binary)
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:  # of one line, at the cost of all
        return pl.Series([_text(line) for line in raw], dtype=pl.String)


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None
