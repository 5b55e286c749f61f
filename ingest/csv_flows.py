"""Flows out of CSV of any origin, by a mapping of its columns.

A line is one direction of a connection, or, where the mapping has something received, a whole
connection from its client's view. Fields may stand in quotes as in RFC 4180, but not with a newline
in them: a line is a record.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.datatypes import DataTypeClass

from sidelong.ingest.checked_rows import Checked, checked
from sidelong.ingest.csv_settings import RECEIVED, CsvSettings, column_names, fields_of
from sidelong.ingest.exchanges import exchange_flows
from sidelong.ingest.hubble_flows import dns_names
from sidelong.ingest.line_files import SAMPLES, Decoded, LineDecoding
from sidelong.ingest.lines import Block
from sidelong.ingest.one_way import flags_in_number, summed_flags
from sidelong.ingest.schema import FLOW_SCHEMA, VERDICTS, conform, empty_flows
from sidelong.ingest.separated import SeparatedLines, columns_of
from sidelong.ingest.text_values import (
    address_of,
    epoch_time,
    flag_letters,
    is_address,
    iso_time,
    port_of,
    protocol_of,
    seconds_time,
    span,
)

__all__ = ["CsvLines"]

_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_VERDICTS: Final = {
    **{name.lower(): name for name in VERDICTS.categories},
    **dict.fromkeys(("allow", "allowed", "accept", "accepted", "pass", "permit"), "FORWARDED"),
    **dict.fromkeys(
        ("deny", "denied", "drop", "reject", "rejected", "block", "blocked"), "DROPPED"
    ),
}
_YES, _NO = ("true", "t", "yes", "1"), ("false", "f", "no", "0")
_APART: Final = "\x1f"  # ASCII's unit separator, once quotes are gone
_QUOTE: Final = b'"'[0]


class CsvLines(LineDecoding):
    """Decodes lines of CSV by `settings`. Use as a context manager."""

    def __init__(self, settings: CsvSettings) -> None:
        self._settings: Final = settings
        self._first: bytes | None = None  # the line that names the columns, or has as many
        self._columns: tuple[str, ...] = ()

    def remember(self, content: bytes) -> None:
        """Take note of the first line."""
        if self._first is None and content:
            self._first = content.split(b"\n", 1)[0].rstrip(b"\r")
            self._columns = column_names(self._first, self._settings)

    def decode(self, block: Block) -> Decoded:
        """The flows of a block of lines; further lines that name the columns are passed over."""
        self.remember(block.content)
        settings = self._settings
        lines = SeparatedLines(block.content)
        filled = self._records(lines)
        if not filled.size:
            return Decoded(empty_flows())
        rows, good = self._rows(lines, filled)
        odd = np.setdiff1d(filled, good)
        faults = [(line, f"it has not {len(self._columns):,} fields") for line in odd[:SAMPLES]]
        found = _checked(rows, settings)
        faults += [(good[row], why) for row, why in found.faults]
        placed = sorted((block.start + int(lines.starts[line]), why) for line, why in faults)
        bad = odd.size + len(found.bad)
        return Decoded(_flows(found.rows, settings), bad, tuple(placed[:SAMPLES]))

    def _records(self, lines: SeparatedLines) -> NDArray[np.int64]:
        """The lines that hold something else than the names of the columns."""
        filled = lines.filled(0, lines.ends.size)
        if not self._settings.header or self._first is None:
            return filled
        length = lines.ends[filled] - lines.starts[filled]
        alike = filled[np.abs(length - len(self._first)) <= 1]
        names = [line for line in alike.tolist() if lines.line(line) == self._first]
        return np.setdiff1d(filled, np.array(names, np.int64))

    def _rows(
        self, lines: SeparatedLines, filled: NDArray[np.int64]
    ) -> tuple[pl.DataFrame, NDArray[np.int64]]:
        """The columns that are mapped, of the lines that have as many fields as the first, which
        they are.
        """
        quoted = lines.fields(filled, _QUOTE) > 1
        plain, others = filled[~quoted], filled[quoted]
        delimiter, width = self._settings.delimiter, len(self._columns)
        plain = plain[lines.fields(plain, delimiter.encode()[0]) == width]
        rows = self._parsed(lines.joined(plain), plain.size, delimiter)
        if not others.size:
            return rows, plain
        fields = [fields_of(lines.line(line), delimiter) for line in others.tolist()]
        fit = np.array([len(row) == width for row in fields])
        texts = (
            _APART.join(field.replace(_APART, " ") for field in row)
            for row in fields
            if len(row) == width
        )
        text = "".join([*(f"{row}\n" for row in texts)]).encode()
        both = pl.concat([rows, self._parsed(text, int(fit.sum()), _APART)])
        good = np.concatenate([plain, others[fit]])
        order = np.argsort(good)
        return both[pl.Series(order)], good[order]

    def _parsed(self, text: bytes, count: int, separator: str) -> pl.DataFrame:
        theirs = tuple(dict.fromkeys(self._settings.columns.values()))
        unset = self._settings.unset
        return columns_of(text, count, self._columns, theirs, separator=separator, unset=unset)


def _checked(rows: pl.DataFrame, settings: CsvSettings) -> Checked:
    """The rows by the names of ours, with a column `at` for the time."""
    ours = rows.select(pl.col(theirs).alias(name) for name, theirs in settings.columns.items())
    checks: dict[str, pl.Expr] = {
        "time": pl.col("at").is_not_null(),
        **{name: is_address(pl.col(name)) for name in ("src_ip", "dst_ip") if name in ours.columns},
        **{
            name: port_of(pl.col(name)).is_not_null() | pl.col(name).is_null()
            for name in ("src_port", "dst_port")
            if name in ours.columns
        },
    }
    return checked(ours.with_columns(at=_time(pl.col("time"), settings)), checks)


def _time(text: pl.Expr, settings: CsvSettings) -> pl.Expr:
    if settings.time_unit == "s":
        return seconds_time(text)
    if settings.time_unit:
        return epoch_time(text, _PER_SECOND[settings.time_unit])
    if settings.time_format is None:
        return iso_time(text)
    time = text.str.to_datetime(settings.time_format, time_unit="us", strict=False)
    if "%z" in settings.time_format or "%+" in settings.time_format:
        time = time.dt.convert_time_zone("UTC")
    else:
        time = time.dt.replace_time_zone("UTC")
    return pl.when(time.dt.year().is_between(1970, 2099)).then(time).cast(FLOW_SCHEMA["time"])


def _flows(rows: pl.DataFrame, settings: CsvSettings) -> pl.DataFrame:
    if rows.is_empty():
        return empty_flows()
    given = {name: pl.col(name) for name in rows.columns}
    values = {name: _VALUES[name](text) for name, text in given.items() if name in _VALUES}
    values["time"] = pl.col("at")
    if "end" in given:
        values["end"] = pl.max_horizontal("at", _time(given["end"], settings))
    elif "duration" in given:
        number = given["duration"].cast(pl.Float64, strict=False)
        values["end"] = pl.col("at") + span(number / _PER_SECOND[settings.duration_unit])
    values["origin"] = pl.lit("csv")
    if "protocol" in values:
        ported = values["protocol"].is_in(["TCP", "UDP", "SCTP"]) | values["protocol"].is_null()
        values |= {
            name: pl.when(ported).then(values[name])
            for name in ("src_port", "dst_port")
            if name in values
        }
    if "dns_name" in given:
        values["dns_name"] = pl.lit(dns_names(rows["dns_name"]))
    if set(RECEIVED) & given.keys():
        return _exchanges(rows.select(**values))
    if "tcp_flags" in values:
        values["tcp_flags"] = summed_flags(
            values["tcp_flags"], values.get("packets", pl.lit(None, pl.UInt64))
        )
    return conform(rows.select(**values))


def _exchanges(values: pl.DataFrame) -> pl.DataFrame:
    """Whole connections: what was received, if anything, answers what was sent."""
    received = pl.any_horizontal(
        (pl.col(name) > 0).fill_null(False) for name in RECEIVED if name in values.columns
    )
    denied = pl.lit(False)
    if "verdict" in values.columns:
        denied = (pl.col("verdict") == "DROPPED").fill_null(False)
    ends = {
        f"{old}{part}": f"{new}{part}"
        for old, new in (("src", "client"), ("dst", "server"))
        for part in ("", "_ip", "_port", "_pod", "_principal")
    }
    sent = {"bytes": "bytes_sent", "packets": "packets_sent"}
    names = {old: new for old, new in (ends | sent).items() if old in values.columns}
    return exchange_flows(
        values.with_columns(
            outcome=pl.when(denied)
            .then(pl.lit("DENIED"))
            .when(received)
            .then(pl.lit("ANSWERED"))
            .otherwise(pl.lit("UNANSWERED"))
        ).rename(names)
    )


def _boolean(text: pl.Expr) -> pl.Expr:
    low = text.str.to_lowercase()
    return pl.when(low.is_in(_YES)).then(True).when(low.is_in(_NO)).then(False)


def _number(kind: DataTypeClass) -> Callable[[pl.Expr], pl.Expr]:
    """A whole number, which some tools write with a fraction of .0."""
    return lambda text: text.str.strip_suffix(".0").cast(kind, strict=False)


_VALUES: Final[dict[str, Callable[[pl.Expr], pl.Expr]]] = {
    **{name: address_of for name in ("src_ip", "dst_ip")},
    **{name: port_of for name in ("src_port", "dst_port")},
    **{
        name: lambda text: text
        for name, kind in FLOW_SCHEMA.items()
        if kind == pl.String and name not in ("src_ip", "dst_ip", "origin")
    },
    **{
        name: _number(pl.UInt64)
        for name in ("packets", "bytes", "packets_received", "bytes_received")
    },
    "protocol": protocol_of,
    "verdict": lambda text: (
        text.str.to_lowercase()
        .replace_strict(_VERDICTS, default=None, return_dtype=pl.String)
        .cast(VERDICTS)
    ),
    "tcp_flags": lambda text: pl.coalesce(flags_in_number(text), flag_letters(text)),
    "reply": _boolean,
    "encrypted": _boolean,
    "dns_rcode": _number(pl.UInt8),
    "dns_answer_bytes": _number(pl.UInt32),
    "status": _number(pl.UInt16),
    "count": _number(pl.UInt32),
}
