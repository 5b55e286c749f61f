"""`sidelong run` over a real Kafka: what comes out is what a replay of the same flows gives."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.kafka_peer import Kafka
from service_cluster import Cluster, sidelong


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Path:
    folder = tmp_path_factory.mktemp("service") / "baseline"
    sidelong("learn", shop / "train.hubble.jsonl.zst", "--baseline", folder)
    return folder


@pytest.fixture(scope="module")
def expected(baseline: Path, shop: Path) -> list[str]:
    """What a replay tells, but for the closes at its end: a service has none."""
    lines = sidelong(
        "replay", shop / "test.hubble.jsonl.zst", "--baseline", baseline, "--output", "json"
    ).splitlines()
    return [line for line in lines if json.loads(line)["status"] != "closed"]


@pytest.fixture
def cluster(kafka: Kafka, tmp_path: Path, baseline: Path) -> Iterator[Cluster]:
    cluster = Cluster(kafka, tmp_path, baseline)
    yield cluster
    for process in cluster.processes:
        process.close()


def test_the_shop_through_kafka_which_is_down_at_first(
    kafka: Kafka, cluster: Cluster, shop: Path, expected: list[str]
) -> None:
    cluster.read(shop / "test.hubble.jsonl.zst")
    kafka.stop()
    try:
        service = cluster.start()
        service.says("waiting for Kafka: no broker answers")
        assert service.asked("/readyz")[0] == 503
        assert service.asked("/healthz")[0] == 200
    finally:
        kafka.start()
    service.says("knows no topic")  # and goes on asking
    sidelong("topics", "create", "--config", cluster.config)
    assert cluster.alerts(len(expected)) == expected
    opened = [json.loads(line)["id"] for line in expected if json.loads(line)["status"] == "open"]
    service.until(lambda: {id for id, _ in cluster.told()} == set(opened))
    service.until(lambda: service.asked("/readyz")[0] == 200)
    metrics = service.asked("/metrics")[1]
    assert re.search(r'sidelong_gaps_total\{role="detect"\} 0', metrics)
    assert service.end() == 0
    assert sorted(id for id, status in cluster.told() if status == "open") == sorted(opened)


def test_processes_come_go_and_die_and_nothing_is_lost_or_doubled(
    cluster: Cluster, shop: Path, expected: list[str]
) -> None:
    made = sidelong("topics", "create", "--config", cluster.config).splitlines()
    listed = sidelong("topics", "list", "--config", cluster.config).splitlines()
    assert {f"{json.loads(line)['topic']} is new" for line in listed} == set(made)
    one = cluster.start("normalise", "detect", "correlate")
    one.says(r"judges partitions \d")
    two = cluster.start("detect")
    two.says(r"judges partitions \d")
    cluster.send(shop / "test.hubble.jsonl.zst")
    assert two.end(signal.SIGKILL) < 0
    found = cluster.alerts(len(expected))
    assert list(dict.fromkeys(found)) == expected
    assert one.end() == 0
    three = cluster.start("normalise", "detect", "correlate")
    three.says(r"judges partitions \d")
    three.says("correlates")
    assert three.end(signal.SIGINT) == 0
    assert list(dict.fromkeys(cluster.alerts(len(expected)))) == expected
