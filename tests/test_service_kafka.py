"""`sidelong run` over a real Kafka: what comes out is what a replay of the same flows gives."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers.kafka_peer import Kafka

from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_settings import KafkaSettings

SIDELONG = (sys.executable, "-m", "sidelong")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def sidelong(*arguments: object) -> str:
    """Run a command to its end; what it prints."""
    done = subprocess.run(
        [*SIDELONG, *map(str, arguments)],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


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


class Cluster:
    """A prefix in Kafka, and processes of the service that work there."""

    def __init__(self, kafka: Kafka, folder: Path, baseline: Path) -> None:
        self.folder = folder
        self.settings = KafkaSettings(servers=(kafka.server,), prefix=f"{kafka.topic('run')}.")
        self.config = folder / "sidelong.toml"
        self.config.write_text(
            f"""
[kafka]
servers = ["{kafka.server}"]
prefix = "{self.settings.prefix}"
session_seconds = 6
connect_seconds = 2
[service]
baseline = "{baseline}"
state = "{folder / "state"}"
snapshot_seconds = 0.5
drain_seconds = 10
listen = "127.0.0.1:0"
[delivery]
outbox = "{folder / "outbox.db"}"
[alerts]
audit = "{folder / "audit.jsonl"}"
[alerts.route]
receivers = "file"
group_by = ["incident"]
group_interval = "1s"
[[receivers]]
type = "file"
name = "file"
path = "{folder / "told.jsonl"}"
"""
        )
        self.processes: list[Process] = []

    def read(self, *files: Path) -> None:
        """Let the role collect read files."""
        text = self.config.read_text()
        inputs = json.dumps([str(file) for file in files])
        self.config.write_text(text.replace("[service]\n", f"[service]\ninputs = {inputs}\n"))

    def start(self, *roles: str) -> "Process":
        self.processes.append(Process(self, roles))
        return self.processes[-1]

    def send(self, *files: Path) -> None:
        """Bring recorded flows to flows.raw."""
        topic = self.settings.topic("flows.raw")
        sidelong("collect", *files, "--to", f"kafka:///{topic}", "--config", self.config)

    def alerts(self, count: int) -> list[str]:
        """What is in the topic alerts, once it is so much."""
        place = (self.settings.topic("alerts"), 0)
        consumer = KafkaConsumer(self.settings, "test")
        found: list[str] = []
        ends = time.monotonic() + 120
        try:
            consumer.assign({place: 0})
            while len(found) < count:
                for records in consumer.poll(0.3).records.values():
                    found += [record.value.decode() for record in records]
                assert time.monotonic() < ends, [process.log for process in self.processes]
        finally:
            consumer.close()
        return found

    def told(self) -> list[tuple[str, str]]:
        """What the receiver was told."""
        path = self.folder / "told.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(one["id"], one["status"]) for one in map(json.loads, lines)]


class Process:
    """One process of the service."""

    def __init__(self, cluster: Cluster, roles: tuple[str, ...]) -> None:
        self._log = cluster.folder / f"log-{len(cluster.processes)}"
        options = [option for role in roles for option in ("--role", role)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*SIDELONG, "run", "--config", cluster.config, *options],
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until(self, holds: Callable[[], object], seconds: float = 120) -> None:
        ends = time.monotonic() + seconds
        while not holds():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < ends, self.log
            time.sleep(0.05)

    def says(self, text: str) -> None:
        """Wait until it does."""
        self.until(lambda: re.search(text, self.log))

    def asked(self, path: str) -> tuple[int, str]:
        """What it answers over HTTP."""
        self.says(r"watched at")
        (address,) = re.findall(r"watched at (\S+)", self.log)
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self._process.send_signal(how)
        return self._process.wait(30)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


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
