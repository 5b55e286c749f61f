"""NetFlow, IPFIX and sFlow as goflow2 and nfdump tell them."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from sidelong.features.events import ANSWER, DENIAL, PROBE, REFUSAL, event_of
from sidelong.ingest.flat_json import FlatJson
from sidelong.ingest.goflow2 import Goflow2Lines
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.line_files import Decoded
from sidelong.ingest.lines import line_blocks
from sidelong.ingest.nfdump import NfdumpArray, NfdumpLines
from sidelong.ingest.orientation import Orientation
from sidelong.ingest.schema import TCP_FLAGS

_SYN, _ACK, _RST, _FIN, _PSH = (TCP_FLAGS[x] for x in ("SYN", "ACK", "RST", "FIN", "PSH"))
GOFLOW2: Final = {
    "type": "IPFIX",
    "time_received_ns": 1_764_000_009_000_000_000,
    "sampling_rate": 0,
    "sampler_address": "10.0.9.1",
    "time_flow_start_ns": 1_764_000_000_250_000_000,
    "time_flow_end_ns": 1_764_000_004_250_000_000,
    "bytes": 700,
    "packets": 6,
    "src_addr": "10.0.0.1",
    "dst_addr": "10.0.0.2",
    "etype": "IPv4",
    "proto": "TCP",
    "src_port": 40_000,
    "dst_port": 443,
    "tcp_flags": _SYN,
}
BACK: Final = {"src_addr": "10.0.0.2", "dst_addr": "10.0.0.1", "src_port": 443, "dst_port": 40_000}
NFDUMP: Final = {
    "type": "FLOW",
    "first": "2025-11-24T16:00:00.250",
    "last": "2025-11-24T16:00:04.250",
    "in_packets": 6,
    "in_bytes": 700,
    "proto": 6,
    "tcp_flags": "......S.",
    "src_port": 40_000,
    "dst_port": 443,
    "src4_addr": "10.0.0.1",
    "dst4_addr": "10.0.0.2",
}


def decoded(lines: FlatJson, *records: dict[str, Any]) -> Decoded:
    content = "".join(f"{json.dumps(record)}\n" for record in records).encode()
    with lines:
        (found,) = (lines.decode(block) for block in line_blocks(io.BytesIO(content), 0, 1 << 20))
    return found


def flow(**changes: Any) -> dict[str, Any]:
    found = decoded(Goflow2Lines(), {**GOFLOW2, **changes})
    assert (found.bad, found.flows.height) == (0, 1)
    return found.flows.row(0, named=True)


def events(*records: dict[str, Any]) -> list[int]:
    flows = decoded(Goflow2Lines(), *({**GOFLOW2, **record} for record in records)).flows
    rows = Orientation().orient(flows.with_columns(clock="time"))
    return event_of(rows).to_list()


def test_a_record_is_one_flow() -> None:
    seen = flow()
    assert seen["time"] == datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC)
    assert seen["end"] == datetime(2025, 11, 24, 16, 0, 4, 250_000, UTC)
    assert (seen["bytes"], seen["packets"], seen["reply"]) == (700, 6, None)
    assert (seen["origin"], seen["node"], seen["lost"]) == ("netflow", "10.0.9.1", None)


def test_a_syn_alone_is_an_attempt() -> None:
    assert events({"packets": 3}) == [PROBE]


def test_summed_flags_do_not_make_a_server_of_a_client() -> None:
    summed = _SYN | _ACK | _PSH | _FIN
    assert events({"tcp_flags": summed}, {**BACK, "tcp_flags": summed}) == [0, ANSWER]


def test_one_packet_with_syn_and_ack_is_an_answer() -> None:
    assert events({**BACK, "tcp_flags": _SYN | _ACK, "packets": 1}) == [ANSWER]


def test_a_reset_at_the_end_of_a_connection_refused_nothing() -> None:
    both = {"tcp_flags": _SYN | _ACK | _RST}
    assert events({"tcp_flags": _SYN | _ACK}, {**BACK, **both}) == [0, ANSWER]


def test_a_reset_alone_is_a_refusal() -> None:
    assert events({}, {**BACK, "tcp_flags": _RST | _ACK}) == [PROBE, REFUSAL]


def test_no_flag_at_all_is_not_known() -> None:
    assert flow(tcp_flags=0)["tcp_flags"] is None


def test_what_an_access_list_denied_is_denied() -> None:
    assert events({"forwarding_status": 129}) == [DENIAL]
    assert flow(forwarding_status=137)["drop_reason"] == "FORWARDING_STATUS_137"
    assert flow(forwarding_status=64)["verdict"] == "FORWARDED"
    assert flow(forwarding_status=0)["verdict"] is None


def test_what_sampling_left_unseen_counts_as_lost() -> None:
    seen = flow(sampling_rate=1_000, packets=2)
    assert (seen["packets"], seen["bytes"], seen["lost"]) == (2, 700, 2 * 999)


@pytest.mark.parametrize("start", [0, None])
def test_a_flow_without_a_start_began_when_it_was_received(start: int | None) -> None:
    assert flow(time_flow_start_ns=start)["time"].second == 9


def test_times_may_be_dates() -> None:
    seen = flow(time_flow_start_ns="2025-11-24T16:00:00.250000001Z")
    assert seen["time"] == datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC)


@pytest.mark.parametrize(
    ("proto", "told"), [("TCP", "TCP"), (6, "TCP"), ("IPv6-ICMP", "ICMP"), (47, "OTHER")]
)
def test_protocols_are_names_or_numbers(proto: object, told: str) -> None:
    assert flow(proto=proto)["protocol"] == told


def test_frames_that_are_not_ip_are_passed_over() -> None:
    found = decoded(Goflow2Lines(), {**GOFLOW2, "etype": "ARP", "src_addr": "", "dst_addr": ""})
    assert (found.flows.height, found.bad) == (0, 0)


def test_what_cannot_be_is_bad() -> None:
    found = decoded(Goflow2Lines(), {**GOFLOW2, "src_addr": ""}, GOFLOW2, {"a": 1})
    assert (found.flows.height, found.bad) == (1, 2)
    assert [why for _, why in found.faults] == ["its src_addr is ''", "no record of goflow2"]


def test_nfdump_says_the_same_of_the_same_flow() -> None:
    ours = decoded(Goflow2Lines(), GOFLOW2).flows.drop("node")
    assert decoded(NfdumpLines(), NFDUMP).flows.drop("node").equals(ours)


def test_nfdump_has_other_names_in_other_versions() -> None:
    names = {"first": "t_first", "last": "t_last"}
    newer = {names.get(name, name): value for name, value in NFDUMP.items()}
    assert decoded(NfdumpLines(), newer).flows.equals(decoded(NfdumpLines(), NFDUMP).flows)


def test_an_array_with_a_field_a_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "flows.json"
    path.write_text(f"[{json.dumps(NFDUMP, indent=1)},\n{json.dumps(NFDUMP, indent=1)}]\n")
    (source,) = open_inputs([str(path)])
    assert isinstance(source, NfdumpArray)
    batches = list(source.batches())
    assert pl.concat([batch.flows for batch in batches]).height == 2
    assert sum(batch.bad.count for batch in batches) == 0


def test_a_spoilt_object_costs_no_other(tmp_path: Path) -> None:
    one = json.dumps(NFDUMP, indent=1)
    content = f"[\n{one},\n{one.replace(': 6', ': six', 1)},\n{one}]\n".encode()
    source = NfdumpArray("flows", lambda: io.BytesIO(content), len(content))
    batches = list(source.batches())
    assert pl.concat([batch.flows for batch in batches]).height == 2
    (sample,) = (sample for batch in batches for sample in batch.bad.samples)
    assert sample.startswith(f"flows at byte {len(one) + 4}: not JSON")
