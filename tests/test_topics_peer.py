"""Topics of a real Kafka as inputs and as targets: what goes in comes out, whatever is among it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from peers.kafka_peer import Kafka
from polars.testing import assert_frame_equal
from raw_samples import Sent, bomb, hubble, messages
from source_contract import RULES, Case

from sidelong.cli import run
from sidelong.errors import ConfigError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_client import KafkaError, KafkaRefused, Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.kafka_settings import KafkaSettings
from sidelong.ingest.merge import merged
from sidelong.ingest.raw_messages import RawDecoder
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.topic_address import topic_address
from sidelong.ingest.topic_sink import TopicSink
from sidelong.ingest.topic_source import PartitionSource, TopicFollowed, partitions_of

SETTINGS: Final = InputSettings()


@pytest.fixture
def settings(kafka: Kafka) -> KafkaSettings:
    return KafkaSettings(servers=(kafka.server,), connect_seconds=5, session_seconds=6)


@pytest.fixture
def produce(settings: KafkaSettings) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(settings, "test", compression="none")
    yield producer
    producer.close()


def topic_of(settings: KafkaSettings, partitions: int = 1, **config: str) -> str:
    name = Kafka.topic("raw")
    admin = KafkaAdmin(settings, "test")
    try:
        named = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics([Topic(name, partitions, 1, named)])
    finally:
        admin.close()
    return name


def url(settings: KafkaSettings, topic: str, query: str = "") -> str:
    return f"kafka://{settings.shown}/{topic}{query}"


def send(producer: KafkaProducer, topic: str, sent: Sequence[Sent], partition: int = 0) -> None:
    for one in sent:
        producer.send(topic, one.value or b"", partition=partition, headers=one.headers)
    producer.flush()


def stream(count: int, first: int = 0) -> list[Sent]:
    """A flow a second."""
    clock = (timedelta(seconds=second) for second in range(first, first + count))
    return [Sent(hubble(time=f"2026-11-23T0{passed}Z")) for passed in clock]


def decoded(sent: Sequence[Sent]) -> pl.DataFrame:
    with RawDecoder() as decoder:
        return decoder.decode(sent).flows


def records(settings: KafkaSettings, topic: str, rows: int = 0) -> list[Record]:
    """All that is in a topic now, by partition; and what comes, until it is so many rows."""
    consumer = KafkaConsumer(settings, "test")
    try:
        places = [(topic, number) for number in consumer.partitions(topic)]
        bounds = consumer.bounds(places)
        consumer.assign({place: first for place, (first, _) in bounds.items()})
        found: list[Record] = []
        wanted = sum(end - first for first, end in bounds.values())
        ends = time.monotonic() + 60
        while len(found) < wanted or sum(map(rows_of, found)) < rows:
            assert time.monotonic() < ends, (
                f"{len(found)} messages, {sum(map(rows_of, found))} rows"
            )
            for some in consumer.poll(0.5).records.values():
                found += some
    finally:
        consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def rows_of(record: Record) -> int:
    return int(record.headers.get("rows", b"0"))


def flows_in(settings: KafkaSettings, topic: str) -> pl.DataFrame:
    sources = open_inputs([url(settings, topic)])
    return pl.concat(batch.flows for batch in merged(sources))


# A topic that is read to its end


def test_partitions_are_merged_in_the_order_of_time(
    settings: KafkaSettings, produce: KafkaProducer
) -> None:
    topic = topic_of(settings, 3)
    sent = stream(300)
    for partition in range(3):
        send(produce, topic, sent[partition::3], partition)
    assert_frame_equal(flows_in(settings, topic), decoded(sent))


def test_a_topic_is_read_as_far_as_it_went_at_the_start(
    settings: KafkaSettings, produce: KafkaProducer
) -> None:
    topic = topic_of(settings, 2)
    send(produce, topic, stream(10))
    sources = open_inputs([url(settings, topic)])
    send(produce, topic, stream(10, 10))
    assert sum(batch.flows.height for batch in merged(sources)) == 10


def test_a_topic_is_merged_with_files(
    settings: KafkaSettings, produce: KafkaProducer, tmp_path: Path
) -> None:
    topic = topic_of(settings)
    sent = stream(40)
    send(produce, topic, sent[::2])
    path = tmp_path / "rest.jsonl"
    path.write_bytes(b"".join((one.value or b"") + b"\n" for one in sent[1::2]))
    flows = pl.concat(
        batch.flows for batch in merged(open_inputs([str(path), url(settings, topic)]))
    )
    assert_frame_equal(flows, decoded(sent))


@pytest.fixture(scope="module")
def held(kafka: Kafka) -> tuple[KafkaSettings, dict[str, str]]:
    """Topics for the contract: whole, empty, and one that ends in rubbish."""
    settings = KafkaSettings(servers=(kafka.server,))
    topics = {name: topic_of(settings) for name in ("whole", "empty", "damaged")}
    producer = KafkaProducer(settings, "test")
    every = [sent for form in messages().values() for sent in form if len(sent.value or b"") < 9999]
    send(producer, topics["whole"], every)
    send(producer, topics["damaged"], [*every, Sent(b"\xff\xfe rubbish")])
    producer.close()
    return settings, topics


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_partition_holds_to_the_rules_of_sources(
    rule: Callable[[Case], None],
    held: tuple[KafkaSettings, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, topics = held

    def source(name: str, most: int | None = None) -> PartitionSource:
        address = topic_address(url(settings, topics[name]), settings)
        (source,) = partitions_of(address, SETTINGS, follow=False)
        if most is not None:
            monkeypatch.setattr(source, "_most_records", most)
        return source

    rule(
        Case(
            small=lambda: source("whole", 40),
            large=lambda: source("whole"),
            empty=lambda: source("empty"),
            damaged=lambda: source("damaged", 40),
        )
    )


def test_what_is_not_there_is_said(settings: KafkaSettings) -> None:
    with pytest.raises(KafkaRefused, match="knows no topic absent"):
        open_inputs([url(settings, "absent")])
    with pytest.raises(KafkaError, match=r"no broker answers at 127\.0\.0\.1:1"):
        open_inputs(["kafka://127.0.0.1:1/topic"])


def test_incidents_of_a_topic_are_those_of_the_file(
    settings: KafkaSettings, shop: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    topic = topic_of(settings, 2, retention_ms="-1")
    recorded = str(shop / "test.hubble.jsonl.zst")
    assert run(["collect", recorded, "--to", url(settings, topic)]) == 0
    capfd.readouterr()
    assert run(["replay", recorded, "--output", "json"]) == 1
    of_file = capfd.readouterr().out
    assert run(["replay", url(settings, topic), "--output", "json"]) == 1
    assert capfd.readouterr().out == of_file
    assert run(["doctor", url(settings, topic), "--output", "json"]) in (0, 1)


# A topic that is followed


def test_what_comes_later_is_given_as_it_comes(
    settings: KafkaSettings, produce: KafkaProducer
) -> None:
    topic = topic_of(settings, 2)
    send(produce, topic, stream(5))
    (source,) = open_inputs([url(settings, topic, "?follow")])
    assert isinstance(source, TopicFollowed)
    seen = 0
    silences = []
    for batch in source.batches():
        before, seen = seen, seen + batch.flows.height
        if before < 5 <= seen:
            send(produce, topic, stream(7, 5), 1)
        silences.append(batch.flows.is_empty())
        if seen == 12 and silences[-1]:
            source.close()
    assert seen == 12
    assert source.counters()["received"] == 12


def test_from_the_end_on_only_what_comes_is_given(
    settings: KafkaSettings, produce: KafkaProducer
) -> None:
    topic = topic_of(settings)
    send(produce, topic, stream(5))
    address = topic_address(url(settings, topic, "?follow&from=end"), settings)
    (source,) = partitions_of(address, SETTINGS, follow=True)
    send(produce, topic, stream(3, 5))
    for batch in source.batches():
        if batch.flows.height:
            assert batch.flows.height == 3
            source.close()


def test_a_broker_that_goes_away_is_waited_for(
    kafka: Kafka, settings: KafkaSettings, produce: KafkaProducer
) -> None:
    topic = topic_of(settings)
    send(produce, topic, stream(4))
    (source,) = partitions_of(topic_address(url(settings, topic), settings), SETTINGS, follow=True)
    seen = 0
    for batch in source.batches():
        if seen == 0 and batch.flows.height:
            kafka.stop()
            kafka.start()
            fresh = KafkaProducer(settings, "test")
            send(fresh, topic, stream(4, 4))
            fresh.close()
        seen += batch.flows.height
        if seen == 8:
            source.close()
    assert seen == 8


# collect


def test_collect_from_a_topic_goes_on_where_it_ended(
    settings: KafkaSettings, produce: KafkaProducer, tmp_path: Path
) -> None:
    topic = topic_of(settings, 2)
    sent = stream(60)
    send(produce, topic, sent[:20], 0)
    send(produce, topic, sent[20:40], 1)
    collect = ["collect", url(settings, topic), "--to", str(tmp_path)]
    assert run([*collect, "--max-flows", "40"]) == 0
    send(produce, topic, sent[40:], 1)
    assert run([*collect, "--max-flows", "20"]) == 0
    flows = pl.concat(batch.flows for batch in merged(open_inputs([str(tmp_path)])))
    assert_frame_equal(flows.sort("time"), decoded(sent))


def test_collect_into_a_topic_goes_on_where_it_ended(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    topic = topic_of(settings, 4)
    path = tmp_path / "flows.jsonl"
    lines = [(one.value or b"") + b"\n" for one in stream(3_000)]
    path.write_bytes(b"".join(lines[:2_500]))
    collect = ["collect", str(path), "--to", url(settings, topic)]
    assert run(collect) == 0
    with path.open("ab") as file:
        file.writelines(lines[2_500:])
    assert run(collect) == 0
    assert run(collect) == 0
    written = records(settings, topic)
    assert {record.headers["content-type"] for record in written} == {
        b"application/vnd.apache.arrow.stream"
    }
    assert len({record.partition for record in written}) == 1  # so that their order stays
    assert [int(record.headers["rows"]) for record in written] == [1_000, 1_000, 500, 500]
    assert_frame_equal(flows_in(settings, topic), decoded(stream(3_000)))


def test_what_a_live_source_repeats_is_not_sent_again(settings: KafkaSettings) -> None:
    topic = topic_of(settings, 2)
    flows = decoded(stream(100))
    with TopicSink(topic_address(url(settings, topic), settings)) as sink:
        sink.commit({"hubble://relay": [flows], "other": [flows[:3]]}, {})
        since = flows["time"].to_physical()[50]
        known = pl.concat(sink.rows_since("hubble://relay", since))
    assert_frame_equal(known, flows[50:])


def test_kafka_that_is_away_costs_nothing(
    kafka: Kafka, settings: KafkaSettings, tmp_path: Path
) -> None:
    """Collected from a pipe while the broker is down and back: all of it arrives, in order."""
    topic = topic_of(settings)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said: list[int] = []
    lines = [(one.value or b"") + b"\n" for one in stream(400)]
    thread = threading.Thread(
        target=lambda: said.append(run(["collect", str(pipe), "--to", url(settings, topic)]))
    )
    thread.start()
    with pipe.open("wb") as file:
        file.writelines(lines[:200])
        file.flush()
        records(settings, topic, rows=200)
        kafka.stop()
        file.writelines(lines[200:])
        file.flush()
        time.sleep(1.0)  # what is held now cannot be written
        kafka.start()
    thread.join(60)
    assert said == [0]
    assert_frame_equal(flows_in(settings, topic).unique(maintain_order=True), decoded(stream(400)))


# From a topic to a topic


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A process that dies is noticed soon."""
    path = tmp_path / "sidelong.toml"
    path.write_text("[kafka]\nsession_seconds = 2\n")
    return path


def relay(source: str, target: str, config: Path) -> subprocess.Popen[bytes]:
    command = ["collect", source, "--to", target, "--config", str(config)]
    return subprocess.Popen(
        [sys.executable, "-m", "sidelong", *command],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[bytes]) -> str:
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=40)
    assert process.returncode == 0, said
    return said.decode()


def wait_for_commits(settings: KafkaSettings, topic: str, group: str, offset: int) -> None:
    """Until all four partitions are done up to there."""
    consumer = KafkaConsumer(settings, "test", group=group)
    ends = time.monotonic() + 60
    try:
        while {consumer.committed((topic, number)) for number in range(4)} != {offset}:
            assert time.monotonic() < ends
            time.sleep(0.2)
    finally:
        consumer.close()


def test_processes_share_the_work_and_one_that_is_killed_loses_nothing(
    settings: KafkaSettings, produce: KafkaProducer, config: Path
) -> None:
    raw, batches = topic_of(settings, 4), topic_of(settings, 4)
    sent = stream(8_000)
    for partition in range(4):
        send(produce, raw, sent[partition:4_000:4], partition)
    group = f"sidelong.collect.{batches}"
    processes = [relay(url(settings, raw), url(settings, batches), config) for _ in range(2)]
    try:
        records(settings, batches, rows=1_000)
        for partition in range(4):
            send(produce, raw, sent[4_000 + partition :: 4], partition)
        processes[0].kill()
        wait_for_commits(settings, raw, group, 2_000)
        ended(processes[1])
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    flows = flows_in(settings, batches)
    # What was sent and not yet committed by who was killed is there twice; nothing is missing.
    assert_frame_equal(flows.unique(maintain_order=True), decoded(sent))
    for partition in range(4):
        of = [one for one in records(settings, batches) if one.partition == partition]
        assert {one.headers["source"].decode() for one in of} == {
            f"{url(settings, raw)}/{partition}"
        }


def test_what_cannot_be_read_is_a_dead_letter_and_the_rest_goes_on(
    settings: KafkaSettings, config: Path
) -> None:
    """Among good messages: 20 MB, random bytes, a header that lies, Avro, a bomb, a bad line."""
    raw = topic_of(settings, 1, max_message_bytes=str(24 << 20))
    batches = topic_of(settings, 1)
    good = stream(50)
    poison = [
        Sent(hubble(path="x" * 20_000_000)),
        Sent(bytes(range(255, 100, -1)) * 20),
        Sent(hubble(), {"content-type": b"application/vnd.apache.arrow.stream"}),
        Sent(b"\0\0\0\0\x07\x02\x0ecarts-0\x10"),
        Sent(bomb(80 << 20)["zstd"]),
        Sent(hubble() + b"\n{}\n"),
    ]
    large = LargeProducer(settings)
    for number, one in enumerate(good):
        large.send(raw, [one, *(poison[number : number + 1] if number < len(poison) else ())])
    large.close()
    process = relay(url(settings, raw), url(settings, batches), config)
    try:
        records(settings, batches, rows=51)
        said = ended(process)
    finally:
        process.kill()
        process.communicate()
    letters = records(settings, f"{raw}.dlq")
    assert "6 messages sent to" in said
    causes = [letter.headers["error"].decode() for letter in letters]
    assert causes == [
        "longer than 10 MiB",
        "of no known format: it begins with '\\xff\\xfe\\xfd\\xfc\\xfb\\xfa\\xf9\\xf8\\xf7\\xf6"
        "\\xf5\\xf4\\xf3\\xf2\\xf1\\xf0'...",
        'its content-type says arrow, and it begins with \'{"flow":{"time":\'...',
        "it is framed for a schema registry (schema 7), and Avro or another kind that is not read: "
        "write JSON, protobuf, Arrow or Parquet",
        "it is more than 64 MiB once it is unpacked",
        "1 of its 2 records cannot be read; 2: JSON of no known format: its keys are none",
    ]
    assert [int(letter.headers["offset"]) for letter in letters] == [1, 3, 5, 7, 9, 11]
    for letter, one in zip(letters, poison, strict=True):
        assert letter.headers["topic"].decode() == raw
        assert letter.headers["partition"] == b"0"
        assert abs(int(letter.headers["timestamp"]) - time.time() * 1000) < 600_000
        assert (one.value or b"").startswith(letter.value)
    assert letters[0].headers["size"].decode() == str(len(poison[0].value or b""))
    assert len(letters[0].value) == 900_000
    assert letters[2].headers["content-type"] == b"application/vnd.apache.arrow.stream"
    assert letters[5].headers["kept"] == b"1"
    assert flows_in(settings, batches).height == 51


class LargeProducer:
    """Sends what is larger than our own producer takes."""

    def __init__(self, settings: KafkaSettings) -> None:
        from kafka import KafkaProducer as Theirs

        self._producer: Any = Theirs(
            bootstrap_servers=list(settings.servers), max_request_size=32 << 20
        )

    def send(self, topic: str, sent: Sequence[Sent]) -> None:
        for one in sent:
            self._producer.send(topic, one.value, headers=list(one.headers.items()), partition=0)

    def close(self) -> None:
        self._producer.flush()
        self._producer.close()


# What is refused


def test_what_cannot_be_done_with_topics_is_said(
    settings: KafkaSettings, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    topic = topic_of(settings)
    for arguments, told in (
        ([url(settings, topic), "--to", url(settings, topic)], "to be read and to be written"),
        ([url(settings, topic), str(tmp_path), "--to", url(settings, "x")], "cannot be read toget"),
        ([str(tmp_path), "--to", url(settings, "absent")], "knows no topic absent"),
        ([url(settings, topic), "--to", url(settings, "absent")], "knows no topic absent"),
        ([url(settings, topic, "?folow"), "--to", str(tmp_path / "x")], "asks for folow="),
    ):
        if str(tmp_path) in arguments:
            (tmp_path / "one.json").write_bytes(hubble())
        assert run(["collect", *arguments]) in (2, 3)
        assert told in capfd.readouterr().err


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("kafka://user:secret@broker/topic", "bears a name or a password"),
        ("kafka://broker", "names no topic"),
        ("kafka://broker/a/b", "names no topic"),
        ("kafka:///topic", "names no server"),
        ("kafka://broker:port/topic", "cannot be used"),
        ("kafka://broker/topic?from=yesterday", "asks for from=yesterday"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(address: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        topic_address(address, KafkaSettings())
    assert "secret" not in str(raised.value)


def test_an_address_is_that_of_the_settings_where_it_leaves_something_open() -> None:
    settings = KafkaSettings(servers=("a:9092", "b:9092"), client_id="me")
    open_one = topic_address("kafka:///topic?follow&group=us", settings)
    assert (open_one.url, open_one.follow) == ("kafka://a:9092,b:9092/topic", True)
    assert (open_one.group, open_one.kafka.client_id) == ("us", "me")
    named = topic_address("kafka+tls://c:1,d:2/topic", settings)
    assert (named.kafka.servers, named.kafka.tls is not None) == (("c:1", "d:2"), True)
    assert json.dumps(named.topic) == '"topic"'
