"""A topic as the place where collected flows go: columnar batches, and how far their sources came.

Flows of a source go to one partition, chosen by its name, so that their order stays. How far each
source came is told, after its flows are acknowledged, to the compacted topic beside it,
`TOPIC.positions`. Between the two there is a moment: whoever dies in it sends the flows of one
commit again, and none is lost. What a live source repeats after a restart is known from the topic
itself, and left out; and so is what Kafka took of a commit before it went away in the middle of it.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Final

import msgspec
import polars as pl

from sidelong.errors import ConfigError
from sidelong.ingest.flow_folder import FolderState, HeldFlows, NoRoom, SourceState, Written
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_client import KafkaError, KafkaRefused, Partition, Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.raw_batches import flow_batches
from sidelong.ingest.raw_messages import RawDecoder
from sidelong.ingest.topic_address import TopicAddress

__all__ = ["TopicSink"]

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_READ_SECONDS: Final = 30.0
_CLOCKS_MS: Final = 5_000  # by which clocks may differ
_NOT_IN_A_HEADER: Final = re.compile(r"[^\x20-\x7e]")


class TopicSink:
    """Sends flows to a topic; `state` is how far sources had come before.

    Errors: those of `KafkaProducer`; KafkaRefused when there is no such topic.
    """

    def __init__(self, address: TopicAddress) -> None:
        self.path: Final = address.url
        self._kafka: Final = address.kafka
        self._topic: Final = address.topic
        self._positions: Final = f"{address.topic}.positions"
        self._producer: KafkaProducer | None = None
        self._commit = ""  # the name of one that is not finished
        self._begun_ms = 0
        self._make_ready()
        self.state = FolderState(sources=self._read_positions())

    def __enter__(self) -> "TopicSink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it. Never raises; safe to repeat."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def unwritable(self, error: OSError) -> ConfigError:
        """What to tell the user of an error that waiting does not cure."""
        return ConfigError(
            f"{self.path} cannot be written: {error.strerror or error}",
            hint="look at what Kafka says of the topic",
        )

    def commit(
        self, held: HeldFlows, sources: Mapping[str, SourceState], *, reserve: bool = True
    ) -> list[Written]:
        """Send the flows of each source, and then how far the sources have come.

        Returns when all is acknowledged. Errors: NoRoom while Kafka does not take them, which may
        pass, and then the same flows, or those and more, are to be committed again; KafkaRefused
        for what it will never take.
        """
        written = []
        try:
            producer = self._producer or KafkaProducer(self._kafka, "collect", compression="none")
            self._producer = producer
            there = self._there() if self._commit else {}
            if not self._commit:
                self._commit, self._begun_ms = token_hex(8), time.time_ns() // _MS
            for source, frames in held.items():
                shown = _NOT_IN_A_HEADER.sub("?", source)
                parts = size = 0
                rows = there.get(shown.encode(), 0)
                for batch in flow_batches(pl.concat(frames)[rows:], shown):
                    rows += batch.rows
                    producer.send(
                        self._topic,
                        batch.value,
                        key=source.encode(),
                        headers={**batch.headers, "commit": f"{self._commit} {rows}".encode()},
                    )
                    parts, size = parts + 1, size + len(batch.value)
                written.append(Written(self._topic, rows, size, parts))
            producer.flush()
            for source, state in sources.items():
                content = msgspec.json.encode(state)
                producer.send(self._positions, content, key=source.encode())
            producer.flush()
        except KafkaRefused:
            self.close()
            raise
        except KafkaError as error:
            self.close()
            raise NoRoom(0, why=error.problem) from error
        self._commit = ""
        self.state = msgspec.structs.replace(self.state, sources={**self.state.sources, **sources})
        return written

    def prune(self, keep: timedelta, now: datetime) -> int:
        """Nothing: the topic has a retention of its own."""
        return 0

    def forget(self, sources: Iterable[str]) -> None:
        """Do not go by what is known of these any more."""
        gone = set(sources)
        kept = {key: state for key, state in self.state.sources.items() if key not in gone}
        self.state = msgspec.structs.replace(self.state, sources=kept)

    def rows_since(self, source: str, time_ns: int) -> Iterator[pl.DataFrame]:
        """What was sent of a source at or after a time. Errors: KafkaError."""
        mark = _NOT_IN_A_HEADER.sub("?", source).encode()
        after_ms = max(0, time_ns // _MS)
        with RawDecoder() as decoder:
            for record in self._read(self._topic, after_ms):
                latest = record.headers.get("ts_max", b"")
                if record.headers.get("source") != mark or not latest.isdigit():
                    continue
                if int(latest) >= time_ns:
                    flows = decoder.decode([record]).flows
                    yield flows.filter(pl.col("time").to_physical() >= time_ns)

    def _there(self) -> dict[bytes, int]:
        """Of each source how many rows Kafka has of the commit that was begun. Messages of a source
        are there in the order of their sending without a hole, so that the rest is what follows."""
        found: dict[bytes, int] = {}
        for record in self._read(self._topic, max(0, self._begun_ms - _CLOCKS_MS)):
            commit, _, rows = record.headers.get("commit", b"").partition(b" ")
            if commit == self._commit.encode() and rows.isdigit():
                source = record.headers.get("source", b"")
                found[source] = max(found.get(source, 0), int(rows))
        return found

    def _make_ready(self) -> None:
        """See that there is the topic; make the one beside it, if need be."""
        admin = KafkaAdmin(self._kafka, "collect")
        try:
            if admin.partitions(self._topic) is None:
                raise KafkaRefused(
                    f"Kafka at {self._kafka.shown} knows no topic {self._topic}",
                    hint="sidelong topics create",
                )
            admin.create_topics([Topic(self._positions, 1, None, {"cleanup.policy": "compact"})])
        finally:
            admin.close()

    def _read_positions(self) -> dict[str, SourceState]:
        positions: dict[str, SourceState] = {}
        for record in self._read(self._positions, None):
            try:
                state = msgspec.json.decode(record.value, type=SourceState)
            except msgspec.MsgspecError:
                continue  # of a newer sidelong: then from the beginning
            positions[(record.key or b"").decode(errors="replace")] = state
        return positions

    def _read(self, topic: str, after_ms: int | None) -> Iterator[Record]:
        """All messages of a topic that are there now, or those from a time on."""
        consumer = KafkaConsumer(self._kafka, "collect-read")
        try:
            places: list[Partition] = [(topic, one) for one in consumer.partitions(topic)]
            bounds = consumer.bounds(places)
            starts = {place: first for place, (first, _) in bounds.items()}
            if after_ms is not None:
                found = consumer.offsets_at(dict.fromkeys(places, after_ms))
                starts = {
                    place: bounds[place][1] if at is None else at for place, at in found.items()
                }
            left = {place for place in places if starts[place] < bounds[place][1]}
            consumer.assign({place: starts[place] for place in left})
            for _ in range(int(_READ_SECONDS / 0.5)):
                if not left:
                    return
                for place, records in consumer.poll(0.5).records.items():
                    yield from (one for one in records if one.offset < bounds[place][1])
                left = {one for one in left if (consumer.position(one) or 0) < bounds[one][1]}
        finally:
            consumer.close()
