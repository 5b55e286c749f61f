"""A service as its operators see it: what /metrics, /readyz and the log say of one that runs."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from builders import flows
from listening import until
from scraping import asked, problems, samples

from sidelong.ingest.parquet import write_flows
from sidelong.measures import MEASURES

ROOT: Final = Path(__file__).resolve().parent.parent
SECONDS: Final = 40


class Running:
    """A process of the service, and the objects it has logged so far."""

    def __init__(self, folder: Path) -> None:
        scan = (f"{n}s a/x -> b/y:{1 + n} SYN" for n in range(9))
        refused = (f"{n}.001s a/x <- b/y:{1 + n} RST" for n in range(9))
        write_flows([flows(*scan, *refused).sort("time")], folder / "flows.parquet")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SIDELONG_")
        }
        environment |= {
            "SIDELONG_SERVICE__INPUTS": "flows.parquet",
            "SIDELONG_SERVICE__LISTEN": "127.0.0.1:0",
            "SIDELONG_SERVICE__LOG": "json",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sidelong", "run"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(json.loads(line))

    @property
    def port(self) -> int | None:
        found = [re.fullmatch(r"watched at .*:(\d+)", one["message"]) for one in self.said]
        return next((int(one[1]) for one in found if one), None)

    def ended(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(SECONDS)
        self._thread.join(SECONDS)
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        assert self.process.stderr is not None
        self._thread.join(SECONDS)
        self.process.stderr.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that has found something."""
    service = Running(tmp_path_factory.mktemp("watched"))
    try:
        until(lambda: service.port is not None or service.process.poll() is not None)
        port = service.port
        assert port is not None, service.said
        until(lambda: "sidelong_incidents_total{" in asked(port, "/metrics").body)
        yield service
    finally:
        service.close()


def measured(running: Running, name: str, **labels: str) -> float | None:
    assert running.port is not None
    found = samples(asked(running.port, "/metrics").body)
    return found.get((name, frozenset(labels.items())))


def test_what_it_exports_is_as_prometheus_wants_it(running: Running) -> None:
    assert running.port is not None
    assert list(problems(asked(running.port, "/metrics").body.encode())) == []


def test_flows_incidents_and_latency_are_counted(running: Running) -> None:
    assert measured(running, "sidelong_flows_total", role="alone") == 18
    scan = {"kind": "scan", "severity": "medium", "status": "open"}
    assert measured(running, "sidelong_incidents_total", **scan) == 1
    name = "sidelong_source_to_incident_seconds_count"
    assert measured(running, name, role="alone") == 1


def test_memory_and_roles_are_measured(running: Running) -> None:
    limit = measured(running, "sidelong_memory_limit_bytes")
    used = measured(running, "sidelong_memory_bytes")
    assert limit == 512 << 20
    assert used is not None
    assert 32 << 20 < used < limit
    assert measured(running, "sidelong_role_up", role="alone") == 1


def test_it_is_alive_and_says_what_it_lacks_to_be_ready(running: Running) -> None:
    assert running.port is not None
    assert asked(running.port, "/healthz").status == 200
    told = json.loads(asked(running.port, "/readyz").body)
    assert set(told["roles"]) == {"alone"}
    assert told["ready"] == (told["roles"]["alone"] == "fine")


def test_nothing_is_counted_by_a_name_that_is_not_exported(running: Running) -> None:
    assert [one for one in running.said if "in no table" in one["message"]] == []


def test_it_says_what_it_finds_and_ends_when_it_is_told_to(running: Running) -> None:
    assert running.ended() == 0
    found = [one for one in running.said if " incident " in one["message"]]
    assert [(one["level"], one["role"]) for one in found] == [("info", "alone")]


def test_each_measure_of_the_table_is_counted_somewhere() -> None:
    modules = [path for path in (ROOT / "sidelong").glob("*.py") if path.stem != "measures"]
    modules += (ROOT / "ingest").glob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in modules)
    assert [one.name for one in MEASURES if f'"{one.name}"' not in text] == []
