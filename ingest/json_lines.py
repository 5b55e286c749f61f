"""Lines of JSON decoded by DuckDB to nested columns, one row per line in their order.

There is no loop per line. A line that is not JSON gives a row of nulls; what it is that is wrong
with it is left to the caller, who has the bytes.
"""

import os
import re
import tempfile
from collections.abc import Sequence
from typing import BinaryIO, Final, Protocol, Self, cast

import duckdb
import polars as pl

__all__ = ["JsonDecoding", "JsonReader"]

_DEEPEST: Final = 128  # objects and arrays within each other, where DuckDB gives up on a file
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^][{}"]+')


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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


class JsonDecoding:
    """A decoder that reads JSON with `_reader`, which it opens and closes as a context manager."""

    _reader: JsonReader

    def __enter__(self) -> Self:
        self._reader = JsonReader()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()


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
