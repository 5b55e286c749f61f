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
import polars as pl

from sidelong.ingest.files import idle

__all__ = ["LONGEST_LINE", "Block", "JsonReader", "line_blocks"]

LONGEST_LINE: Final = 10 << 20
"""Bytes. A longer line is skipped without being held."""

_CHUNK: Final = 64 << 10
_MOST_LINES: Final = 32 << 10  # in a block: short lines cost more per byte once they are columns
_DEEPEST: Final = 128  # objects and arrays within each other, where DuckDB gives up on a file
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^][{}"]+')


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a stream, each ended by a newline.

    start, end: where they lie in the decompressed stream. too_long: where the lines began that were
    left out. last: nothing comes after it.
    """

    start: int
    end: int
    content: bytes
    too_long: tuple[int, ...] = ()
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
    start = at = since  # of `held`, and of what comes next from the stream
    held = bytearray()
    whole = lines = 0  # bytes and count of the whole lines in `held`
    skipping: int | None = None  # where a line began that is too long
    too_long: list[int] = []
    while chunk := stream.read1(_CHUNK):  # type: ignore[attr-defined]  # all binary readers have it
        if whole >= size or lines >= _MOST_LINES:
            yield Block(start, start + whole, bytes(held[:whole]), tuple(too_long))
            del held[:whole]
            start, whole, lines = start + whole, 0, 0
            too_long.clear()
        newline = chunk.find(b"\n")
        tail = len(held) - whole
        at += len(chunk)
        if skipping is None and tail + (newline if newline >= 0 else len(chunk)) > LONGEST_LINE:
            skipping = start + whole
            if whole:
                yield Block(start, start + whole, bytes(held[:whole]), tuple(too_long))
                too_long.clear()
            held.clear()
            whole = lines = 0
        if skipping is not None:
            if newline < 0:
                continue
            too_long.append(skipping)
            skipping = None
            chunk = chunk[newline + 1 :]
            start = at - len(chunk)
        held += chunk
        if (ended := chunk.rfind(b"\n")) >= 0:
            whole = len(held) - len(chunk) + ended + 1
            lines += chunk.count(b"\n")
        if whole and idle(stream):
            yield Block(start, start + whole, bytes(held[:whole]), tuple(too_long))
            del held[:whole]
            start, whole, lines = start + whole, 0, 0
            too_long.clear()
    if skipping is not None:
        too_long.append(skipping)
        start = at
    if at > since or since == 0:
        rest = bytes(held)
        if rest and not rest.endswith(b"\n"):
            rest += b"\n"
        yield Block(start, at, rest, tuple(too_long), last=True)


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

    def read(self, lines: bytes | Sequence[bytes], columns: str) -> pl.DataFrame | None:
        """One row for each of the lines; None when that cannot be: then give them one by one.

        `columns` as in DuckDB's read_json. A value of another type than declared is null.
        """
        content = lines if isinstance(lines, bytes) else b"\n".join([*lines, b""])
        expected = content.count(b"\n") if isinstance(lines, bytes) else len(lines)
        try:
            rows = self._read(content, columns)
        except duckdb.Error:  # of one line, at the cost of all
            return None
        return rows if rows.height == expected else None

    def read_each(self, lines: Sequence[bytes], columns: str) -> pl.DataFrame:
        """The same for lines one of which spoils it for the others; that one is a row of nulls.

        Lines must not be blank.
        """
        readable = [line if _depth(line) <= _DEEPEST else b"null" for line in lines]
        parts: list[pl.DataFrame] = []
        self._read_halves(readable, columns, parts)
        return pl.concat(parts)

    def _read_halves(self, lines: Sequence[bytes], columns: str, parts: list[pl.DataFrame]) -> None:
        if (rows := self.read(lines, columns)) is not None:
            parts.append(rows)
        elif len(lines) == 1:
            parts.append(self._read(b"null\n", columns))
        else:
            middle = len(lines) // 2
            self._read_halves(lines[:middle], columns, parts)
            self._read_halves(lines[middle:], columns, parts)

    def _read(self, content: bytes, columns: str) -> pl.DataFrame:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(content)
        self._file.flush()
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
