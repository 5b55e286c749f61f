"""Hubble flows saved as lines of JSON: by Cilium's exporter, by `hubble observe -o jsonpb`.

Lines are first read as the exporter writes them. Those that do not fit that are read again in
every shape there is, and what is then still neither a flow nor another Hubble event is bad. What
becomes of a line depends on that line alone, never on those around it.
"""

import json
from collections.abc import Iterator, Sequence

import polars as pl

from sidelong.ingest.hubble_flows import EARLIEST, LATEST, flatten, flows_of
from sidelong.ingest.hubble_shape import EVERY_SHAPE, EXPORTER_SHAPE
from sidelong.ingest.json_lines import JsonDecoding, JsonReader
from sidelong.ingest.line_files import Decoded, most_faults
from sidelong.ingest.lines import Block
from sidelong.ingest.schema import LINE

__all__ = ["HubbleLines"]


class HubbleLines(JsonDecoding):
    """Decodes flows and losses out of lines of Hubble JSON. Use as a context manager."""

    def decode(self, block: Block) -> Decoded:
        """The flows of a block of lines."""
        rows, lines = _rows(self._reader, block)
        if block.numbered:
            rows = rows.with_columns(pl.col("line").alias(LINE))
        unreadable = rows.filter(~pl.col("readable") & ~pl.col("silent"))["line"]
        partial = rows.filter("readable", "is_flow", "partial")["line"]
        if not len(unreadable) and not len(partial):
            return Decoded(flows_of(rows.filter("readable")))
        content, starts = lines or block.lines()
        misread = [line for line in partial if _misfit(content[line])]
        bad = sorted([*unreadable, *misread])
        faults = [(starts[line], _fault(content[line])) for line in bad[: most_faults(block)]]
        good = rows.filter("readable")
        if misread:
            good = good.filter(~pl.col("line").is_in(misread))
        return Decoded(flows_of(good), len(bad), tuple(faults))


_Lines = tuple[list[bytes], list[int]]


def _rows(reader: JsonReader, block: Block) -> tuple[pl.DataFrame, _Lines | None]:
    """One row per line that is not blank, with its number; the lines, if they had to be split."""
    lines: _Lines | None = None
    events = reader.read(block.content, block.count, EXPORTER_SHAPE.columns)
    if events is None:
        lines = block.lines()
        events = reader.read_each(lines[0], EXPORTER_SHAPE.columns)
    rows = flatten(events, EXPORTER_SHAPE).with_row_index("line")

    fits = pl.col("readable") & (pl.col("is_lost") | pl.col("node").is_not_null())
    others = rows.filter(~fits)["line"]
    if not len(others):
        return rows, lines
    lines = lines or block.lines()
    again = [lines[0][line] for line in others]
    events = reader.read_each(again, EVERY_SHAPE.columns)
    reread = flatten(events, EVERY_SHAPE).with_columns(line=others)
    rows = pl.concat([rows.filter(fits), reread.select(rows.columns)]).sort("line")
    return rows, lines


def _misfit(line: bytes) -> str | None:
    """What in a flow is no object but should be, if anything."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):  # of a part that nobody reads: DuckDB could
        return None
    flow = event.get("flow") or event
    parts = {"IP": flow.get("IP"), "l4": flow.get("l4")}
    if isinstance(parts["l4"], dict):
        parts |= parts["l4"]
    wrong = [key for key, part in parts.items() if not isinstance(part, dict | None)]
    return f"{wrong[0]} is no object" if wrong else None


def _fault(line: bytes) -> str:
    """Why a line was left out, in a few words; only the samples are looked at like this."""
    try:
        event = json.loads(line.decode())
    except UnicodeDecodeError:
        return "not UTF-8"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.colno}"
    except (ValueError, RecursionError):
        return "no JSON that can be read: a number or the nesting is out of bounds"
    if not isinstance(event, dict):
        return "not a JSON object"
    flow = event.get("flow", event)
    if not isinstance(flow, dict):
        return "its flow is no object"
    if misfit := _misfit(line):
        return misfit
    if not {"flow", "lost_events", "lostEvents", "verdict", "IP", "l4"} & event.keys():
        return "no Hubble event"
    time = flow.get("time", event.get("time"))
    if not isinstance(time, str):
        return "it has no time"
    if not EARLIEST <= time[:5] < LATEST:
        return f"its time is {_shown(time)}"
    for key, value in _numbers_and_addresses(flow):
        if not _possible(key, value):
            return f"its {key} is {_shown(value)}"
    return f"it cannot be read; its time is {_shown(time)}"


def _numbers_and_addresses(flow: dict[str, object]) -> Iterator[tuple[str, object]]:
    l4 = flow.get("l4")
    transports: Sequence[object] = list(l4.values()) if isinstance(l4, dict) else []
    for group in (flow.get("IP"), *transports):
        if isinstance(group, dict):
            yield from group.items()


def _possible(key: str, value: object) -> bool:
    if key.lower().replace("_", "") in ("sourceport", "destinationport"):
        return str(value).isdecimal() and int(str(value)) < 1 << 16
    if key in ("source", "destination"):
        return isinstance(value, str) and not set(value.lower()) - set("0123456789abcdef.:")
    return True


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
