"""The role detect: partitions of the stream in, the evidence of each out.

Each partition has detectors of its own, which go wherever the partition goes: into a snapshot with
the offset up to which it holds, and from there into whichever process is given the partition next.
What was told between that snapshot and a crash is told again, and known by its rows.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sidelong.baseline_watch import BaselineWatch, Judge
from sidelong.features.bounds import Bounds
from sidelong.ingest.kafka_client import Partition, Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.pace import gather_seconds
from sidelong.judged_partition import JudgedPartition, StretchOfPartition
from sidelong.models.detectors import Detectors
from sidelong.models.evidence_messages import EvidencePart, encode
from sidelong.reading import Reader, Snapshots, numbered
from sidelong.role import Labelled, Measures, Surroundings

__all__ = ["DetectRole"]

_MOST_RECORDS: Final = 200
_MOST_ROWS: Final = 50_000  # judged at once; about 50 MB of memory
_GATHER_SECONDS: Final = 0.03
_ENOUGH_BYTES: Final = 4 << 20  # about as many rows
_FORMAT: Final = 1


class _Built(NamedTuple):
    """What detectors were built by."""

    judge: Judge
    bounds: Bounds

    def same(self, other: "_Built") -> bool:
        """Whether others would be no different."""
        return self.judge.number == other.judge.number and self.bounds == other.bounds


@dataclass(slots=True)
class _Lane:
    """A partition that is ours. offset: to be read next. saved: that of its last snapshot."""

    judged: JudgedPartition
    built: _Built
    offset: int
    saved: int
    due: float  # when the next snapshot is


class DetectRole:
    """Judges the partitions that it is given. Takes `consumer` (of flows.batches, in a group) and
    `producer` over; see `Role`.

    networks: see `Detectors`. decode: reads a message; ValueError for one that is damaged.
    """

    name = "detect"

    def __init__(
        self,
        surroundings: Surroundings,
        baseline: BaselineWatch,
        networks: frozenset[str],
        *,
        consumer: KafkaConsumer,
        producer: KafkaProducer,
        store: Snapshots,
        decode: Callable[[bytes, Mapping[str, bytes]], StretchOfPartition],
    ) -> None:
        config = surroundings.config
        self._say = surroundings.say
        self._observe = surroundings.observe
        self._baseline = baseline
        self._networks = networks
        self._budget = config.anomaly.alarms_per_day
        self._reader = Reader(consumer, surroundings.say)
        self._producer = producer
        self._store = store
        self._decode = decode
        self._prefix = config.kafka.prefix
        self._topic = config.kafka.topic("evidence")
        self._every = config.service.snapshot_seconds
        self._megabytes = config.service.memory_megabytes
        self._lanes: dict[Partition, _Lane] = {}
        self._counters: Counter[str] = Counter()
        self._clock_ns = 0
        self._snapshot_at = 0.0
        self.ready = False

    def step(self, timeout: float) -> bool:
        """See `Role`."""
        behind = time.time() - self._clock_ns / 1e9 if self._clock_ns else 0.0
        gather = gather_seconds(behind, _GATHER_SECONDS)
        polled = self._reader.gather(timeout, _MOST_RECORDS, gather, _ENOUGH_BYTES)
        for place in polled.lost:
            self._forget(self._lanes.pop(place, None))
        for place in sorted(polled.gained):
            self._take_up(place)
        if polled.gained or polled.lost:
            self._say(f"judges partitions {numbered(self._lanes)}")
        self._fit()
        began = time.monotonic()
        # One after the other, a bounded number of messages of each: none keeps others waiting.
        for place, records in polled.records.items():
            self._judge(self._lanes[place], records)
        if polled.records:
            self._observe("poll_to_send_seconds", time.monotonic() - began)
        self._save(self._due())
        self.ready = True
        return bool(polled.records)

    def drain(self, deadline: float) -> None:
        """See `Role`."""
        changed = [place for place, lane in self._lanes.items() if lane.offset != lane.saved]
        self._save(changed, max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        """See `Role`."""
        for closing in (self._reader.close, self._producer.close):
            with suppress(Exception):
                closing()

    def counters(self) -> Measures:
        """See `Role`."""
        told = Counter(self._counters)
        for lane in list(self._lanes.values()):
            told.update(_counted(lane.judged))
        return self._reader.counters() | {name: count for name, count in told.items()}

    def gauges(self) -> Measures:
        """See `Role`."""
        gauges: dict[str | Labelled, float] = dict(self._reader.gauges())
        gauges["in_flight_bytes"] = self._producer.in_flight_bytes
        gauges["active"] = float(bool(self._lanes))
        if self._clock_ns:
            gauges["watermark_delay_seconds"] = time.time() - self._clock_ns / 1e9
        if self._snapshot_at:
            gauges["snapshot_timestamp_seconds"] = self._snapshot_at
            gauges["snapshot_bytes"] = self._store.last_bytes
        return gauges

    def _take_up(self, place: Partition) -> None:
        built = self._wanted(len(self._lanes) + 1)
        judged = JudgedPartition(lambda: self._detectors(built))
        state = self._store.load(self._key(place))
        saved: int | None = None
        if state is not None:
            try:
                judged.restore(state["judged"])
                saved = int(state["offset"])
            except (KeyError, TypeError, ValueError) as error:
                judged = JudgedPartition(lambda: self._detectors(built))
                self._say(f"the snapshot of partition {place[1]} cannot be used: {error!r}")
        offset = self._reader.take_up(place, saved)
        self._lanes[place] = _Lane(judged, built, offset, offset, time.monotonic() + self._every)

    def _forget(self, lane: _Lane | None) -> None:
        """Its next owner goes on from its snapshot; what it has counted, we keep."""
        if lane is not None:
            self._counters.update(_counted(lane.judged))

    def _wanted(self, partitions: int) -> _Built:
        """By which baseline to judge, and within which bounds; those change with every doubling,
        lest every rebalance copy all state."""
        parts = 1 << max(0, partitions - 1).bit_length()
        return _Built(self._baseline.newest(), Bounds.within(self._megabytes, parts))

    def _detectors(self, built: _Built) -> Detectors:
        return Detectors(built.judge.baseline, self._networks, built.bounds, budget=self._budget)

    def _fit(self) -> None:
        """Go on by the newest baseline, and within what there is for each partition."""
        if not self._lanes:
            return
        wanted = self._wanted(len(self._lanes))
        for lane in self._lanes.values():
            if not lane.built.same(wanted):
                lane.judged.rebuild(lambda: self._detectors(wanted))
                lane.built = wanted

    def _judge(self, lane: _Lane, records: Sequence[Record]) -> None:
        for stretches in self._decoded(records):
            for part in lane.judged.judge(stretches):
                self._tell(part)
        lane.offset = records[-1].offset + 1

    def _decoded(self, records: Iterable[Record]) -> Iterator[list[StretchOfPartition]]:
        """What the messages tell, a bounded number of rows at a time."""
        held: list[StretchOfPartition] = []
        rows = 0
        for record in records:
            try:
                stretch = self._decode(record.value, record.headers)
            except ValueError as error:
                self._counters["bad"] += 1
                where = f"{record.topic}, partition {record.partition}, offset {record.offset}"
                self._say(f"a message is damaged and left out ({where}): {error}")
                continue
            if stretch.at not in (None, record.offset):
                self._counters["duplicates"] += 1  # of a writer that had been replaced already
                continue
            held.append(stretch)
            rows += stretch.flows.height
            if rows >= _MOST_ROWS:
                yield held
                held, rows = [], 0
        if held:
            yield held

    def _tell(self, part: EvidencePart) -> None:
        value, headers = encode(part)
        self._producer.send(self._topic, value, partition=0, headers=headers)
        if part.pulse.height:
            self._clock_ns = int(part.pulse["clock"].to_physical()[-1])

    def _due(self) -> list[Partition]:
        """The partition whose snapshot is due for longest: one at a time, between two polls."""
        now = time.monotonic()
        due = [
            (lane.due, place)
            for place, lane in self._lanes.items()
            if lane.due <= now and lane.offset != lane.saved
        ]
        return [min(due)[1]] if due else []

    def _save(self, places: Sequence[Partition], timeout: float | None = None) -> None:
        """Output acknowledged, then the snapshot, then the offset: in this order nothing is lost,
        wherever it ends."""
        if not places:
            return
        began = time.monotonic()
        self._producer.flush(timeout)
        offsets: dict[Partition, int] = {}
        for place in places:
            lane = self._lanes[place]
            state: dict[str, Any] = {
                "format": _FORMAT,
                "offset": lane.offset,
                "stream": lane.judged.stream,
                "through": lane.judged.through,
                "judged": lane.judged.snapshot(),
            }
            self._store.save(self._key(place), state)
            offsets[place] = lane.saved = lane.offset
            lane.due = time.monotonic() + self._every
            self._counters["snapshots"] += 1
        self._reader.commit(offsets)
        self._snapshot_at = time.time()
        self._observe("snapshot_seconds", time.monotonic() - began)

    def _key(self, place: Partition) -> str:
        return f"{self._prefix}detect.{place[1]}"


def _counted(judged: JudgedPartition) -> dict[str, int]:
    return {
        "flows": judged.flows,
        "evidence": judged.evidence,
        "duplicates": judged.duplicates,
        "gaps": judged.gaps,
        "evicted": judged.evicted,
    }
