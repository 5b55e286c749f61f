"""Zeek logs, of text or of JSON, from blocks of lines to flows.

What a line means depends on the header above it, if it is text, and on itself, if it is JSON.
Sources of lines are cut anywhere; the same lines give the same flows.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import polars as pl

from sidelong.ingest.checked_rows import Checked
from sidelong.ingest.json_lines import JsonReader
from sidelong.ingest.line_files import SAMPLES, Decoded, LineDecoding, most_faults
from sidelong.ingest.lines import Block
from sidelong.ingest.schema import FLOW_SCHEMA, LINE
from sidelong.ingest.zeek_records import (
    FIELDS,
    LISTS,
    STREAMS,
    no_records,
    stream_of,
    told_flows,
)
from sidelong.ingest.zeek_tsv import Tables

__all__ = ["Told", "ZeekLines"]

# JSON says itself of which log it is, or has fields by which the logs can be told apart. Shippers
# write dots as underscores.
_NAMES: Final = ("_path", "@stream")
_TELLING: Final = (
    *("missed_bytes", "rejected", "request_body_len", "call_id", "request_path", "response_path"),
    "@system",
)
_DOTTED: Final = {name: name.replace(".", "_") for name in FIELDS if "." in name}
_OWN_FIELDS: Final = {"conn": "conn_state", "dns": "qtype", "http": "uri", "ssl": "established"}
_FIRST: Final = re.compile(rb"^[ \t]*([#{])", re.MULTILINE)
_JSON: Final = (*FIELDS, *_DOTTED.values(), *_NAMES, *_TELLING)


class Told(NamedTuple):
    """What a block of lines held: flows in `TOLD_SCHEMA`, in the order of the lines.

    bad: how many lines could not be read; faults: the first of them, where in the stream each
    begins, and why.
    """

    flows: pl.DataFrame
    bad: int = 0
    faults: tuple[tuple[int, str], ...] = ()


class ZeekLines(LineDecoding):
    """Decodes the blocks of one log, in their order. Use as a context manager."""

    def __init__(self) -> None:
        self._tables = Tables(FIELDS, LISTS, STREAMS)
        self._reader: JsonReader | None = None
        self._objects: bool | None = None  # whether it is JSON, once that is known
        types = (f"'{name}': 'VARCHAR{'[]' if name in LISTS else ''}'" for name in _JSON)
        self._columns: Final = f"{{{', '.join(types)}}}"

    def __exit__(self, *_: object) -> None:
        if self._reader:
            self._reader.__exit__()

    def remember(self, content: bytes) -> None:
        """Take note of headers in lines that are not wanted."""
        if self._objects is None and (found := _FIRST.search(content)):
            self._objects = found[1] == b"{"
        self._tables.remember(content)

    def decode(self, block: Block) -> Decoded:
        """The flows of a block of lines, each record by itself."""
        told = self.told(block)
        line = [pl.col("line").alias(LINE)] if block.numbered else []
        return Decoded(told.flows.select(*FLOW_SCHEMA.names(), *line), told.bad, told.faults)

    def told(self, block: Block) -> Told:
        """The flows of a block of lines, and of which connections they tell."""
        text, objects = self._apart(block)
        parts = [*(self._text(text) if text else ()), *(self._json(objects) if objects else ())]
        flows = [part.flows for part in parts if part.flows.height]
        faults = sorted(fault for part in parts for fault in part.faults)
        return Told(
            pl.concat(flows) if flows else no_records(),
            sum(part.bad for part in parts),
            tuple(faults[: most_faults(block)]),
        )

    def _apart(self, block: Block) -> tuple[Block | None, Block | None]:
        """The lines of text, then those of JSON: the first line that can tell decides for all."""
        if self._objects is None and (found := _FIRST.search(block.content)):
            self._objects = found[1] == b"{"
            if self._objects and found.start(1):
                at = found.start(1)
                text, rest = block.content[:at], block.content[at:]
                middle = block.start + at
                return (
                    Block(block.start, middle, text, text.count(b"\n")),
                    Block(middle, block.end, rest, rest.count(b"\n")),
                )
        return (None, block) if self._objects else (block, None)

    def _text(self, block: Block) -> Iterator[Told]:
        for section in self._tables.sections(block.content):
            starts = section.starts
            faults = [(block.start + at, why) for at, why in section.faults]
            rows = section.rows.with_row_index("line")
            told, found = _told(rows, section.path or _guessed(section.fields))
            faults += [(block.start + int(starts[row]), why) for row, why in found.faults]
            yield Told(told, section.bad + len(found.bad), tuple(sorted(faults)[:SAMPLES]))

    def _json(self, block: Block) -> Iterator[Told]:
        self._reader = self._reader or JsonReader()
        lines: tuple[list[bytes], list[int]] | None = None
        rows = self._reader.read(block.content, block.count, self._columns)
        if rows is None:
            lines = block.lines()
            rows = self._reader.read_each(lines[0], self._columns)
        rows = rows.with_row_index("line")
        nothing = rows.select(pl.all_horizontal(pl.exclude("line").is_null())).to_series()
        most = most_faults(block)
        if nothing.any():
            lines = lines or block.lines()
            yield _unread(rows["line"].filter(nothing), *lines, most)
            rows = rows.filter(~nothing)
        if block.numbered:
            rows = rows.with_columns(pl.col("line").alias(LINE))
        rows = rows.with_columns(pl.coalesce(name, other) for name, other in _DOTTED.items())
        rows = rows.with_columns(pl.coalesce("_system_name", "@system").alias("_system_name"))
        streams = stream_of(rows, _NAMES)
        whole = []
        bad = 0
        faults: list[tuple[int, str]] = []
        for stream in STREAMS:
            mine = rows.filter(streams == stream)
            if mine.is_empty():
                continue
            told, found = _told(mine, stream)
            whole.append(told)
            bad += len(found.bad)
            if found.faults:
                lines = lines or block.lines()
                faults += [(lines[1][mine["line"][row]], why) for row, why in found.faults]
        flows = pl.concat([no_records(), *whole]).sort("line", maintain_order=True)
        yield Told(flows, bad, tuple(sorted(faults)[:most]))


def _told(rows: pl.DataFrame, stream: str | None) -> tuple[pl.DataFrame, Checked]:
    if stream not in STREAMS:
        return no_records(), Checked(rows, pl.Series(dtype=pl.UInt32))
    return told_flows(rows, stream)


def _guessed(fields: tuple[str, ...]) -> str | None:
    """The log of a text whose header leaves out the path."""
    for stream, field in _OWN_FIELDS.items():
        if field in fields:
            return stream
    return None


def _unread(numbers: pl.Series, lines: list[bytes], starts: list[int], most: int | None) -> Told:
    """Lines of which nothing was read: objects of other logs are passed over, the rest is bad."""
    faults: list[tuple[int, str]] = []
    bad = 0
    for line in numbers:
        try:
            if isinstance(msgspec.json.decode(lines[line]), dict):
                continue
            why = "not a JSON object"
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            why = f"not JSON: {str(error)[:80]}"
        bad += 1
        if most is None or len(faults) < most:
            faults.append((starts[line], why))
    return Told(no_records(), bad, tuple(faults))
