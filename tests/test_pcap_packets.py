"""From a frame to a flow: links, tags, tunnels, fragments, transports."""

import io

import polars as pl
import pytest
from pcap_builder import (
    DB,
    DB6,
    SECOND,
    START,
    WEB,
    WEB6,
    ethernet,
    geneve,
    gre,
    icmp,
    ipv4,
    ipv6,
    pcap,
    tcp,
    udp,
    vxlan,
)

from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.source import BadRows

PING = ipv4(tcp(), 6)
"""An ordinary packet: TCP from 10.0.0.1:40000 to 10.0.0.2:80."""


def read(capture: bytes) -> tuple[pl.DataFrame, BadRows]:
    batches = list(PcapFile("t.pcap", lambda: io.BytesIO(capture)).batches())
    bad = sum((batch.bad for batch in batches), BadRows())
    return pl.concat([batch.flows for batch in batches]), bad


def flows(*frames: bytes | tuple[int, bytes], link: int = 1) -> pl.DataFrame:
    found, bad = read(pcap(*frames, link=link))
    assert bad == BadRows()
    return found


def ends(found: pl.DataFrame) -> list[tuple[object, ...]]:
    return found.select("src_ip", "src_port", "dst_ip", "dst_port", "protocol").rows()


ORDINARY = [(WEB, 40000, DB, 80, "TCP")]


def test_a_packet_becomes_a_flow_of_the_schema() -> None:
    (flow,) = flows(ethernet(ipv4(tcp(flags=0x18, payload=b"hello"), 6))).rows(named=True)
    assert list(flow) == list(FLOW_SCHEMA)
    assert flow["time"] == flow["end"]
    assert flow["time"].timestamp() * SECOND == START
    assert {name: value for name, value in flow.items() if value is not None} == {
        "time": flow["time"],
        "end": flow["end"],
        "src_ip": WEB,
        "dst_ip": DB,
        "src_port": 40000,
        "dst_port": 80,
        "protocol": "TCP",
        "tcp_flags": 0x18,
        "packets": 1,
        "bytes": 45,
        "count": 1,
        "origin": "pcap",
    }


@pytest.mark.parametrize(
    ("link", "header"),
    [
        (0, b"\x02\0\0\0"),
        (0, b"\0\0\0\x02"),
        (108, b"\0\0\0\x02"),
        (1, b"\x02" * 12 + b"\x08\0"),
        (12, b""),
        (14, b""),
        (101, b""),
        (113, b"\0" * 14 + b"\x08\0"),
        (228, b""),
        (276, b"\x08\0" + b"\0" * 18),
    ],
)
def test_every_link_type_leads_to_the_same_packet(link: int, header: bytes) -> None:
    assert ends(flows(header + PING, link=link)) == ORDINARY


@pytest.mark.parametrize(
    ("link", "header"),
    [
        (0, b"\x1e\0\0\0"),
        (0, b"\x0a\0\0\0"),
        (108, b"\0\0\0\x18"),
        (101, b""),
        (229, b""),
        (276, b"\x86\xdd" + b"\0" * 18),
    ],
)
def test_every_link_type_carries_ipv6(link: int, header: bytes) -> None:
    found = flows(header + ipv6(udp(), 17), link=link)
    assert ends(found) == [(WEB6, 40000, DB6, 5000, "UDP")]
    assert found["bytes"].to_list() == [48]


@pytest.mark.parametrize("tags", [(0x8100,), (0x88A8, 0x8100), (0x9100, 0x8100)])
def test_vlan_tags_are_stepped_over(tags: tuple[int, ...]) -> None:
    assert ends(flows(ethernet(PING, *tags))) == ORDINARY


def test_mpls_labels_are_stepped_over() -> None:
    labels = b"\0\0\x10\x40" + b"\0\0\x21\x40"
    assert ends(flows(ethernet(labels + PING, kind=0x8847))) == ORDINARY


def test_padding_behind_the_packet_does_not_count() -> None:
    assert flows(ethernet(PING) + b"\0" * 30)["bytes"].to_list() == [40]


def test_bytes_are_those_on_the_wire_however_short_the_capture() -> None:
    capture = pcap(ethernet(ipv4(tcp(payload=b"x" * 1000), 6)), snap=60)
    assert read(capture)[0]["bytes"].to_list() == [1040]


def test_a_packet_without_a_stated_length_is_as_long_as_its_frame() -> None:
    assert flows(ethernet(ipv4(tcp(payload=b"x" * 99), 6, length=0)))["bytes"].to_list() == [139]


def test_options_of_ipv4_are_stepped_over() -> None:
    assert ends(flows(ethernet(ipv4(tcp(), 6, options=b"\x01" * 8)))) == ORDINARY


def test_extension_headers_of_ipv6_are_stepped_over() -> None:
    hop_by_hop = b"\x3c\0" + b"\0" * 6
    options = b"\x06\x01" + b"\0" * 14
    found = flows(ethernet(ipv6(tcp(), 0, extensions=hop_by_hop + options)))
    assert ends(found) == [(WEB6, 40000, DB6, 80, "TCP")]


def test_what_is_not_ip_is_no_flow() -> None:
    assert flows(ethernet(b"\0\x01\x08\0" + b"\0" * 24, kind=0x0806)).height == 0


def test_a_protocol_without_ports_has_none() -> None:
    assert ends(flows(ethernet(ipv4(b"\0" * 16, 50)))) == [(WEB, None, DB, None, "OTHER")]


def test_sctp_has_ports() -> None:
    found = flows(ethernet(ipv4(udp(), 132)))
    assert ends(found) == [(WEB, 40000, DB, 5000, "SCTP")]
    assert found["tcp_flags"].to_list() == [None]


def test_addresses_are_written_as_rfc_5952_has_it() -> None:
    found = flows(ethernet(ipv6(udp(), 17, src="2001:db8:0:0:1:0:0:1", dst="::ffff:10.0.0.9")))
    assert found.select("src_ip", "dst_ip").row(0) == ("2001:db8::1:0:0:1", "::ffff:10.0.0.9")


TUNNELS = {
    "vxlan": ipv4(vxlan(ethernet(PING)), 17, "192.0.2.1", "192.0.2.2"),
    "vxlan on its registered port": ipv4(vxlan(ethernet(PING), 4789), 17, "192.0.2.1", "192.0.2.2"),
    "vxlan with a tag inside": ipv4(vxlan(ethernet(PING, 0x8100)), 17, "192.0.2.1", "192.0.2.2"),
    "vxlan over ipv6": ipv6(vxlan(ethernet(PING)), 17),
    "geneve": ipv4(geneve(ethernet(PING)), 17, "192.0.2.1", "192.0.2.2"),
    "geneve with options": ipv4(geneve(ethernet(PING), options=b"\0" * 8), 17, "192.0.2.1"),
    "geneve with ip inside": ipv4(geneve(PING, kind=0x0800), 17, "192.0.2.1", "192.0.2.2"),
    "gre": ipv4(gre(PING), 47, "192.0.2.1", "192.0.2.2"),
    "gre with a key": ipv4(gre(PING, flags=0x2000), 47, "192.0.2.1", "192.0.2.2"),
    "gre with everything": ipv4(gre(PING, flags=0xB000), 47, "192.0.2.1", "192.0.2.2"),
    "gre with ethernet inside": ipv4(gre(ethernet(PING), kind=0x6558), 47, "192.0.2.1"),
    "ip in ip": ipv4(PING, 4, "192.0.2.1", "192.0.2.2"),
    "ip in ipv6": ipv6(PING, 4),
    "ip in ip in vxlan": ipv4(vxlan(ethernet(ipv4(PING, 4))), 17, "192.0.2.1", "192.0.2.2"),
}


@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_tunnel_shows_the_packet_inside(tunnel: str) -> None:
    found = flows(ethernet(TUNNELS[tunnel]))
    assert ends(found) == ORDINARY
    assert found["bytes"].to_list() == [40]


def test_ipv6_inside_gre_is_found() -> None:
    assert ends(flows(ethernet(ipv4(gre(ipv6(tcp(), 6), kind=0x86DD), 47)))) == [
        (WEB6, 40000, DB6, 80, "TCP")
    ]


def test_an_empty_probe_of_a_tunnel_port_is_a_flow_itself() -> None:
    assert ends(flows(ethernet(ipv4(udp(dst=4789), 17)))) == [(WEB, 40000, DB, 4789, "UDP")]


def test_a_tunnel_that_carries_no_ip_is_a_flow_itself() -> None:
    arp = ethernet(b"\0\x01\x08\0" + b"\0" * 24, kind=0x0806)
    assert ends(flows(ethernet(ipv4(vxlan(arp), 17)))) == [(WEB, 40000, DB, 8472, "UDP")]


def test_later_fragments_belong_to_the_flow_of_the_first() -> None:
    datagram = udp(b"x" * 72)
    found = flows(
        ethernet(ipv4(datagram[:40], 17, ident=9, fragment=0x2000)),
        ethernet(ipv4(datagram[40:], 17, ident=9, fragment=5)),
    )
    assert ends(found) == [(WEB, 40000, DB, 5000, "UDP")]
    assert found.select("packets", "bytes").rows() == [(2, 120)]


def test_fragments_that_arrive_in_reverse_belong_together_too() -> None:
    datagram = udp(b"x" * 72)
    found = flows(
        ethernet(ipv4(datagram[40:], 17, ident=9, fragment=5)),
        ethernet(ipv4(datagram[:40], 17, ident=9, fragment=0x2000)),
    )
    assert ends(found) == [(WEB, 40000, DB, 5000, "UDP")]


def test_later_fragments_invent_no_ports() -> None:
    found = flows(
        ethernet(ipv4(udp(b"x" * 32), 17, ident=8, fragment=0x2000)),
        ethernet(ipv4(b"\x12\x34\x56\x78" * 8, 17, ident=9, fragment=5)),
    )
    assert ends(found) == [(WEB, 40000, DB, 5000, "UDP")]
    assert found["packets"].to_list() == [1]


def test_fragments_of_ipv6_belong_together() -> None:
    def part(offset: int, more: int, payload: bytes) -> bytes:
        header = bytes([17, 0]) + (offset << 3 | more).to_bytes(2, "big") + b"\0\0\0\x05"
        return ethernet(ipv6(payload, 44, extensions=header))

    datagram = udp(b"x" * 72)
    found = flows(part(0, 1, datagram[:40]), part(5, 0, datagram[40:]))
    assert ends(found) == [(WEB6, 40000, DB6, 5000, "UDP")]
    assert found["packets"].to_list() == [2]


def test_a_fragmented_tunnel_counts_once() -> None:
    inner = ipv4(udp(b"x" * 200), 17)
    datagram = vxlan(ethernet(inner))
    found = flows(
        ethernet(ipv4(datagram[:80], 17, "192.0.2.1", ident=9, fragment=0x2000)),
        ethernet(ipv4(datagram[80:], 17, "192.0.2.1", ident=9, fragment=10)),
    )
    assert ends(found) == [(WEB, 40000, DB, 5000, "UDP")]
    assert found["bytes"].to_list() == [len(inner)]


def test_echo_knows_its_direction() -> None:
    found = flows(
        ethernet(ipv4(icmp(8), 1)),
        ethernet(ipv4(icmp(0), 1, DB, WEB)),
        ethernet(ipv6(icmp(128), 58)),
        ethernet(ipv6(icmp(129), 58, DB6, WEB6)),
        ethernet(ipv4(icmp(11), 1)),
    )
    assert found["reply"].to_list() == [False, True, False, True, None]
    assert set(ends(found)) >= {(WEB, None, DB, None, "ICMP"), (DB6, None, WEB6, None, "ICMP")}


@pytest.mark.parametrize(
    ("message", "protocol", "reason"),
    [
        (ipv4(icmp(3, 3, ipv4(udp(), 17)), 1, DB, WEB), "UDP", "ICMP_PORT_UNREACHABLE"),
        (ipv4(icmp(3, 1, ipv4(udp(), 17)), 1, "10.0.0.254", WEB), "UDP", "ICMP_HOST_UNREACHABLE"),
        (ipv4(icmp(3, 13, ipv4(udp(), 17)), 1, DB, WEB), "UDP", "ICMP_ADMIN_PROHIBITED"),
        (ipv4(icmp(3, 3, ipv4(udp(), 6)[:28]), 1, DB, WEB), "TCP", "ICMP_PORT_UNREACHABLE"),
    ],
)
def test_an_unreachable_destination_is_told_of_the_quoted_flow(
    message: bytes, protocol: str, reason: str
) -> None:
    found = flows(ethernet(message))
    assert ends(found) == [(DB, 5000, WEB, 40000, protocol)]
    columns = ("reply", "verdict", "drop_reason", "tcp_flags", "bytes")
    assert found.select(columns).row(0) == (True, "ERROR", reason, None, len(message))


def test_an_unreachable_destination_of_ipv6_is_told_of_the_quoted_flow() -> None:
    found = flows(ethernet(ipv6(icmp(1, 4, ipv6(tcp(), 6)), 58, DB6, WEB6)))
    assert ends(found) == [(DB6, 80, WEB6, 40000, "TCP")]
    assert found["drop_reason"].to_list() == ["ICMP_PORT_UNREACHABLE"]


def test_a_packet_that_is_too_big_is_not_unreachable() -> None:
    found = flows(ethernet(ipv4(icmp(3, 4, ipv4(tcp(), 6)), 1, DB, WEB)))
    assert ends(found) == [(DB, None, WEB, None, "ICMP")]
    assert found["verdict"].to_list() == [None]


def test_a_quote_without_ports_stays_an_icmp_message() -> None:
    found = flows(ethernet(ipv4(icmp(3, 3, ipv4(tcp(), 6)[:22]), 1, DB, WEB)))
    assert ends(found) == [(DB, None, WEB, None, "ICMP")]


def test_two_reasons_are_two_flows() -> None:
    found = flows(
        ethernet(ipv4(icmp(3, 3, ipv4(udp(), 17)), 1, DB, WEB)),
        ethernet(ipv4(icmp(3, 13, ipv4(udp(), 17)), 1, DB, WEB)),
        ethernet(ipv4(icmp(3, 3, ipv4(udp(), 17)), 1, DB, WEB)),
    )
    assert found["packets"].to_list() == [2, 1]


@pytest.mark.parametrize(
    ("snap", "reason"),
    [
        (13, "cut off inside its link header"),
        (20, "cut off inside its IP header"),
        (36, "cut off before its ports"),
    ],
)
def test_a_packet_cut_before_its_ports_is_bad(snap: int, reason: str) -> None:
    found, bad = read(pcap(ethernet(PING), snap=snap))
    assert found.height == 0
    assert bad == BadRows(1, (f"t.pcap: packet at byte 24: {reason}",))


def test_flags_that_were_cut_off_are_unknown() -> None:
    found, bad = read(pcap(ethernet(PING), snap=40))
    assert (ends(found), found["tcp_flags"].to_list(), bad.count) == (ORDINARY, [None], 0)


def test_a_header_that_contradicts_itself_is_bad() -> None:
    _, bad = read(pcap(ethernet(ipv4(tcp(), 6, length=12)), ethernet(b"\x50" + PING[1:])))
    reason = "its IP header contradicts itself"
    assert bad.samples == (
        f"t.pcap: packet at byte 24: {reason}",
        f"t.pcap: packet at byte 94: {reason}",
    )
