"""Hubble's protobuf, message by message, to columns: the way that needs nothing but protobuf.

This is a loop per flow, which decoding may be. Most of its time goes into attributes of messages,
so it reads each once, and of rare parts only whether they are there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from google.protobuf.message import DecodeError

from sidelong.ingest.hubble_columns import (
    FLOW_EVENT,
    LAYER7_COLUMNS,
    LOST_EVENT,
    MESSAGE_COLUMNS,
    NO_EVENT,
    OTHER_EVENT,
    OTHER_TRANSPORT,
    TRANSPORTS,
)
from sidelong.ingest.hubble_endpoints import EndpointTable, FlagTable
from sidelong.ingest.hubble_pb2 import Flow, GetFlowsResponse, Layer7, NodeStatusEvent

__all__ = ["GRPC", "NODE_STATES", "Messages", "NodeStatus", "read_each"]

NODE_STATES: Final = ("unknown", "connected", "unavailable", "gone", "error")

GRPC: Final = "application/grpc"
"""What a header of HTTP that holds it, in any case, says of the protocol inside."""

_RARE: Final = b"\xa0\x0a"
"""The end of the tags 21001 to 21007: without it there are neither policies nor an aggregate."""

_TRANSPORT: Final = {name: number for number, name in enumerate(TRANSPORTS, 1)}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What Relay says of some of its nodes: their state, one of `NODE_STATES`, and why."""

    state: str
    nodes: tuple[str, ...]
    why: str

    @classmethod
    def of(cls, state: int, nodes: Sequence[str], why: str) -> "NodeStatus":
        """From the values of a message."""
        named = NODE_STATES[state] if state < len(NODE_STATES) else NODE_STATES[0]
        return cls(named, tuple(nodes), why)


@dataclass(frozen=True, slots=True)
class Messages:
    """A batch in `MESSAGE_COLUMNS` and `LAYER7_COLUMNS`, and what fits in neither.

    unparsed: the indices of what is no such message. silent: how many rows are neither a flow nor
    a loss, and rightly so.
    """

    messages: pl.DataFrame
    layer7: pl.DataFrame
    unparsed: tuple[int, ...]
    statuses: tuple[NodeStatus, ...]
    silent: int


def read_each(messages: Sequence[bytes], endpoints: EndpointTable, flags: FlagTable) -> Messages:
    """Parse `messages` one by one."""
    reader = _Reader(endpoints, flags)
    return reader.read(messages)


class _Reader:
    def __init__(self, endpoints: EndpointTable, flags: FlagTable) -> None:
        self._endpoints = endpoints
        self._flags = flags
        self._layer7: list[Any] = []
        self._statuses: list[NodeStatus] = []

    def read(self, messages: Sequence[bytes]) -> Messages:
        # One list for all columns in turns: a tuple kept for each row keeps the collector of
        # garbage busy for a seventh of the time.
        values: list[Any] = []
        count = 0
        unparsed: list[int] = []
        silent = 0
        parse = GetFlowsResponse.FromString
        add = values.extend
        numbers = self._endpoints.numbers
        new_endpoint = self._endpoints.add
        bits = self._flags.bits
        for index, content in enumerate(messages):
            try:
                event = parse(content)
            except DecodeError:
                unparsed.append(index)
                continue
            if not event.HasField("flow"):
                row = self._other(index, event)
                silent += row[1] == OTHER_EVENT
                add(row)
                count += 1
                continue
            flow = event.flow
            time = flow.time
            seconds = time.seconds
            if not seconds:
                time = event.time
                seconds = time.seconds
            ip = flow.IP
            source = flow.source
            source_number = numbers.get(source)
            if source_number is None:
                source_number = new_endpoint(source)
            destination = flow.destination
            destination_number = numbers.get(destination)
            if destination_number is None:
                destination_number = new_endpoint(destination)
            source_port = destination_port = transport = 0
            flag_bits = None
            l4 = flow.l4
            if l4.HasField("TCP"):
                tcp = l4.TCP
                transport = 1
                source_port = tcp.source_port
                destination_port = tcp.destination_port
                flags = tcp.flags
                if flags or tcp.HasField("flags"):
                    flag_bits = bits.get(flags)
                    if flag_bits is None:
                        flag_bits = self._flags.add(flags)
            elif l4.HasField("UDP"):
                udp = l4.UDP
                transport = 2
                source_port = udp.source_port
                destination_port = udp.destination_port
            elif flow.HasField("l4"):
                transport, source_port, destination_port = _rare_transport(flow)
            if flow.HasField("l7"):
                self._layer7.extend(_layer7(count, flow.l7))
            uuid = flow.uuid
            event_type = sub_type = counted = 0
            policy_name = policy_namespace = ""
            if not uuid:
                kind = flow.event_type
                event_type, sub_type = kind.type, kind.sub_type
            if _RARE in content:
                policy_name, policy_namespace = _policy(flow)
                counted = _counted(flow)
            add(
                (
                    index,
                    FLOW_EVENT,
                    seconds,
                    time.nanos,
                    event.node_name or flow.node_name,
                    ip.source,
                    ip.destination,
                    ip.encrypted,
                    transport,
                    source_port,
                    destination_port,
                    flag_bits,
                    source_number,
                    destination_number,
                    flow.verdict,
                    flow.drop_reason,
                    flow.drop_reason_desc,
                    flow.is_reply.value if flow.HasField("is_reply") else None,
                    flow.reply,
                    uuid,
                    event_type,
                    sub_type,
                    policy_name,
                    policy_namespace,
                    counted,
                    None,
                )
            )
            count += 1
        return Messages(
            _frame(values, MESSAGE_COLUMNS),
            _frame(self._layer7, LAYER7_COLUMNS),
            tuple(unparsed),
            tuple(self._statuses),
            silent,
        )

    def _other(self, index: int, event: GetFlowsResponse) -> tuple[Any, ...]:
        """The row of what is no flow."""
        kind, lost = OTHER_EVENT, None
        match event.WhichOneof("event"):
            case "lost_events":
                kind, lost = LOST_EVENT, event.lost_events.num_events_lost
            case "node_status":
                self._statuses.append(_status(event.node_status))
            case None:
                kind = NO_EVENT
        time = event.time
        return (
            *(index, kind, time.seconds, time.nanos, event.node_name, "", "", False, 0, 0, 0, None),
            *(0, 0, 0, 0, 0, None, False, "", 0, 0, "", "", 0, lost),
        )


def _frame(values: list[Any], schema: pl.Schema) -> pl.DataFrame:
    """Of the values of all columns in turns."""
    columns = len(schema)
    return pl.DataFrame(
        [
            pl.Series(name, values[start::columns], dtype=dtype)
            for start, (name, dtype) in enumerate(schema.items())
        ]
    )


def _rare_transport(flow: Flow) -> tuple[int, int, int]:
    l4 = flow.l4
    name = l4.WhichOneof("protocol")
    if name == "SCTP":
        return _TRANSPORT[name], l4.SCTP.source_port, l4.SCTP.destination_port
    return (_TRANSPORT[name] if name else OTHER_TRANSPORT), 0, 0


def _policy(flow: Flow) -> tuple[str, str]:
    """Name and namespace of the first that denied, else of the first that allowed."""
    for policies in (
        flow.ingress_denied_by,
        flow.egress_denied_by,
        flow.ingress_allowed_by,
        flow.egress_allowed_by,
    ):
        if policies and (name := policies[0].name):
            return name, policies[0].namespace
    return "", ""


def _counted(flow: Flow) -> int:
    sums = flow.aggregate
    return sums.ingress_flow_count + sums.egress_flow_count + sums.unknown_direction_flow_count


def _status(event: NodeStatusEvent) -> NodeStatus:
    return NodeStatus.of(event.state_change, event.node_names, event.message)


def _layer7(row: int, layer7: Layer7) -> tuple[Any, ...]:
    kind = layer7.WhichOneof("record")
    if kind == "dns":
        dns = layer7.dns
        qtype = dns.qtypes[0] if dns.qtypes else None
        ips = list(dns.ips)
        return row, layer7.type, "dns", dns.query, qtype, dns.rcode, ips, 0, "", ""
    if kind == "http":
        http = layer7.http
        texts = (text for header in http.headers for text in (header.key, header.value))
        name = "grpc" if any(GRPC in text.lower() for text in texts) else "http"
        given = http.code, http.method, http.url
        return row, layer7.type, name, "", None, 0, None, *given
    return row, layer7.type, kind, "", None, 0, None, 0, "", ""
