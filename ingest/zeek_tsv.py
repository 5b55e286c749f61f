"""Zeek logs of tab-separated text, cut into tables of one stream each.

Which columns there are, and of which stream, stands in lines that begin with `#`. They may come
again anywhere: logs are rotated and joined, and a later version of Zeek has more columns.

Source: the ASCII writer of Zeek 8, `scripts/base/frameworks/logging/writers/ascii.zeek`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.line_files import SAMPLES
from sidelong.ingest.separated import SeparatedLines, columns_of

__all__ = ["Section", "Tables"]

_COMMENT: Final = b"#"[0]
_ESCAPED: Final = re.compile(rb"\\x([0-9A-Fa-f]{2})")
# The labels of a labelled log stand behind the columns of Zeek, with blanks or with tabs between.
_LABELS: Final = re.compile(r"(?:^|\s)(?:detailed-?)?label", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Header:
    separator: bytes = b"\t"
    set_separator: str = ","
    empty: str = "(empty)"
    unset: str = "-"
    path: str | None = None
    fields: tuple[str, ...] = ()

    def after(self, line: bytes) -> "_Header":
        """The header once `line`, which begins with `#`, was read."""
        name, value = self._split(line)
        text = value.decode(errors="replace")
        match name:
            case b"#separator":
                plain = _unescaped(value)
                # What follows is written anew with every separator.
                return _Header(plain) if len(plain) == 1 and plain not in b"\r\n#" else self
            case b"#fields":
                return replace(self, fields=tuple(text.split(self.separator.decode("latin-1"))))
            case b"#path":
                return replace(self, path=text)
            case b"#set_separator":
                return replace(self, set_separator=text)
            case b"#empty_field":
                return replace(self, empty=text)
            case b"#unset_field":
                return replace(self, unset=text)
        return self

    def _split(self, line: bytes) -> tuple[bytes, bytes]:
        if line.startswith(b"#separator "):
            return b"#separator", line[len(b"#separator ") :].rstrip(b"\r")
        name, _, value = line.rstrip(b"\r").partition(self.separator)
        return name, value


class Section(NamedTuple):
    """Lines that follow each other under one header.

    path: which stream they say they are of; None where that is left out. fields: which columns they
    have. rows: the columns asked for, as text, null where they are unset or missing; lists are
    split. starts: where each row begins in what was given. bad: how many lines do not fit; faults:
    the first of them, and why.
    """

    path: str | None
    fields: tuple[str, ...]
    rows: pl.DataFrame
    starts: NDArray[np.int64]
    bad: int = 0
    faults: tuple[tuple[int, str], ...] = ()


class Tables:
    """Reads text piece by piece and remembers the header; a piece consists of whole lines."""

    def __init__(self, columns: Sequence[str], lists: Sequence[str], paths: Sequence[str]) -> None:
        """columns: what to read. lists: which of them hold several texts. paths: which streams."""
        self._columns: Final = columns
        self._lists: Final = lists
        self._paths: Final = paths
        self._header = _Header()

    def remember(self, content: bytes) -> None:
        """Read the headers and nothing else."""
        for line in content.split(b"\n"):
            if line.startswith(b"#"):
                self._header = self._header.after(line)

    def sections(self, content: bytes) -> Iterator[Section]:
        """The sections of a piece; of streams that were not asked for there is nothing."""
        lines = SeparatedLines(content)
        begin = 0
        for comment in lines.beginning_with(_COMMENT).tolist():
            if begin < comment:
                yield from self._section(lines, begin, comment)
            self._header = self._header.after(lines.line(comment))
            begin = comment + 1
        if begin < lines.ends.size:
            yield from self._section(lines, begin, lines.ends.size)

    def _section(self, lines: SeparatedLines, begin: int, end: int) -> Iterator[Section]:
        header = self._header
        if header.path is not None and header.path not in self._paths:
            return
        filled = lines.filled(begin, end)
        if not filled.size:
            return
        if not header.fields:
            why = "there is no #fields line before it"
            faults = tuple((int(lines.starts[line]), why) for line in filled[:SAMPLES])
            empty = self._rows(b"", 0, header)
            yield Section(header.path, (), empty, np.zeros(0, np.int64), filled.size, faults)
            return
        found = lines.fields(filled, header.separator[0])
        fits = found == len(header.fields)
        labels = [at for at, name in enumerate(header.fields) if _LABELS.search(name)]
        if labels:
            fits = found >= max(labels[0], 1)
        good, odd = filled[fits], filled[~fits]
        faults = tuple(
            (int(lines.starts[line]), f"it has {count:,} fields, not {len(header.fields):,}")
            for line, count in zip(odd[:SAMPLES].tolist(), found[~fits].tolist(), strict=False)
        )
        rows = self._rows(lines.joined(good), good.size, header)
        yield Section(header.path, header.fields, rows, lines.starts[good], odd.size, faults)

    def _rows(self, text: bytes, count: int, header: _Header) -> pl.DataFrame:
        separator = header.separator.decode("latin-1")
        rows = columns_of(
            text, count, header.fields, self._columns, separator=separator, unset=header.unset
        )
        return rows.with_columns(self._list(name, header) for name in self._lists)

    def _list(self, name: str, header: _Header) -> pl.Expr:
        none = pl.lit([], pl.List(pl.String))
        texts = pl.col(name).str.split(header.set_separator)
        return pl.when(pl.col(name) == header.empty).then(none).otherwise(texts).alias(name)


def _unescaped(text: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text)
