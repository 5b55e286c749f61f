"""Records of goflow2 and of NetObserv's agent in protobuf, to the columns of text of their JSON.

What a field means is said once, by the decoders of JSON; here it only gets the name it has there.
"""

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
import polars as pl
from google.protobuf.message import DecodeError

from sidelong.ingest.flat_json import Records
from sidelong.ingest.flow_records_pb2 import Address, AgentFlow, SampledFlow
from sidelong.ingest.goflow2 import GOFLOW2
from sidelong.ingest.netobserv import NETOBSERV
from sidelong.ingest.schema import LINE

__all__ = ["agent_flows", "sampled_flows"]

_LONGEST_LATENCY_S: Final = 60


def sampled_flows(messages: Sequence[bytes]) -> Records:
    """The flows of goflow2's `FlowMessage`s; rows and faults are numbered by the messages."""
    return _records(messages, SampledFlow.FromString, _sampled, GOFLOW2.fields, GOFLOW2.decode)


def agent_flows(messages: Sequence[bytes]) -> Records:
    """The flows of NetObserv's `pbflow.Record`s; rows and faults are numbered by the messages."""
    return _records(messages, AgentFlow.FromString, _of_agent, NETOBSERV.fields, NETOBSERV.decode)


def _records(
    messages: Sequence[bytes],
    parse: Callable[[bytes], Any],
    values: Callable[[Any], dict[str, object]],
    fields: Iterable[str],
    decode: Callable[[pl.DataFrame], Records],
) -> Records:
    rows: list[dict[str, object]] = []
    unparsed: list[int] = []
    for number, content in enumerate(messages):
        try:
            rows.append({LINE: number, **values(parse(content))})
        except (DecodeError, ValueError):
            unparsed.append(number)
    numbers = pl.Series(LINE, [row[LINE] for row in rows], dtype=pl.UInt32)
    names = rows[0].keys() if rows else ()
    known = {
        name: pl.Series(
            [None if row[name] is None else str(row[name]) for row in rows], dtype=pl.String
        )
        for name in names
    }
    none = pl.repeat(None, len(rows), dtype=pl.String, eager=True)
    frame = pl.DataFrame([known.get(name, none).alias(name) for name in fields]).with_columns(
        numbers
    )
    found = decode(frame)
    faults = [(number, "not protobuf of its kind") for number in unparsed]
    faults += [(int(numbers[row]), why) for row, why in found.faults]
    bad = pl.concat([pl.Series(unparsed, dtype=pl.UInt32), numbers.gather(found.bad)])
    return Records(found.flows, bad, tuple(sorted(faults)))


def _sampled(flow: SampledFlow) -> dict[str, object]:
    return {
        "time_flow_start_ns": flow.time_flow_start_ns,
        "time_flow_end_ns": flow.time_flow_end_ns,
        "time_received_ns": flow.time_received_ns,
        "sampling_rate": flow.sampling_rate,
        "sampler_address": _text(flow.sampler_address) or None,
        "bytes": flow.octets,
        "packets": flow.packets,
        "etype": flow.etype,
        "proto": flow.proto,
        "src_addr": _text(flow.src_addr),
        "dst_addr": _text(flow.dst_addr),
        "src_port": flow.src_port,
        "dst_port": flow.dst_port,
        "tcp_flags": flow.tcp_flags,
        "forwarding_status": flow.forwarding_status,
    }


def _of_agent(flow: AgentFlow) -> dict[str, object]:
    start, end = flow.time_flow_start, flow.time_flow_end
    network, transport = flow.network, flow.transport
    dns = flow.dns_flags
    latency = min(flow.dns_latency.seconds, _LONGEST_LATENCY_S) * 1_000
    events = [dict(event.events) for event in flow.network_events_metadata]
    return {
        "SrcAddr": _address(network.src_addr),
        "DstAddr": _address(network.dst_addr),
        "SrcPort": transport.src_port,
        "DstPort": transport.dst_port,
        "Proto": transport.protocol,
        "Etype": flow.eth_protocol,
        "Bytes": flow.octets,
        "Packets": flow.packets,
        "Flags": flow.flags,
        "TimeFlowStartMs": _milliseconds(start.seconds, start.nanos),
        "TimeFlowEndMs": _milliseconds(end.seconds, end.nanos),
        "FlowDirection": flow.direction,
        "AgentIP": _address(flow.agent_ip),
        "Duplicate": "true" if flow.duplicate else "false",
        "NetworkEvents": msgspec.json.encode(events).decode() if events else None,
        "PktDropPackets": flow.pkt_drop_packets or None,
        "PktDropLatestDropCause": flow.pkt_drop_latest_drop_cause or None,
        "DnsFlags": dns or None,
        "DnsLatencyMs": latency + flow.dns_latency.nanos // 1_000_000 if dns else None,
    }


def _milliseconds(seconds: int, nanos: int) -> int | None:
    """None for no time, and for one that fits nothing."""
    return seconds * 1_000 + nanos // 1_000_000 if 0 < seconds < 1 << 40 else None


def _address(address: Address) -> str | None:
    if address.ipv6:
        return _text(address.ipv6)
    number = address.ipv4
    return socket.inet_ntoa(number.to_bytes(4, "big")) if address.HasField("ipv4") else None


def _text(octets: bytes) -> str:
    """An address of 4 or 16 octets, IPv4 inside IPv6 as IPv4; what is none, in hexadecimal."""
    if len(octets) == 4:
        return socket.inet_ntoa(octets)
    if len(octets) == 16:
        if octets.startswith(bytes(10) + b"\xff\xff"):
            return socket.inet_ntoa(octets[12:])
        return socket.inet_ntop(socket.AF_INET6, octets)
    return octets.hex()
