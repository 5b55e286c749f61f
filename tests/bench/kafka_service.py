"""The service over a real Kafka, end to end: `make bench-kafka`, or

    python tests/bench/kafka_service.py [throughput] [json] [latency] [soak] [--minutes N]

throughput: flows/s through detect from batches. json: flows/s from a JSON object per message to
evidence. latency: from produce to webhook, at 1,000, 5,000 and 20,000 flows/s. soak: the memory of
the service every ten seconds, with 5,000 workloads, in 30 minutes of 5,000 flows/s (--rate, in
flows/s, for another); only when asked for. Broker, producer and service share the machine's cores.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `peers` and the tests

import polars as pl
from peers.kafka_peer import Kafka
from service_cluster import Cluster, Process, sidelong

from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.merge import merged
from sidelong.ingest.raw_batches import flow_batches
from sidelong.ingest.schema import TCP_FLAGS, conform

ROOT: Final = Path(__file__).resolve().parents[2]
SHOP: Final = ROOT / "examples" / "shop-incident"
WORKLOADS: Final = 5_000
DENSER: Final = 200  # 124 flows/s of the example become 25,000
_TIMEOUT: Final = 600.0


def recorded() -> pl.DataFrame:
    """The flows of the example."""
    batches = merged(open_inputs([str(SHOP / "test.hubble.jsonl.zst")]))
    return pl.concat([batch.flows for batch in batches])


def repeated(flows: pl.DataFrame, times: int) -> Iterator[pl.DataFrame]:
    """The same traffic again and again, as that of a cluster with `DENSER` times as many flows a
    second: state is tidied by event time, so that what is sparse costs more."""
    moments = flows["time"].to_physical()
    first, last = _whole(moments.min()), _whole(moments.max())
    for number in range(times):
        start = first + (last - first) // DENSER * number
        yield flows.with_columns(
            (start + (pl.col(name).to_physical() - first) // DENSER)
            .cast(flows.schema[name])
            .alias(name)
            for name in ("time", "end")
        )


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value


def _denser(copy: int, stamp: re.Match[bytes]) -> bytes:
    """A moment of the example, in traffic that is denser, the `copy`th time."""
    seconds = (int(stamp[1]) * 60 + float(stamp[2]) + copy * 140) / DENSER
    return b"2026-11-23T02:%02d:%09.6fZ" % (18 + seconds // 60, seconds % 60)


def throughput(cluster: Cluster, copies: int = 120) -> list[tuple[str, float, str]]:
    """Flows/s through detect, from batches that lie there."""
    sidelong("topics", "create", "--config", cluster.config)
    flows = recorded()
    send(cluster, repeated(flows, copies))
    normalise = cluster.start("normalise")
    normalised, spent = measured(normalise, "normalise")
    normalise.end()
    detect = cluster.start("detect")
    rate, cpu = measured(detect, "detect")
    detect.end()
    return [
        ("normalise, from batches", normalised, "flows/s"),
        ("normalise, CPU per flow", spent, "us"),
        ("detect, from batches", rate, "flows/s"),
        ("detect, CPU per flow", cpu, "us"),
    ]


def measured(process: Process, role: str) -> tuple[float, float]:
    """Flows/s of a role, and the process's CPU in microseconds per flow, once it is under way."""
    said = re.compile(rf'^sidelong_flows_total\{{role="{role}"\}} (\S+)$', re.M)
    samples: list[tuple[float, float, float]] = []
    ends = time.monotonic() + _TIMEOUT
    while time.monotonic() < ends:
        told = said.search(process.asked("/metrics")[1])
        count = float(told[1]) if told else 0.0
        # Single rows stand for silence, ever more rarely, once all is done.
        if count and (not samples or count > samples[-1][1] + 50):
            samples.append((time.monotonic(), count, process.cpu_seconds()))
        elif samples and time.monotonic() - samples[-1][0] > 3:
            break
        time.sleep(0.1)
    if len(samples) < 2:
        raise SystemExit(f"{role} did nothing that could be measured:\n{process.log}")
    (t0, n0, c0), (t1, n1, c1) = samples[0], samples[-1]
    return (n1 - n0) / (t1 - t0), (c1 - c0) / (n1 - n0) * 1e6


def from_json(cluster: Cluster, copies: int = 12) -> list[tuple[str, float, str]]:
    """Flows/s from one Hubble JSON object per message to evidence."""
    import zstandard

    sidelong("topics", "create", "--config", cluster.config)
    raw = zstandard.decompress((SHOP / "test.hubble.jsonl.zst").read_bytes(), 1 << 30)
    lines = raw.splitlines()
    producer = KafkaProducer(cluster.settings, "bench")
    topic = cluster.settings.topic("flows.raw")
    stamp = re.compile(rb"2026-11-23T02:(\d\d):(\d\d\.\d+)Z")
    for copy in range(copies):
        for number, line in enumerate(lines):
            producer.send(topic, stamp.sub(partial(_denser, copy), line), partition=number % 8)
    producer.flush(60)
    producer.close()
    service = cluster.start("normalise", "detect", "correlate")
    rate, cpu = measured(service, "detect")
    service.end()
    return [
        ("JSON per flow to evidence", rate, "flows/s"),
        ("JSON per flow, CPU per flow", cpu, "us"),
    ]


def send(cluster: Cluster, batches: Iterator[pl.DataFrame]) -> None:
    """Bring flows to flows.raw, all to one partition: they are in order."""
    producer = KafkaProducer(cluster.settings, "bench")
    topic = cluster.settings.topic("flows.raw")
    for flows in batches:
        for batch in flow_batches(flows, "bench"):
            producer.send(topic, batch.value, partition=0, headers=batch.headers)
    producer.flush(60)
    producer.close()


class Receiver(ThreadingHTTPServer):
    """A webhook that notes when it heard of whom first."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}
        heard = self.heard

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                now = time.time()
                for actor in actors_in(json.loads(body)):
                    heard.setdefault(actor, now)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Hook)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


def actors_in(told: Any) -> Iterator[str]:
    """The actors of all incidents in a message, however it is built."""
    if isinstance(told, dict):
        actor = told.get("actor")
        if isinstance(actor, dict) and isinstance(actor.get("workload"), str):
            yield actor["workload"]
        for value in told.values():
            yield from actors_in(value)
    elif isinstance(told, list):
        for value in told:
            yield from actors_in(value)


def second_of(rate: int, number: int, now_ns: int) -> pl.DataFrame:
    """A second's tenth of ordinary flows among 5,000 workloads; every second one of them scans."""
    count = rate // 10
    client = (pl.int_range(count, eager=True) * 7919 + number * 104729) % WORKLOADS
    server = (client * 31 + 1) % WORKLOADS
    at = now_ns + pl.int_range(count, eager=True) * (100_000_000 // max(count, 1))
    reply = pl.int_range(count, eager=True) % 2 == 1
    frame = pl.DataFrame({"time": at, "c": client, "s": server, "reply": reply})
    syn, ack = TCP_FLAGS["SYN"], TCP_FLAGS["SYN"] | TCP_FLAGS["ACK"]
    rows = _rows(frame, pl.when("reply").then(ack).otherwise(syn), pl.lit(8080))
    if number % 10 == 0:
        scan = pl.DataFrame({"time": [now_ns + n * 1_000_000 for n in range(12)]}).with_columns(
            c=pl.lit(100_000 + number), s=pl.lit(1), reply=pl.lit(True)
        )
        refused = TCP_FLAGS["RST"] | TCP_FLAGS["ACK"]
        ports = pl.int_range(pl.len()) + 1
        rows = pl.concat([rows, _rows(scan, pl.lit(refused), ports)]).sort("time")
    return rows


def _rows(frame: pl.DataFrame, flags: pl.Expr, port: pl.Expr) -> pl.DataFrame:
    client, server = pl.format("load/w{}", "c"), pl.format("load/w{}", "s")
    address = {
        name: pl.format("10.{}.{}.{}", pl.col(c) // 65536, pl.col(c) // 256 % 256, pl.col(c) % 256)
        for name, c in (("client", "c"), ("server", "s"))
    }
    back = pl.col("reply")
    return conform(
        frame.select(
            time=pl.col("time").cast(pl.Datetime("ns", "UTC")),
            src=pl.when(back).then(server).otherwise(client),
            dst=pl.when(back).then(client).otherwise(server),
            src_ip=pl.when(back).then(address["server"]).otherwise(address["client"]),
            dst_ip=pl.when(back).then(address["client"]).otherwise(address["server"]),
            src_port=pl.when(back).then(port).otherwise(40_000).cast(pl.UInt16),
            dst_port=pl.when(back).then(40_000).otherwise(port).cast(pl.UInt16),
            protocol=pl.lit("TCP"),
            reply=back,
            verdict=pl.lit("FORWARDED"),
            tcp_flags=flags.cast(pl.UInt8),
            origin=pl.lit("hubble"),
        )
    )


def latency(
    cluster: Cluster,
    rate: int,
    minutes: float,
    receiver: Receiver,
    seen: Callable[[float, float], None] = lambda _seconds, _megabytes: None,
) -> list[tuple[str, float, str]]:
    """Seconds from the produce of the deciding flows to the webhook, and the memory meanwhile.

    seen: told of it every ten seconds.
    """
    sidelong("topics", "create", "--config", cluster.config)
    service = cluster.start()
    service.says("judges partitions")
    producer = KafkaProducer(cluster.settings, "bench")
    topic = cluster.settings.topic("flows.raw")
    sent: dict[str, float] = {}
    memory: list[float] = []
    began = time.monotonic()
    for number in range(round(minutes * 600)):
        wait = began + number / 10 - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        flows = second_of(rate, number, time.time_ns() - 100_000_000)
        for batch in flow_batches(flows, "bench"):
            producer.send(topic, batch.value, partition=0, headers=batch.headers)
        if number % 10 == 0:
            sent[f"load/w{100_000 + number}"] = time.time()
        if number % 100 == 99:
            memory.append(service.resident_megabytes())
            seen(time.monotonic() - began, memory[-1])
    ends = time.monotonic() + 30
    while not sent.keys() <= receiver.heard.keys() and time.monotonic() < ends:
        time.sleep(0.2)
    producer.close()
    service.end()
    first = round(5 / (minutes * 60) * len(sent)) if minutes > 0.5 else 3  # while it warms up
    took = [receiver.heard[a] - at for a, at in list(sent.items())[first:] if a in receiver.heard]
    missing = len(sent.keys() - receiver.heard.keys())
    took.sort()
    return [
        (f"{rate:,} flows/s: p50", statistics.median(took), "s"),
        (f"{rate:,} flows/s: p99", took[max(0, round(len(took) * 0.99) - 1)], "s"),
        (f"{rate:,} flows/s: not told", missing, "incidents"),
        (f"{rate:,} flows/s: memory, first and last", memory[0], "MiB"),
        ("", memory[-1], "MiB"),
        ("its highest", max(memory), "MiB"),
    ]


def soak(
    cluster: Cluster, rate: int, minutes: float, receiver: Receiver
) -> list[tuple[str, float, str]]:
    """The memory of the service over a long time, printed as it is seen."""

    def seen(seconds: float, megabytes: float) -> None:
        print(f"{seconds:7.0f} s {megabytes:7.1f} MiB, {len(receiver.heard)} told", flush=True)

    return latency(cluster, rate, minutes, receiver, seen)


@contextmanager
def clusters(kafka: Kafka) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters in folders of their own, and ends their processes."""
    made: list[Cluster] = []
    with tempfile.TemporaryDirectory() as folder:

        def make(receiver: Receiver | None = None) -> Cluster:
            place = Path(folder) / str(len(made))
            place.mkdir()
            baseline = place / "baseline"
            sidelong("learn", SHOP / "train.hubble.jsonl.zst", "--baseline", baseline)
            cluster = Cluster(kafka, place, baseline)
            text = cluster.config.read_text().replace("snapshot_seconds = 0.5", "")
            if receiver:
                hook = (
                    '[[receivers]]\ntype = "webhook"\nname = "file"\n'
                    f'url = "{receiver.url}"\nallow_http = true\nallow_private = ["127.0.0.1"]\n'
                )
                text = text[: text.index("[[receivers]]")] + hook
            cluster.config.write_text(text)
            made.append(cluster)
            return cluster

        try:
            yield make
        finally:
            for cluster in made:
                for process in cluster.processes:
                    process.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", choices=["throughput", "json", "latency", "soak"], default=[]
    )
    parser.add_argument("--minutes", type=float, help="of latency, for each rate, or of soak")
    parser.add_argument("--rate", type=int, default=5_000, help="flows/s of soak")
    options = parser.parse_args()
    what = options.what or ["throughput", "json", "latency"]
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Kafka(Path(folder)) as kafka,
        clusters(kafka) as make,
    ):
        rows = throughput(make()) if "throughput" in what else []
        rows += from_json(make()) if "json" in what else []
        for rate in (1_000, 5_000, 20_000) if "latency" in what else ():
            receiver = Receiver()
            rows += latency(make(receiver), rate, options.minutes or 1.0, receiver)
            receiver.shutdown()
        if "soak" in what:
            receiver = Receiver()
            rows += soak(make(receiver), options.rate, options.minutes or 30.0, receiver)
            receiver.shutdown()
    for name, value, unit in rows:
        print(
            f"{name:44} {value:>14,.3f} {unit}"
            if value < 100
            else f"{name:44} {value:>14,.0f} {unit}"
        )


if __name__ == "__main__":
    main()
