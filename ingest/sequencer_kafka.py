"""The two topics that a sequencer stands between, in Kafka."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, TypeVar

import numpy as np

from sidelong.ingest.journal import Entry
from sidelong.ingest.kafka_client import KafkaError, KafkaRefused, Partition, Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer, Sent
from sidelong.ingest.kafka_settings import KafkaSettings
from sidelong.ingest.message_letters import Letters
from sidelong.ingest.pace import gather_seconds
from sidelong.ingest.raw_merge import RawChunk
from sidelong.ingest.raw_messages import RawBatch, RawDecoder
from sidelong.ingest.settings import InputSettings

__all__ = ["KafkaBatches", "KafkaRaw"]

T = TypeVar("T")

_BOUNDS_SECONDS: Final = 5.0
_READ_SECONDS: Final = 30.0
# Messages that are decoded together cost much less than each alone.
_GATHER_SECONDS: Final = 0.02
_MOST_RECORDS: Final = 8_000
_WORTH_ROWS: Final = 20_000


class KafkaBatches:
    """`flows.batches`; see `BatchTopic`. The producer stays the caller's. Errors: KafkaError."""

    def __init__(
        self, settings: KafkaSettings, topic: str, partitions: int, producer: KafkaProducer
    ) -> None:
        self._settings: Final = settings
        self._topic: Final = topic
        self._producer: Final = producer
        self.partitions: Final = partitions

    def send(self, partition: int, value: bytes, headers: Mapping[str, bytes]) -> Sent:
        """See `BatchTopic`."""
        return self._producer.send(self._topic, value, partition=partition, headers=headers)

    def bounds(self) -> tuple[int, int]:
        """See `BatchTopic`."""
        consumer = KafkaConsumer(self._settings, "normalise-journal")
        try:
            place = (self._topic, 0)
            return consumer.bounds([place])[place]
        finally:
            consumer.close()

    def journal(self, low: int, high: int) -> Iterator[Entry]:
        """See `BatchTopic`."""
        if low >= high:
            return
        place = (self._topic, 0)
        consumer = KafkaConsumer(self._settings, "normalise-journal")
        try:
            consumer.assign({place: low})
            ends = time.monotonic() + _READ_SECONDS
            while (consumer.position(place) or low) < high:
                for record in consumer.poll(0.5).records.get(place, ()):
                    ends = time.monotonic() + _READ_SECONDS
                    if record.offset < high:
                        yield Entry(record.offset, record.headers)
                if time.monotonic() > ends:
                    raise KafkaError(
                        f"{self._topic} gave nothing for {_READ_SECONDS:g} s, and is to be read to "
                        f"offset {high}",
                        hint="see whether the leader of its partition 0 runs",
                    )
        finally:
            consumer.close()


class KafkaRaw:
    """`flows.raw`; see `RawTopic`. What cannot be read becomes a dead letter.

    formats: how messages are decoded. hold: whether nothing more is to be read for now. say: tells
    a person. Errors: KafkaError, KafkaRefused where there is no such topic; ConfigError.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        formats: InputSettings,
        say: Callable[[str], None],
        hold: Callable[[], bool] = lambda: False,
    ) -> None:
        self._topic: Final = topic
        self._say: Final = say
        self._decoder: Final = RawDecoder(formats)
        self._letters: Final = Letters(settings, say)
        self._paused: frozenset[int] = frozenset()
        self._rows_each = 1_000.0  # of a message, of late; at first as many as may be
        self._read: dict[int, tuple[int, int]] = {}  # offset to read next, time of the last
        self.counters: Final = dict.fromkeys(("records", "bytes", "bad", "dead_lettered"), 0)
        self._consumer: Final = KafkaConsumer(settings, "normalise-raw", hold=hold)
        try:
            self._partitions = self._consumer.partitions(topic)
            # It never reads: a question behind a read is answered when that is.
            self._asker: Final = KafkaConsumer(settings, "normalise-ends")
        except BaseException:
            self._consumer.close()
            raise

    def bounds(self) -> dict[int, tuple[int, int]] | None:
        """See `RawTopic`."""
        return self._told(self._asker.bounds)

    def ends(self) -> dict[int, int] | None:
        """See `RawTopic`. Of new partitions the reader hears when it next asks for the leaders."""
        return self._told(self._asker.ends)

    def start(self, offsets: Mapping[int, int]) -> None:
        """See `RawTopic`."""
        self._read = {partition: (offset, 0) for partition, offset in offsets.items()}
        self._consumer.assign({self._place(p): offset for p, offset in offsets.items()})

    def read(self, timeout: float, paused: frozenset[int]) -> list[tuple[int, RawChunk]]:
        """See `RawTopic`."""
        self._pause(paused)
        chunks: list[tuple[int, RawChunk]] = []
        for piece, raw in self._decoder.pieces(self._gathered(timeout)):
            self._count(piece, raw)
            chunks += _by_partition(piece, raw)
        return chunks

    def lag(self) -> dict[Partition, tuple[int, float]]:
        """Of each partition how many messages are not read, and how old the next is in seconds."""
        found = {}
        for partition, (offset, read_ms) in list(self._read.items()):
            end = self._consumer.end(self._place(partition))
            records = max(0, (end or 0) - offset)
            behind = time.time() - read_ms / 1000 if records and read_ms else 0.0
            found[self._place(partition)] = (records, max(0.0, behind))
        return found

    def close(self) -> None:
        """Let go of everything. Never raises."""
        self._letters.close()
        self._decoder.__exit__()
        self._consumer.close()
        self._asker.close()

    def _told(
        self, ask: Callable[[Iterable[Partition], float], Mapping[Partition, T]]
    ) -> dict[int, T] | None:
        try:
            self._partitions = self._consumer.partitions(self._topic)
            found = ask(map(self._place, self._partitions), _BOUNDS_SECONDS)
        except KafkaRefused:
            raise
        except KafkaError:
            return None
        return {place[1]: told for place, told in found.items()}

    def _place(self, partition: int) -> Partition:
        return (self._topic, partition)

    def _pause(self, paused: frozenset[int]) -> None:
        if paused != self._paused:
            self._consumer.resume(*map(self._place, self._paused - paused))
            self._consumer.pause(*map(self._place, paused - self._paused))
            self._paused = paused

    def _gathered(self, timeout: float) -> list[Record]:
        """What there is, partition by partition, and what comes right behind it."""
        most = max(1, min(_MOST_RECORDS, int(_WORTH_ROWS / max(1.0, self._rows_each))))
        records: dict[Partition, list[Record]] = {}
        count, wait, ends = 0, timeout, 0.0
        while wait >= 0:
            for place, fresh in self._consumer.poll(wait, most - count).records.items():
                records.setdefault(place, []).extend(fresh)
                count += len(fresh)
            if not count or count >= most:
                break
            if not ends:
                oldest_ms = min(fresh[0].timestamp_ms for fresh in records.values())
                behind = time.time() - oldest_ms / 1000
                ends = time.monotonic() + gather_seconds(behind, _GATHER_SECONDS)
            wait = ends - time.monotonic()
        return [record for each in records.values() for record in each]

    def _count(self, piece: Sequence[Record], raw: RawBatch[Record]) -> None:
        self._rows_each = max(raw.flows.height / len(piece), self._rows_each / 4)
        self.counters["records"] += len(piece)
        self.counters["bytes"] += sum(len(record.value) for record in piece)
        for record in piece:
            self._read[record.partition] = (record.offset + 1, record.timestamp_ms)
        if raw.poison:
            self.counters["bad"] += len(raw.poison)
            self._letters.send(raw.poison)
            self.counters["dead_lettered"] = self._letters.sent
            first = raw.poison[0]
            place = f"partition {first.record.partition}, offset {first.record.offset}"
            self._say(
                f"{len(raw.poison)} messages cannot be read; {first.record.topic}, {place}: "
                f"{first.cause}"
            )


def _by_partition(piece: Sequence[Record], raw: RawBatch[Record]) -> Iterator[tuple[int, RawChunk]]:
    """The chunks of a piece; messages of one partition lie together in it."""
    offsets = np.array([record.offset for record in piece], np.int64)
    ends = np.concatenate([[0], np.cumsum(raw.rows_per_record)])
    low = 0
    for partition, records in groupby(record.partition for record in piece):
        high = low + sum(1 for _ in records)
        flows = raw.flows[int(ends[low]) : int(ends[high])]
        yield partition, RawChunk(flows, offsets[low:high], raw.rows_per_record[low:high])
        low = high
