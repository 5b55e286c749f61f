"""Roles that die at every point between two messages: what is downstream is whole, and only once.

Kafka is a double here, for no real one can be stopped between two calls; what it does to real
processes stands in test_service_kafka.py.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
import pytest
from streams import flows_of
from test_evidence_merge import Sent, sequenced

from sidelong.alerts.plain_text import printable_json
from sidelong.alerts.policy_advice import Advice
from sidelong.baseline_watch import BaselineWatch, Judge
from sidelong.config import Config
from sidelong.ingest.kafka_client import KafkaError, Partition, Record
from sidelong.ingest.kafka_consumer import Polled
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline
from sidelong.role import Role, Surroundings
from sidelong.role_correlate import CorrelateRole
from sidelong.role_detect import DetectRole
from sidelong.service_settings import ServiceSettings

BATCHES = "flows.batches"
PARTS = 3


class Died(BaseException):
    """The process is no more."""


class Cluster:
    """What survives: topics, committed offsets, snapshots. Dies at the call number `dies_at`."""

    def __init__(self) -> None:
        self.topics: dict[Partition, list[Record]] = {}
        self.committed: dict[Partition, int] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.calls = 0
        self.dies_at: int | None = None

    def point(self) -> None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise Died

    def append(self, topic: str, partition: int, value: bytes, headers: Mapping[str, bytes]) -> int:
        log = self.topics.setdefault((topic, partition), [])
        log.append(Record(topic, partition, len(log), 0, None, value, dict(headers)))
        return len(log) - 1

    def log(self, topic: str, partition: int = 0) -> list[Record]:
        return self.topics.get((topic, partition), [])

    # Snapshots
    last_bytes = 0

    def load(self, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.snapshots.get(name))

    def save(self, name: str, state: dict[str, Any]) -> None:
        self.point()
        self.snapshots[name] = copy.deepcopy(state)
        self.point()


class Producer:
    """Keeps what is sent until it is flushed, or as many as `eager` are waiting: whoever dies
    before may have sent a part of it."""

    in_flight_bytes = 0

    def __init__(self, cluster: Cluster, eager: int) -> None:
        self._cluster = cluster
        self._eager = eager
        self._held: list[tuple[str, int, bytes, Mapping[str, bytes]]] = []

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int = 0,
        key: bytes | None = None,
        headers: Mapping[str, bytes],
    ) -> None:
        self._cluster.point()
        self._held.append((topic, partition, value, headers))
        if len(self._held) >= self._eager:
            self._out()

    def flush(self, timeout: float | None = None) -> None:
        self._cluster.point()
        self._out()
        self._cluster.point()

    def close(self, timeout: float = 0) -> None:
        pass

    def _out(self) -> None:
        for message in self._held:
            self._cluster.append(*message)
        self._held.clear()


class Consumer:
    """Has all partitions of a topic from its first poll on."""

    def __init__(self, cluster: Cluster, topic: str, most: int) -> None:
        self._cluster = cluster
        self._places = sorted(place for place in cluster.topics if place[0] == topic)
        self._most = most
        self._next: dict[Partition, int] = {}
        self._told = False

    def poll(self, timeout: float, most_records: int) -> Polled:
        self._cluster.point()
        if not self._told:
            self._told = True
            return Polled({}, set(self._places), set())
        records = {}
        for place, at in self._next.items():
            if found := self._cluster.topics[place][at : at + self._most]:
                records[place] = found
                self._next[place] += len(found)
        return Polled(records, set(), set())

    def bounds(self, places: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return {place: (0, len(self._cluster.topics[place])) for place in places}

    def committed(self, place: Partition) -> int | None:
        return self._cluster.committed.get(place)

    def seek(self, place: Partition, offset: int) -> None:
        self._next[place] = offset

    def end(self, place: Partition) -> int:
        return len(self._cluster.topics[place])

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        self._cluster.point()
        self._cluster.committed.update(offsets)

    def close(self) -> None:
        pass


def surroundings(every: float = 1e-9) -> Surroundings:
    service = ServiceSettings(snapshot_seconds=every)
    return Surroundings(Config(service=service), lambda _: None)


def attack() -> pl.DataFrame:
    """A scan, a tunnel and new edges, with silences in between."""
    happened = [("answered", 0, 1, 1, 20, 0)] * 5
    happened += [("refused", 2, 3, port, 30, 0) for port in range(12)]
    happened += [("lookup", 1, 5, port, 40, 0) for port in range(25)]
    happened += [("syn", 0, 3, 7, 700_000, 0), ("answered", 0, 3, 7, 50, 0)]
    happened += [("syn", 4, other, 3, 60, 0) for other in (0, 1, 2, 3)] * 3
    happened += [("answered", 0, 1, 1, 3_000, 0)] * 3
    return flows_of(happened)


@pytest.fixture(scope="module")
def expected() -> list[str]:
    pipeline = Pipeline(advice=Advice(Baseline.empty()))
    return [printable_json(one.to_json()) for one in pipeline.process(attack())]


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    flows = attack()
    batches = [flows[at : at + 5] for at in range(0, flows.height, 5)]
    for part, sent in enumerate(sequenced(batches, PARTS)):
        for number, _ in enumerate(sent):
            cluster.append(BATCHES, part, b"", {"at": f"{part} {number}".encode()})
    cluster.append("evidence", 0, b"", {})
    cluster.topics["evidence", 0].clear()
    return cluster


class Stretches(NamedTuple):
    """What the messages of the double mean."""

    sent: list[list[Sent]]

    def decode(self, _: bytes, headers: Mapping[str, bytes]) -> Sent:
        part, number = headers["at"].split()
        return self.sent[int(part)][int(number)]


@pytest.fixture(scope="module")
def stretches() -> Stretches:
    flows = attack()
    return Stretches(sequenced([flows[at : at + 5] for at in range(0, flows.height, 5)], PARTS))


def work(build: Callable[[], Role], cluster: Cluster, topic: str) -> None:
    """Run a role until it has read all there is, and then drain it."""
    role = build()
    while any(
        cluster.committed.get(place, 0) < len(log)
        for place, log in cluster.topics.items()
        if place[0] == topic
    ):
        role.step(0)
    role.drain(0)


def told(cluster: Cluster) -> list[str]:
    """What was told, without what was told again."""
    return list(dict.fromkeys(record.value.decode() for record in cluster.log("alerts")))


def detecting(cluster: Cluster, stretches: Stretches, eager: int, most: int) -> DetectRole:
    return DetectRole(
        surroundings(),
        BaselineWatch(None, print),
        frozenset(),
        consumer=Consumer(cluster, BATCHES, most),  # type: ignore[arg-type]
        producer=Producer(cluster, eager),  # type: ignore[arg-type]
        store=cluster,
        decode=stretches.decode,
    )


def correlating(cluster: Cluster, eager: int, most: int) -> CorrelateRole:
    return CorrelateRole(
        surroundings(),
        BaselineWatch(None, print),
        consumer=Consumer(cluster, "evidence", most),  # type: ignore[arg-type]
        producer=Producer(cluster, eager),  # type: ignore[arg-type]
        store=cluster,
    )


@pytest.mark.parametrize(("eager", "most"), [(1, 2), (3, 4), (1_000, 3)])
def test_detect_may_die_anywhere(
    cluster: Cluster, stretches: Stretches, expected: list[str], eager: int, most: int
) -> None:
    died = 0
    cluster.dies_at = 1
    while True:
        cluster.calls = 0
        try:
            work(lambda: detecting(cluster, stretches, eager, most), cluster, BATCHES)
            break
        except Died:
            died += 1
            cluster.dies_at += 1  # later each time, so that it gets somewhere
    cluster.dies_at = None
    work(lambda: correlating(cluster, 1, 5), cluster, "evidence")
    assert died > 5
    assert told(cluster) == expected


@pytest.mark.parametrize(("eager", "most"), [(1, 1), (2, 3), (1_000, 2)])
def test_correlate_may_die_anywhere(
    cluster: Cluster, stretches: Stretches, expected: list[str], eager: int, most: int
) -> None:
    work(lambda: detecting(cluster, stretches, 1, 2), cluster, BATCHES)
    died = 0
    cluster.dies_at = 1
    while True:
        cluster.calls = 0
        try:
            work(lambda: correlating(cluster, eager, most), cluster, "evidence")
            break
        except Died:
            died += 1
            cluster.dies_at += 1
    assert died > 5
    assert told(cluster) == expected


class Learning:
    """A baseline that is newer whenever somebody looks."""

    def __init__(self) -> None:
        self._number = 0

    def newest(self) -> Judge:
        self._number += 1
        return Judge(self._number // 7, Baseline.empty())


def test_a_newer_baseline_is_taken_up_and_nothing_is_forgotten(
    cluster: Cluster, stretches: Stretches, expected: list[str]
) -> None:
    role = detecting(cluster, stretches, 1, 2)
    role._baseline = Learning()  # type: ignore[assignment]
    work(lambda: role, cluster, BATCHES)
    other = correlating(cluster, 1, 5)
    other._baseline = Learning()  # type: ignore[assignment]
    work(lambda: other, cluster, "evidence")
    assert told(cluster) == expected


def test_without_its_snapshot_a_partition_begins_anew_and_says_so(
    cluster: Cluster, stretches: Stretches
) -> None:
    work(lambda: detecting(cluster, stretches, 1, 2), cluster, BATCHES)
    cluster.snapshots.clear()
    said: list[str] = []
    role = DetectRole(
        Surroundings(Config(), said.append),
        BaselineWatch(None, print),
        frozenset(),
        consumer=Consumer(cluster, BATCHES, 5),  # type: ignore[arg-type]
        producer=Producer(cluster, 1),  # type: ignore[arg-type]
        store=cluster,
        decode=stretches.decode,
    )
    role.step(0)
    assert (
        f"there is no snapshot for partition 0 of {BATCHES}: what was known of it is lost" in said
    )


def test_a_snapshot_that_is_none_is_told_and_not_used(
    cluster: Cluster, stretches: Stretches, expected: list[str]
) -> None:
    cluster.snapshots["detect.0"] = {"offset": 3, "judged": {"stream": 7}}
    work(lambda: detecting(cluster, stretches, 1, 2), cluster, BATCHES)
    work(lambda: correlating(cluster, 1, 5), cluster, "evidence")
    assert told(cluster) == expected


def test_a_damaged_message_is_left_out_and_counted(cluster: Cluster, stretches: Stretches) -> None:
    def decode(value: bytes, headers: Mapping[str, bytes]) -> Sent:
        if headers["at"] == b"1 2":
            raise ValueError("its digest is not that of its content")
        return stretches.decode(value, headers)

    said: list[str] = []
    role = DetectRole(
        Surroundings(Config(), said.append),
        BaselineWatch(None, print),
        frozenset(),
        consumer=Consumer(cluster, BATCHES, 50),  # type: ignore[arg-type]
        producer=Producer(cluster, 1),  # type: ignore[arg-type]
        store=cluster,
        decode=decode,
    )
    role.step(0)
    role.step(0)
    counters = role.counters()
    assert (counters["bad"], counters["gaps"]) == (1, 1)
    assert f"a message is damaged and left out ({BATCHES}, partition 1, offset 2)" in said[-1]


def test_a_producer_that_has_failed_fails_the_role(cluster: Cluster, stretches: Stretches) -> None:
    role = detecting(cluster, stretches, 1, 2)

    def fail(*_: object, **__: object) -> None:
        raise KafkaError("Kafka does not take messages for evidence", hint="see the brokers")

    role._producer.send = fail  # type: ignore[method-assign,assignment]
    role.step(0)
    with pytest.raises(KafkaError):
        role.step(0)
    assert cluster.committed == {}
