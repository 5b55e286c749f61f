"""`sidelong run` without Kafka: one process, which goes on where it ended, however it ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from sidelong.cli import run
from sidelong.config import Config
from sidelong.errors import ConfigError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.kafka_settings import KafkaSettings
from sidelong.ingest.merge import merged
from sidelong.ingest.parquet import write_flows
from sidelong.learning import Learning
from sidelong.pipeline import Pipeline
from sidelong.running import planned
from sidelong.service_settings import ROLES, ServiceSettings

PROGRAM = Path(__file__).with_name("scripted_service.py")


def flows_of(path: Path) -> pl.DataFrame:
    """Each at a time of its own: the script resumes by time."""
    flows = pl.concat([batch.flows for batch in merged(open_inputs([str(path)]))])
    later = pl.int_range(pl.len(), dtype=pl.Int64)
    return flows.with_columns((pl.col("time").to_physical() + later).cast(flows["time"].dtype))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Path:
    """With a baseline, and flows to find something in."""
    folder = tmp_path_factory.mktemp("alone")
    learning = Learning()
    learning.observe(flows_of(shop / "train.hubble.jsonl.zst"))
    learning.finish().save(folder / "baseline")
    flows = flows_of(shop / "test.hubble.jsonl.zst").sort("time", maintain_order=True)
    write_flows([flows], folder / "flows.parquet")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[tuple[str, str, dict[str, int]]]:
    """What is opened and grown; a close comes only after ten minutes of silence."""
    from sidelong.models.baseline import Baseline

    (batch,) = open_inputs([str(folder / "flows.parquet")])[0].batches()
    pipeline = Pipeline(Baseline.load(folder / "baseline"))
    return [(one.id, one.status, one.counts) for one in pipeline.process(batch.flows)]


@pytest.fixture
def config(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "sidelong.toml"
    path.write_text(
        f"""
[service]
inputs = ["hubble://scripted:1"]
baseline = "{folder / "baseline"}"
state = "{tmp_path / "state"}"
snapshot_seconds = 0.3
listen = ""
[delivery]
outbox = "{tmp_path / "outbox.db"}"
[alerts]
audit = "{tmp_path / "audit.jsonl"}"
[alerts.route]
receivers = "file"
group_by = ["incident"]
group_interval = "1s"
[[receivers]]
type = "file"
name = "file"
path = "{tmp_path / "told.jsonl"}"
"""
    )
    return path


class Running:
    """The service as a process."""

    def __init__(self, folder: Path, config: Path) -> None:
        self._log = config.with_name(f"log-{time.monotonic_ns()}")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, PROGRAM, folder / "flows.parquet", "--config", config],
                stderr=log,
                stdout=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def until(self, holds: Callable[[], bool]) -> None:
        ends = time.monotonic() + 60
        while not holds():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < ends, self.log
            time.sleep(0.02)

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)


@pytest.fixture
def start(folder: Path, config: Path) -> Iterator[Callable[[], Running]]:
    begun: list[Running] = []

    def begin() -> Running:
        begun.append(Running(folder, config))
        return begun[-1]

    yield begin
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def told(config: Path) -> list[tuple[str, str, dict[str, int]]]:
    """What the receiver was told, in order."""
    path = config.with_name("told.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return [(one["id"], one["status"], one["counts"]) for one in map(json.loads, lines)]


def opened(events: list[tuple[str, str, dict[str, int]]]) -> list[str]:
    return [id for id, status, _ in events if status == "open"]


def test_whatever_ends_it_the_next_start_goes_on_and_each_incident_is_told_once(
    start: Callable[[], Running], config: Path, expected: list[tuple[str, str, dict[str, int]]]
) -> None:
    state = config.with_name("state") / "alone"
    first = start()
    first.until(lambda: len(opened(told(config))) >= 1 and state.is_dir() and any(state.iterdir()))
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = start()
    second.until(lambda: len(opened(told(config))) == len(opened(expected)))
    assert "going on where the snapshot ends" in second.log
    second.process.send_signal(signal.SIGHUP)
    second.until(lambda: "routes and suppressions were read again" in second.log)
    assert second.end(signal.SIGTERM) == 0
    third = start()
    # Of what was told in between, the last state of each is that of an uninterrupted run.
    last = {id: counts for id, _, counts in expected}
    third.until(lambda: {id: counts for id, _, counts in told(config)} == last)
    third.until(lambda: "going on where the snapshot ends" in third.log)  # it told nothing new
    assert third.end(signal.SIGINT) == 0
    assert sorted(opened(told(config))) == sorted(opened(expected))


def test_without_anything_to_read_it_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sidelong.toml").write_text("[service]\n")
    assert run(["run", "--config", str(tmp_path / "sidelong.toml")]) == 2
    assert "neither inputs in [service] nor servers in [kafka]" in capsys.readouterr().err


def test_a_baseline_that_is_none_ends_it_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sidelong.toml"
    path.write_text(f'[service]\ninputs = ["hubble://x:1"]\nbaseline = "{tmp_path}"\nlisten = ""\n')
    assert run(["run", "--config", str(path)]) == 2
    assert "no baseline" in capsys.readouterr().err


KAFKA = KafkaSettings(servers=("kafka:9092",))


def test_roles_without_anything_to_do_are_left_out_unless_they_are_asked_for() -> None:
    work = planned(Config(kafka=KAFKA))
    assert work.roles == ("normalise", "detect", "correlate")
    assert [text.partition(":")[0] for text in work.left_out] == [
        "without the role collect",
        "without the role deliver",
    ]
    for role in ("collect", "deliver"):
        with pytest.raises(ConfigError, match=f"the role {role} has nothing to do"):
            planned(Config(kafka=KAFKA), [role])


def test_a_role_that_is_asked_for_takes_the_place_of_those_in_the_settings() -> None:
    config = Config(kafka=KAFKA, service=ServiceSettings(roles=("normalise",), inputs=("a",)))
    assert planned(config).roles == ("normalise",)
    assert planned(config, ["detect", "collect"]).roles == ("detect", "collect")
    assert set(planned(config).roles) <= set(ROLES)


def test_a_role_needs_kafka() -> None:
    with pytest.raises(ConfigError, match="the role detect needs Kafka"):
        planned(Config(service=ServiceSettings(inputs=("a",))), ["detect"])
