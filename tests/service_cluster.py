"""Processes of `sidelong run` over a real Kafka, each cluster of them under a prefix of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from peers.kafka_peer import Kafka

from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_settings import KafkaSettings

__all__ = ["Cluster", "Process", "sidelong"]

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

    def cpu_seconds(self) -> float:
        """Of all its threads so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_megabytes(self) -> float:
        """Its memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
