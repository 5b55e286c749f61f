"""How a role reads from Kafka: from where its snapshot ends, and how far behind it is.

A position is always set explicitly: to the offset that a snapshot carries, so that state and
position belong together; without one to what was committed; without that to the beginning.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from sidelong.ingest.kafka_client import Partition
from sidelong.ingest.kafka_consumer import KafkaConsumer, Polled
from sidelong.role import Labelled, Measures

__all__ = ["Reader", "Snapshots", "numbered"]


class Snapshots(Protocol):
    """Where the state of roles is kept between two lives: a `StateStore`."""

    @property
    def last_bytes(self) -> int:
        """The size of what was kept last."""
        ...

    def load(self, name: str) -> dict[str, Any] | None:
        """The newest that can be read; None where there is none."""
        ...

    def save(self, name: str, state: dict[str, Any]) -> object:
        """Keep it; whole or not at all. Errors: SidelongError when it cannot be kept."""
        ...


class Reader:
    """A consumer, what was read by it, and how much there is to read yet.

    say: tells a person of what is missing. Errors of all methods: KafkaError.
    """

    def __init__(self, consumer: KafkaConsumer, say: Callable[[str], None]) -> None:
        self._consumer = consumer
        self._say = say
        self._next: dict[Partition, int] = {}  # the offset to read next
        self._read_ms: dict[Partition, int] = {}  # when the last record read was written
        self._lag: dict[Partition, int] = {}
        self._counters = dict.fromkeys(("records", "bytes", "rebalances", "commits"), 0)

    @property
    def partitions(self) -> int:
        """How many partitions this process reads."""
        return len(self._next)

    def poll(self, timeout: float, most_records: int) -> Polled:
        """What has come, and which partitions were gained and lost; each one gained is to be given
        to `take_up` at once."""
        polled = self._consumer.poll(timeout, most_records)
        self._counters["rebalances"] += bool(polled.gained or polled.lost)
        for place in polled.lost:
            for known in (self._next, self._read_ms, self._lag):
                known.pop(place, None)
        for place, records in polled.records.items():
            self._counters["records"] += len(records)
            self._counters["bytes"] += sum(len(record.value) for record in records)
            self._next[place] = records[-1].offset + 1
            self._read_ms[place] = records[-1].timestamp_ms
        self._measure()
        return polled

    def gather(self, timeout: float, most_records: int, seconds: float, enough: int) -> Polled:
        """As `poll`, and what comes in the next `seconds`, until it is `enough` bytes or nothing
        more comes. Ends as soon as a partition is gained or lost; of one that is lost nothing is
        brought."""
        polled = self.poll(timeout, most_records)
        ends = time.monotonic() + seconds
        while polled.records and not polled.gained and not polled.lost:
            size = sum(len(one.value) for each in polled.records.values() for one in each)
            left = ends - time.monotonic()
            if left <= 0 or size >= enough:
                break
            more = self.poll(left, most_records)
            for place in more.lost:
                polled.records.pop(place, None)
            for place, records in more.records.items():
                polled.records.setdefault(place, []).extend(records)
            polled = more._replace(records=polled.records)
            if not more.records:
                break
        return polled

    def take_up(self, place: Partition, saved: int | None, *, stateless: bool = False) -> int:
        """Read on from offset `saved`, that of a snapshot, or without one from what was committed;
        where that is, which is the first there is where it was deleted. stateless: whether there is
        no snapshot to be missed."""
        first, end = self._consumer.bounds([place])[place]
        committed = self._consumer.committed(place)
        wanted = committed if saved is None else saved
        at = first if wanted is None else wanted
        if at > end:
            self._say(
                f"{_called(place)} ends at {end}, and was read to {at}: it is another topic than "
                f"before, and is read from its beginning"
            )
            at = first
        elif at < first:
            self._say(
                f"{first - at} messages of {_called(place)} were deleted before they were read: "
                f"its retention is too short"
            )
            at = first
        elif not stateless and saved is None and wanted is not None and wanted > first:
            self._say(f"there is no snapshot for {_called(place)}: what was known of it is lost")
        self._consumer.seek(place, at)
        self._next[place] = at
        if at != committed and at == saved:
            self.commit({place: at})  # whoever saved it had no time to
        self._lag[place] = max(0, end - at)
        return at

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets of partitions that are still ours."""
        ours = {place: offset for place, offset in offsets.items() if place in self._next}
        if ours:
            self._consumer.commit(ours)
            self._counters["commits"] += len(ours)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def counters(self) -> dict[str | Labelled, float]:
        """See `role.Measures`."""
        return {name: count for name, count in self._counters.items()}

    def gauges(self) -> Measures:
        """See `role.Measures`."""
        gauges: dict[str | Labelled, float] = {"partitions": len(self._next)}
        now_ms = time.time() * 1000
        for (topic, partition), lag in self._lag.copy().items():
            labels = ("topic", topic, "partition", str(partition))
            gauges["lag_records", *labels] = lag
            read_ms = self._read_ms.get((topic, partition), now_ms)
            gauges["lag_seconds", *labels] = max(0.0, (now_ms - read_ms) / 1000) if lag else 0.0
        return gauges

    def _measure(self) -> None:
        for place, at in self._next.items():
            end = self._consumer.end(place)  # as of the last fetch: nobody is asked
            if end is not None:
                self._lag[place] = max(0, end - at)


def numbered(places: Iterable[Partition]) -> str:
    """The numbers of partitions, for people."""
    return ", ".join(str(number) for number in sorted(number for _, number in places)) or "none"


def _called(place: Partition) -> str:
    return f"partition {place[1]} of {place[0]}"
