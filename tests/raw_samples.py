"""Messages as others write them to Kafka, for tests: some of every form that is read."""

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import log_samples
import lz4.frame
import polars as pl
import zstandard
from hubble_api import wire
from mesh_lines import INBOUND, OUTBOUND

from sidelong.ingest.flow_records_pb2 import Address, AgentFlow, SampledFlow, Span
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.hubble_pb2 import GetFlowsResponse
from sidelong.ingest.lines import Block
from sidelong.ingest.parquet import STORED
from sidelong.ingest.raw_batches import flow_batches
from sidelong.ingest.wire import varint

__all__ = ["FLOW", "Sent", "agent_flow", "bomb", "delimited", "hubble", "messages", "sampled_flow"]

START: Final = 1_764_000_000
NS: Final = 1_000_000_000

FLOW: Final = {
    "time": "2026-11-23T09:14:02.118406213Z",
    "verdict": "FORWARDED",
    "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
    "l4": {"TCP": {"source_port": 41_874, "destination_port": 80, "flags": {"SYN": True}}},
    "source": {"namespace": "shop", "pod_name": "web-0", "workloads": [{"name": "web"}]},
    "destination": {"labels": ["reserved:world"]},
}


class Sent(NamedTuple):
    """A message, as far as a decoder looks at it."""

    value: bytes | None
    headers: Mapping[str, bytes] = {}
    topic: str = "flows.raw"
    partition: int = 0
    offset: int = 0


def hubble(**changes: object) -> bytes:
    """A line of Cilium's exporter."""
    event = {"flow": {**FLOW, **changes}, "node_name": "lab/n1", "time": FLOW["time"]}
    return json.dumps(event, separators=(",", ":")).encode()


def sampled_flow(**changes: object) -> bytes:
    """goflow2's FlowMessage."""
    values: dict[str, object] = {
        "sampling_rate": 1,
        "src_addr": bytes([10, 0, 0, 1]),
        "dst_addr": bytes([10, 0, 0, 2]),
        "octets": 100,
        "packets": 1,
        "sampler_address": bytes([10, 0, 9, 1]),
        "proto": 6,
        "src_port": 40_000,
        "dst_port": 443,
        "tcp_flags": 2,
        "etype": 2048,
        "time_received_ns": START * NS + 9,
        "time_flow_start_ns": START * NS,
        "time_flow_end_ns": START * NS + 5,
    }
    return SampledFlow(**{**values, **changes}).SerializeToString()  # type: ignore[arg-type]


def agent_flow(**changes: object) -> bytes:
    """NetObserv's pbflow.Record."""
    flow = AgentFlow(
        eth_protocol=2048,
        direction=1,
        time_flow_start=Span(seconds=START, nanos=500_000_000),
        time_flow_end=Span(seconds=START + 1),
        octets=74,
        packets=1,
        flags=2,
        agent_ip=Address(ipv4=0x0A000901),
    )
    flow.network.src_addr.ipv4 = 0x0A000001
    flow.network.dst_addr.ipv4 = 0x0A000002
    flow.transport.src_port, flow.transport.dst_port, flow.transport.protocol = 40_000, 443, 6
    for name, value in changes.items():
        setattr(flow, name, value)
    return flow.SerializeToString()


def delimited(*contents: bytes) -> bytes:
    """Each after its length."""
    return b"".join(varint(len(content)) + content for content in contents)


def bomb(size: int = 1 << 30) -> dict[str, bytes]:
    """Zeros, of which few bytes make very many."""
    zeros = bytes(size)
    return {
        "gzip": gzip.compress(zeros, 9),
        "zstd": zstandard.ZstdCompressor().compress(zeros),
        "lz4": lz4.frame.compress(zeros),
    }


def messages() -> dict[str, list[Sent]]:
    """By form, messages that hold at least a flow each."""
    line, other = hubble(), hubble(verdict="DROPPED")
    protobuf = wire(json.loads(line))
    flow = GetFlowsResponse.FromString(protobuf).flow.SerializeToString()
    sampled, agent = sampled_flow(), agent_flow()
    otlp = _otlp()
    found = {
        "hubble": [line, other, json.dumps(json.loads(line), indent=2).encode(), _camel(line)],
        "hubble without its envelope": [json.dumps(FLOW).encode()],
        "lines": [line + b"\n" + other, line + b"\r\n\n" + other + b"\n"],
        "array": [b"[%s, %s]" % (line, other), b" [\n" + line + b"\n]"],
        "gzip": [gzip.compress(line)],
        "zstd": [zstandard.ZstdCompressor().compress(line + b"\n" + other)],
        "lz4": [lz4.frame.compress(line)],
        "wrapped": [*_wrapped(line)],
        "hubble protobuf": [protobuf, delimited(protobuf, protobuf), flow, delimited(flow)],
        "goflow2 protobuf": [sampled, delimited(sampled), delimited(sampled, sampled)],
        "netobserv protobuf": [agent, delimited(agent)],
        "framed": [b"\0\0\0\0\7" + line, b"\0\0\0\0\7\0" + protobuf, b"\0\0\0\0\7\2\2" + sampled],
        "netobserv": log_samples.NETOBSERV.splitlines()[:4],
        "goflow2": log_samples.GOFLOW2.splitlines()[:4],
        "zeek": log_samples.ZEEK_JSON.splitlines()[:4],
        "zeek text": [log_samples.ZEEK],
        "vpc": [log_samples.VPC],
        "nfdump": [log_samples.NFDUMP],
        "envoy": [json.dumps(OUTBOUND).encode(), json.dumps(INBOUND).encode()],
        "envoy text": [*_sample_lines("istio_default_outbound.log")],
        "otlp": [otlp],
        "arrow": [],
        "parquet": [_parquet(line, other)],
    }
    sent = {form: [Sent(value) for value in values] for form, values in found.items()}
    for batch in flow_batches(_flows(line, other, other), "test", 2):
        sent["arrow"] += [Sent(batch.value, batch.headers), Sent(batch.value)]
    return sent


def _flows(*lines: bytes) -> pl.DataFrame:
    content = b"".join(line + b"\n" for line in lines)
    with HubbleLines() as decoder:
        return decoder.decode(Block(0, len(content), content, len(lines))).flows


def _parquet(*lines: bytes) -> bytes:
    whole = io.BytesIO()
    _flows(*lines).cast(STORED).write_parquet(whole)
    return whole.getvalue()


def _camel(line: bytes) -> bytes:
    return line.replace(b"node_name", b"nodeName").replace(b"source_port", b"sourcePort")


def _wrapped(line: bytes) -> Iterator[bytes]:
    text = line.decode() + "\n"
    kubernetes = {"pod_name": "cilium-x", "namespace_name": "kube-system"}
    yield json.dumps({"@timestamp": 1.5, "log": text, "kubernetes": kubernetes}).encode()
    yield json.dumps({"message": text, "host": "a", "source_type": "file"}).encode()
    yield json.dumps({"message": json.loads(line), "host": "a"}).encode()
    yield json.dumps({"message": json.dumps({"log": text})}).encode()
    yield b"2026-11-23T09:14:02.1Z stdout F " + line
    yield json.dumps({"log": "2026-11-23T09:14:02.1Z stdout F " + text}).encode()


def _sample_lines(name: str) -> list[bytes]:
    path = Path(__file__).resolve().parent / "envoy_samples" / name
    return path.read_bytes().splitlines()[:4]


def _otlp() -> bytes:
    path = Path(__file__).resolve().parent / "samples" / "envoy_otlp_logs.ndjson"
    return path.read_bytes().splitlines()[0]
