"""The service under fire: workers killed, a broker restarted, members coming and going.

204,000 flows of twelve shops lie in eight partitions; what comes out must be what a replay of the
same topic tells in one process, byte for byte once repetitions are left out.
"""

import json
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from peers.kafka_peer import Kafka
from service_cluster import Cluster, Process, sidelong

from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.merge import merged
from sidelong.ingest.raw_batches import flow_batches
from sidelong.ingest.schema import conform

SHOPS = 12
PARTITIONS = 8
ROLES = ("normalise", "detect", "correlate")
CHANCE = random.Random(20261124)


class Flows(NamedTuple):
    """What was sent, and what a replay finds in it. One cluster has it all; others are like it."""

    partitions: list[pl.DataFrame]
    baseline: Path
    expected: list[str]


def of_shop(flows: pl.DataFrame, number: int) -> pl.DataFrame:
    """The same traffic in another shop: other namespaces and addresses, a little later."""
    inside = f"10.{100 + number}."
    return flows.with_columns(
        pl.col("src", "dst").str.replace("/", f"-{number}/", literal=True),
        pl.col("src_ip", "dst_ip").str.replace(r"^10\.244\.", inside),
        (pl.col("time", "end") + pl.duration(milliseconds=130 * number)).dt.cast_time_unit("ns"),
    )


def recorded(path: Path) -> pl.DataFrame:
    return pl.concat([batch.flows for batch in merged(open_inputs([str(path)]))])


def partitioned(flows: pl.DataFrame) -> list[pl.DataFrame]:
    """Twelve shops in eight partitions, each in order, and half an hour later a last word."""
    shops: list[list[pl.DataFrame]] = [[] for _ in range(PARTITIONS)]
    for number in range(SHOPS):
        shops[number % PARTITIONS].append(of_shop(flows, number))
    latest = pl.concat(part["time"] for shop in shops for part in shop).max()
    said = pl.DataFrame({"time": [latest]}, schema={"time": pl.Datetime("ns", "UTC")})
    word = conform(said.select((pl.col("time") + pl.duration(minutes=30)).dt.cast_time_unit("ns")))
    return [pl.concat([*shop, word]).sort("time", maintain_order=True) for shop in shops]


def sent(cluster: Cluster, partitions: list[pl.DataFrame]) -> None:
    sidelong(
        "topics",
        "create",
        "--config",
        cluster.config,
        "--partitions",
        f"flows.batches={PARTITIONS}",
    )
    producer = KafkaProducer(cluster.settings, "test")
    topic = cluster.settings.topic("flows.raw")
    try:
        for number, flows in enumerate(partitions):
            for batch in flow_batches(flows, "test"):
                producer.send(topic, batch.value, partition=number, headers=batch.headers)
        producer.flush(60)
    finally:
        producer.close()


@pytest.fixture(scope="module")
def flows(kafka: Kafka, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Flows:
    folder = tmp_path_factory.mktemp("chaos")
    quiet = recorded(shop / "train.hubble.jsonl.zst").head(6_000)
    pl.concat([of_shop(quiet, number) for number in range(SHOPS)]).sort(
        "time", maintain_order=True
    ).write_parquet(folder / "quiet.parquet")
    baseline = folder / "baseline"
    sidelong("learn", folder / "quiet.parquet", "--baseline", baseline)
    cluster = Cluster(kafka, folder, baseline)
    partitions = partitioned(recorded(shop / "test.hubble.jsonl.zst"))
    assert sum(part.height for part in partitions) > 200_000
    sent(cluster, partitions)
    source = f"kafka:///{cluster.settings.topic('flows.raw')}"
    told = sidelong(
        *("replay", source, "--config", cluster.config, "--baseline", baseline, "--output", "json")
    )
    lines = told.splitlines()
    assert sum(json.loads(line)["status"] == "closed" for line in lines) >= SHOPS * 3
    return Flows(partitions, baseline, lines)


@pytest.fixture
def cluster(kafka: Kafka, tmp_path: Path, flows: Flows) -> Iterator[Cluster]:
    cluster = Cluster(kafka, tmp_path, flows.baseline)
    sent(cluster, flows.partitions)
    yield cluster
    for process in cluster.processes:
        process.close()


def alerts(cluster: Cluster, expected: list[str]) -> list[str]:
    """What came out, each line once, as soon as it is as much as is expected, and is at rest."""
    found = list(dict.fromkeys(cluster.alerts(len(expected))))
    ends = time.monotonic() + 120
    while len(found) < len(expected) and time.monotonic() < ends:
        time.sleep(0.5)
        found = list(dict.fromkeys(cluster.alerts(len(expected))))
    return found


def judging(process: Process) -> None:
    process.says(r"judges partitions \d|stands by|normalises|correlates")


@pytest.mark.slow
def test_workers_killed_and_a_broker_restarted_change_no_byte(
    kafka: Kafka, cluster: Cluster, flows: Flows
) -> None:
    workers = [cluster.start(*ROLES) for _ in range(3)]
    for worker in workers:
        judging(worker)
    for number in range(3):
        time.sleep(CHANCE.uniform(0.5, 2.5))
        workers[number].end(signal.SIGKILL)
        if number == 1:
            kafka.kill()
            kafka.start()
        workers[number] = cluster.start(*ROLES)
    assert alerts(cluster, flows.expected) == flows.expected


@pytest.mark.slow
def test_one_worker_then_four_then_two_lose_and_double_nothing(
    cluster: Cluster, flows: Flows
) -> None:
    workers = [cluster.start(*ROLES)]
    judging(workers[0])
    time.sleep(1)
    workers += [cluster.start(*ROLES) for _ in range(3)]
    for worker in workers[1:]:
        judging(worker)
    for worker in workers[:2]:
        assert worker.end() == 0
    found = alerts(cluster, flows.expected)
    assert found == flows.expected
    for worker in workers[2:]:
        worker.until(lambda worker=worker: not lags(worker))  # type: ignore[misc]


def lags(worker: Process) -> list[str]:
    """The topics in which it has something left to read."""
    told = re.findall(r"^sidelong_lag_records\{(.*)\} (\S+)$", worker.asked("/metrics")[1], re.M)
    return [labels for labels, value in told if float(value) > 0]
