"""What a VPC flow log says, as flows."""

import io
from datetime import UTC, datetime

import polars as pl
import pytest

from sidelong.features.events import ANSWER, DENIAL, PROBE, REFUSAL, event_of
from sidelong.ingest.line_files import Decoded
from sidelong.ingest.lines import line_blocks
from sidelong.ingest.orientation import Orientation
from sidelong.ingest.sniff import format_of
from sidelong.ingest.vpc_logs import VpcLines

V2 = "2 123456789010 eni-1 10.0.0.1 10.0.0.2 40000 443 6 20 4249 1764000000 1764000060 ACCEPT OK"
NAMES = "srcaddr dstaddr srcport dstport protocol tcp-flags start end action log-status"


def decoded(*lines: str, block_bytes: int = 1 << 20) -> Decoded:
    content = "".join(f"{line}\n" for line in lines).encode()
    with VpcLines() as decoder:
        parts = [
            decoder.decode(block) for block in line_blocks(io.BytesIO(content), 0, block_bytes)
        ]
    faults = tuple(fault for part in parts for fault in part.faults)
    return Decoded(pl.concat([part.flows for part in parts]), sum(p.bad for p in parts), faults)


def row(src: str, dst: str, flags: object, action: str = "ACCEPT") -> str:
    (src_ip, src_port), (dst_ip, dst_port) = (end.split(":") for end in (src, dst))
    ends = f"{src_ip} {dst_ip} {src_port} {dst_port}"
    return f"{ends} 6 {flags} 1764000000 1764000060 {action} OK"


def events(*lines: str) -> list[int]:
    flows = decoded(NAMES, *lines).flows.with_columns(clock="time")
    return event_of(Orientation().orient(flows)).to_list()


def test_a_line_is_one_flow_in_the_order_of_version_2() -> None:
    seen = decoded(V2).flows.row(0, named=True)
    assert seen["time"] == datetime(2025, 11, 24, 16, 0, 0, tzinfo=UTC)
    assert seen["end"] == datetime(2025, 11, 24, 16, 1, 0, tzinfo=UTC)
    assert (seen["src_ip"], seen["dst_port"], seen["protocol"]) == ("10.0.0.1", 443, "TCP")
    assert (seen["packets"], seen["bytes"], seen["verdict"]) == (20, 4249, "FORWARDED")
    assert (seen["origin"], seen["node"], seen["tcp_flags"]) == ("vpc", "eni-1", None)


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_a_header_gives_the_order_until_the_next(block_bytes: int) -> None:
    other = "action dstaddr srcaddr start"
    lines = (
        NAMES,
        row("10.0.0.1:40000", "10.0.0.2:443", 2),
        other,
        "REJECT 10.0.0.9 10.0.0.8 1764000000",
    )
    found = decoded(*lines, block_bytes=block_bytes)
    assert found.flows["src_ip"].to_list() == ["10.0.0.1", "10.0.0.8"]
    assert found.flows["verdict"].to_list() == ["FORWARDED", "DROPPED"]
    assert found.bad == 0


def test_a_pod_has_the_address_of_its_packets() -> None:
    names = "srcaddr dstaddr pkt-srcaddr pkt-dstaddr start"
    flows = decoded(names, "10.0.0.5 10.0.0.6 10.1.0.7 - 1764000000").flows
    assert flows["src_ip"].to_list() == ["10.1.0.7"]
    assert flows["dst_ip"].to_list() == ["10.0.0.6"]


def test_what_was_rejected_was_denied() -> None:
    assert events(row("10.0.0.1:40000", "10.0.0.2:22", 2, "REJECT")) == [DENIAL]


def test_flags_tell_a_client_from_a_server() -> None:
    client, server = "10.0.0.1:40000", "10.0.0.2:443"
    assert events(row(client, server, 3), row(server, client, 19)) == [PROBE, ANSWER]
    assert events(row(client, server, 2), row(server, client, 4)) == [PROBE, REFUSAL]


def test_flags_of_a_connection_that_stands_are_no_probe() -> None:
    client, server = "10.0.0.1:40000", "10.0.0.2:443"
    assert events(row(client, server, 0), row(client, server, 1)) == [0, 0]


def test_no_data_is_nothing_and_skipped_data_is_a_loss() -> None:
    nothing = "2 123456789010 eni-1 - - - - - - - 1764000000 1764000060 - NODATA"
    found = decoded(nothing, nothing.replace("NODATA", "SKIPDATA"))
    assert found.bad == 0
    assert found.flows.select("src_ip", "lost").rows() == [(None, 1)]


def test_two_interfaces_are_two_observers() -> None:
    names = "srcaddr dstaddr start flow-direction instance-id"
    lines = [f"10.0.0.1 10.0.0.2 1764000000 {side} i-{side}" for side in ("egress", "ingress")]
    flows = decoded(names, *lines).flows
    assert flows["origin"].to_list() == ["vpc:egress", "vpc:ingress"]
    assert flows["node"].to_list() == ["i-egress", "i-ingress"]


def test_what_does_not_fit_is_bad() -> None:
    spoilt = (
        V2.replace(" 443 ", " 70000 "),
        V2.replace("10.0.0.2", "relay"),
        "2 1 eni-1",
        f"{V2} more",
    )
    found = decoded(V2, *spoilt)
    assert (found.flows.height, found.bad) == (1, 4)
    assert sorted(why for _, why in found.faults) == [
        "it has 15 fields, not 14",
        "it has 3 fields, not 14",
        "its dstaddr is 'relay'",
        "its dstport is '70000'",
    ]


@pytest.mark.parametrize("head", [V2, NAMES, "version account-id pkt-srcaddr pkt-dstaddr"])
def test_a_flow_log_is_told_by_its_first_line(head: str) -> None:
    assert format_of(f"{head}\n".encode(), "log") == "vpc"
