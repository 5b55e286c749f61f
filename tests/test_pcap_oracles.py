"""The public captures, read by sidelong and by others: the same packets, bytes and names.

dpkt reads every capture packet by packet; tshark, where it is installed, is asked about DNS.
"""

import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import dpkt
import polars as pl
import pytest

from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.source import BadRows

Count: TypeAlias = dict[tuple[Any, ...], tuple[int, int]]

PROTOCOLS: Final = {6: "TCP", 17: "UDP", 132: "SCTP", 1: "ICMP", 58: "ICMP"}
TUNNELS: Final = {4, 41, 47}


def captures(data: Path) -> list[Path]:
    return sorted(path for path in data.rglob("*.pcap*") if path.suffix in (".pcap", ".pcapng"))


def read(path: Path) -> tuple[pl.DataFrame, BadRows]:
    parts = list(PcapFile(path.name, lambda: path.open("rb")).batches())
    bad = sum((part.bad for part in parts), BadRows())
    return pl.concat([part.flows for part in parts]), bad


def ip_packets(path: Path) -> Iterator[bytes]:
    """The IP packets of a capture by dpkt's readers, without their link headers."""
    with path.open("rb") as file:
        reader = dpkt.pcap.UniversalReader(file)
        link = reader.datalink()
        for _, frame in reader:
            if link == 1:
                kind, rest = int.from_bytes(frame[12:14], "big"), frame[14:]
                while kind == 0x8100:
                    kind, rest = int.from_bytes(rest[2:4], "big"), rest[4:]
            elif link == 276:
                kind, rest = int.from_bytes(frame[:2], "big"), frame[20:]
            elif link == 113:
                kind, rest = int.from_bytes(frame[14:16], "big"), frame[16:]
            else:
                kind, rest = {4: 0x0800, 6: 0x86DD}.get(frame[0] >> 4, 0), frame
            if kind in (0x0800, 0x86DD):
                yield rest


def counted_by_dpkt(path: Path) -> tuple[Count, int]:
    """Packets and bytes of each directed flow, and how many packets are none of these.

    Bytes are 0 for flows in which a packet states no length: dpkt does not tell that of the frame.
    """
    found: Counter[tuple[Any, ...]] = Counter()
    size: Counter[tuple[Any, ...]] = Counter()
    firsts: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    unknown: set[tuple[Any, ...]] = set()
    others = 0
    for raw in ip_packets(path):
        six = raw[0] >> 4 == 6
        header = 40 if six else (raw[0] & 15) * 4
        protocol = raw[6] if six else raw[9]
        length = 40 + int.from_bytes(raw[4:6], "big") if six else int.from_bytes(raw[2:4], "big")
        if protocol not in (6, 17, 132):
            others += 1
            continue
        at, width = (8, 16) if six else (12, 4)
        family = socket.AF_INET6 if six else socket.AF_INET
        ends = [
            socket.inet_ntop(family, raw[at + k * width : at + (k + 1) * width]) for k in (0, 1)
        ]
        src, dst = (int.from_bytes(raw[header + k : header + k + 2], "big") for k in (0, 2))
        key = (ends[0], src, ends[1], dst, PROTOCOLS[protocol])
        if not six and int.from_bytes(raw[6:8], "big") & 0x3FFF:
            whole = (*ends, protocol, raw[4:6])
            first = not int.from_bytes(raw[6:8], "big") & 0x1FFF
            key = firsts.setdefault(whole, key) if first else firsts[whole]
        found[key] += 1
        size[key] += length
        if not length:
            unknown.add(key)
    return {key: (found[key], 0 if key in unknown else size[key]) for key in found}, others


def counted_by_sidelong(flows: pl.DataFrame) -> Count:
    names = ["src_ip", "src_port", "dst_ip", "dst_port", "protocol"]
    mine = flows.filter(
        pl.col("protocol").cast(pl.String).is_in(["TCP", "UDP", "SCTP"]),
        pl.col("verdict").is_null(),
    )
    sums = mine.group_by(names).agg(pl.col("packets", "bytes").sum())
    return {row[:5]: (row[5], row[6]) for row in sums.rows()}


@pytest.mark.slow
def test_every_capture_holds_the_flows_that_dpkt_finds(data: Path) -> None:
    for path in captures(data):
        flows, bad = read(path)
        expected, others = counted_by_dpkt(path)
        assert bad.count == 0, (path, bad)
        mine = counted_by_sidelong(flows)
        mine |= {key: (mine[key][0], 0) for key, (_, size) in expected.items() if not size}
        assert mine == expected, path
        counted = sum(packets for packets, _ in expected.values())
        assert flows["packets"].sum() == counted + others, path
        assert flows["bytes"].null_count() == 0


def test_times_never_leave_their_second(data: Path) -> None:
    for path in captures(data):
        flows, _ = read(path)
        same = flows["time"].dt.truncate("1s") == flows["end"].dt.truncate("1s")
        assert same.all()


FIELDS: Final = ("dns.qry.name", "dns.qry.type", "dns.flags.response", "dns.flags.rcode")
TYPES: Final = {
    "1": "A", "2": "NS", "5": "CNAME", "6": "SOA", "10": "NULL", "12": "PTR", "15": "MX",
    "16": "TXT", "28": "AAAA", "33": "SRV", "35": "NAPTR", "43": "DS", "48": "DNSKEY", "255": "ANY",
}  # fmt: skip


def asked_by_tshark(path: Path) -> Counter[tuple[Any, ...]]:
    """Names, types and codes of all messages of port 53 that are not split over segments."""
    arguments = [part for field in FIELDS for part in ("-e", field)]
    port = "udp.port == 53 && dns && !mdns && !llmnr && !icmp && !icmpv6"
    ran = subprocess.run(
        ["tshark", "-n", "-r", path, "-Y", port, "-T", "fields", "-E", "occurrence=f", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    found: Counter[tuple[Any, ...]] = Counter()
    for line in ran.stdout.splitlines():
        name, number, response, code = line.split("\t")
        if not number:
            continue
        reply = response in ("1", "True")
        kind = TYPES.get(number, number)
        name = "" if name == "<Root>" else name.lower()
        found[name, kind, reply, int(code or 0) if reply else None] += 1
    return found


@pytest.mark.skipif(
    shutil.which("tshark") is None and os.environ.get("CI") != "true",
    reason="tshark is not installed: make peers",
)
@pytest.mark.parametrize(
    "name",
    [
        "cluster-lab/test.pcap",
        "derived/maccdc2012-dns-benign.pcap",
        "leshark-dns/clean.pcap",
        "slips/test7-malicious.pcap",
        "zeek-btest/dns-edns-ecs.pcap",
        "ndpi/bad-dns-traffic.pcap",
    ],
)
def test_questions_are_those_that_tshark_finds(data: Path, name: str) -> None:
    flows, _ = read(data / name)
    mine = flows.filter(pl.col("dns_name").is_not_null(), protocol="UDP")
    columns = ["dns_name", "dns_type", "reply", "dns_rcode"]
    mine = mine.with_columns(pl.col("dns_name").str.replace_all("\\.", ".", literal=True))
    assert Counter(mine.select(columns).rows()) == asked_by_tshark(data / name)
