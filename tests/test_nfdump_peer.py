"""Real NetFlow records, made by nfpcapd and printed by nfdump, as flows."""

import os
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from peers.nfdump_peer import missing, printed

from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.nfdump import NfdumpArray
from sidelong.pipeline import Pipeline

CAPTURE: Final = "slips/test7-malicious.pcap"
PACKETS, BYTES = 11, 12  # columns of what nfdump prints as csv


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    if (name := missing()) is not None:
        absent = f"{name} is not installed: apt-get install nfdump"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)


def read(content: bytes, folder: Path) -> pl.DataFrame:
    path = folder / "flows.json"
    path.write_bytes(content)
    (source,) = open_inputs([str(path)])
    assert isinstance(source, NfdumpArray)
    batches = list(source.batches())
    assert sum(batch.bad.count for batch in batches) == 0
    return pl.concat([batch.flows for batch in batches])


@pytest.mark.parametrize("quiet", [True, False], ids=["without brackets", "an array"])
def test_every_record_is_read_as_nfdump_counts_it(data: Path, tmp_path: Path, quiet: bool) -> None:
    flows = read(printed(data / CAPTURE, tmp_path, "json", quiet=quiet), tmp_path)
    table = printed(data / CAPTURE, tmp_path, "csv", quiet=True).decode()
    fields = [line.split(",") for line in table.splitlines() if line[:2] == "20"]
    assert flows.height == len(fields)
    assert flows["packets"].sum() == sum(int(row[PACKETS]) for row in fields)
    assert flows["bytes"].sum() == sum(int(row[BYTES]) for row in fields)
    assert flows["time"].is_sorted()


def test_a_sweep_is_found_in_netflow_as_in_its_capture(data: Path, tmp_path: Path) -> None:
    flows = read(printed(data / CAPTURE, tmp_path, "json", quiet=False), tmp_path)
    pipeline = Pipeline()
    incidents = [*pipeline.process(flows), *pipeline.finish()]
    assert {(one.kind, one.actor.workload) for one in incidents} >= {("scan", "ip:192.168.2.16")}
