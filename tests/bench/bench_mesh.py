"""Access log lines per second from bytes to flows, beside what one line at a time costs in Python.

On one core: rates are lines per second of processor time, medians over the rounds. Python's ways
only find the fields: `re` with a group for each of Istio's text, `orjson` and a look at six keys.
Ours goes on to flows, two for each line, and could not be misled by what a client wrote; "forged"
is that same text with a quote in every user agent, which has to be read both ways.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from sidelong.ingest.envoy_logs import envoy_json, envoy_lines
from sidelong.ingest.line_files import LineDecoder
from sidelong.ingest.lines import Block
from sidelong.ingest.linkerd_logs import linkerd_json, linkerd_lines
from sidelong.ingest.ztunnel_logs import ztunnel_json, ztunnel_lines

__all__ = ["run"]

SAMPLES: Final = Path(__file__).resolve().parents[1] / "envoy_samples"
LINES: Final = 60_000
ROUNDS: Final = 5

LINKERD: Final = (
    "10.42.0.63:51160 web.shop.serviceaccount.identity.linkerd.cluster.local - "
    '[2022-08-23T20:28:20.071809491Z] "GET http://pay:7000/items HTTP/2.0" 200'
)
LINKERD_JSON: Final = json.dumps(
    {
        "client.addr": "10.42.0.70:32996",
        "client.id": "web.shop.serviceaccount.identity.linkerd.cluster.local",
        "host": "pay:7000",
        "method": "GET",
        "processing_ns": "39826",
        "request_bytes": "",
        "response_bytes": "19627",
        "status": 200,
        "timestamp": "2022-08-23T20:33:42.321746212Z",
        "total_ns": "14441135",
        "trace_id": "",
        "uri": "http://pay:7000/",
        "user_agent": "Go-http-client/1.1",
        "version": "HTTP/2.0",
    }
)
_PEERS: Final = {
    "src.addr": "10.42.0.9:33772",
    "src.workload": "cart-7656cf8794-6lsm4",
    "src.namespace": "shop",
    "src.identity": "spiffe://cluster.local/ns/shop/sa/cart",
    "dst.addr": "10.42.0.5:15008",
    "dst.hbone_addr": "10.42.0.5:9080",
    "dst.service": "ledger.pay.svc.cluster.local",
    "dst.workload": "ledger-857849f66-ft8wx",
    "dst.namespace": "pay",
    "dst.identity": "spiffe://cluster.local/ns/pay/sa/ledger",
    "direction": "outbound",
    "bytes_sent": 84,
    "bytes_recv": 358,
    "duration": "15ms",
}
ZTUNNEL_JSON: Final = json.dumps(
    {
        "level": "info",
        "time": "2026-08-21T15:32:05.754291Z",
        "scope": "access",
        "message": "connection complete",
        **_PEERS,
    }
)
ZTUNNEL: Final = "2026-08-21T15:32:05.754291Z\tinfo\taccess\tconnection complete\t" + " ".join(
    f"{key}={value}" if key.endswith("addr") or isinstance(value, int) else f'{key}="{value}"'
    for key, value in _PEERS.items()
)

TEXT_PATTERN: Final = re.compile(
    r'\[([^\]]+)\] "(\S+) (.*) (\S+)" (\d+) (\S+) (\S+) (\S+) "([^"]*)" (\S+) (\S+) (\S+) (\S+) '
    r'"(.*)" "(.*)" "(.*)" "(.*)" "([^"]*)" (\S+) (\S+) (\S+) (\S+) (\S+) (\S+)$'
)
KEYS: Final = (
    *("start_time", "response_code", "upstream_host", "upstream_cluster"),
    *("downstream_remote_address", "upstream_local_address"),
)


def block_of(lines: list[str]) -> Block:
    """The lines over and over, each from another address, as one block."""
    written = [
        lines[number % len(lines)].replace("127.0.0.1", f"10.{number % 4}.{number % 200}.7", 2)
        for number in range(LINES)
    ]
    content = ("\n".join(written) + "\n").encode()
    return Block(0, len(content), content, LINES)


def ours(decoder: LineDecoder, block: Block) -> Callable[[], int]:
    def read() -> int:
        decoded = decoder.decode(block)
        assert decoded.bad == 0
        return decoded.flows.height

    return read


def with_re(block: Block) -> Callable[[], int]:
    text = block.content.decode()
    return lambda: sum(1 for line in text.splitlines() if TEXT_PATTERN.match(line))


def with_orjson(block: Block) -> Callable[[], int]:
    def read() -> int:
        rows = []
        for line in block.content.splitlines():
            entry = orjson.loads(line)
            rows.append(tuple(entry.get(key) for key in KEYS))
        return len(rows)

    return read


def measure() -> dict[str, list[float]]:
    """Lines per second of processor time of each way, in each round."""
    text = [
        line
        for end in ("inbound", "outbound")
        for line in (SAMPLES / f"istio_default_{end}.log").read_text().splitlines()
        if "quoted" not in line
    ]
    plain = block_of(text)
    forged = block_of([re.sub('"(curl/)', r'"a" b\1', line) for line in text])
    objects = block_of((SAMPLES / "istio_default.ndjson").read_text().splitlines())
    rates: dict[str, list[float]] = {}
    with (
        envoy_json() as in_json,
        linkerd_json() as linkerd_in_json,
        ztunnel_json() as ztunnel_in_json,
    ):
        ways = {
            "envoy text": ours(envoy_lines(), plain),
            "envoy text, re": with_re(plain),
            "envoy text, forged": ours(envoy_lines(), forged),
            "envoy json": ours(in_json, objects),
            "envoy json, orjson": with_orjson(objects),
            "linkerd": ours(linkerd_lines(), block_of([LINKERD])),
            "linkerd json": ours(linkerd_in_json, block_of([LINKERD_JSON])),
            "ztunnel": ours(ztunnel_lines(), block_of([ZTUNNEL])),
            "ztunnel json": ours(ztunnel_in_json, block_of([ZTUNNEL_JSON])),
        }
        for _ in range(ROUNDS):
            for name, way in ways.items():
                began = time.process_time()
                assert way()
                rates.setdefault(name, []).append(LINES / (time.process_time() - began))
    return rates


def run() -> list[dict[str, Any]]:
    """One row for each way; `ratio` compares with Python's way for the same lines."""
    # In a process of its own: polars counts its threads once.
    ran = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rates = {name: statistics.median(each) for name, each in json.loads(ran.stdout).items()}
    base = {"envoy text": "envoy text, re", "envoy json": "envoy json, orjson"}
    rows: list[dict[str, Any]] = []
    for name, rate in rates.items():
        row: dict[str, Any] = {"name": name, "rate": rate, "unit": "lines/s"}
        if name in base:
            row["ratio"] = rate / rates[base[name]]
        rows.append(row)
    return rows


if __name__ == "__main__":
    print(json.dumps(measure()))
