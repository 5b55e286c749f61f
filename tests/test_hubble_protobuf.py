"""Hubble's protobuf to flows: by both ways the same rows that its JSON gives, and what is bad."""

import importlib.util
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
import zstandard
from hubble_api import wire, wire_lines
from hubble_stubs import ROOT, generate
from polars.testing import assert_frame_equal

from sidelong.errors import ConfigError
from sidelong.ingest.hubble_endpoints import EndpointTable, FlagTable
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.hubble_pb2 import Endpoint, GetFlowsResponse
from sidelong.ingest.hubble_protobuf import Decoded, HubbleDecoder, split_delimited
from sidelong.ingest.line_files import LineFile
from sidelong.ingest.schema import FLOW_SCHEMA, empty_flows
from sidelong.ingest.source import BadRows

Json = dict[str, Any]

BOTH: Final = pytest.mark.parametrize("fast", [False, True], ids=["protobuf", "ptars"])

SYN: Final[Json] = {
    "time": "2026-11-23T09:14:02.118406213Z",
    "verdict": "FORWARDED",
    "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
    "l4": {"TCP": {"source_port": 41874, "destination_port": 5432, "flags": {"SYN": True}}},
    "source": {
        "namespace": "shop",
        "pod_name": "web-6c7d5b9f4d-k2vxp",
        "labels": ["k8s:app=web"],
        "workloads": [{"name": "web", "kind": "Deployment"}],
    },
    "destination": {"namespace": "data", "pod_name": "db-0", "labels": ["k8s:app=db"]},
    "is_reply": False,
}


def event(**changes: Any) -> Json:
    """A SYN with some fields of its flow changed; None removes one."""
    flow = {key: value for key, value in {**SYN, **changes}.items() if value is not None}
    return {"flow": flow, "node_name": "lab/n1", "time": flow.get("time", SYN["time"])}


def from_json(*lines: bytes) -> tuple[pl.DataFrame, BadRows]:
    content = b"\n".join(lines)
    source = LineFile("json", lambda: BytesIO(content), None, HubbleLines)
    batches = list(source.batches())
    flows = pl.concat([empty_flows(), *(batch.flows for batch in batches)])
    return flows, sum((batch.bad for batch in batches), BadRows())


def decode(*messages: bytes, fast: bool) -> Decoded:
    return HubbleDecoder("test", fast=fast).decode(messages)


def captures(data: Path, shop: Path) -> Iterator[tuple[str, list[bytes]]]:
    for folder in ("hubble-otel", "hubble-modern"):
        for path in sorted((data / folder).glob("*.json*")):
            yield path.name, path.read_bytes().splitlines()
    for path in sorted(shop.glob("*.hubble.jsonl.zst")):
        reader = zstandard.ZstdDecompressor().stream_reader(path.read_bytes())
        yield path.name, reader.read().splitlines()


@pytest.fixture(scope="module")
def real(data: Path, shop: Path) -> list[tuple[str, list[bytes], pl.DataFrame]]:
    """Name, messages and expected flows of every capture."""
    return [(name, wire_lines(lines), from_json(*lines)[0]) for name, lines in captures(data, shop)]


@BOTH
def test_real_flows_give_the_rows_that_their_json_gives(
    real: list[tuple[str, list[bytes], pl.DataFrame]], fast: bool
) -> None:
    decoder = HubbleDecoder("test", fast=fast)
    for name, messages, expected in real:
        decoded = decoder.decode(messages)
        assert decoded.bad == BadRows(), name
        assert_frame_equal(decoded.flows(), expected)
    assert sum(expected.height for _, _, expected in real) > 40_000


CHANGES: Final[dict[str, Json]] = {
    "a SYN": {},
    "UDP": {"l4": {"UDP": {"source_port": 1, "destination_port": 53}}},
    "SCTP": {"l4": {"SCTP": {"source_port": 1, "destination_port": 2}}},
    "ping": {"l4": {"ICMPv4": {"type": 8}}},
    "ping 6": {"l4": {"ICMPv6": {}}, "IP": {"source": "2001:db8::1", "destination": "::1"}},
    "VRRP": {"l4": {"VRRP": {"type": 1}}},
    "no IP": {"IP": None, "l4": None, "verdict": "DROPPED"},
    "port 0": {"l4": {"TCP": {"destination_port": 2}}},
    "no flag set": {"l4": {"TCP": {"source_port": 1, "destination_port": 2, "flags": {}}}},
    "flags": {"l4": {"TCP": {"source_port": 1, "flags": {"RST": True, "ACK": True, "NS": True}}}},
    "a reply": {"is_reply": True},
    "perhaps a reply": {"is_reply": None},
    "an old reply": {"is_reply": None, "reply": True},
    "no old reply": {"is_reply": None, "reply": False},
    "traced": {"verdict": "TRACED"},
    "a verdict to come": {"verdict": 99},
    "dropped": {"verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED", "drop_reason": 181},
    "dropped of old": {"verdict": "DROPPED", "drop_reason": 133},
    "a reason to come": {"verdict": "DROPPED", "drop_reason_desc": 250},
    "denied": {
        "ingress_allowed_by": [{"name": "a", "namespace": "n"}],
        "egress_denied_by": [{"name": "d", "namespace": "n"}, {"name": "e"}],
    },
    "allowed": {"egress_allowed_by": [{"name": "all"}]},
    "both denied": {"egress_denied_by": [{"name": "e"}], "ingress_denied_by": [{"name": "i"}]},
    "no name": {"egress_denied_by": [{"namespace": "n"}], "egress_allowed_by": [{"name": "a"}]},
    "encrypted": {"IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "encrypted": True}},
    "aggregate": {"aggregate": {"ingress_flow_count": 3, "unknown_direction_flow_count": 4}},
    "much": {"aggregate": {"ingress_flow_count": 2**32 - 1, "egress_flow_count": 2**32 - 1}},
    "host": {"source": {"identity": 1, "labels": ["reserved:host", "reserved:kube-apiserver"]}},
    "world": {"source": {"identity": 2, "labels": ["cidr:203.0.113.0/24", "reserved:world"]}},
    "labels of a pod": {"source": {"pod_name": "x", "labels": ["reserved:host"]}},
    "no namespace": {"source": {"workloads": [{"name": "w"}], "labels": ["reserved:health"]}},
    "no endpoint": {"source": None, "destination": {}},
    "a question": {
        "l7": {"type": "REQUEST", "dns": {"query": "WWW.Example.COM.", "qtypes": ["AAAA", "A"]}}
    },
    "an answer": {"l7": {"type": "RESPONSE", "dns": {"query": "a.example.", "ips": ["10.0.0.9"]}}},
    "no such name": {"l7": {"type": "RESPONSE", "dns": {"query": "a.example.", "rcode": 3}}},
    "odd code": {"l7": {"type": "RESPONSE", "dns": {"query": "a.", "rcode": 300}}},
    "odd answers": {
        "l7": {"type": 2, "dns": {"query": "a.", "ips": ["nowhere", "", "10.0.0.1"] * 20}}
    },
    "odd name": {"l7": {"type": "REQUEST", "dns": {"query": "caf\u00e9 x\\001."}}},
    "the root": {"l7": {"type": "REQUEST", "dns": {"query": ".", "qtypes": ["NS"]}}},
    "a request": {"l7": {"type": "REQUEST", "http": {"method": "GET", "url": "http://a/b?c=1"}}},
    "a response": {"l7": {"type": "RESPONSE", "http": {"code": 503, "url": "http://a"}}},
    "an odd response": {"l7": {"type": "RESPONSE", "http": {"code": 70_000}}},
    "hidden": {"l7": {"type": "REQUEST", "http": {"url": "http://a/HUBBLE_REDACTED"}}},
    "gRPC": {
        "l7": {
            "type": "REQUEST",
            "http": {
                "method": "POST",
                "headers": [
                    {"key": "X", "value": "y"},
                    {"key": "Content-Type", "value": "application/gRPC+proto"},
                ],
            },
        }
    },
    "Kafka": {"l7": {"type": "REQUEST", "kafka": {"topic": "orders"}}},
    "no record": {"l7": {"type": "REQUEST"}},
}


@BOTH
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_each_field_means_what_it_means_in_json(changes: Json, fast: bool) -> None:
    line = event(**changes)
    expected, bad = from_json(json.dumps(line).encode())
    decoded = decode(wire(line), fast=fast)
    assert (decoded.bad, bad) == (BadRows(), BadRows())
    assert expected.height == 1
    assert_frame_equal(decoded.flows(), expected)


@BOTH
def test_all_of_them_in_one_batch_keep_their_order(fast: bool) -> None:
    lines = [event(**changes) for changes in CHANGES.values()]
    expected, _ = from_json(*(json.dumps(line).encode() for line in lines))
    decoded = decode(*map(wire, lines), fast=fast)
    assert_frame_equal(decoded.flows(), expected)
    assert decoded.rows["message"].to_list() == list(range(len(lines)))


@BOTH
def test_an_empty_batch_gives_an_empty_frame(fast: bool) -> None:
    decoded = decode(fast=fast)
    assert decoded.flows().schema == FLOW_SCHEMA
    assert (decoded.flows().height, decoded.bad, decoded.statuses) == (0, BadRows(), ())


@BOTH
def test_lost_events_are_a_row_of_their_own(fast: bool) -> None:
    losses = {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "348"}
    line = {"lost_events": losses, "node_name": "lab/n1", "time": "2026-11-23T09:14:08Z"}
    expected, _ = from_json(json.dumps(line).encode())
    decoded = decode(wire(event()), wire(line), wire(event()), fast=fast)
    assert_frame_equal(decoded.flows()[1], expected)
    assert decoded.flows()["lost"].to_list() == [None, 348, None]


@BOTH
def test_the_state_of_nodes_is_told_and_is_no_flow(fast: bool) -> None:
    status = {"state_change": "NODE_ERROR", "node_names": ["a", "b"], "message": "no route"}
    decoded = decode(wire({"node_status": status, "node_name": "relay"}), fast=fast)
    assert [(each.state, each.nodes, each.why) for each in decoded.statuses] == [
        ("error", ("a", "b"), "no route")
    ]
    assert (decoded.rows.height, decoded.bad) == (0, BadRows())


@BOTH
@pytest.mark.parametrize("kind", ["agent_event", "debug_event"])
def test_other_events_of_the_exporter_are_no_flows_and_not_bad(kind: str, fast: bool) -> None:
    decoded = decode(wire({kind: {"type": 1}, "node_name": "n", "time": SYN["time"]}), fast=fast)
    assert (decoded.rows.height, decoded.bad) == (0, BadRows())


@BOTH
def test_the_time_and_node_of_the_flow_go_before_those_of_the_envelope(fast: bool) -> None:
    flow = {**SYN, "node_name": "inner"}
    bare, wrapped = (
        {"flow": flow},
        {"flow": flow, "node_name": "outer", "time": "2026-01-01T00:00:00Z"},
    )
    late = {"flow": {"verdict": "FORWARDED"}, "node_name": "n", "time": "2026-11-23T09:14:02Z"}
    flows = decode(wire(bare), wire(wrapped), wire(late), fast=fast).flows()
    assert flows["node"].to_list() == ["inner", "outer", "n"]
    assert flows["time"].dt.nanosecond().to_list() == [118_406_213, 118_406_213, 0]


def spoilt(**parts: bytes) -> bytes:
    """A flow with an endpoint or flags that cannot be."""
    message = GetFlowsResponse.FromString(wire(event()))
    if "source" in parts:
        message.flow.source = parts["source"]
    if "flags" in parts:
        message.flow.l4.TCP.flags = parts["flags"]
    return message.SerializeToString()


BAD: Final = {
    "no protobuf": (b"\xff\xff", "not protobuf of Hubble"),
    "not text": (b"\xc2\x3e\x02\xff\xfe", "not protobuf of Hubble"),
    "cut off": (wire(event())[:-3], "not protobuf of Hubble"),
    "nothing": (b"", "no Hubble event"),
    "no time": (wire({"flow": {"verdict": "FORWARDED"}}), "it has no time"),
    "1970": (wire({"flow": {"time": "1970-01-01T00:01:00Z"}}), "its time is 60 s after 1970"),
    "2300": (wire(event(time="2300-01-01T00:00:00Z")), "its time is 10413792000 s after 1970"),
    "a large port": (
        wire(event(l4={"UDP": {"source_port": 1, "destination_port": 70_000}})),
        "its dst_port is 70000",
    ),
    "no address": (
        wire(event(IP={"source": "nowhere", "destination": "10.0.0.1"})),
        "its addresses are 'nowhere' and '10.0.0.1'",
    ),
    "no endpoint": (spoilt(source=b"\x1a\x05ab"), "its source is no endpoint"),
    "no flags": (spoilt(flags=b"\xff"), "its flags are none"),
}


@BOTH
@pytest.mark.parametrize(("message", "why"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_counted_and_told_and_costs_nobody_else(
    message: bytes, why: str, fast: bool
) -> None:
    good = wire(event())
    decoded = HubbleDecoder("relay", fast=fast).decode([good, message, good], first=1_000)
    assert decoded.rows["message"].to_list() == [0, 2]
    assert decoded.bad == BadRows(1, (f"relay at message 1,001: {why}",))


def test_bad_messages_are_all_counted_and_the_first_five_are_told() -> None:
    messages = [wire(event()), *[b"\xff", b""] * 10]
    decoded = HubbleDecoder("relay", fast=False).decode(messages)
    assert decoded.bad.count == 20
    assert [sample.split(":")[0] for sample in decoded.bad.samples] == [
        f"relay at message {number}" for number in range(1, 6)
    ]


def test_without_ptars_the_other_way_is_taken_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert HubbleDecoder("test").way == "protobuf"
    with pytest.raises(ConfigError, match="ptars is not installed") as raised:
        HubbleDecoder("test", fast=True)
    assert "sidelong[fast]" in raised.value.hint


def test_endpoints_are_forgotten_when_there_are_too_many() -> None:
    table = EndpointTable(most=100)
    for number in range(1_000):
        table.tidy()
        content = Endpoint(namespace="shop", pod_name=f"web-{number}").SerializeToString()
        given = table.numbers_of(pl.Series([content, b"", content]))
        assert table.pods(given).to_list() == [f"shop/web-{number}", None, f"shop/web-{number}"]
    assert len(table.numbers) <= 102


def test_flags_are_forgotten_when_there_are_too_many() -> None:
    table = FlagTable()
    for number in range(5_000):
        content = bytes((0x08, number & 0x7F | 0x80, number >> 7))  # FIN as an odd varint
        assert table.add(content) == (0x01 if number else 0)
    assert len(table.bits) <= 4_096


def test_stored_messages_are_split_at_their_lengths() -> None:
    messages = [wire(event()), b"", b"x" * 300]
    content = b"".join(varint(len(each)) + each for each in messages)
    assert split_delimited(content + b"\xac\x02half", longest=1_000) == (
        messages,
        len(content),
        None,
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xe8\x07" + b"x" * 1_000, "a message is 1,000 bytes long"),
        (b"\xff" * 10, "a length is no varint of 32 bits"),
    ],
)
def test_damage_among_stored_messages_ends_them(content: bytes, why: str) -> None:
    assert split_delimited(b"\x01a" + content, longest=999) == ([b"a"], 2, why)


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes((low | 0x80, high)) if high else bytes((low,))


def test_the_stubs_are_what_the_proto_says(tmp_path: Path) -> None:
    """If not: `make stubs`."""
    for name, text in generate(tmp_path).items():
        assert (ROOT / "ingest" / name).read_text() == text
