"""Lines of JSON in blocks: cut from a stream within bounded memory, decoded by DuckDB to columns.

A block is read whole into nested columns, one row per line in their order, with no loop per line.
A line that is not JSON gives a row of nulls; what it is that is wrong with it is left to the
caller, who has the bytes.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Final, Protocol, cast

import duckdb
import numpy as np
import polars as pl

from sidelong.ingest.files import idle

__all__ = ["LONGEST_LINE", "Block", "JsonReader", "line_blocks"]

LONGEST_LINE: Final = 10 << 20
"""Bytes. A longer line is skipped without being held."""

_CHUNK: Final = 64 << 10
_MOST_LINES: Final = 32 << 10  # in a block: short lines cost more per byte once they are columns
_DEEPEST: Final = 128  # objects and arrays within each other, where DuckDB gives up on a file
_NEWLINE: Final = 0x0A
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^][{}"]+')


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a stream, each ended by a newline.

    start, end: where they lie in the decompressed stream. count: how many newlines there are.
    too_long: where the lines began that were left out. paused: nothing more is there for now.
    last: nothing comes after it.
    """

    start: int
    end: int
    content: bytes
    count: int
    too_long: tuple[int, ...] = ()
    paused: bool = False
    last: bool = False

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


class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object = None, /) -> object: ...


class _Rows:
    """A DuckDB relation as nothing but a stream of Arrow data.

    Neither polars nor an annotation may get hold of its type: DuckDB would complain at exit.
    """

    def __init__(self, relation: _ArrowStream) -> None:
        self._relation = relation

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._relation.__arrow_c_stream__(requested_schema)


class JsonReader:
    """Lines of JSON to nested columns. Use as a context manager: it holds a file in memory."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(
            config={
                "threads": 1,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                # The file keeps its name and changes its content.
                "enable_external_file_cache": False,
            }
        )
        self._file, self._path = _memory_file()

    def __enter__(self) -> "JsonReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._file.close()

    def read(self, content: bytes, count: int, columns: str) -> pl.DataFrame | None:
        """One row for each of the `count` lines; None when that cannot be: see `read_each`.

        `columns` as in DuckDB's read_json. A value of another type than declared is null.
        """
        try:
            rows = self._read(content, columns)
        except duckdb.Error:  # of one line, at the cost of all
            return None
        return rows if rows.height == count else None

    def read_each(self, lines: Sequence[bytes], columns: str) -> pl.DataFrame:
        """The same for lines that are apart; one that spoils it for the others is a row of nulls.

        None may be blank.
        """
        if (rows := self._read_joined(lines, columns)) is not None:
            return rows
        readable = [line if _depth(line) <= _DEEPEST else b"null" for line in lines]
        parts: list[pl.DataFrame] = []
        self._read_halves(readable, columns, parts)
        return pl.concat(parts)

    def _read_joined(self, lines: Sequence[bytes], columns: str) -> pl.DataFrame | None:
        return self.read(b"\n".join([*lines, b""]), len(lines), columns)

    def _read_halves(self, lines: Sequence[bytes], columns: str, parts: list[pl.DataFrame]) -> None:
        if (rows := self._read_joined(lines, columns)) is not None:
            parts.append(rows)
        elif len(lines) == 1:
            parts.append(self._read(b"null\n", columns))
        else:
            middle = len(lines) // 2
            self._read_halves(lines[:middle], columns, parts)
            self._read_halves(lines[middle:], columns, parts)

    def _read(self, content: bytes, columns: str) -> pl.DataFrame:
        self._file.seek(0)
        self._file.write(content)
        self._file.truncate()  # afterwards: the pages that are there are used again
        relation = self._connection.sql(
            f"FROM read_json('{self._path}', columns = {columns}, records = true, "
            "format = 'newline_delimited', ignore_errors = true)"
        )
        return pl.DataFrame(_Rows(relation))


def _memory_file() -> tuple[BinaryIO, str]:
    if hasattr(os, "memfd_create"):
        file = open(os.memfd_create("sidelong"), "wb")  # noqa: SIM115  # closed by its owner
        path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        if os.path.exists(path):
            return file, path
        file.close()
    named = tempfile.NamedTemporaryFile()  # noqa: SIM115
    return cast(BinaryIO, named), named.name  # it wraps one


def _depth(line: bytes) -> int:
    """How deep the brackets of a line go, those in strings left out."""
    if line.count(b"[") + line.count(b"{") <= _DEEPEST:
        return 0  # not exact, but not too deep
    depth = deepest = 0
    for bracket in _BRACKETS.sub(b"", line):
        depth += 1 if bracket in b"[{" else -1
        if depth > deepest:
            deepest = depth
            if deepest > _DEEPEST:
                break
    return deepest
