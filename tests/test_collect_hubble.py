"""`sidelong collect` from the real Hubble: killed and started again, it has every flow once."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from peers.hubble_lines import hubble_lines
from peers.hubble_peer import Agent, Relay

from sidelong.cli import run
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.schema import empty_flows

SINCE = "since=2026-01-01T00:00:00Z"


def collecting(url: str, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "sidelong", "collect", url, "--to", folder, "--rotate-seconds", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def read(folder: Path) -> pl.DataFrame:
    if not list(folder.rglob("*.parquet")):
        return empty_flows()
    return pl.concat(batch.flows for batch in merged(open_inputs([str(folder)])))


def grown(folder: Path, rows: int) -> None:
    """Wait until there are so many."""
    end = time.monotonic() + 60
    while read(folder).height < rows:
        assert time.monotonic() < end, f"{read(folder).height} of {rows} rows came"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("hubble_program")
def test_through_deaths_and_restarts_every_flow_is_collected_once(tmp_path: Path) -> None:
    lines = hubble_lines(9_000)
    folder = tmp_path / "flows"
    with (
        Agent() as one,
        Agent(node="worker-b") as other,
        Relay({"worker-a": one.address, "worker-b": other.address}) as relay,
    ):
        url = f"hubble://{relay.address}?{SINCE}"
        for part, end in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
            # One agent lags behind the other by a thousand flows when the end comes.
            one.feed(lines[part * 3_000 : part * 3_000 + 2_000])
            process = collecting(url, folder)
            grown(folder, read(folder).height + 1)
            process.send_signal(end)
            process.communicate(timeout=60)
            other.feed(lines[part * 3_000 + 2_000 : part * 3_000 + 3_000])
        process = collecting(url, folder)
        grown(folder, len(lines))
        time.sleep(2)  # for what should not come
        process.terminate()
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        whole = tmp_path / "whole"
        options = ["--to", str(whole), "--max-flows", str(len(lines))]
        assert run(["collect", url, *options]) == 0
    seen, expected = read(folder), read(whole)
    assert seen.height == len(lines)
    assert seen.hash_rows().sort().equals(expected.hash_rows().sort())


@pytest.mark.slow
@pytest.mark.usefixtures("hubble_program")
def test_the_doctor_names_the_node_that_relay_does_not_reach(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Agent() as one, Agent(node="worker-b") as other:
        one.feed(hubble_lines(500))
        with Relay({"worker-a": one.address, "worker-b": other.address}) as relay:
            url = f"hubble://{relay.address}?{SINCE}"
            assert run(["doctor", url, "--for", "2s", "--output", "json"]) == 1
            healthy = json.loads(capsys.readouterr().out)
            other.kill()
            assert run(["doctor", url, "--for", "4s", "--output", "json"]) == 1
            hurt = json.loads(capsys.readouterr().out)
    found = {one["code"]: one for one in hurt["findings"]}
    assert "unavailable-nodes" not in {one["code"] for one in healthy["findings"]}
    assert found["unavailable-nodes"]["measured"]["nodes"] == ["worker-b"]
    assert healthy["hubble_version"]
    assert healthy["flows"] == 500
