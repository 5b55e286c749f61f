"""What NetObserv's records say, as flows."""

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from sidelong.features.events import ANSWER, DENIAL, PROBE, REFUSAL, event_of
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.line_files import Decoded
from sidelong.ingest.lines import line_blocks
from sidelong.ingest.loki import LokiAnswer
from sidelong.ingest.netobserv import NetObservLines
from sidelong.ingest.orientation import Orientation
from sidelong.ingest.schema import TCP_FLAGS

RECORD: Final = {
    "SrcAddr": "10.128.0.25",
    "DstAddr": "10.128.0.7",
    "SrcPort": 45_556,
    "DstPort": 8443,
    "Proto": 6,
    "Etype": 2048,
    "Flags": 0x02 | 0x10,
    "Bytes": 700,
    "Packets": 6,
    "TimeFlowStartMs": 1_764_000_000_250,
    "TimeFlowEndMs": 1_764_000_004_250,
    "SrcK8S_Namespace": "shop",
    "SrcK8S_OwnerName": "web",
    "SrcK8S_OwnerType": "Deployment",
    "SrcK8S_Name": "web-5d9-x2",
    "SrcK8S_HostName": "node-1",
    "FlowDirection": 1,
    "AgentIP": "10.0.1.7",
}
ANSWERED: Final = {
    "SrcAddr": "10.128.0.9",
    "DstAddr": "10.128.0.25",
    "SrcPort": 53,
    "DstPort": 45_556,
    "Proto": 17,
    "DnsId": 7,
    "DnsFlags": 0x8583,
    "DnsFlagsResponseCode": "NXDomain",
    "DnsLatencyMs": 12,
    "DnsName": "Exfil.Example.org",
}
_SYN, _ACK, _RST = (TCP_FLAGS[name] for name in ("SYN", "ACK", "RST"))


def decoded(*records: dict[str, Any]) -> Decoded:
    content = "".join(f"{json.dumps(record)}\n" for record in records).encode()
    with NetObservLines() as lines:
        (found,) = (lines.decode(block) for block in line_blocks(io.BytesIO(content), 0, 1 << 20))
    return found


def flow(**changes: Any) -> dict[str, Any]:
    found = decoded({**RECORD, **changes})
    assert (found.bad, found.flows.height) == (0, 1)
    return found.flows.row(0, named=True)


def oriented(*records: dict[str, Any]) -> pl.DataFrame:
    flows = decoded(*records).flows.with_columns(clock="time")
    return Orientation().orient(flows)


def test_a_record_is_one_flow() -> None:
    seen = flow()
    assert seen["time"] == datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC)
    assert seen["end"] == datetime(2025, 11, 24, 16, 0, 4, 250_000, UTC)
    assert (seen["src"], seen["src_pod"], seen["dst"]) == ("shop/web", "shop/web-5d9-x2", None)
    assert (seen["bytes"], seen["packets"], seen["reply"]) == (700, 6, None)
    assert (seen["origin"], seen["node"]) == ("netobserv:egress", "node-1")


def test_a_service_is_no_pod() -> None:
    assert flow(SrcK8S_Type="Service")["src_pod"] is None


def test_a_plain_syn_is_a_clients_whatever_else_it_sent() -> None:
    answer = {**RECORD, "SrcAddr": "10.128.0.7", "DstAddr": "10.128.0.25", "Flags": 0x110}
    answer |= {"SrcPort": 8443, "DstPort": 45_556}
    rows = oriented(RECORD, answer)
    assert rows["tcp_flags"].to_list() == [_SYN, _SYN | _ACK]
    assert rows["reply"].to_list() == [False, True]
    assert event_of(rows).to_list() == [PROBE, ANSWER]


def test_a_reset_that_answers_is_a_refusal() -> None:
    answer = {**RECORD, "SrcAddr": "10.128.0.7", "DstAddr": "10.128.0.25", "Flags": 0x400}
    answer |= {"SrcPort": 8443, "DstPort": 45_556}
    rows = oriented({**RECORD, "Flags": 2}, answer)
    assert event_of(rows).to_list() == [PROBE, REFUSAL]


def test_flags_may_be_names() -> None:
    assert flow(Flags=["SYN_ACK", "ACK"])["tcp_flags"] == _SYN | _ACK
    assert flow(Flags=["RST"])["tcp_flags"] == _RST


def test_what_a_policy_drops_is_denied_by_it() -> None:
    event = {"Feature": "acl", "Type": "NetworkPolicy", "Action": "drop", "Direction": "Ingress"}
    event |= {"Name": "deny-all", "Namespace": "shop"}
    rows = oriented({**RECORD, "NetworkEvents": [event]})
    assert rows["verdict"].to_list() == ["DROPPED"]
    assert rows["policy"].to_list() == ["shop/deny-all"]
    assert event_of(rows).to_list() == [DENIAL]


def test_what_a_policy_allows_is_forwarded() -> None:
    event = {"Feature": "acl", "Type": "NetpolNode", "Action": "allow", "Direction": "Ingress"}
    assert flow(NetworkEvents=[event])["verdict"] == "FORWARDED"


def test_a_dropped_syn_says_why() -> None:
    seen = flow(Flags=2, Packets=1, PktDropPackets=1, PktDropLatestDropCause="NO_SOCKET")
    assert (seen["verdict"], seen["drop_reason"]) == ("DROPPED", "NO_SOCKET")


def test_a_dropped_segment_of_a_connection_that_stands_is_an_error() -> None:
    seen = flow(
        Flags=16, Packets=1, PktDropPackets=1, PktDropLatestDropCause="TCP_INVALID_SEQUENCE"
    )
    assert seen["verdict"] == "ERROR"


def test_a_flow_of_which_most_went_through_is_not_dropped() -> None:
    assert flow(Packets=6, PktDropPackets=1)["verdict"] is None


def test_a_named_answer_tells_its_query_too() -> None:
    rows = decoded({**RECORD, **ANSWERED}).flows
    assert rows["dns_name"].to_list() == ["exfil.example.org"] * 2
    assert rows["reply"].to_list() == [False, True]
    assert rows["dns_rcode"].to_list() == [None, 3]
    assert rows["src_ip"].to_list() == ["10.128.0.25", "10.128.0.9"]
    assert rows["src"].to_list() == [None, "shop/web"]
    assert (rows["time"][1] - rows["time"][0]).total_seconds() == 0.012
    assert rows["bytes"].to_list() == [None, 700]


def test_an_answer_without_a_name_is_a_reply() -> None:
    seen = flow(**{**ANSWERED, "DnsName": None})
    assert (seen["reply"], seen["dns_name"]) == (True, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"Duplicate": True},
        {"_RecordType": "heartbeat"},
        {"_RecordType": "endConnection"},
        {"Etype": 2054, "SrcAddr": None, "DstAddr": None, "Proto": None},
    ],
)
def test_what_is_counted_elsewhere_is_passed_over(changes: dict[str, Any]) -> None:
    found = decoded({**RECORD, **changes})
    assert (found.flows.height, found.bad) == (0, 0)


def test_icmp_has_no_ports() -> None:
    assert flow(Proto=1)["dst_port"] is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"SrcAddr": "relay"}, "its SrcAddr is 'relay'"),
        ({"DstAddr": None}, "it has no DstAddr"),
        ({"DstPort": 70_000}, "its DstPort is '70000'"),
        ({"TimeFlowStartMs": -5}, "its TimeFlowStartMs is '-5'"),
    ],
)
def test_what_cannot_be_is_bad(changes: dict[str, Any], why: str) -> None:
    found = decoded(RECORD, {**RECORD, **changes})
    assert (found.flows.height, found.bad) == (1, 1)
    assert [reason for _, reason in found.faults] == [why]


def test_another_object_is_no_record() -> None:
    assert decoded({"level": "info"}).faults[0][1] == "no record of NetObserv"


def answer(*streams: tuple[dict[str, str], Sequence[dict[str, Any] | str]]) -> bytes:
    result = [
        {
            "stream": labels,
            "values": [
                [str(n), x if isinstance(x, str) else json.dumps(x)] for n, x in enumerate(lines)
            ],
        }
        for labels, lines in streams
    ]
    return json.dumps(
        {"status": "success", "data": {"resultType": "streams", "result": result}}
    ).encode()


def loki(tmp_path: Path, content: bytes) -> tuple[pl.DataFrame, tuple[str, ...]]:
    path = tmp_path / "answer.json"
    path.write_bytes(content)
    (source,) = open_inputs([str(path)])
    assert isinstance(source, LokiAnswer)
    batches = list(source.batches())
    samples = tuple(sample for batch in batches for sample in batch.bad.samples)
    return pl.concat([batch.flows for batch in batches]), samples


def test_labels_of_loki_belong_to_its_lines(tmp_path: Path) -> None:
    line = {name: value for name, value in RECORD.items() if name != "FlowDirection"}
    labels = {"FlowDirection": "0", "DstK8S_Namespace": 'a"{b'}
    flows, samples = loki(tmp_path, answer((labels, [line, line]), ({}, [line])))
    assert flows["origin"].to_list() == ["netobserv:ingress"] * 2 + ["netobserv"]
    assert samples == ()


def test_an_answer_is_put_in_the_order_of_time(tmp_path: Path) -> None:
    newest_first = [{**RECORD, "TimeFlowStartMs": 1_764_000_000_000 - n} for n in range(5)]
    flows, _ = loki(tmp_path, answer(({}, newest_first)))
    assert flows["time"].is_sorted()


def test_lines_of_another_program_are_counted(tmp_path: Path) -> None:
    flows, samples = loki(tmp_path, answer(({}, [RECORD, "level=info", RECORD])))
    assert flows.height == 2
    assert len(samples) == 1
    assert "entry 2: not JSON" in samples[0]


def test_an_answer_of_nothing_holds_nothing(tmp_path: Path) -> None:
    flows, samples = loki(tmp_path, answer())
    assert (flows.height, samples) == (0, ())
