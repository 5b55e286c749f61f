"""Spark Structured Streaming in place of the detect role: from a real Kafka, the same evidence."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from peers.kafka_peer import Kafka

from sidelong import spark_stream
from sidelong.baseline_watch import BaselineWatch
from sidelong.cli import run
from sidelong.config import read_config
from sidelong.errors import ConfigError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.merge import merged
from sidelong.ingest.state_store import StateStore
from sidelong.ingest.stream import Stream
from sidelong.ingest.stretch_messages import decode as decode_stretch
from sidelong.ingest.stretch_messages import encode as encode_stretch
from sidelong.ingest.stretch_messages import parts_of
from sidelong.models.evidence_messages import EvidencePart, decode
from sidelong.role import Surroundings
from sidelong.role_detect import DetectRole

PARTITIONS = 3
Told = list[list[tuple[bytes, dict[str, bytes]]]]


class Place(NamedTuple):
    """A prefix in Kafka: its settings file, and its checkpoint."""

    config: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def stretches(shop: Path) -> Told:
    """The shop's incident as messages of flows.batches, partition by partition."""
    stream = Stream()
    told: Told = [[] for _ in range(PARTITIONS)]
    for batch in merged(open_inputs([str(shop / "test.hubble.jsonl.zst")])):
        for low in range(0, batch.flows.height, 1_500):
            for stretch in stream.stretches(batch.flows[low : low + 1_500]):
                parts = parts_of(stretch, "one", 0, PARTITIONS)
                for part, message in enumerate(encode_stretch(parts)):
                    told[part].append(message)
    return told


@pytest.fixture
def places(kafka: Kafka, tmp_path: Path) -> tuple[Place, Place]:
    """One for the native worker and one for Spark, with topics."""
    made = []
    for name in ("native", "spark"):
        config = tmp_path / f"{name}.toml"
        config.write_text(
            f'[kafka]\nservers = ["{kafka.server}"]\nprefix = "{kafka.topic(name)}."\n'
        )
        create = ["topics", "create", "--config", str(config)]
        assert run([*create, "--partitions", f"flows.batches={PARTITIONS}"]) == 0
        made.append(Place(config, tmp_path / f"{name}.checkpoint"))
    return made[0], made[1]


def send(place: Place, stretches: Told, part: slice) -> None:
    settings = read_config(str(place.config)).kafka
    producer = KafkaProducer(settings, "test")
    for partition, messages in enumerate(stretches):
        for value, headers in messages[part]:
            producer.send(
                settings.topic("flows.batches"), value, partition=partition, headers=headers
            )
    producer.flush(30)
    producer.close()


def evidence(place: Place) -> list[EvidencePart]:
    """All that is in the topic evidence now."""
    settings = read_config(str(place.config)).kafka
    consumer = KafkaConsumer(settings, "test")
    topic = (settings.topic("evidence"), 0)
    found: list[EvidencePart] = []
    try:
        consumer.assign({topic: 0})
        end = consumer.ends([topic])[topic]
        at = 0
        while at < end:
            for records in consumer.poll(0.3).records.values():
                found += [decode(record.value, record.headers) for record in records]
                at = records[-1].offset + 1
    finally:
        consumer.close()
    return found


def native(place: Place, tmp_path: Path) -> list[EvidencePart]:
    """What the detect role tells."""
    config = read_config(str(place.config))
    settings = config.kafka
    topic = settings.topic("flows.batches")
    role = DetectRole(
        Surroundings(config, say=lambda _: None),
        BaselineWatch(None, lambda _: None),
        frozenset(),
        consumer=KafkaConsumer(settings, "detect", topics=[topic], group=settings.group("detect")),
        producer=KafkaProducer(settings, "detect"),
        store=StateStore(str(tmp_path / "native.state")),
        decode=decode_stretch,
    )
    try:
        for _ in range(200):
            if not role.step(0.3) and role.counters().get("flows"):
                break
        role.drain(5)
    finally:
        role.close()
    return evidence(place)


def of_partition(parts: Sequence[EvidencePart], partition: int) -> Iterator[Any]:
    """What a partition tells, however it is cut: rows that were told before are left out."""
    through, frames, beats, ticks = 0, [], [], []
    for part in parts:
        if part.partition != partition or part.high <= through:
            continue
        assert part.low <= through
        fresh = pl.col("row") >= through
        frames.append(part.evidence.filter(fresh))
        beats.append(part.pulse.filter(fresh))
        ticks += [tick for tick in part.ticks if tick.row >= through]
        through = part.high
    yield from (through, pl.concat(frames), pl.concat(beats), ticks)


def assert_same(found: Sequence[EvidencePart], expected: Sequence[EvidencePart]) -> None:
    assert sum(part.evidence.height for part in expected) > 20
    for partition in range(PARTITIONS):
        for one, other in zip(
            of_partition(found, partition), of_partition(expected, partition), strict=True
        ):
            assert one.equals(other) if isinstance(one, pl.DataFrame) else one == other


def on_spark(place: Place) -> int:
    where = ["--config", str(place.config), "--checkpoint", str(place.checkpoint)]
    return run(["spark", "stream", *where, "--once"])


def test_spark_tells_the_evidence_of_the_native_workers_and_goes_on_after_a_crash(
    spark: Any,
    places: tuple[Place, Place],
    stretches: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there, here = places
    half = len(stretches[0]) // 2
    send(here, stretches, slice(0, half))
    assert on_spark(here) == 0
    send(here, stretches, slice(half, None))
    # State is kept, and then all ends before the evidence is written.
    whole = spark_stream._Judging.take

    def dies(self: Any, messages: Any, batch: int) -> None:
        judging = spark_stream._by_partition
        with monkeypatch.context() as patch:
            patch.setattr(
                spark_stream,
                "_by_partition",
                lambda *given: judging(*given).collect() and 1 / 0,
            )
            whole(self, messages, batch)

    with monkeypatch.context() as patch:
        patch.setattr(spark_stream._Judging, "take", dies)
        with pytest.raises(Exception, match="division by zero"):
            on_spark(here)
    assert on_spark(here) == 0
    send(there, stretches, slice(None))
    assert_same(evidence(here), native(there, tmp_path))


def test_settings_of_kafka_are_those_of_the_connector(tmp_path: Path) -> None:
    config = tmp_path / "sidelong.toml"
    (tmp_path / "password").write_text('say "it"\n')
    config.write_text(
        f"""
[kafka]
servers = ["one:9093", "two"]
[kafka.tls]
ca = "/etc/ca.pem"
[kafka.sasl]
mechanism = "SCRAM-SHA-512"
username = "sidelong"
password = {{ file = "{tmp_path / "password"}" }}
"""
    )
    told = spark_stream.kafka_options(read_config(str(config)))
    assert told["kafka.bootstrap.servers"] == "one:9093,two:9092"
    assert told["kafka.security.protocol"] == "SASL_SSL"
    assert told["kafka.ssl.truststore.location"] == "/etc/ca.pem"
    assert told["kafka.sasl.jaas.config"].endswith('password="say \\"it\\"";')


def test_what_java_has_no_equal_of_is_said(tmp_path: Path) -> None:
    config = tmp_path / "sidelong.toml"
    config.write_text(
        '[kafka]\nservers = ["one:9093"]\n[kafka.sasl]\nmechanism = "OAUTHBEARER"\n'
        'token = { env = "TOKEN" }\n'
    )
    with pytest.raises(ConfigError, match="OAUTHBEARER is not handed on to Spark"):
        spark_stream.kafka_options(read_config(str(config)))


def test_settings_without_kafka_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "sidelong.toml"
    config.write_text("[service]\n")
    where = ["--config", str(config), "--checkpoint", str(tmp_path / "checkpoint")]
    assert run(["spark", "stream", *where, "--once"]) == 2
    assert "names no servers of Kafka" in capfd.readouterr().err
