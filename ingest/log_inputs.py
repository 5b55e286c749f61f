"""Files of flow logs as sources: Zeek, NetObserv, goflow2, nfdump, AWS VPC flow logs, CSV."""

import os
import re
from collections.abc import Callable, Sequence
from typing import Final

from sidelong.ingest.csv_flows import CsvLines
from sidelong.ingest.csv_settings import check_csv
from sidelong.ingest.files import InputFile
from sidelong.ingest.goflow2 import Goflow2Lines
from sidelong.ingest.loki import LokiAnswer
from sidelong.ingest.netobserv import NetObservLines
from sidelong.ingest.nfdump import NfdumpArray, NfdumpLines
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.sniff import HEAD_BYTES, is_loki
from sidelong.ingest.source import Source
from sidelong.ingest.unordered import UnorderedFile
from sidelong.ingest.vpc_logs import VpcLines
from sidelong.ingest.zeek_lines import ZeekLines
from sidelong.ingest.zeek_logs import ZeekLog, ZeekLogs

__all__ = ["LOG_SOURCES", "together"]


def together(sources: Sequence[Source]) -> list[Source]:
    """The sources, Zeek's logs in one folder as one: they tell of the same connections."""
    folders: dict[str, list[ZeekLog]] = {}
    places: list[Source | str] = []
    for source in sources:
        if not isinstance(source, ZeekLogs):
            places.append(source)
            continue
        folder = os.path.dirname(source.logs[0].name) or os.curdir
        if folder not in folders:
            places.append(folder)
        folders.setdefault(folder, []).extend(source.logs)
    return [
        _of_folder(folders[place], place) if isinstance(place, str) else place for place in places
    ]


def _of_folder(logs: Sequence[ZeekLog], folder: str) -> Source:
    return ZeekLogs(logs[0].name if len(logs) == 1 else folder, tuple(logs))


def _zeek(file: InputFile, _: InputSettings) -> Source:
    if file.size_bytes is None:
        return UnorderedFile(file.name, file.open, None, ZeekLines)
    return ZeekLogs(file.name, (ZeekLog(file.name, file.open, file.size_bytes),))


def _netobserv(file: InputFile, _: InputSettings) -> Source:
    if is_loki(file.head(HEAD_BYTES)[0]):
        return LokiAnswer(file.name, file.open, file.size_bytes, NetObservLines)
    return UnorderedFile(file.name, file.open, file.size_bytes, NetObservLines)


def _goflow2(file: InputFile, _: InputSettings) -> Source:
    return UnorderedFile(file.name, file.open, file.size_bytes, Goflow2Lines)


def _nfdump(file: InputFile, _: InputSettings) -> Source:
    if re.match(rb"\s*(?:\[|\{[ \t\r]*\n)", file.head(HEAD_BYTES)[0]):  # a field a line
        return NfdumpArray(file.name, file.open, file.size_bytes)
    return UnorderedFile(file.name, file.open, file.size_bytes, NfdumpLines)


def _vpc(file: InputFile, _: InputSettings) -> Source:
    return UnorderedFile(file.name, file.open, file.size_bytes, VpcLines)


def _csv(file: InputFile, settings: InputSettings) -> Source:
    check_csv(settings.csv, file.head(HEAD_BYTES)[0], file.name)
    return UnorderedFile(file.name, file.open, file.size_bytes, lambda: CsvLines(settings.csv))


LOG_SOURCES: Final[dict[str, Callable[[InputFile, InputSettings], Source]]] = {
    "zeek": _zeek,
    "netobserv": _netobserv,
    "goflow2": _goflow2,
    "nfdump": _nfdump,
    "vpc": _vpc,
    "csv": _csv,
}
"""What makes a source of a file of each format."""
