"""Hubble's JSON to flows: every shape a line may have, and what each field becomes."""

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from sidelong.ingest.files import InputFile
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.line_files import LineFile
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import BadRows

Json = dict[str, Any]

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


def decode(*lines: bytes | str | Json, block_bytes: int = 1 << 20) -> tuple[pl.DataFrame, BadRows]:
    """Flows and bad rows of the lines; an object is written as JSON."""
    content = b"\n".join(
        line
        if isinstance(line, bytes)
        else (line if isinstance(line, str) else dumps(line)).encode()
        for line in lines
    )
    source = LineFile("test", lambda: BytesIO(content), None, HubbleLines, block_bytes)
    batches = list(source.batches())
    flows = pl.concat([empty_flows(), *(batch.flows for batch in batches)])
    return flows, sum((batch.bad for batch in batches), BadRows())


def dumps(event: Json) -> str:
    return json.dumps(event, separators=(",", ":"))


def event(**changes: Any) -> Json:
    """The exporter's envelope around a SYN with some fields of the flow changed; None removes."""
    flow = {key: value for key, value in {**SYN, **changes}.items() if value is not None}
    return {"flow": flow, "node_name": "lab/n1", "time": flow.get("time", SYN["time"])}


def one(*lines: bytes | str | Json) -> dict[str, Any]:
    flows, bad = decode(*lines)
    assert bad == BadRows()
    assert flows.height == 1
    return flows.row(0, named=True)


def camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key if key in ("IP", "l4") else camel_key(key): camel(v) for key, v in value.items()
        }
    return [camel(item) for item in value] if isinstance(value, list) else value


def camel_key(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(word.capitalize() for word in others)


# Shapes


def test_a_flow_of_the_exporter_is_decoded() -> None:
    row = one(event())
    assert row["time"] == row["end"] == datetime(2026, 11, 23, 9, 14, 2, 118406, UTC)
    expected = {
        "src_ip": "10.0.0.1",
        "dst_ip": "10.0.0.2",
        "src_port": 41874,
        "dst_port": 5432,
        "protocol": "TCP",
        "src": "shop/web",
        "dst": None,
        "src_pod": "shop/web-6c7d5b9f4d-k2vxp",
        "dst_pod": "data/db-0",
        "reply": False,
        "verdict": "FORWARDED",
        "tcp_flags": 0x02,
        "encrypted": None,
        "count": 1,
        "origin": "hubble",
        "node": "lab/n1",
        "lost": None,
    }
    assert {name: row[name] for name in expected} == expected


def test_nanoseconds_are_kept() -> None:
    flows, _ = decode(event())
    assert flows["time"].dt.nanosecond().to_list() == [118_406_213]


@pytest.mark.parametrize(
    "line",
    [
        {"flow": {**SYN, "node_name": "lab/n1"}},
        {**SYN, "node_name": "lab/n1"},
        camel(event()),
        camel({**SYN, "node_name": "lab/n1"}),
        "  " + dumps(event()) + "\r",
        b"\xef\xbb\xbf" + dumps(event()).encode(),
    ],
    ids=["no envelope time", "no envelope", "camelCase", "both", "white space", "byte order mark"],
)
def test_every_shape_of_a_line_gives_the_same_flow(line: Any) -> None:
    assert one(line) == one(event())


def test_shapes_may_be_mixed_and_keep_their_order() -> None:
    ports = [1, 2, 3, 4, 5, 6]
    lines: list[Json] = []
    for port in ports:
        line = event(l4={"UDP": {"source_port": port, "destination_port": 53}})
        lines.append([line, camel(line), {**line["flow"]}][port % 3])
    assert decode(*lines)[0]["src_port"].to_list() == ports


def test_enumerations_may_be_numbers() -> None:
    row = one(event(verdict=2, drop_reason_desc=181))
    assert (row["verdict"], row["drop_reason"]) == ("DROPPED", "POLICY_DENY")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2026-11-23T09:14:02Z", 0),
        ("2026-11-23T09:14:02.5Z", 500_000_000),
        ("2026-11-23T09:14:02.118Z", 118_000_000),
        ("2026-11-23T09:14:02.118406213Z", 118_406_213),
        ("2026-11-23T11:14:02.118406213+02:00", 118_406_213),
        ("2026-11-23T01:44:02.5-07:30", 500_000_000),
    ],
)
def test_times_have_any_precision_and_any_offset(text: str, nanoseconds: int) -> None:
    flows, _ = decode(event(time=text))
    second = int(datetime(2026, 11, 23, 9, 14, 2, tzinfo=UTC).timestamp())
    assert flows["time"].to_physical().to_list() == [second * 1_000_000_000 + nanoseconds]


# Other events


def test_lost_events_are_a_row_of_their_own() -> None:
    lost = {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "348"}
    row = one({"lost_events": lost, "node_name": "lab/n1", "time": "2026-11-23T09:14:08Z"})
    assert (row["lost"], row["node"], row["src_ip"]) == (348, "lab/n1", None)


@pytest.mark.parametrize("kind", ["node_status", "agent_event", "debug_event"])
def test_other_events_are_no_flows_and_not_bad(kind: str) -> None:
    flows, bad = decode({kind: {"type": 1}, "node_name": "lab/n1", "time": SYN["time"]})
    assert (flows.height, bad.count) == (0, 0)


# Fields


@pytest.mark.parametrize(
    ("l4", "expected"),
    [
        ({"TCP": {"source_port": 1, "destination_port": 2}}, ("TCP", 1, 2)),
        ({"UDP": {"source_port": 1, "destination_port": 2}}, ("UDP", 1, 2)),
        ({"SCTP": {"source_port": 1, "destination_port": 2}}, ("SCTP", 1, 2)),
        ({"ICMPv4": {"type": 8}}, ("ICMP", None, None)),
        ({"ICMPv6": {"type": 128}}, ("ICMP", None, None)),
        ({"VRRP": {"type": 1}}, ("OTHER", None, None)),
    ],
)
def test_the_transport_is_told(l4: Json, expected: tuple[str, int | None, int | None]) -> None:
    row = one(event(l4=l4))
    assert (row["protocol"], row["src_port"], row["dst_port"]) == expected


def test_a_frame_that_is_not_ip_is_a_flow_without_addresses() -> None:
    row = one(
        event(IP=None, l4=None, verdict="DROPPED", drop_reason_desc="UNSUPPORTED_L2_PROTOCOL")
    )
    assert (row["src_ip"], row["protocol"], row["verdict"]) == (None, None, "DROPPED")


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        ({"SYN": True}, 0x02),
        ({"SYN": True, "ACK": True}, 0x12),
        ({"FIN": True, "PSH": True, "ACK": True}, 0x19),
        ({"RST": True, "URG": True, "ECE": True, "CWR": True, "NS": True}, 0xE4),
        ({}, 0),
        (None, None),
    ],
)
def test_tcp_flags_are_bits_and_null_where_unseen(flags: Json | None, bits: int | None) -> None:
    tcp = {"source_port": 1, "destination_port": 2, **({} if flags is None else {"flags": flags})}
    assert one(event(l4={"TCP": tcp}))["tcp_flags"] == bits


@pytest.mark.parametrize(
    ("fields", "reply"),
    [
        ({"is_reply": True}, True),
        ({"is_reply": False}, False),
        ({"is_reply": None}, None),
        ({"is_reply": None, "reply": True}, True),
        ({"is_reply": None, "reply": False}, None),
        ({"is_reply": False, "reply": True}, False),
    ],
)
def test_whether_it_replies_may_be_unknown(fields: Json, reply: bool | None) -> None:
    assert one(event(**fields))["reply"] is reply


@pytest.mark.parametrize("verdict", ["TRACED", "VERDICT_UNKNOWN", 0, 6, "SOMETHING_NEW", 99])
def test_what_is_no_verdict_is_null(verdict: str | int) -> None:
    assert one(event(verdict=verdict))["verdict"] is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"drop_reason_desc": "POLICY_DENIED"}, "POLICY_DENIED"),
        ({"drop_reason_desc": "POLICY_DENIED", "drop_reason": 181}, "POLICY_DENIED"),
        ({"drop_reason": 133}, "POLICY_DENIED"),
        ({"drop_reason_desc": "DROP_REASON_UNKNOWN", "drop_reason": 189}, "AUTH_REQUIRED"),
        ({"drop_reason_desc": 250}, "250"),
        ({"drop_reason": 0}, None),
        ({}, None),
    ],
)
def test_the_drop_reason_is_a_name(fields: Json, reason: str | None) -> None:
    assert one(event(verdict="DROPPED", **fields))["drop_reason"] == reason


@pytest.mark.parametrize("decision", ["allowed", "denied"])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_the_policy_is_the_first_that_decided(direction: str, decision: str) -> None:
    policies = [{"name": "first", "namespace": "shop"}, {"name": "second", "namespace": "shop"}]
    assert one(event(**{f"{direction}_{decision}_by": policies}))["policy"] == "shop/first"


def test_a_policy_of_the_whole_cluster_has_no_namespace() -> None:
    assert one(event(egress_denied_by=[{"name": "no-smtp"}]))["policy"] == "no-smtp"


def test_a_denial_outweighs_what_was_allowed() -> None:
    allowed, denied = [{"name": "a", "namespace": "n"}], [{"name": "d", "namespace": "n"}]
    assert one(event(ingress_allowed_by=allowed, egress_denied_by=denied))["policy"] == "n/d"


def test_an_aggregate_stands_for_the_sum_of_its_counts() -> None:
    aggregate = {"ingress_flow_count": 3, "egress_flow_count": "4"}
    assert one(event(aggregate=aggregate))["count"] == 7


def test_a_question_has_its_name_in_lower_case_and_no_answer_code() -> None:
    dns = {"query": "WWW.Example.COM.", "qtypes": ["AAAA", "A"]}
    row = one(event(l7={"type": "REQUEST", "dns": dns}))
    assert (row["dns_name"], row["dns_type"], row["dns_rcode"]) == ("www.example.com", "AAAA", None)
    assert row["l7"] == "dns"


@pytest.mark.parametrize(("kind", "rcode"), [("RESPONSE", 3), (2, 3), ("RESPONSE", 0)])
def test_an_answer_has_its_code_even_where_zero_was_left_out(kind: Any, rcode: int) -> None:
    dns = {"query": "a.example.", **({"rcode": rcode} if rcode else {})}
    assert one(event(l7={"type": kind, "dns": dns}))["dns_rcode"] == rcode


@pytest.mark.parametrize(
    ("kind", "ips", "addresses"),
    [
        ("RESPONSE", ["203.0.113.7", "2001:db8::1"], ["203.0.113.7", "2001:db8::1"]),
        ("RESPONSE", ["203.0.113.7", None, "nowhere", 7], ["203.0.113.7"]),
        ("RESPONSE", [], []),
        ("RESPONSE", None, []),
        ("REQUEST", None, None),
    ],
)
def test_an_answer_has_the_addresses_it_gave(kind: str, ips: Any, addresses: Any) -> None:
    dns = {"query": "a.example.", **({} if ips is None else {"ips": ips})}
    assert one(event(l7={"type": kind, "dns": dns}))["dns_answers"] == addresses
    assert one(camel(event(l7={"type": kind, "dns": dns})["flow"]))["dns_answers"] == addresses


def test_octets_of_a_name_that_do_not_print_are_escaped() -> None:
    dns = {"query": "caf\u00e9 x\\001.example."}
    row = one(event(l7={"type": "REQUEST", "dns": dns}))
    assert row["dns_name"] == r"caf\195\169\032x\001.example"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://ledger.pay:8080/v1/entries?id=7#top", "/v1/entries"),
        ("/healthz?verbose", "/healthz"),
        ("https://db.data", "/"),
        ("https://db.data?x=1", "/"),
        ("http://a/go?to=http://b/c", "/go"),
        ("http://a/HUBBLE_REDACTED", None),
        (None, None),
    ],
)
def test_the_path_of_a_request_has_no_query(url: str | None, path: str | None) -> None:
    http = {"method": "GET", **({"url": url} if url else {})}
    row = one(event(l7={"type": "REQUEST", "http": http}))
    assert (row["path"], row["method"], row["status"], row["l7"]) == (path, "GET", None, "http")


def test_a_response_has_its_status() -> None:
    http = {"code": 503, "method": "POST", "url": "http://a/b"}
    assert one(event(l7={"type": "RESPONSE", "http": http}))["status"] == 503


def test_grpc_is_told_by_its_content_type() -> None:
    headers = [{"key": "Content-Type", "value": "application/grpc+proto"}]
    http = {"method": "POST", "url": "http://a/pay.Ledger/Add", "headers": headers}
    assert one(event(l7={"type": "REQUEST", "http": http}))["l7"] == "grpc"


def test_kafka_is_told() -> None:
    assert one(event(l7={"type": "REQUEST", "kafka": {"topic": "orders"}}))["l7"] == "kafka"


@pytest.mark.parametrize("encrypted", [True, False])
def test_encryption_is_known_where_it_is_told(encrypted: bool) -> None:
    assert one(event(IP={**SYN["IP"], "encrypted": encrypted}))["encrypted"] is encrypted


def test_the_source_stays_the_original_under_address_translation() -> None:
    row = one(event(IP={**SYN["IP"], "source_xlated": "192.0.2.21"}))
    assert row["src_ip"] == "10.0.0.1"


@pytest.mark.parametrize(
    ("labels", "identity"),
    [
        (["reserved:host"], "reserved:host"),
        (["reserved:host", "reserved:remote-node"], "reserved:host"),
        (["reserved:kube-apiserver", "reserved:world"], "reserved:kube-apiserver"),
        (["reserved:kube-apiserver", "reserved:remote-node"], "reserved:kube-apiserver"),
        (["k8s:node=1", "reserved:remote-node"], "reserved:remote-node"),
        (["reserved:health"], "reserved:health"),
        (["reserved:ingress"], "reserved:ingress"),
        (["reserved:init"], "reserved:init"),
        (["reserved:unmanaged"], "reserved:unmanaged"),
        (["cidr:203.0.113.0/24", "reserved:world"], None),
        (["reserved:world-ipv4"], None),
        (["k8s:app=web"], None),
    ],
)
def test_reserved_identities_are_named_and_the_world_is_left_open(
    labels: list[str], identity: str | None
) -> None:
    row = one(event(destination={"identity": 7, "labels": labels}))
    assert (row["dst"], row["dst_pod"]) == (identity, None)


# Bad lines


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"junk", "not JSON"),
        (dumps(event())[:-9].encode(), "not JSON"),
        (b'{"flow":{"time":"\xff"}}', "not UTF-8"),
        (b"[1,2]", "not a JSON object"),
        (b"5", "not a JSON object"),
        (b"{}", "no Hubble event"),
        (b'{"level":"info","msg":"up"}', "no Hubble event"),
        (b'{"flow":"none"}', "its flow is no object"),
        ((dumps(event()) * 2).encode(), "not JSON"),
        (b'{"flow":' + b"[" * 500 + b"]" * 500 + b"}", "its flow is no object"),
        (b'{"flow":' + b"[" * 500_000 + b"]" * 500_000 + b"}", "out of bounds"),
        (b'{"flow":' + b"[" * 500_000, "out of bounds"),
        (dumps(event(l4="TCP")).encode(), "l4 is no object"),
        (dumps(event(IP="10.0.0.1")).encode(), "IP is no object"),
        (dumps(event(l4={"TCP": 5})).encode(), "TCP is no object"),
        (dumps(event(IP={"source": "web", "destination": "10.0.0.2"})).encode(), "its source is"),
        (dumps(event(l4={"TCP": {"source_port": 70_000}})).encode(), "source_port is 70000"),
        (dumps(event(l4={"UDP": {"destination_port": -1}})).encode(), "destination_port is -1"),
        (dumps(event(l4={"TCP": {"source_port": "http"}})).encode(), "source_port is 'http'"),
        (dumps(event(time="0001-01-01T00:00:00Z")).encode(), "its time is '0001"),
        (dumps(event(time="9999-01-01T00:00:00Z")).encode(), "its time is '9999"),
        (dumps(event(time="2026-13-01T00:00:00Z")).encode(), "its time is '2026-13"),
        (dumps(event(time="yesterday")).encode(), "its time is 'yesterday'"),
        (dumps({"flow": {"verdict": "DROPPED"}}).encode(), "it has no time"),
    ],
)
def test_a_bad_line_is_counted_with_where_and_why_and_the_others_stay(
    line: bytes, why: str
) -> None:
    first = dumps(event())
    flows, bad = decode(first, line, event())
    assert flows.height == 2
    assert bad.count == 1
    assert bad.samples[0].startswith(f"test at byte {len(first) + 1:,}: ")
    assert why in bad.samples[0]


def test_a_value_that_nobody_reads_may_be_anything() -> None:
    odd = {"ethernet": 5, "Summary": [1], "uuid": {}, "is_reply": "maybe", "node_labels": "x"}
    assert one(event(**odd))["reply"] is None


def test_samples_are_few_however_many_lines_are_bad() -> None:
    flows, bad = decode(*[b"junk"] * 1_000, event())
    assert (flows.height, bad.count, len(bad.samples)) == (1, 1_000, 5)


def test_blank_lines_are_nothing() -> None:
    flows, bad = decode(b"", event(), b"", b"  \t", b"\r", event(), b"")
    assert (flows.height, bad.count) == (2, 0)


# What others have recorded


def captures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.json*"))


@pytest.mark.parametrize("group", ["hubble-otel", "hubble-modern"])
def test_recorded_flows_decode_without_a_bad_row(data: Path, group: str) -> None:
    for path in captures(data / group):
        file = InputFile(str(path))
        batches = list(LineFile(file.name, file.open, file.size_bytes, HubbleLines).batches())
        lines = path.read_bytes().splitlines()
        assert sum(batch.flows.height for batch in batches) == len(lines) > 0
        assert sum(batch.bad.count for batch in batches) == 0


def test_the_reference_events_decode_without_a_bad_row(data: Path) -> None:
    path = data.parent / "reference" / "samples" / "hubble_examples.ndjson"
    if not path.is_file():
        pytest.skip(f"no {path}")
    flows, bad = decode(*path.read_bytes().splitlines())
    assert (flows.height, bad.count) == (7, 0)  # and a change of a node's status
    assert flows["dns_name"].drop_nulls().unique().to_list() == ["kxq7f0d1.metrics-sync.example"]
    assert flows["policy"].drop_nulls().to_list() == [
        "data/orders-db-clients",
        "shop/partner-egress",
    ]
