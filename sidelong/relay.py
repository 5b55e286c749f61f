"""From a topic to a topic: whatever messages hold becomes batches of flows in columns.

Several processes that do the same share the topic as a group, and so decoding scales. Partition p
of the one goes to partition p, or its remainder, of the other, and so its order stays. An offset is
committed once the flows before it are acknowledged: a process that dies has the flows of a moment
sent again, by itself or by whoever takes over, and none is lost.
"""

import time
from collections.abc import Callable
from threading import Event
from typing import Final

import polars as pl

from sidelong.collect_settings import CollectSettings
from sidelong.errors import ConfigError
from sidelong.ingest.kafka_admin import KafkaAdmin
from sidelong.ingest.kafka_client import (
    KafkaError,
    KafkaRefused,
    Partition,
    Record,
    wait_for_broker,
)
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.message_letters import Letters
from sidelong.ingest.raw_batches import flow_batches
from sidelong.ingest.raw_messages import Poison, RawDecoder
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.source import BadRows, Batch
from sidelong.ingest.topic_address import TopicAddress
from sidelong.tally import Tally

__all__ = ["Relay"]

_POLL_SECONDS: Final = 0.1
_MOST_RECORDS: Final = 8_000
_MOST_BYTES: Final = 8 << 20
_SAMPLES: Final = 5
_AGAIN_SECONDS: Final = 1.0


class Relay:
    """Reads `source`, shared with all of its group, and writes to `target`.

    say: tells a person what cannot wait for the end. Errors: ConfigError when both are one topic;
    KafkaError and KafkaRefused when it begins and Kafka does not answer or has no such topic.
    """

    def __init__(
        self,
        source: TopicAddress,
        target: TopicAddress,
        settings: InputSettings,
        chosen: CollectSettings,
        say: Callable[[str], None],
    ) -> None:
        if (source.kafka.servers, source.topic) == (target.kafka.servers, target.topic):
            raise ConfigError(
                f"{target.url} is to be read and to be written", hint="name another topic with --to"
            )
        self._source: Final = source
        self._target: Final = target
        self._settings: Final = settings
        self._flush_seconds: Final = chosen.rotate_seconds
        self._batch_rows: Final = chosen.flush_rows
        self._say: Final = say
        self._group: Final = source.group or f"{source.kafka.prefix}sidelong.collect.{target.topic}"
        self._letters: Final = Letters(source.kafka, say)
        self._sent: dict[Partition, int] = {}  # handed over, and not yet known to be there
        self.tally = Tally()
        self.messages = 0  # written
        self.size_bytes = 0
        self.read = 0  # messages
        self._partitions = 0

    @property
    def dead_letters(self) -> int:
        """How many messages could not be read, or not whole, and went to the topic for these."""
        return self._letters.sent

    def run(
        self,
        stop: Event,
        *,
        seconds: float | None = None,
        most_flows: int | None = None,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        """Relay until `stop` is set, `seconds` have passed or `most_flows` have come.

        When Kafka was away it goes on from what was committed. Errors: those of the beginning.
        """
        ends = None if seconds is None else time.monotonic() + seconds
        self._partitions = _partitions(self._target)

        def over() -> bool:
            late = ends is not None and time.monotonic() >= ends
            return stop.is_set() or late or (most_flows or self.tally.flows + 1) <= self.tally.flows

        begun = False
        try:
            with RawDecoder(self._settings) as decoder:
                while not over():
                    try:
                        self._relay(decoder, over, step)
                    except KafkaRefused:
                        raise
                    except KafkaError as error:
                        if not begun and not self.read:
                            raise
                        self._say(f"{error.problem}; going on from what was committed")
                        self._sent = {}
                        stop.wait(_AGAIN_SECONDS)
                        for kafka in (self._source.kafka, self._target.kafka):
                            wait_for_broker(kafka, stop, self._say)
                    begun = True
        finally:
            self._letters.close()

    def _relay(
        self, decoder: RawDecoder, over: Callable[[], bool], step: Callable[[], None]
    ) -> None:
        producer = KafkaProducer(self._target.kafka, "collect", compression="none")
        try:
            consumer = KafkaConsumer(
                self._source.kafka, "collect", topics=[self._source.topic], group=self._group
            )
            try:
                while not over():
                    records = self._gathered(consumer, over)
                    told = {place: self._decoded(decoder, records[place]) for place in records}
                    self._settle(consumer, producer)
                    self._send(producer, told)
                    self._sent = {place: some[-1].offset + 1 for place, some in records.items()}
                    step()
                self._settle(consumer, producer)
            finally:
                consumer.close()
        finally:
            producer.close()

    def _gathered(
        self, consumer: KafkaConsumer, over: Callable[[], bool]
    ) -> dict[Partition, list[Record]]:
        """Messages by partition: as many as are decoded together, or what comes within the time
        that flows may be held."""
        held: dict[Partition, list[Record]] = {}
        count = size = 0
        ends = time.monotonic() + self._flush_seconds
        while count < _MOST_RECORDS and size < _MOST_BYTES and not over():
            left = ends - time.monotonic()
            if left <= 0:
                break
            polled = consumer.poll(min(left, _POLL_SECONDS), _MOST_RECORDS - count)
            for place in polled.lost:
                held.pop(place, None)  # for whoever has it now
                self._sent.pop(place, None)
            for place in polled.gained:
                consumer.seek(place, self._start(consumer, place))
            for place, records in polled.records.items():
                held.setdefault(place, []).extend(records)
                count += len(records)
                size += sum(len(record.value or b"") for record in records)
        return held

    def _start(self, consumer: KafkaConsumer, place: Partition) -> int:
        first, end = consumer.bounds([place])[place]
        committed = consumer.committed(place)
        if committed is None:
            return end if self._source.start == "end" else first
        if committed < first:
            self._say(f"{first - committed:,} messages of {place[0]} were deleted unread")
        return max(committed, first)

    def _decoded(self, decoder: RawDecoder, records: list[Record]) -> list[pl.DataFrame]:
        frames = []
        for piece, raw in decoder.pieces(records):
            self.read += len(piece)
            bad = BadRows(len(raw.poison), tuple(map(self._shown, raw.poison[:_SAMPLES])))
            self._letters.send(raw.poison)
            self.tally.add(Batch(raw.flows, 0, bad=bad))
            if raw.flows.height:
                frames.append(raw.flows)
        return frames

    def _shown(self, poison: Poison[Record]) -> str:
        record = poison.record
        place = f"{self._source.url}/{record.partition} at offset {record.offset:,}"
        return f"{place}: {poison.cause}"

    def _send(self, producer: KafkaProducer, told: dict[Partition, list[pl.DataFrame]]) -> None:
        for place, frames in told.items():
            if not frames:
                continue
            shown = f"{self._source.url}/{place[1]}"
            for batch in flow_batches(pl.concat(frames), shown, self._batch_rows):
                producer.send(
                    self._target.topic,
                    batch.value,
                    partition=place[1] % self._partitions,
                    headers=batch.headers,
                )
                self.messages += 1
                self.size_bytes += len(batch.value)

    def _settle(self, consumer: KafkaConsumer, producer: KafkaProducer) -> None:
        """Wait until what was sent is there, and commit that."""
        if self._sent:
            producer.flush()
            consumer.commit(self._sent)
            self._sent = {}


def _partitions(target: TopicAddress) -> int:
    admin = KafkaAdmin(target.kafka, "collect")
    try:
        count = admin.partitions(target.topic)
    finally:
        admin.close()
    if not count:
        raise KafkaRefused(
            f"Kafka at {target.kafka.shown} knows no topic {target.topic}",
            hint="sidelong topics create",
        )
    return count
