"""What was named on the command line, as sources: files, folders, patterns, "-", URLs."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Final

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.envoy_logs import envoy_json, envoy_lines
from sidelong.ingest.files import STANDARD_INPUT, InputFile
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.line_files import LineDecoder, LineFile
from sidelong.ingest.linkerd_logs import linkerd_json, linkerd_lines
from sidelong.ingest.live import is_live, open_live
from sidelong.ingest.live_together import LiveTogether
from sidelong.ingest.log_inputs import LOG_SOURCES, together
from sidelong.ingest.otlp_logs import OtlpLines
from sidelong.ingest.parquet import ParquetFile
from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.sniff import FORMATS, HEAD_BYTES, format_of
from sidelong.ingest.source import BadRows, Batch, Source
from sidelong.ingest.topic_address import is_topic, topic_address
from sidelong.ingest.ztunnel_logs import ztunnel_json, ztunnel_lines

__all__ = ["FORMATS", "open_inputs"]

_Opener = Callable[[InputFile, InputSettings], Source]


def open_inputs(
    paths: Sequence[str],
    format: str | None = None,
    settings: InputSettings = InputSettings(),  # noqa: B008, a frozen value
) -> list[Source]:
    """A source for each of `paths`: files, folders with all that is in them, patterns, "-", URLs.

    format: one of `FORMATS`; else each file is what it begins like. A file that is named twice is
    read once. A topic of Kafka is a source for each of its partitions, up to where it ends now.
    Nothing is decoded yet. Errors: SourceError for what cannot be opened, is of no known format or
    not of `format`, for folders and patterns without a capture, and when there is nothing in any of
    them. ConfigError for URLs beside files, for what is live has no end.
    """
    urls = list(dict.fromkeys(path for path in paths if is_live(path)))
    files = [path for path in paths if not is_live(path)]
    if urls and files:
        raise ConfigError(
            f"{urls[0]} is live, and {files[0]} is not: they cannot be merged by time",
            hint="give what is live alone, or collect it and replay what was collected",
        )
    if urls:
        live = [open_live(url, settings) for url in urls]
        return [live[0] if len(live) == 1 else LiveTogether(live)]
    topics = list(dict.fromkeys(path for path in files if is_topic(path)))
    files = [path for path in files if not is_topic(path)]
    sources = together([_source(file, format, settings) for file in _files(files, format)])
    for url in topics:
        sources += _partitions(url, settings)
    empty = [source.name for source in sources if isinstance(source, _EmptyFile)]
    if empty and len(empty) == len(sources):
        raise SourceError(
            f"{', '.join(empty[:3])}{' and others' if len(empty) > 3 else ''}: empty, not one byte",
            hint="look at what should have written it",
        )
    return sources


def _partitions(url: str, settings: InputSettings) -> Sequence[Source]:
    from sidelong.ingest.topic_source import partitions_of  # Kafka's client: for topics alone

    return partitions_of(topic_address(url, settings.kafka), settings, follow=False)


@dataclass(frozen=True, slots=True)
class _EmptyFile:
    """No flow, which is worth a word where others were expected to have some."""

    name: str
    size_bytes: int | None

    def batches(self, since: int = 0) -> Iterator[Batch]:
        yield Batch(empty_flows(), 0, self.size_bytes or 0, BadRows(1, (f"{self.name}: empty",)))


def _hubble(file: InputFile, _: InputSettings) -> Source:
    return LineFile(file.name, file.open, file.size_bytes, HubbleLines)


def _otlp(file: InputFile, settings: InputSettings) -> Source:
    lines = OtlpLines(settings.envoy)  # at once: a format that cannot be read is an error
    return LineFile(file.name, file.open, file.size_bytes, lambda: lines)


def _log(decoder: Callable[[InputSettings], AbstractContextManager[LineDecoder]]) -> _Opener:
    def opened(file: InputFile, settings: InputSettings) -> Source:
        decoder(settings)  # at once: a format that cannot be read is an error
        return LineFile(file.name, file.open, file.size_bytes, lambda: decoder(settings))

    return opened


def _pcap(file: InputFile, _: InputSettings) -> Source:
    return PcapFile(file.name, file.open, file.size_bytes)


def _parquet(file: InputFile, _: InputSettings) -> Source:
    if file.size_bytes is None or file.path == STANDARD_INPUT:
        raise SourceError(
            f"{file.name} is Parquet or Arrow, which cannot be read from a pipe",
            hint="save it to a file and give that",
        )
    with file.open() as stream:
        if stream.packing:
            raise SourceError(
                f"{file.name} is {stream.packing} around Parquet or Arrow, which is read in places",
                hint="unpack it; it is compressed inside already",
            )
    return ParquetFile(file.name, Path(file.path))


_SOURCES: Final[dict[str, _Opener]] = {
    "envoy": _log(lambda settings: envoy_lines(settings.envoy)),
    "envoy-json": _log(lambda settings: envoy_json(settings.envoy)),
    "linkerd": _log(lambda settings: linkerd_lines(settings.linkerd)),
    "linkerd-json": _log(lambda settings: linkerd_json(settings.linkerd)),
    "ztunnel": _log(lambda _: ztunnel_lines()),
    "ztunnel-json": _log(lambda _: ztunnel_json()),
    "hubble": _hubble,
    "otlp-json": _otlp,
    "pcap": _pcap,
    "parquet": _parquet,
    **LOG_SOURCES,
}


def _source(file: InputFile, format: str | None, settings: InputSettings) -> Source:
    head, damage = file.head(HEAD_BYTES)
    if not head:
        if damage:
            raise SourceError(
                f"{file.name} is {damage}: nothing of it can be read", hint="fetch it once more"
            )
        return _EmptyFile(file.name, file.size_bytes)
    return _SOURCES[_agreed(file, head, format)](file, settings)


def _agreed(file: InputFile, head: bytes, format: str | None) -> str:
    """`format`, unless the file is plainly of another; without one, what it looks like."""
    if format is None:
        return format_of(head, file.name)
    try:
        looks = format_of(head, file.name)
    except SourceError:
        return format  # its decoder says what is wrong, with more to go by
    if looks != format:
        raise SourceError(
            f"{file.name} is not {format}, it looks like {looks}",
            hint=f"leave out --format, or say --format {looks}",
        )
    return format


def _files(paths: Sequence[str], format: str | None) -> Iterator[InputFile]:
    seen: set[str] = set()
    for path in paths:
        for file in _named(path, format):
            real = file.path if file.path == STANDARD_INPUT else os.path.realpath(file.path)
            if real not in seen:
                seen.add(real)
                yield file


def _named(path: str, format: str | None) -> Iterator[InputFile]:
    if path == STANDARD_INPUT:
        yield InputFile(path)
    elif os.path.isdir(path):
        yield from _captures(path, format)
    elif has_magic(path) and not os.path.lexists(path):
        matches = sorted(glob(path, recursive=True))
        if not matches:
            raise SourceError(f"no file matches {path}", hint="check the pattern, or its folder")
        for match in matches:
            if os.path.isdir(match):
                yield from _captures(match, format)
            else:
                yield InputFile(match)
    else:
        yield InputFile(path)


def _captures(folder: str, format: str | None) -> Iterator[InputFile]:
    """The files below `folder` that begin like a capture; hidden ones are not looked at."""
    looked_at = found = 0
    for path in _walk(folder):
        looked_at += 1
        file = InputFile(path)
        head, _ = file.head(HEAD_BYTES)
        try:
            looks = format_of(head, path)
        except SourceError:
            continue
        if format in (None, looks):
            found += 1
            yield file
    if not found:
        wanted = format or f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise SourceError(
            f"there is no capture in {folder}: none of {looked_at:,} files is {wanted}",
            hint="name a file, and with --format what it is",
        )


def _walk(folder: str) -> Iterator[str]:
    for above, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(above, name)
            if not name.startswith(".") and os.path.isfile(path):
                yield path
