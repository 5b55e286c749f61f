"""The transport against a real Kafka: what is sent arrives, whatever happens to the broker."""

import contextlib
import os
import resource
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from kafka import errors
from peers.kafka_peer import Kafka, KafkaCluster

from sidelong.errors import ConfigError
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_client import (
    LARGEST_MESSAGE,
    KafkaError,
    KafkaRefused,
    Partition,
    Record,
    wait_for_broker,
)
from sidelong.ingest.kafka_consumer import KafkaConsumer, Polled
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.kafka_settings import KafkaSettings

MEGABYTE = 1_000_000


@pytest.fixture
def settings(kafka: Kafka) -> KafkaSettings:
    return KafkaSettings(servers=(kafka.server,), connect_seconds=5, session_seconds=15)


@pytest.fixture
def produce(settings: KafkaSettings) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(settings, "test")
    yield producer
    producer.close()


@pytest.fixture
def consume(settings: KafkaSettings) -> Iterator[Callable[..., KafkaConsumer]]:
    """Makes consumers that are closed when the test ends."""
    with contextlib.ExitStack() as opened:

        def make(**options: object) -> KafkaConsumer:
            consumer = KafkaConsumer(settings, "test", **options)  # type: ignore[arg-type]
            opened.callback(consumer.close)
            return consumer

        yield make


def topic_of(settings: KafkaSettings, partitions: int = 1, **config: str) -> str:
    """A new topic."""
    admin = KafkaAdmin(settings, "test")
    try:
        name = Kafka.topic()
        written = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics([Topic(name, partitions, config=written)])
    finally:
        admin.close()
    return name


def group() -> str:
    return f"group.{uuid.uuid4().hex[:12]}"


def read(consumer: KafkaConsumer, count: int, seconds: float = 20) -> list[Record]:
    """Reads from the beginning of whatever it gets until it has `count` messages."""
    ends = time.monotonic() + seconds
    records: list[Record] = []
    while len(records) < count and time.monotonic() < ends:
        polled = consumer.poll(1)
        for partition in polled.gained:
            consumer.seek(partition, consumer.committed(partition) or 0)
        records += [record for part in polled.records.values() for record in part]
    return records


def until(met: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < ends, "not in time"
        time.sleep(0.02)


class Member:
    """A reader on a thread of its own, and for `busy` seconds elsewhere between two polls; what it
    owns and what it read."""

    def __init__(self, consumer: KafkaConsumer, *, busy: float = 0) -> None:
        self.owned: set[Partition] = set()
        self.events: list[Polled] = []
        self.values: list[bytes] = []
        self._consumer = consumer
        self._busy = busy
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(20)
        self._consumer.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            polled = self._consumer.poll(0.2)
            if polled.gained or polled.lost:
                self.events.append(polled)
            self.owned = (self.owned - polled.lost) | polled.gained
            for partition in polled.gained:
                self._consumer.seek(partition, self._consumer.committed(partition) or 0)
            done = {}
            for partition, records in polled.records.items():
                self.values += [record.value for record in records]
                done[partition] = records[-1].offset + 1
            if done:
                self._consumer.commit(done)
            time.sleep(self._busy)


def test_a_message_arrives_with_key_headers_and_time(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic = topic_of(settings, 3)
    sent = produce.send(
        topic, b"value", partition=2, key=b"key", headers={"schema": b"1"}, timestamp_ms=1_000
    )
    assert sent.offset() == 0
    consumer = consume()
    consumer.assign({(topic, 2): 0})
    assert read(consumer, 1) == [Record(topic, 2, 0, 1_000, b"key", b"value", {"schema": b"1"})]


def test_the_largest_message_arrives_and_a_larger_one_is_refused(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic = topic_of(settings, max_message_bytes=str(LARGEST_MESSAGE))
    value = bytes(LARGEST_MESSAGE - 1_000)
    produce.send(topic, value)
    with pytest.raises(KafkaRefused, match="larger than Kafka"):
        produce.send(topic, bytes(LARGEST_MESSAGE + 1))
    produce.flush()
    consumer = consume()
    consumer.assign({(topic, 0): 0})
    assert [record.value == value for record in read(consumer, 1)] == [True]


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
def test_every_compression_is_read_again(
    settings: KafkaSettings, consume: Callable[..., KafkaConsumer], compression: str
) -> None:
    topic = topic_of(settings)
    producer = KafkaProducer(settings, "test", compression=compression)  # type: ignore[arg-type]
    values = [str(number).encode() * 100 for number in range(50)]
    for value in values:
        producer.send(topic, value)
    producer.flush()
    producer.close()
    consumer = consume()
    consumer.assign({(topic, 0): 0})
    assert [record.value for record in read(consumer, 50)] == values


def test_a_message_that_the_broker_never_takes_fails_every_later_flush_and_send(
    settings: KafkaSettings, produce: KafkaProducer
) -> None:
    topic = topic_of(settings, max_message_bytes="2000")
    sent = produce.send(topic, os.urandom(3_000), headers={"of": b"no use"})
    with pytest.raises(KafkaRefused, match="larger than Kafka"):
        sent.offset()
    for _ in range(2):
        with pytest.raises(KafkaRefused, match="larger than Kafka"):
            produce.flush()
    with pytest.raises(KafkaRefused, match="larger than Kafka"):
        produce.send(topic, b"small")
    assert produce.in_flight_bytes == 0


def test_a_partition_that_there_is_not_is_said_at_once(
    settings: KafkaSettings, produce: KafkaProducer
) -> None:
    topic = topic_of(settings)
    with pytest.raises(KafkaRefused, match=f"Unrecognized partition 7 for topic {topic}"):
        produce.send(topic, b"", partition=7)


def test_a_topic_that_there_is_not_is_said_at_once(consume: Callable[..., KafkaConsumer]) -> None:
    with pytest.raises(KafkaRefused, match=r"knows no topic nothing\.here") as told:
        consume(topics=["nothing.here"], group=group())
    assert "sidelong topics create" in told.value.hint


def test_sending_waits_while_too_much_is_not_acknowledged(
    kafka: Kafka, settings: KafkaSettings, consume: Callable[..., KafkaConsumer]
) -> None:
    topic = topic_of(settings)
    producer = KafkaProducer(
        msgspec.structs.replace(settings, in_flight_megabytes=4), "test", compression="none"
    )
    value = bytes(100_000)
    count = 300
    sent = 0

    def send() -> None:
        nonlocal sent
        for _ in range(count):
            producer.send(topic, value)
            sent += 1

    producer.send(topic, value).offset()
    sender = threading.Thread(target=send, daemon=True)
    before = _resident()
    with kafka.frozen():
        sender.start()
        until(lambda: producer.in_flight_bytes > 3.8 * MEGABYTE)
        stuck = sent
        time.sleep(1)
        assert sent == stuck < 45
        assert producer.in_flight_bytes <= 4 * MEGABYTE
        assert _resident() - before < 25 * MEGABYTE
    sender.join(20)
    producer.flush()
    assert producer.in_flight_bytes == 0
    producer.close()
    assert consume().bounds([(topic, 0)]) == {(topic, 0): (0, count + 1)}


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_producer_says_what_was_not_delivered_and_lets_go_of_it(
    kafka: Kafka, settings: KafkaSettings
) -> None:
    topic = topic_of(settings)
    threads = threading.active_count()
    producer = KafkaProducer(msgspec.structs.replace(settings, delivery_seconds=2), "test")
    producer.send(topic, b"one").offset()
    with kafka.frozen():
        producer.send(topic, b"two")
        with pytest.raises(KafkaError, match=f"does not take messages for {topic}"):
            producer.flush()
        assert producer.in_flight_bytes == 0
        began = time.monotonic()
        producer.close(1)
        assert time.monotonic() - began < 8
    until(lambda: threading.active_count() <= threads)


def test_a_gained_partition_is_silent_until_it_is_sought(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic = topic_of(settings, 2)
    for number in range(10):
        produce.send(topic, str(number).encode(), partition=number % 2)
    produce.flush()
    consumer = consume(topics=[topic], group=group())
    polled = consumer.poll(10)
    assert polled == Polled({}, {(topic, 0), (topic, 1)}, set())
    consumer.seek((topic, 1), 3)
    assert [record.value for record in read(consumer, 2)] == [b"7", b"9"]
    assert consumer.poll(0.3).records == {}
    assert consumer.position((topic, 1)) == consumer.end((topic, 1)) == 5
    assert consumer.position((topic, 0)) is None


def test_a_paused_partition_brings_nothing_until_it_is_resumed(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic = topic_of(settings)
    consumer = consume()
    consumer.assign({(topic, 0): 0})
    consumer.pause((topic, 0))
    produce.send(topic, b"one").offset()
    assert consumer.poll(0.4).records == {}
    consumer.resume((topic, 0))
    assert [record.value for record in read(consumer, 1)] == [b"one"]


def test_of_paused_partitions_what_was_fetched_before_comes_once_they_are_resumed(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic = topic_of(settings, 3)
    places = [(topic, number) for number in range(3)]
    for number in range(3):
        for _ in range(4):
            produce.send(topic, b"one", partition=number)
    produce.flush()
    consumer = consume()
    consumer.assign(dict.fromkeys(places, 0))
    found = 0
    while found < 6:  # one after the other is in the middle of what was fetched when it is paused
        for place, records in consumer.poll(1, 2).records.items():
            found += len(records)
            consumer.pause(place)
    consumer.resume(*places)
    assert len(read(consumer, 6)) == 6


def test_a_reader_that_is_held_brings_nothing_and_loses_nothing(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic, held = topic_of(settings, 3), threading.Event()
    for number in range(3):
        produce.send(topic, b"one", partition=number).offset()
    held.set()
    consumer = consume(topics=[topic], group=group(), hold=held.is_set)
    gained: set[Partition] = set()
    while len(gained) < 3:  # what it owns it learns all the same
        polled = consumer.poll(1)
        assert polled.records == {}
        gained |= polled.gained
        for partition in polled.gained:
            consumer.seek(partition, 0)
    consumer.pause((topic, 2))
    assert consumer.poll(0.4).records == {}
    held.clear()
    assert len(read(consumer, 2)) == 2
    held.set()
    produce.send(topic, b"two", partition=0).offset()
    consumer.resume((topic, 2))
    assert consumer.poll(0.4).records == {}
    held.clear()
    assert sorted(record.value for record in read(consumer, 2)) == [b"one", b"two"]


def test_what_is_not_owned_is_not_committed(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic, name = topic_of(settings, 2), group()
    reader = consume(group=name)
    reader.assign({(topic, 0): 0})
    assert reader.commit({(topic, 0): 7, (topic, 1): 9})
    assert reader.committed((topic, 0)) == 7
    assert reader.committed((topic, 1)) is None


def test_an_offset_that_is_gone_leads_to_the_first_that_is_there(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic = topic_of(settings)
    produce.send(topic, b"one").offset()
    consumer = consume()
    consumer.assign({(topic, 0): 1_000})
    assert [record.offset for record in read(consumer, 1)] == [0]


def test_two_members_share_and_the_one_that_stays_takes_over(
    settings: KafkaSettings, produce: KafkaProducer, consume: Callable[..., KafkaConsumer]
) -> None:
    topic, name = topic_of(settings, 4), group()
    first = Member(consume(topics=[topic], group=name))
    until(lambda: len(first.owned) == 4)
    second = Member(consume(topics=[topic], group=name))
    until(lambda: len(first.owned) == len(second.owned) == 2)
    assert first.owned | second.owned == {(topic, number) for number in range(4)}
    # Cooperative: what stays is not taken away in between.
    assert [len(event.lost) for event in first.events if event.lost] == [2]
    for number in range(400):
        produce.send(topic, str(number).encode(), partition=number % 4)
    produce.flush()
    until(lambda: len(first.values) + len(second.values) == 400)
    second.end()
    until(lambda: len(first.owned) == 4)
    for number in range(400, 440):
        produce.send(topic, str(number).encode(), partition=number % 4)
    produce.flush()
    until(lambda: len(first.values) + len(second.values) >= 440)
    first.end()
    assert sorted(first.values + second.values) == sorted(str(n).encode() for n in range(440))


def test_a_commit_that_meets_a_rebalance_is_made_up_for(
    settings: KafkaSettings,
    consume: Callable[..., KafkaConsumer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = topic_of(settings, 2)
    consumer = consume(topics=[topic], group=group())
    assert len(consumer.poll(10).gained) == 2
    real = consumer._consumer.commit
    rebalancing = [True]

    def commit(*given: object, **named: object) -> None:
        if rebalancing:
            rebalancing.clear()
            raise errors.RebalanceInProgressError
        real(*given, **named)

    monkeypatch.setattr(consumer._consumer, "commit", commit)
    assert not consumer.commit({(topic, 0): 5})
    assert consumer.committed((topic, 0)) is None

    def made_up() -> bool:
        consumer.poll(0.1)
        return consumer.committed((topic, 0)) == 5

    until(made_up)


def test_members_that_are_busy_between_polls_get_their_partitions(
    settings: KafkaSettings, consume: Callable[..., KafkaConsumer]
) -> None:
    topic, name = topic_of(settings, 6), group()
    members = [Member(consume(topics=[topic], group=name), busy=0.4) for _ in range(3)]
    until(lambda: [len(member.owned) for member in members] == [2, 2, 2], 20)
    for member in members:
        member.end()


def test_a_static_member_gets_its_partitions_back_and_nobody_else_notices(
    settings: KafkaSettings, consume: Callable[..., KafkaConsumer]
) -> None:
    topic, name = topic_of(settings, 4), group()
    stays = Member(consume(topics=[topic], group=name, static_member="a"))
    goes = Member(consume(topics=[topic], group=name, static_member="b"))
    until(lambda: len(stays.owned) == len(goes.owned) == 2)
    had, noticed = set(goes.owned), len(stays.events)
    goes.end()
    again = Member(consume(topics=[topic], group=name, static_member="b"))
    until(lambda: again.owned == had)
    assert len(stays.events) == noticed
    stays.end()
    again.end()


def test_a_second_process_with_the_name_of_a_member_ends_the_first(
    settings: KafkaSettings, consume: Callable[..., KafkaConsumer]
) -> None:
    topic, name = topic_of(settings), group()
    first = consume(topics=[topic], group=name, static_member="a")
    assert first.poll(10).gained
    second = consume(topics=[topic], group=name, static_member="a")
    assert second.poll(10).gained

    def poll() -> None:
        for _ in range(60):
            first.poll(0.2)

    with pytest.raises(KafkaRefused, match="under the name of this one"):
        poll()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_nothing_is_lost_when_the_broker_restarts(
    kafka: Kafka, settings: KafkaSettings, consume: Callable[..., KafkaConsumer], how: str
) -> None:
    topic, name = topic_of(settings, 2), group()
    member = Member(consume(topics=[topic], group=name))
    # However long a busy machine takes to start it again.
    producer = KafkaProducer(msgspec.structs.replace(settings, delivery_seconds=120), "test")
    ended = threading.Event()
    sent: list[bytes] = []

    def send() -> None:
        while not ended.is_set():
            value = str(len(sent)).encode()
            producer.send(topic, value, partition=len(sent) % 2)
            sent.append(value)
            time.sleep(0.001)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    until(lambda: len(member.values) > 100)
    getattr(kafka, how)()
    kafka.start()
    more = len(sent) + 200
    until(lambda: len(sent) > more)
    ended.set()
    sender.join(20)
    producer.flush()
    until(lambda: set(member.values) >= set(sent))
    for part in range(2):
        seen = [int(value) for value in dict.fromkeys(member.values) if int(value) % 2 == part]
        assert seen == sorted(seen)
    found = consume().bounds([(topic, 0), (topic, 1)])
    assert sum(end for _, end in found.values()) == len(sent)  # each is there once
    producer.close()
    member.end()


def test_a_leader_that_dies_costs_no_message(kafka_cluster: KafkaCluster) -> None:
    settings = KafkaSettings(servers=kafka_cluster.servers, connect_seconds=10)
    admin = KafkaAdmin(settings, "test")
    topic = Kafka.topic()
    admin.create_topics([Topic(topic, 3, 3, {"min.insync.replicas": "2"})])
    admin.close()
    producer = KafkaProducer(settings, "test")
    consumer = KafkaConsumer(settings, "test")
    consumer.assign({(topic, number): 0 for number in range(3)})
    values = [str(number).encode() for number in range(300)]
    for number, value in enumerate(values[:100]):
        producer.send(topic, value, partition=number % 3)
    producer.flush()
    kafka_cluster.nodes[0].kill()
    for number, value in enumerate(values[100:]):
        producer.send(topic, value, partition=(100 + number) % 3)
    producer.flush()
    records = read(consumer, 300, 40)
    assert sorted(record.value for record in records) == sorted(values)
    consumer.close()
    producer.close()


def test_without_servers_it_is_said_where_to_set_them() -> None:
    with pytest.raises(ConfigError, match="no servers of Kafka are known"):
        KafkaProducer(KafkaSettings(), "test")


def test_a_port_on_which_nobody_listens_is_named() -> None:
    with pytest.raises(
        KafkaError, match=r"no broker answers at 127\.0\.0\.1:1: Connection refused"
    ):
        KafkaProducer(KafkaSettings(servers=("127.0.0.1:1",)), "test")


def test_what_is_no_broker_is_no_broker_and_leaves_no_thread() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        before = threading.active_count()
        with pytest.raises(KafkaError, match=f"no broker answers at {server}: it takes"):
            KafkaConsumer(KafkaSettings(servers=(server,), connect_seconds=1), "test")
        until(lambda: threading.active_count() <= before)


def test_a_service_waits_for_its_broker_and_says_so_once() -> None:
    said: list[str] = []
    stop = threading.Event()
    settings = KafkaSettings(servers=("127.0.0.1:1",))
    threading.Timer(1.5, stop.set).start()
    assert not wait_for_broker(settings, stop, said.append)
    assert said == ["waiting for Kafka: no broker answers at 127.0.0.1:1: Connection refused"]


def test_a_broker_that_comes_back_is_noticed(kafka: Kafka, settings: KafkaSettings) -> None:
    said: list[str] = []
    stop = threading.Event()
    kafka.stop()
    waiting = threading.Thread(target=wait_for_broker, args=(settings, stop, said.append))
    waiting.start()
    try:
        until(lambda: bool(said))
        kafka.start()
        waiting.join(20)
    finally:
        stop.set()
        waiting.join()
    assert said[0].startswith("waiting for Kafka")
    assert said[-1].startswith("Kafka answers after")
