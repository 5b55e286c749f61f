"""Partitions of a topic as sources of flows: from their beginning to their end, or on and on.

A topic that is read to its end is as many sources as it has partitions, which are merged in the
order of time like the files of a cluster's nodes. One that is followed gives what comes as it
comes. A position is an offset: that of the message that follows.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from sidelong.errors import SourceError
from sidelong.ingest.kafka_client import KafkaError, KafkaRefused, Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.live_together import LiveTogether
from sidelong.ingest.message_letters import Letters
from sidelong.ingest.raw_messages import RawBatch, RawDecoder
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.source import BadRows, Batch
from sidelong.ingest.topic_address import TopicAddress

__all__ = ["PartitionSource", "TopicFollowed", "partitions_of"]

_MOST_RECORDS: Final = 8_000
_MOST_BYTES: Final = 8 << 20
# Messages that are decoded together cost much less than each alone.
_GATHER_SECONDS: Final = 0.05
_FOLLOWED_SECONDS: Final = 0.25
_IDLE_SECONDS: Final = 0.5
_SILENCE_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0
_SAMPLES: Final = 5


def partitions_of(
    address: TopicAddress,
    settings: InputSettings,
    *,
    follow: bool,
    letters: Callable[[], Letters | None] = lambda: None,
    since_ms: int | None = None,
) -> "list[PartitionSource]":
    """A source for each partition of a topic; without `follow` each ends where it ends now.

    since_ms: what was written before that moment, in ms of Unix time, is passed over. letters:
    makes, for each, what dead letters are sent by, before the flows that follow them are given out;
    without it they are only counted. Errors: KafkaError when no broker answers, KafkaRefused for a
    topic that is not there.
    """
    consumer = KafkaConsumer(address.kafka, "look")
    try:
        places = [(address.topic, number) for number in consumer.partitions(address.topic)]
        bounds = consumer.bounds(places)
        later = {} if since_ms is None else consumer.offsets_at(dict.fromkeys(places, since_ms))
    finally:
        consumer.close()
    sources = []
    for place in places:
        first, end = bounds[place]
        start = end if follow and address.start == "end" else first
        if place in later:
            at = later[place]
            start = end if at is None else max(start, at)
        sources.append(
            PartitionSource(
                address, settings, place[1], start, None if follow else end, letters=letters()
            )
        )
    return sources


class PartitionSource:
    """Flows out of one partition, from offset `first` to `end`, or without an end.

    A partition that is followed is a `LiveSource`: it yields a batch at least once a second and
    goes on by itself when Kafka was away. Messages that cannot be read are counted in `bad`, and so
    are those that were deleted since the position.
    """

    size_bytes: int | None = None

    def __init__(
        self,
        address: TopicAddress,
        settings: InputSettings,
        partition: int,
        first: int,
        end: int | None,
        *,
        letters: Letters | None = None,
    ) -> None:
        self.name: Final = f"{address.url}/{partition}"
        self._kafka: Final = address.kafka
        self._settings: Final = settings
        self._place: Final = (address.topic, partition)
        self._first: Final = first
        self._end: Final = end
        self._letters: Final = letters
        self._most_records = _MOST_RECORDS
        self._closed: Final = threading.Event()
        self._counts: Final[dict[str, int]] = dict.fromkeys(
            ("received", "bytes", "dead_letters", "passed", "deleted", "reconnects"), 0
        )

    def close(self) -> None:
        """Let `batches` end soon; may be called from another thread, and twice."""
        self._closed.set()

    def counters(self) -> Mapping[str, int]:
        """received messages and their bytes, dead_letters, passed (records inside that are no
        flows), deleted (messages that were gone before they were read), reconnects."""
        return dict(self._counts)

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after position `since`. Errors: KafkaError when Kafka does not answer, while a
        partition is read to its end; KafkaRefused in any case.
        """
        position = since or self._first
        with RawDecoder(self._settings) as decoder, self._sending():
            while not self._over(position):
                try:
                    for batch in self._read(decoder, position):
                        position = batch.position
                        yield batch
                except KafkaError as error:
                    if self._end is not None or isinstance(error, KafkaRefused):
                        raise
                    self._counts["reconnects"] += 1
                    yield Batch(empty_flows(), position)
                    self._closed.wait(_AGAIN_SECONDS)

    @contextmanager
    def _sending(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._letters is not None:
                self._letters.close()

    def _over(self, position: int) -> bool:
        return self._closed.is_set() or (self._end is not None and position >= self._end)

    def _read(self, decoder: RawDecoder, position: int) -> Iterator[Batch]:
        consumer = KafkaConsumer(self._kafka, f"read-{self._place[1]}")
        try:
            first, _ = consumer.bounds([self._place])[self._place]
            if first > position:
                yield self._deleted(position, first)
                position = first
            consumer.assign({self._place: position})
            heard = time.monotonic()
            while not self._over(position):
                records = self._gathered(consumer, position)
                if records:
                    heard = time.monotonic()
                    for piece, raw in decoder.pieces(records):
                        position = piece[-1].offset + 1
                        yield self._batch(piece, raw, position)
                    continue
                # What was compacted away, and marks of transactions, have offsets too.
                position = max(position, consumer.position(self._place) or 0)
                if self._end is None:
                    yield Batch(empty_flows(), position)
                elif time.monotonic() - heard > _SILENCE_SECONDS and not self._over(position):
                    raise SourceError(
                        f"{self.name} gave nothing for {_SILENCE_SECONDS:g} s at offset "
                        f"{position:,}, and is to end at {self._end:,}",
                        hint="see whether the leader of the partition runs",
                    )
        finally:
            consumer.close()

    def _gathered(self, consumer: KafkaConsumer, position: int) -> list[Record]:
        """What there is, up to a bound, and what comes right behind it."""
        records: list[Record] = []
        size = 0
        gather = _FOLLOWED_SECONDS if self._end is None else _GATHER_SECONDS
        ends = time.monotonic() + gather
        wait = _IDLE_SECONDS
        while (
            len(records) < self._most_records and size < _MOST_BYTES and not self._closed.is_set()
        ):
            polled = consumer.poll(wait, self._most_records - len(records))
            fresh = polled.records.get(self._place, [])
            records += fresh
            size += sum(len(record.value or b"") for record in fresh)
            wait = ends - time.monotonic()
            if not records or wait <= 0:
                break
            if self._end is not None and records[-1].offset + 1 >= self._end:
                break
        if self._end is not None:
            records = [record for record in records if record.offset < self._end]
        return records

    def _batch(self, records: Sequence[Record], raw: RawBatch[Record], position: int) -> Batch:
        counts = self._counts
        counts["received"] += len(records)
        counts["bytes"] += sum(len(record.value or b"") for record in records)
        counts["passed"] += raw.passed
        if not raw.poison:
            return Batch(raw.flows, position)
        counts["dead_letters"] += len(raw.poison)
        if self._letters is not None:
            self._letters.send(raw.poison)
        samples = tuple(
            f"{self.name} at offset {poison.record.offset:,}: {poison.cause}"
            for poison in raw.poison[:_SAMPLES]
        )
        return Batch(raw.flows, position, bad=BadRows(len(raw.poison), samples))

    def _deleted(self, position: int, first: int) -> Batch:
        count = first - position
        self._counts["deleted"] += count
        sample = f"{self.name}: {count:,} messages were deleted before they were read"
        return Batch(empty_flows(), first, bad=BadRows(count, (sample,)))


class TopicFollowed:
    """All partitions of a topic as one live source, in the order of arrival.

    A position is the number of flows given out: this is not resumed, its partitions are. Nothing is
    asked before it is read.
    """

    size_bytes: int | None = None

    def __init__(self, address: TopicAddress, settings: InputSettings) -> None:
        self.name: Final = address.url
        self._address: Final = address
        self._settings: Final = settings
        self._together: LiveTogether | None = None
        self._closed = False

    def close(self) -> None:
        """Let `batches` end soon; may be called from another thread, and twice."""
        self._closed = True
        if self._together is not None:
            self._together.close()

    def counters(self) -> Mapping[str, int]:
        """The sums over the partitions."""
        return self._together.counters() if self._together is not None else {}

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows as they come. Errors: as `partitions_of`."""
        self._together = LiveTogether(partitions_of(self._address, self._settings, follow=True))
        if not self._closed:
            yield from self._together.batches(since)
