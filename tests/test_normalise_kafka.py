"""The role normalise over a real Kafka, killed again and again: the stream of a single process."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import kafka.admin
import numpy as np
import polars as pl
import pytest
from peers.kafka_peer import Kafka
from sequencer_world import heard, same
from streams import START_NS

from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.kafka_settings import KafkaSettings
from sidelong.ingest.kafka_topics import create_topics
from sidelong.ingest.merge import merged
from sidelong.ingest.raw_batches import flow_batches
from sidelong.ingest.schema import conform, empty_flows
from sidelong.ingest.source import Batch
from sidelong.ingest.stream import Stream, Stretch

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
FLOWS = 50_000
RAW = 8
BATCHES = 3


def flows(count: int) -> pl.DataFrame:
    """Connections of two hundred workloads, some of them told by two observers."""
    random = np.random.default_rng(4)
    step = random.integers(0, 2_000_000, count).cumsum()
    client, server = random.integers(0, 200, count), random.integers(0, 200, count)
    reply = random.random(count) < 0.4
    source, target = (np.where(reply, *pair) for pair in ((server, client), (client, server)))
    frame = pl.DataFrame(
        {
            "time": START_NS + step,
            "src": [f"shop/w{n}" for n in source],
            "dst": [f"shop/w{n}" for n in target],
            "src_ip": [f"10.0.0.{n}" for n in source],
            "dst_ip": [f"10.0.0.{n}" for n in target],
            "src_port": random.integers(40_000, 50_000, count),
            "dst_port": random.integers(8_000, 8_020, count),
            "protocol": ["TCP"] * count,
            "verdict": ["FORWARDED"] * count,
            "tcp_flags": np.where(reply, 18, 2),
            "reply": reply,
            "origin": ["hubble"] * count,
            "node": [f"node-{n}" for n in random.integers(0, 3, count)],
        }
    )
    return conform(frame.with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC"))))


class Lane:
    """A raw partition as a source."""

    size_bytes: int | None = None

    def __init__(self, name: str, rows: pl.DataFrame) -> None:
        self.name = name
        self.rows = rows

    def batches(self, since: int = 0) -> Iterator[Batch]:
        yield Batch(self.rows, self.rows.height)


class Normalising:
    """A process of the role."""

    def __init__(self, config: Path, log: Path, member: str = "one") -> None:
        self._log = log
        environment = {**ENVIRONMENT, "SIDELONG_SERVICE__MEMBER": member}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "sidelong",
                    "run",
                    "--config",
                    config,
                    "--role",
                    "normalise",
                ],
                env=environment,
                stdout=file,
                stderr=file,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> int:
        self._process.terminate()
        return self._process.wait(30)

    @property
    def running(self) -> bool:
        return self._process.poll() is None


@pytest.fixture
def settings(kafka: Kafka) -> KafkaSettings:
    found = KafkaSettings(
        servers=(kafka.server,), prefix=f"{kafka.topic('normalise')}.", session_seconds=3
    )
    create_topics(found, partitions={"flows.raw": RAW, "flows.batches": BATCHES})
    return found


@pytest.fixture
def config(settings: KafkaSettings, tmp_path: Path) -> Path:
    path = tmp_path / "sidelong.toml"
    path.write_text(
        f"""
[kafka]
servers = ["{settings.servers[0]}"]
prefix = "{settings.prefix}"
session_seconds = 3
[service]
state = "{tmp_path / "state"}"
snapshot_seconds = 0.3
listen = ""
"""
    )
    return path


def send(settings: KafkaSettings, lanes: list[pl.DataFrame]) -> None:
    producer = KafkaProducer(settings, "test")
    topic = settings.topic("flows.raw")
    for partition, rows in enumerate(lanes):
        for batch in flow_batches(rows, "test", most_rows=200):
            producer.send(topic, batch.value, partition=partition, headers=batch.headers)
    producer.flush()
    producer.close()


class Reader:
    """Reads all that is in flows.batches, bit by bit."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._consumer = KafkaConsumer(settings, "test")
        topic = settings.topic("flows.batches")
        self.logs: list[list[tuple[bytes, dict[str, bytes]]]] = [[] for _ in range(BATCHES)]
        self._consumer.assign({(topic, partition): 0 for partition in range(BATCHES)})

    def read(self) -> None:
        for (_, partition), records in self._consumer.poll(0.2, 2_000).records.items():
            for record in records:
                assert record.offset == len(self.logs[partition])
                self.logs[partition].append((record.value, dict(record.headers)))

    def through(self) -> int:
        """Up to which row every partition tells."""
        told = [[int(headers["high"]) for _, headers in log] for log in self.logs]
        return min(max(highs, default=0) for highs in told)

    def until(self, rows: int, process: Normalising) -> None:
        ends = time.monotonic() + 60
        while self.through() < rows:
            self.read()
            assert process.running, process.log
            assert time.monotonic() < ends, process.log

    def close(self) -> None:
        self._consumer.close()


def together(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).sort("row")


def test_a_process_that_is_killed_twice_makes_the_stream_of_one_that_is_not(
    settings: KafkaSettings, config: Path, tmp_path: Path
) -> None:
    rows = flows(FLOWS)
    of = np.random.default_rng(5).integers(0, RAW, FLOWS)
    lanes = [rows.filter(pl.Series(of) == partition) for partition in range(RAW)]
    # So that the order does not depend on when a partition was last heard of, all is there at once.
    send(settings, lanes)
    reader = Reader(settings)
    processes = [Normalising(config, tmp_path / "one")]
    try:
        reader.until(FLOWS // 5, processes[0])
        processes[0].kill()
        processes.append(Normalising(config, tmp_path / "two"))  # under the same name
        reader.until(FLOWS // 3, processes[1])
        processes.append(Normalising(config, tmp_path / "three", "another"))
        processes[1].kill()
        reader.until(FLOWS, processes[2])  # once the second is given up
        assert processes[2].end() == 0
        reader.read()
    finally:
        for process in processes:
            process.kill()
        reader.close()
    parts = [heard(log) for log in reader.logs]
    found = [
        Stretch(one.low, one.high, one.tick_ns, one.pulse, together([part.flows for part in each]))
        for each in zip(*parts, strict=True)
        if (one := each[0]).high <= FLOWS  # what follows is silence
    ]
    sources = [Lane(str(number), lane) for number, lane in enumerate(lanes)]
    expected = pl.concat([batch.flows for batch in merged(sources)])
    same(found, expected)
    sent = sum(len(log) for log in reader.logs)
    assert sent < 3 * sum(map(len, parts)), "far more was sent again than need be"
    for process in processes:
        assert len(re.findall("makes the stream", process.log)) == 1, process.log


def test_partitions_that_are_added_are_read_without_a_restart_and_by_a_successor(
    settings: KafkaSettings, config: Path, tmp_path: Path
) -> None:
    rows = flows(3_000)
    parts = [rows.slice(part * 1_000, 1_000) for part in range(3)]
    send(settings, parts[:1])
    reader = Reader(settings)
    one = Normalising(config, tmp_path / "one")
    two = None
    try:
        reader.until(1_000, one)
        admin = kafka.admin.KafkaAdminClient(bootstrap_servers=settings.servers)
        admin.create_partitions({settings.topic("flows.raw"): kafka.admin.NewPartitions(RAW + 1)})
        admin.close()
        send(settings, [empty_flows()] * RAW + parts[1:2])
        while "is new, and is read" not in one.log:
            reader.read()
        reader.until(2_000, one)
        one.kill()
        two = Normalising(config, tmp_path / "two")
        send(settings, [empty_flows()] * RAW + parts[2:])
        reader.until(3_000, two)
        assert "lost" not in two.log, two.log
    finally:
        one.kill()
        if two is not None:
            two.kill()
        reader.close()
    found = pl.concat(part.flows for log in reader.logs for part in heard(log)).sort("row")
    expected = pl.concat(stretch.flows for stretch in Stream().stretches(rows))
    assert set(expected["time"]) <= set(found["time"])
