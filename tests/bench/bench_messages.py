"""Flows per second from messages of Kafka to columns, by what the messages are.

The shop's flows over and over, in polls of some thousand messages, on one core: rates are flows per
second of processor time, medians over the rounds. Beside it stands the obvious way of doing it, a
parser of JSON for each message and a frame of the fields that matter.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `raw_samples`, as pytest has it

from hubble_api import wire
from raw_samples import Sent, agent_flow, delimited, sampled_flow

from sidelong.ingest.parquet import STORED
from sidelong.ingest.raw_batches import flow_batches
from sidelong.ingest.raw_messages import RawDecoder

__all__ = ["run"]

SHOP: Final = Path(__file__).resolve().parents[2] / "examples" / "shop-incident"
FLOWS: Final = 40_000
POLL: Final = 8_000
ROUNDS: Final = 5
THEIRS: Final = "json of the standard library"


class Way(NamedTuple):
    name: str
    messages: list[Sent]
    flows: int


def lines() -> list[bytes]:
    """The shop's flows as the exporter writes them, over and over until there are `FLOWS`."""
    unpack = zstandard.ZstdDecompressor()
    whole = unpack.stream_reader((SHOP / "test.hubble.jsonl.zst").read_bytes()).read()
    each = [
        json.dumps(json.loads(line), separators=(",", ":")).encode() for line in whole.splitlines()
    ]
    return [each[number % len(each)] for number in range(FLOWS)]


def ways() -> list[Way]:
    """Messages of every kind, and how many flows they hold."""
    every = lines()
    groups = [every[start : start + 1_000] for start in range(0, FLOWS, 1_000)]
    joined = [b"\n".join(group) for group in groups]
    packed = [zstandard.ZstdCompressor().compress(group) for group in joined]
    with RawDecoder() as decoder:
        flows = decoder.decode([Sent(line) for line in every]).flows
    protobuf = [wire(json.loads(line)) for line in every[:4_000]] * (FLOWS // 4_000)
    return [
        Way("Hubble's JSON, one in a message", [Sent(line) for line in every], FLOWS),
        Way("Hubble's JSON, 1,000 lines", [Sent(group) for group in joined], FLOWS),
        Way("Hubble's JSON, 1,000 lines, zstd", [Sent(group) for group in packed], FLOWS),
        Way("Hubble's protobuf", [Sent(each) for each in protobuf], FLOWS),
        Way("goflow2's protobuf", [Sent(delimited(sampled_flow()))] * 8_000, 8_000),
        Way("NetObserv's protobuf", [Sent(agent_flow())] * 8_000, 8_000),
        *(
            Way(f"Arrow, {size:,} rows", [Sent(b.value, b.headers) for b in batches], FLOWS)
            for size in (500, 1_000, 2_000)
            if (batches := list(flow_batches(flows, "bench", size)))
        ),
        Way("Parquet, 1,000 rows", [Sent(each) for each in parquet(flows)], FLOWS),
    ]


def parquet(flows: pl.DataFrame) -> list[bytes]:
    found = []
    for start in range(0, flows.height, 1_000):
        whole = io.BytesIO()
        flows.slice(start, 1_000).cast(STORED).write_parquet(whole)
        found.append(whole.getvalue())
    return found


def ours(messages: Sequence[Sent]) -> int:
    with RawDecoder() as decoder:
        return sum(
            decoder.decode(messages[start : start + POLL]).flows.height
            for start in range(0, len(messages), POLL)
        )


def theirs(messages: Sequence[Sent]) -> int:
    rows = 0
    for start in range(0, len(messages), POLL):
        events = []
        for sent in messages[start : start + POLL]:
            event = json.loads(sent.value or b"")
            flow = event["flow"]
            l4 = flow.get("l4", {})
            ports = l4.get("TCP") or l4.get("UDP") or {}
            source, destination = flow.get("source", {}), flow.get("destination", {})
            events.append(
                {
                    "time": flow["time"],
                    "verdict": flow.get("verdict"),
                    "src_ip": flow["IP"]["source"],
                    "dst_ip": flow["IP"]["destination"],
                    "protocol": next(iter(l4), None),
                    "src_port": ports.get("source_port"),
                    "dst_port": ports.get("destination_port"),
                    "src_pod": source.get("pod_name"),
                    "dst_pod": destination.get("pod_name"),
                    "node": event.get("node_name"),
                }
            )
        rows += pl.from_dicts(events, infer_schema_length=None).height
    return rows


def measure() -> dict[str, list[float]]:
    """Flows per second of processor time of each way, in each round."""
    every = ways()
    rates: dict[str, list[float]] = {name: [] for name in (*(way.name for way in every), THEIRS)}

    def timed(name: str, work: Callable[[Sequence[Sent]], int], way: Way) -> None:
        began = time.process_time()
        assert work(way.messages) == way.flows
        rates[name].append(way.flows / (time.process_time() - began))

    for _ in range(ROUNDS):
        for way in every:
            timed(way.name, ours, way)
        timed(THEIRS, theirs, every[0])
    return rates


def run() -> list[dict[str, Any]]:
    """One row for each kind of message; `ratio` says how much faster than the obvious way it is."""
    # In a process of its own: polars counts its threads once.
    ran = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rates = {name: statistics.median(each) for name, each in json.loads(ran.stdout).items()}
    base = rates[THEIRS]
    return [
        {"name": name, "rate": rate, "unit": "flows/s", "ratio": rate / base}
        for name, rate in rates.items()
    ]


if __name__ == "__main__":
    print(json.dumps(measure()))
