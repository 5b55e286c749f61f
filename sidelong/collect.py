"""Live telemetry, or files, into a folder of Parquet that goes on where it ended."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from rich.text import Text

from sidelong.collector import Collector, Feed
from sidelong.config import read_config
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.durations import length
from sidelong.ingest.flow_folder import FlowFolder
from sidelong.ingest.live import is_url
from sidelong.progress import Reading, total_bytes
from sidelong.resuming import gone, lanes_of, resume
from sidelong.signals import stop_by_signal
from sidelong.terminal import Terminal, plural

__all__ = ["collect"]


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
    lanes = lanes_of(inputs, format, settings)
    with FlowFolder(folder, free_bytes=chosen.free_megabytes << 20) as sink:
        feeds = [feed for lane in lanes for feed in lane]
        sink.forget(gone(sink.state.sources))
        for feed in feeds:
            if told := resume(feed, sink, chosen.overlap_seconds):
                terminal.say(f"sidelong: {told}")

        def say(text: str) -> None:
            with reading.aside():
                terminal.say(f"sidelong: {text}")

        collector = Collector(lanes, sink, chosen, keep=kept, say=say)
        reading = Reading(
            terminal, collector.tally, "collecting", total_bytes([feed.source for feed in feeds])
        )
        try:
            with stop_by_signal() as stop, reading:
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
        source = Path(one).resolve()
        if not is_url(one) and (real == source or real in source.parents or source in real.parents):
            raise ConfigError(
                f"{one} is to be read and {to} to be written, and one lies in the other",
                hint="name another folder with --to",
            )
    return folder


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
