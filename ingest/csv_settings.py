"""How CSV of any origin is read: which column is what, checked before the first line is read."""

import csv
from typing import Final, Literal

import msgspec

from sidelong.errors import ConfigError
from sidelong.ingest.schema import FLOW_SCHEMA

__all__ = ["RECEIVED", "CsvSettings", "check_csv", "column_names", "fields_of"]

RECEIVED: Final = ("bytes_received", "packets_received")
"""Columns of whole connections, of which the answer is told too."""

_UNITS = Literal["s", "ms", "us", "ns"]
_NOT_MAPPED: Final = ("dns_answers", "lost", "origin")
_OURS: Final = (
    *(name for name in FLOW_SCHEMA if name not in _NOT_MAPPED),
    *("duration", *RECEIVED),
)
_MOST_NAMED: Final = 60


class CsvSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to read CSV: which column is what.

    columns: for each column of flows the name that it has in the file, or, without a header, its
    number from 1. delimiter: one character between fields. header: whether the first line names the
    columns. time_unit: of times that are numbers since 1970; time_format: of those that are dates,
    as in strftime; without either they are as in ISO 8601. Without an offset they are UTC.
    duration_unit: of `duration`. unset: what stands where there is nothing.
    """

    columns: dict[str, str] = {}  # msgspec copies it
    delimiter: str = ","
    header: bool = True
    time_unit: _UNITS | None = None
    time_format: str | None = None
    duration_unit: _UNITS = "s"
    unset: str = ""


def check_csv(settings: CsvSettings, head: bytes, name: str) -> None:
    """Whether a file that begins with `head` can be read by `settings`.

    Errors: ConfigError for a mapping that is incomplete, or of which the file knows nothing.
    """
    example = 'columns = {time = "Timestamp", src_ip = "Source", dst_ip = "Destination"}'
    if not settings.columns:
        raise ConfigError(
            f"{name} is CSV, and nothing says what its columns are",
            hint=f"write a section [csv] with {example}, and give it with --config",
        )
    unknown = [ours for ours in settings.columns if ours not in _OURS]
    if unknown:
        raise ConfigError(
            f"csv.columns has {unknown[0]}, which is no column of a flow",
            hint=f"there are {', '.join(_OURS)}",
        )
    pairs = [("src_ip", "dst_ip"), ("src", "dst")]
    if "time" not in settings.columns or not any(
        set(pair) <= settings.columns.keys() for pair in pairs
    ):
        raise ConfigError(
            f"csv.columns has {', '.join(settings.columns)}, which tells no flow",
            hint="it needs time, and src_ip and dst_ip, or src and dst",
        )
    if len(settings.delimiter.encode()) != 1 or settings.delimiter in '"\r\n':
        raise ConfigError(
            f"csv.delimiter is {settings.delimiter!r}", hint='one character, such as "," or "\\t"'
        )
    there = column_names(head.split(b"\n", 1)[0], settings)
    missing = [theirs for theirs in settings.columns.values() if theirs not in there]
    if missing:
        raise ConfigError(
            f"{name} has no column {missing[0]!r}, which csv.columns names",
            hint=f"its columns are {', '.join(map(repr, there[:_MOST_NAMED]))}",
        )


def column_names(line: bytes, settings: CsvSettings) -> tuple[str, ...]:
    """The names of the columns in the first line; without a header, their numbers from 1."""
    fields = fields_of(line.removeprefix(b"\xef\xbb\xbf"), settings.delimiter)
    if settings.header:
        return tuple(field.strip() for field in fields)
    return tuple(str(number) for number in range(1, len(fields) + 1))


def fields_of(line: bytes, delimiter: str) -> list[str]:
    """The fields of a line without their quotes."""
    text = line.rstrip(b"\r").decode(errors="replace").replace("\0", "")
    try:
        return next(csv.reader([text], delimiter=delimiter), [""])
    except csv.Error:  # a field of more than 128 KiB
        return [""]
