"""Whatever arrives as Hubble's protobuf: no crash, all of it accounted for, both ways the same."""

import os
from datetime import timedelta
from typing import Any, Final

import pytest
from google.protobuf.message import DecodeError
from hubble_api import wire
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sidelong.ingest.hubble_arrow import ArrowReader
from sidelong.ingest.hubble_endpoints import EndpointTable, FlagTable
from sidelong.ingest.hubble_pb2 import GetFlowsResponse
from sidelong.ingest.hubble_protobuf import HubbleDecoder, split_delimited
from sidelong.ingest.schema import FLOW_SCHEMA

EXAMPLES: Final = 2_500 if os.environ.get("CI") == "true" else 150
FUZZ: Final = settings(
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)

TIME: Final = "2026-11-23T09:14:02.118406213Z"
ENDPOINT: Final = {
    "identity": 51_877,
    "namespace": "shop",
    "pod_name": "web-0",
    "labels": ["k8s:app=web", "reserved:host"],
    "workloads": [{"name": "web", "kind": "StatefulSet"}],
}


def flow(**changes: Any) -> bytes:
    whole = {
        "time": TIME,
        "uuid": "0b6f3a52",
        "verdict": "DROPPED",
        "drop_reason_desc": "POLICY_DENIED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "encrypted": True},
        "l4": {"TCP": {"source_port": 41_874, "destination_port": 80, "flags": {"SYN": True}}},
        "source": ENDPOINT,
        "destination": {"labels": ["reserved:world"]},
        "is_reply": True,
        "event_type": {"type": 4, "sub_type": 3},
        "egress_denied_by": [{"name": "d", "namespace": "n"}],
        "aggregate": {"ingress_flow_count": 3},
        **changes,
    }
    return wire({"flow": whole, "node_name": "lab/n1", "time": TIME})


DNS: Final = {
    "type": "RESPONSE",
    "dns": {"query": "a.example.", "ips": ["10.0.0.9"], "rcode": 3, "qtypes": ["A"]},
}
HTTP: Final = {
    "type": "REQUEST",
    "http": {"code": 404, "method": "GET", "url": "http://a/b", "headers": [{"key": "a"}]},
}
REAL: Final = [
    flow(),
    flow(l7=DNS, l4={"UDP": {"source_port": 1, "destination_port": 53}}),
    flow(l7=HTTP),
    flow(l4={"ICMPv4": {"type": 8}}),
    wire({"lost_events": {"num_events_lost": "3"}, "node_name": "n", "time": TIME}),
    wire({"node_status": {"state_change": "NODE_GONE", "node_names": ["n"]}, "time": TIME}),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real message with some bytes changed, left out, put in or taken from another."""
    content = bytearray(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 4)):
            case 0:
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del content[at : at + draw(st.integers(1, 20))]
            case 2:
                content[at:at] = draw(st.binary(max_size=12))
            case 3:
                other = draw(st.sampled_from(REAL))
                start = draw(st.integers(0, len(other)))
                content[at:at] = other[start : start + draw(st.integers(1, 60))]
            case 4:  # two of them are one, in protobuf
                content += draw(st.sampled_from(REAL))
    return bytes(content)


def lenient(message: bytes) -> bool:
    """Whether only ptars takes it: ends of groups, which nobody sends, it does not look at."""
    try:
        GetFlowsResponse.FromString(message)
    except DecodeError:
        pass
    else:
        return False
    flags, endpoints = FlagTable(), EndpointTable()
    try:
        ArrowReader(endpoints, flags).read([message])
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def decoders() -> tuple[HubbleDecoder, HubbleDecoder]:
    return HubbleDecoder("fuzz", fast=False), HubbleDecoder("fuzz", fast=True)


@FUZZ
@given(messages=st.lists(st.one_of(mutated(), st.binary(max_size=200)), max_size=8))
def test_both_ways_agree_on_whatever_comes(
    decoders: tuple[HubbleDecoder, HubbleDecoder], messages: list[bytes]
) -> None:
    slow, fast = (decoder.decode(messages) for decoder in decoders)
    assert slow.rows.height + slow.bad.count <= len(messages)
    assert fast.rows.height + fast.bad.count <= len(messages)
    assume(not any(map(lenient, messages)))
    assert_frame_equal(slow.rows, fast.rows, check_column_order=False)
    assert (slow.bad, slow.statuses) == (fast.bad, fast.statuses)
    assert slow.flows().schema == FLOW_SCHEMA


@FUZZ
@given(message=mutated())
def test_what_one_message_becomes_does_not_depend_on_the_others(message: bytes) -> None:
    alone = HubbleDecoder("fuzz", fast=False).decode([message])
    among = HubbleDecoder("fuzz", fast=True).decode([REAL[0], message, b"\xff", REAL[1]])
    assert_frame_equal(alone.flows(), among.flows().filter(among.rows["message"] == 1))


@FUZZ
@given(
    messages=st.lists(st.binary(max_size=300), max_size=6),
    tail=st.binary(max_size=40),
    longest=st.integers(0, 400),
)
def test_stored_messages_are_found_again_up_to_the_damage(
    messages: list[bytes], tail: bytes, longest: int
) -> None:
    content = b"".join(delimited(each) for each in messages) + tail
    found, end, why = split_delimited(content, longest)
    assert end <= len(content)
    kept = 0
    while kept < len(messages) and len(messages[kept]) <= longest:
        kept += 1
    assert found[:kept] == messages[:kept]
    assert kept == len(messages) or (len(found) == kept and why)


def delimited(message: bytes) -> bytes:
    size, length = len(message), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*length, size]) + message


def test_a_message_of_many_parts_is_bounded_by_its_bytes() -> None:
    """Many answers, labels and headers in one message cost what they take and no more."""
    event = GetFlowsResponse.FromString(REAL[1])
    event.flow.l7.dns.ips.extend(["10.0.0.1"] * 200_000)
    event.flow.source = b"\x22\x00" * 200_000
    for fast in (False, True):
        decoded = HubbleDecoder("fuzz", fast=fast).decode([event.SerializeToString()])
        assert len(decoded.flows()["dns_answers"][0]) == 16
