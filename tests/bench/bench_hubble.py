"""Hubble flows per second from a file to columns, beside the two obvious ways of doing that.

All read the same file, the shop's flows over and over, in turns and on one core: rates are flows
per second of processor time, medians over the rounds. The standard library's way builds a row of
the fields that matter and then a frame; polars is told the columns and given no more to do.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import polars as pl
import zstandard
from polars.datatypes import DataTypeClass

from sidelong.ingest.files import InputFile
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.line_files import LineFile

__all__ = ["run"]

SHOP: Final = Path(__file__).resolve().parents[2] / "examples" / "shop-incident"
FLOWS: Final = 200_000
ROUNDS: Final = 5

Columns = dict[str, pl.DataType | DataTypeClass]

ENDPOINT: Final[Columns] = {
    "namespace": pl.String,
    "pod_name": pl.String,
    "labels": pl.List(pl.String),
    "workloads": pl.List(pl.Struct({"name": pl.String})),
}
PORTS: Final[Columns] = {"source_port": pl.UInt16, "destination_port": pl.UInt16}
FLAGS: Final = pl.Struct(dict.fromkeys(("FIN", "SYN", "RST", "PSH", "ACK"), pl.Boolean))
SCHEMA: Final[Columns] = {
    "flow": pl.Struct(
        {
            "time": pl.String,
            "verdict": pl.String,
            "IP": pl.Struct({"source": pl.String, "destination": pl.String}),
            "l4": pl.Struct({"TCP": pl.Struct({**PORTS, "flags": FLAGS}), "UDP": pl.Struct(PORTS)}),
            "source": pl.Struct(ENDPOINT),
            "destination": pl.Struct(ENDPOINT),
            "is_reply": pl.Boolean,
            "drop_reason_desc": pl.String,
            "l7": pl.Struct(
                {
                    "type": pl.String,
                    "dns": pl.Struct(
                        {"query": pl.String, "rcode": pl.UInt8, "qtypes": pl.List(pl.String)}
                    ),
                    "http": pl.Struct({"code": pl.UInt16, "method": pl.String, "url": pl.String}),
                }
            ),
        }
    ),
    "node_name": pl.String,
}


def write_flows(path: Path) -> None:
    """The shop's flows as the exporter writes them, over and over until there are `FLOWS`."""
    unpack = zstandard.ZstdDecompressor()
    names = ("train.hubble.jsonl.zst", "test.hubble.jsonl.zst")
    whole = b"".join(unpack.stream_reader((SHOP / name).read_bytes()).read() for name in names)
    lines = [json.dumps(json.loads(line), separators=(",", ":")) for line in whole.splitlines()]
    with path.open("w") as file:
        for number in range(FLOWS):
            file.write(lines[number % len(lines)] + "\n")


def ours(path: Path) -> int:
    file = InputFile(str(path))
    source = LineFile(file.name, file.open, file.size_bytes, HubbleLines)
    return sum(batch.flows.height for batch in source.batches())


def standard_library(path: Path) -> int:
    rows = []
    with path.open("rb") as file:
        for line in file:
            event = json.loads(line)
            flow = event["flow"]
            l4 = flow.get("l4", {})
            ports = l4.get("TCP") or l4.get("UDP") or {}
            dns = flow.get("l7", {}).get("dns", {})
            source, destination = flow.get("source", {}), flow.get("destination", {})
            rows.append(
                (
                    flow["time"],
                    flow.get("verdict"),
                    flow["IP"]["source"],
                    flow["IP"]["destination"],
                    next(iter(l4), None),
                    ports.get("source_port"),
                    ports.get("destination_port"),
                    ",".join(ports.get("flags", {})),
                    source.get("namespace"),
                    source.get("pod_name"),
                    source.get("workloads", [{}])[0].get("name"),
                    destination.get("namespace"),
                    destination.get("pod_name"),
                    destination.get("workloads", [{}])[0].get("name"),
                    flow.get("is_reply"),
                    flow.get("drop_reason_desc"),
                    dns.get("query"),
                    dns.get("rcode"),
                    event.get("node_name"),
                )
            )
    return pl.DataFrame(rows, orient="row", infer_schema_length=None).height


def polars_ndjson(path: Path) -> int:
    return pl.read_ndjson(path, schema=SCHEMA).height


WAYS: Final[dict[str, Callable[[Path], int]]] = {
    "sidelong": ours,
    "json of the standard library": standard_library,
    "polars read_ndjson": polars_ndjson,
}


def measure() -> dict[str, list[float]]:
    """Flows per second of processor time of each way, in each round."""
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "flows.jsonl")
        write_flows(path)
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                began = time.process_time()
                assert way(path) == FLOWS
                rates[name].append(FLOWS / (time.process_time() - began))
    return rates


def run() -> list[dict[str, Any]]:
    """One row for each way; `ratio` says how much faster than the standard library it is."""
    # In a process of its own: polars counts its threads once.
    ran = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rates = {name: statistics.median(each) for name, each in json.loads(ran.stdout).items()}
    base = rates["json of the standard library"]
    return [
        {"name": name, "rate": rate, "unit": "flows/s", "ratio": rate / base}
        for name, rate in rates.items()
    ]


if __name__ == "__main__":
    print(json.dumps(measure()))
