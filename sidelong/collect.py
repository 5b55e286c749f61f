"""Live telemetry, or files, into a folder of Parquet that goes on where it ended."""

import hashlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
from rich.text import Text

from sidelong.collector import Collector, CollectSettings, Feed
from sidelong.config import Config, read_config
from sidelong.durations import length
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.flow_folder import FlowFolder, SourceState
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.known_rows import KnownRows
from sidelong.ingest.live import is_url
from sidelong.ingest.source import Source
from sidelong.progress import Reading, total_bytes
from sidelong.terminal import Terminal, plural, printable

__all__ = ["collect"]

_NS: Final = 1_000_000_000
_HEAD_BYTES: Final = 4_096
_A_TIME: Final = 10**18  # positions beyond are nanoseconds: 2001 and later


def collect(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    to: str,
    format: str | None = None,
    config: str | None = None,
    rotate_rows: int | None = None,
    rotate_seconds: int | None = None,
    keep: str | None = None,
    duration: str | None = None,
    most_flows: int | None = None,
) -> int:
    """Collect `inputs` into the folder `to`; returns 0.

    Ends with the files, or for live sources on SIGINT or SIGTERM, after `duration`, or with the
    batch that brings `most_flows`. Errors: ConfigError for options, settings and a folder that
    cannot be used, SourceError for a source that cannot be read; what came before it is written.
    """
    settings = read_config(config)
    given = {"rotate_rows": rotate_rows, "rotate_seconds": rotate_seconds, "keep": keep}
    chosen = msgspec.structs.replace(
        settings.collect, **{name: value for name, value in given.items() if value is not None}
    )
    kept = length(chosen.keep, "--keep") if chosen.keep else None
    seconds = length(duration, "--for").total_seconds() if duration else None
    folder = _target(to, inputs)
    lanes = _lanes(inputs, format, settings)
    with FlowFolder(folder, free_bytes=chosen.free_megabytes << 20) as sink:
        for lane in lanes:
            for feed in lane:
                _resume(feed, sink, chosen, terminal)
        collector = Collector(
            lanes, sink, chosen, keep=kept, say=lambda text: terminal.say(f"sidelong: {text}")
        )
        feeds = [feed for lane in lanes for feed in lane]
        reading = Reading(
            terminal, collector.tally, "collecting", total_bytes([feed.source for feed in feeds])
        )
        try:
            with _stop_by_signal() as stop, reading:
                collector.run(
                    stop,
                    seconds=seconds,
                    most_flows=most_flows,
                    step=lambda: reading.update([_line(collector)]),
                )
        except OSError as error:
            raise sink.unwritable(error) from error
        finally:
            _summary(terminal, collector, folder, reading.rate)
            _counters(terminal, feeds)
    if not collector.tally.flows and collector.tally.bad.count:
        raise SourceError(
            f"none of {plural(collector.tally.bad.count, 'row')} could be read",
            hint="say what the input is with --format",
        )
    return 0


def _target(to: str, inputs: Sequence[str]) -> Path:
    """The folder to write to, which must not be where we read from."""
    if is_url(to):
        raise ConfigError(
            f"--to is {to}, and flows can only be collected into a folder so far",
            hint="name a folder, as --to flows",
        )
    folder = Path(to)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--to is {to}, which is a file", hint="name a folder, as --to flows")
    real = folder.resolve()
    for one in inputs:
        if not is_url(one) and (Path(one).resolve() == real or real in Path(one).resolve().parents):
            raise ConfigError(
                f"{one} lies in {to}, where the flows are to be written",
                hint="name another folder with --to",
            )
    return folder


def _lanes(inputs: Sequence[str], format: str | None, settings: Config) -> list[list[Feed]]:
    """What is read at the same time: each live source, and all files one after the other."""
    files = [path for path in inputs if not is_url(path)]
    lanes = [[_live(url, settings)] for url in dict.fromkeys(inputs) if is_url(url)]
    if files:
        lanes.append([_recorded(source) for source in open_inputs(files, format, settings)])
    return lanes


def _live(url: str, settings: Config) -> Feed:
    (source,) = open_inputs([url], None, settings)
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]  # who we are is no part of which source it is
    return Feed(
        urlunsplit(parts._replace(netloc=host)), source, close=getattr(source, "close", None)
    )


def _recorded(source: Source) -> Feed:
    path = os.path.realpath(source.name)
    state = SourceState(fingerprint=_fingerprint(path))
    return Feed(f"file:{path}", source, state, resumable=state.fingerprint is not None)


def _fingerprint(path: str, size: int = _HEAD_BYTES) -> str | None:
    """How a file begins, or what a folder lists; None for what cannot be read twice."""
    if os.path.isdir(path):
        names = sorted(f"{entry.name} {entry.stat().st_size}" for entry in os.scandir(path))
        return f"folder:{hashlib.sha256(chr(10).join(names).encode(errors='replace')).hexdigest()}"
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        head = file.read(size)
    return f"{len(head)}:{hashlib.sha256(head).hexdigest()}"


def _resume(feed: Feed, sink: FlowFolder, settings: CollectSettings, terminal: Terminal) -> None:
    """Let the feed go on where what is written of it ends."""
    before = sink.state.sources.get(feed.key)
    if before is None or not feed.resumable:
        return
    if feed.close is not None:
        _resume_live(feed, before, sink, settings.overlap_seconds * _NS)
        terminal.say(f"sidelong: going on with {feed.key} where {sink.path} ends")
        return
    name = printable(feed.source.name)
    size = (before.fingerprint or "").partition(":")[0]
    path = feed.key.removeprefix("file:")
    same = _fingerprint(path, int(size) if size.isdecimal() else _HEAD_BYTES) == before.fingerprint
    if not same:
        terminal.say(f"sidelong: {name} is another file than the one collected before")
    elif before.position:
        feed.state = msgspec.structs.replace(before, ended=False)
        terminal.say(f"sidelong: going on with {name} where {sink.path} ends")


def _resume_live(feed: Feed, before: SourceState, sink: FlowFolder, overlap_ns: int) -> None:
    """Go on from where the files end; for a source that resumes by time, from a little before.

    Its flows come nearly in the order of time, not strictly: a node that lagged has earlier ones
    to tell yet. What it tells again is known from the files.
    """
    feed.state = msgspec.structs.replace(before, ended=False)
    if before.newest_ns is None:
        return
    reached = before.newest_ns
    if before.position > _A_TIME:
        reached = min(reached, before.position)
        feed.state = msgspec.structs.replace(feed.state, position=reached - overlap_ns)
    feed.known = KnownRows(sink.rows_since(feed.key, reached - overlap_ns), reached + overlap_ns)


@contextmanager
def _stop_by_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal does what it always did."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may say what signals do
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}

    def ended(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)

    for one in before:
        signal.signal(one, ended)
    try:
        yield stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler or signal.SIG_DFL)


def _line(collector: Collector) -> Text:
    parts = [plural(collector.tally.flows, "flow"), f"{collector.held:,} held"]
    if collector.tally.lost:
        parts.append(f"{collector.tally.lost:,} lost")
    if collector.files:
        parts.append(f"last file {collector.files[-1].path}")
    return Text("  " + ", ".join(parts), style="dim")


def _summary(terminal: Terminal, collector: Collector, folder: Path, rate: float) -> None:
    tally = collector.tally
    terminal.bad_rows(tally.bad.count, tally.bad.samples)
    written = sum(file.rows for file in collector.files)
    if not written:
        terminal.say("sidelong: there was no flow to collect that is not there already")
    else:
        size = sum(file.size_bytes for file in collector.files) / (1 << 20)
        terminal.tell(
            f"collected {tally} into {plural(len(collector.files), 'file')} in {folder}, "
            f"{size:,.1f} MiB, {rate:,.0f} flows/s"
        )
    for count, what in (
        (tally.lost, "lost before they reached us"),
        (collector.repeated, "given again by their source and left out"),
        (collector.held, "not written"),
    ):
        if count:
            terminal.say(f"{plural(count, 'event' if 'lost' in what else 'flow')} {what}")
    if collector.pruned:
        terminal.say(f"{plural(collector.pruned, 'file')} older than --keep deleted")


def _counters(terminal: Terminal, feeds: Sequence[Feed]) -> None:
    """What live sources count."""
    for feed in feeds:
        counters = getattr(feed.source, "counters", None)
        if counters is None:
            continue
        with suppress(Exception):  # a closing word is not worth an error
            told = ", ".join(f"{name} {count:,}" for name, count in counters().items())
            terminal.say(f"{feed.key}: {told}")
