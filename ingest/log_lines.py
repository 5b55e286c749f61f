"""Lines of a log, as they were written or as a shipper wrapped them, and what decodes them.

Container runtimes and log shippers put a line into another: `TIME stdout F LINE` (CRI), or JSON
with the line under `log` or `message` (Docker, Fluent Bit, Vector). Only a line that does not fit
as it is is looked at for that: nothing a client writes can make a line pass for its wrapping.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

from sidelong.ingest.json_lines import JsonDecoding
from sidelong.ingest.line_files import Decoded, LineDecoding, most_faults
from sidelong.ingest.lines import Block, text_rows
from sidelong.ingest.schema import LINE

__all__ = ["JsonLog", "TextLog", "unwrapped"]

_RUNTIME: Final = r"^\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) F (.*)$"
_WRAPPINGS: Final = ("$.log", "$.message")

Reading = Callable[[pl.Series], pl.DataFrame]
Meaning = Callable[[pl.DataFrame], pl.DataFrame]


class TextLog(LineDecoding):
    """Decodes lines of text. Use as a context manager.

    read: entries of lines, one row each, with `fault`, why a line was not read, and `usable`. One
    may be read in part, and so be both; one that is neither is another line of the same program.
    flows: the flows of usable entries.
    """

    def __init__(self, read: Reading, flows: Meaning) -> None:
        self._read: Final = read
        self._flows: Final = flows

    def decode(self, block: Block) -> Decoded:
        """The flows of a block of lines; bytes that are not UTF-8 are a client's, and let pass."""
        rows = text_rows(block)
        lines = _replaced(rows, block)
        entries = self._read(lines)
        inner = _inner(lines, entries)
        if inner is not None:
            at, texts = inner
            again = self._read(texts)
            entries = _with(entries, at, again)
        return _decoded(block, entries, rows["start"], self._flows)


class JsonLog(JsonDecoding):
    """Decodes lines of JSON objects. Use as a context manager.

    keys: the key of each column that is to be read, as text. read: what these texts say, as in
    `TextLog`.
    """

    def __init__(
        self,
        keys: Mapping[str, str],
        read: Callable[[pl.DataFrame], pl.DataFrame],
        flows: Meaning,
    ) -> None:
        distinct = sorted(set(keys.values()))
        self._columns: Final = (
            "{" + ", ".join(f"{_quoted(key)}: 'VARCHAR'" for key in distinct) + "}"
        )
        self._names: Final = [pl.col(key).alias(name) for name, key in keys.items()]
        self._read: Final = read
        self._flows: Final = flows

    def decode(self, block: Block) -> Decoded:
        """The flows of a block of lines."""
        lines: tuple[list[bytes], list[int]] | None = None
        events = self._reader.read(block.content, block.count, self._columns)
        if events is None:
            lines = block.lines()
            if not lines[0]:
                return Decoded(self._flows(self._entries(self._none())))
            events = self._reader.read_each(lines[0], self._columns)
        entries = self._entries(events)
        if entries["fault"].null_count() == entries.height:
            return Decoded(self._flows(_usable(block, entries)))
        content, starts = lines or block.lines()
        odd = entries["fault"].is_not_null().arg_true()
        texts = pl.Series([content[at].decode(errors="replace") for at in odd], dtype=pl.String)
        inner = unwrapped(texts)
        again = pl.Series(pl.select(pl.coalesce(inner, texts)).to_series())
        worth = (inner.is_not_null() | texts.str.contains("\ufffd", literal=True)).arg_true()
        if len(worth):
            reread = self._reader.read_each(
                [line.encode() or b"null" for line in again.gather(worth)], self._columns
            )
            entries = _with(entries, odd.gather(worth), self._entries(reread))
        return _decoded(block, entries, pl.Series(starts), self._flows, content)

    def _entries(self, events: pl.DataFrame) -> pl.DataFrame:
        return self._read(events.select(self._names))

    def _none(self) -> pl.DataFrame:
        return self._reader.read_each([b"null"], self._columns).head(0)


def unwrapped(lines: pl.Series) -> pl.Series:
    """The line inside each line that a runtime or a shipper wrapped, null for all others."""
    runtime = lines.str.extract(_RUNTIME)
    objects = pl.select(
        pl.when(lines.str.starts_with("{") & lines.str.ends_with("}")).then(lines)
    ).to_series()
    if objects.null_count() == len(objects):
        return runtime
    inside = [_inside(line) if line else None for line in objects]
    return pl.select(pl.coalesce(runtime, pl.Series(inside, dtype=pl.String))).to_series()


def _inside(line: str) -> str | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    inner = event.get("log", event.get("message")) if isinstance(event, dict) else None
    if isinstance(inner, dict):  # a shipper that parsed it already
        return json.dumps(inner)
    return inner.rstrip("\r\n") if isinstance(inner, str) else None


def _inner(lines: pl.Series, entries: pl.DataFrame) -> tuple[pl.Series, pl.Series] | None:
    """Which lines that could not be read hold another, and those."""
    odd = (~entries["usable"]).arg_true()
    if not len(odd):
        return None
    inner = unwrapped(lines.gather(odd))
    held = inner.is_not_null().arg_true()
    return (odd.gather(held), inner.gather(held)) if len(held) else None


def _with(entries: pl.DataFrame, at: pl.Series, again: pl.DataFrame) -> pl.DataFrame:
    """The entries with those at `at` read again."""
    numbered = entries.with_row_index("row")
    kept = numbered.filter(~pl.col("row").is_in(at.implode()))
    reread = again.with_columns(row=at.cast(pl.UInt32)).select(numbered.columns)
    return pl.concat([kept, reread]).sort("row").drop("row")


def _replaced(rows: pl.DataFrame, block: Block) -> pl.Series:
    """The lines, with what is not UTF-8 replaced; a client may send it, and Envoy prints it."""
    lines = rows["line"]
    if not lines.null_count():
        return lines
    odd = lines.is_null().arg_true()
    texts = []
    for start in rows["start"].gather(odd):
        at = start - block.start
        line = block.content[at : block.content.index(b"\n", at)]
        texts.append(line.decode(errors="replace").rstrip("\r"))
    return lines.scatter(odd, pl.Series(texts, dtype=pl.String))


def _usable(block: Block, entries: pl.DataFrame) -> pl.DataFrame:
    return (entries.with_row_index(LINE) if block.numbered else entries).filter("usable")


def _decoded(
    block: Block,
    entries: pl.DataFrame,
    starts: pl.Series,
    flows: Meaning,
    content: list[bytes] | None = None,
) -> Decoded:
    bad = entries["fault"].is_not_null().arg_true()
    faults = []
    for row in bad[: most_faults(block)]:
        why = entries["fault"][row]
        faults.append((starts[row], _no_json(content[row]) or why if content else why))
    return Decoded(flows(_usable(block, entries)), len(bad), tuple(faults))


def _no_json(line: bytes) -> str | None:
    try:
        event = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError) as error:
        return f"not JSON: {getattr(error, 'msg', 'out of bounds')}"
    return None if isinstance(event, dict) else "not a JSON object"


def _quoted(key: str) -> str:
    return "'" + key.replace("'", "''") + "'"
