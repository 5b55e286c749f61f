"""Live telemetry, or files, into a folder of Parquet or a topic, going on where that ended."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.text import Text

from sidelong.collect_settings import CollectSettings
from sidelong.collector import Collector, Feed
from sidelong.config import read_config
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.durations import length
from sidelong.ingest.flow_folder import FlowFolder
from sidelong.ingest.live import is_url
from sidelong.ingest.topic_address import TopicAddress, is_topic, topic_address
from sidelong.progress import Reading, total_bytes
from sidelong.resuming import gone, lanes_of, resume
from sidelong.signals import stop_by_signal
from sidelong.terminal import Terminal, plural

if TYPE_CHECKING:
    from sidelong.ingest.topic_sink import TopicSink

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
    """Collect `inputs` into `to`, a folder or a topic of Kafka; returns 0.

    Ends with the files, or for live sources on SIGINT or SIGTERM, after `duration`, or with the
    batch that brings `most_flows`. A topic among the inputs is followed; into another topic it is
    shared with all who do the same. Errors: ConfigError for options, settings and a folder that
    cannot be used, SourceError for a source that cannot be read and a topic that cannot be written;
    what came before is written.
    """
    settings = read_config(config)
    given = {"rotate_rows": rotate_rows, "rotate_seconds": rotate_seconds, "keep": keep}
    chosen = msgspec.structs.replace(
        settings.collect, **{name: value for name, value in given.items() if value is not None}
    )
    kept = length(chosen.keep, "--keep") if chosen.keep else None
    seconds = length(duration, "--for").total_seconds() if duration else None
    target = None
    if is_topic(to):
        chosen = _of_topic(chosen, rotate_rows, rotate_seconds)
        target = topic_address(to, settings.kafka)
        if any(map(is_topic, inputs)):
            from sidelong.relaying import relayed  # Kafka's client: for topics alone

            return relayed(
                inputs, target, terminal, settings, chosen, seconds=seconds, most_flows=most_flows
            )
    folder = None if target else _target(to, inputs)
    place = target.url if target else str(folder)
    lanes = lanes_of(inputs, format, settings, lambda text: terminal.say(f"sidelong: {text}"))
    with _sink(folder, target, chosen) as sink:
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
                    step=lambda: reading.update([_line(collector, place)]),
                )
        except OSError as error:
            raise sink.unwritable(error) from error
        finally:
            _summary(terminal, collector, place, reading.rate)
            _counters(terminal, feeds)
    if not collector.tally.flows and collector.tally.bad.count:
        raise SourceError(
            f"none of {plural(collector.tally.bad.count, 'row')} could be read",
            hint="say what the input is with --format",
        )
    return 0


def _of_topic(chosen: CollectSettings, rows: int | None, seconds: float | None) -> CollectSettings:
    """What counts for a topic: soon, unless it was said otherwise."""
    soon = chosen.of_topic()
    return msgspec.structs.replace(
        soon,
        rotate_rows=rows or soon.rotate_rows,
        rotate_seconds=seconds or soon.rotate_seconds,
    )


def _sink(
    folder: Path | None, target: TopicAddress | None, chosen: CollectSettings
) -> "FlowFolder | TopicSink":
    if folder is not None:
        return FlowFolder(folder, free_bytes=chosen.free_megabytes << 20)
    from sidelong.ingest.topic_sink import TopicSink  # Kafka's client: for topics alone

    assert target is not None
    return TopicSink(target)


def _target(to: str, inputs: Sequence[str]) -> Path:
    """The folder to write to, which must not be where we read from."""
    if is_url(to):
        raise ConfigError(
            f"--to is {to}, and flows are collected into a folder or a topic",
            hint="name a folder, as --to flows, or a topic, as --to kafka://HOST:PORT/TOPIC",
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


def _line(collector: Collector, place: str) -> Text:
    parts = [plural(collector.tally.flows, "flow"), f"{collector.held:,} held"]
    if collector.tally.lost:
        parts.append(f"{collector.tally.lost:,} lost")
    if collector.written.last and not is_url(place):
        parts.append(f"last file {collector.written.last}")
    return Text("  " + ", ".join(parts), style="dim")


def _summary(terminal: Terminal, collector: Collector, place: str, rate: float) -> None:
    tally, written = collector.tally, collector.written
    terminal.bad_rows(tally.bad.count, tally.bad.samples)
    if not written.rows:
        terminal.say("sidelong: there was no flow to collect that is not there already")
    else:
        size = written.size_bytes / (1 << 20)
        into = plural(written.files, "message" if is_url(place) else "file")
        terminal.tell(
            f"collected {tally} into {into} in {place}, {size:,.1f} MiB, {rate:,.0f} flows/s"
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
