"""Plays recorded flows into flows.raw as if they happened now, as an exporter of flow logs does.

    python compose/generator.py examples/shop-incident/test.hubble.jsonl.zst --speed 1

The times are those of the recording, moved; nothing else is changed.
"""

import argparse
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Final, NamedTuple

import zstandard

from sidelong.config import read_config
from sidelong.errors import SidelongError
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.kafka_topics import RAW

__all__ = ["Message", "messages", "play", "restamped"]

_TIME: Final = re.compile(r'"time": ?"([0-9T:.-]+)Z"')
_NODE: Final = re.compile(r'"node_name": ?"([^"]+)"')
_SLICE: Final = timedelta(milliseconds=50)
"""What happens within so long goes in one message, as from an agent that writes now and then."""


class Message(NamedTuple):
    """Lines of one node. due: since the first line of the recording."""

    due: timedelta
    node: str
    lines: tuple[str, ...]


def messages(lines: Iterable[str]) -> Iterator[Message]:
    """The recording in messages, in the order of their time; `lines` must be in it.

    A message is due when its last line happened, so that nothing comes before its time.
    """
    first: datetime | None = None
    slot = timedelta()
    waiting: dict[str, list[str]] = {}
    for line in lines:
        time_, node = _happened(line), _NODE.search(line)
        first = first or time_
        if time_ - first >= slot + _SLICE:
            yield from (Message(slot + _SLICE, name, tuple(held)) for name, held in waiting.items())
            waiting, slot = {}, (time_ - first) // _SLICE * _SLICE
        waiting.setdefault(node[1] if node else "", []).append(line)
    yield from (Message(slot + _SLICE, name, tuple(held)) for name, held in waiting.items())


def restamped(line: str, by: timedelta) -> str:
    """The line as if it had happened `by` later; the digits below a microsecond stay."""
    (old, *_) = _TIME.findall(line)
    moved = (_happened(line) + by).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return line.replace(old, moved + old[len(moved) :])


def play(path: Path, producer: KafkaProducer, topic: str, *, speed: float, stop: Event) -> int:
    """Send the recording at `speed` times its own; returns how many flows were sent.

    Its last flow bears the time at which it is sent, the others those that belong to it. Errors:
    KafkaError.
    """
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    if not lines:
        return 0
    begins = datetime.now(UTC)
    lasts = _happened(lines[-1]) - _happened(lines[0])
    by = begins + lasts / speed - lasts - _happened(lines[0])
    sent = 0
    for message in messages(lines):
        wait = (begins + message.due / speed - datetime.now(UTC)).total_seconds()
        if stop.is_set() or (wait > 0 and stop.wait(wait)):
            break
        value = "\n".join(restamped(line, by) for line in message.lines).encode()
        producer.send(topic, value, key=message.node.encode())
        sent += len(message.lines)
    producer.flush()
    return sent


def _happened(line: str) -> datetime:
    found = _TIME.search(line)
    if found is None:
        raise ValueError(f"a line without a time: {line[:80]}")
    return datetime.fromisoformat(found[1][:26]).replace(tzinfo=UTC)


def main() -> int:
    """Play the files, once or until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="flows as Hubble exports them, .zst")
    parser.add_argument("--config", help="where Kafka is; else the environment says")
    parser.add_argument("--speed", type=float, default=1.0, help="as a multiple of the true one")
    parser.add_argument("--forever", action="store_true", help="begin again at the end; speed 1")
    options = parser.parse_args()
    if options.speed <= 0 or (options.forever and options.speed != 1):
        parser.error("--speed must be above 0, and 1 with --forever, or time would go backwards")
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = read_config(options.config).kafka
        producer = KafkaProducer(settings, "generator")
        try:
            while not stop.is_set():
                for path in options.files:
                    began = time.monotonic()
                    sent = play(path, producer, settings.topic(RAW), speed=options.speed, stop=stop)
                    took = time.monotonic() - began
                    print(f"generator: {sent:,} flows of {path} in {took:.0f} s", flush=True)
                if not options.forever:
                    break
        finally:
            producer.close()
    except SidelongError as error:
        print(f"generator: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
