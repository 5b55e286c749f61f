"""Packets per second from a capture to flows, beside a plain dpkt loop and tshark.

All read the same file in the same run, in turns; rates are medians. The dpkt loop does the least
one can do: addresses, ports and flags, no names, no summaries. The traffic is that of the shop's
capture where the public data is at hand, else built.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import dpkt
import numpy as np

from sidelong.ingest.pcap import PcapFile

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # for pcap_builder, as pytest has it

import pcap_builder as build  # noqa: E402 - see the line above

__all__ = ["run"]

ROUNDS: Final = 3
COPIES: Final = 6
LOOKUPS: Final = 200_000
FIELDS: Final = (
    "frame.time_epoch", "ip.src", "ip.dst", "ip.proto", "ip.len", "tcp.srcport", "tcp.dstport",
    "tcp.flags", "udp.srcport", "udp.dstport", "dns.qry.name", "dns.qry.type",
)  # fmt: skip


def traffic() -> bytes:
    """A pcap file in little-endian order."""
    default = HERE.parents[2] / "shared" / "data"
    shop = Path(os.environ.get("SIDELONG_DATA", default)) / "cluster-lab" / "train.pcap"
    if shop.is_file():
        return shop.read_bytes()
    frames = [
        (
            n * 1_000_000,
            build.ethernet(build.ipv4(build.tcp(1024 + n % 5000, payload=b"x" * 60), 6)),
        )
        for n in range(50_000)
    ]
    return build.pcap(*frames)


def lookups(count: int = LOOKUPS) -> bytes:
    """A pcap file of so many DNS queries, each for a name of its own."""
    frames = [
        (
            n * 20_000,
            build.ethernet(
                build.ipv4(
                    build.udp(build.dns(build.question(f"host{n}.shop.svc.cluster.local")), dst=53),
                    17,
                )
            ),
        )
        for n in range(count)
    ]
    return build.pcap(*frames)


def repeated(capture: bytes, copies: int) -> bytes:
    """The capture several times over, each copy after the one before."""
    head, body = capture[:24], np.frombuffer(capture[24:], np.uint8).copy()
    starts, at = [], 0
    while at < body.size:
        starts.append(at)
        at += 16 + int.from_bytes(body[at + 8 : at + 12].tobytes(), "little")
    where = np.array(starts)[:, None] + np.arange(4)
    seconds = body[where].view("<u4")[:, 0].astype(np.int64)
    step = int(np.ptp(seconds)) + 1
    parts = [head]
    for copy in range(copies):
        body[where] = (seconds + copy * step).astype("<u4")[:, None].view(np.uint8)
        parts.append(body.tobytes())
    return b"".join(parts)


def by_sidelong(path: Path) -> int:
    parts = PcapFile(path.name, lambda: path.open("rb")).batches()
    return sum(int(part.flows["packets"].sum()) for part in parts)


def by_dpkt(path: Path) -> int:
    count = 0
    with path.open("rb") as file:
        reader = dpkt.pcap.Reader(file)
        layer = {1: dpkt.ethernet.Ethernet, 276: dpkt.sll2.SLL2}[reader.datalink()]
        for _, frame in reader:
            packet: Any = layer(frame).data
            protocol = getattr(packet, "p", None)  # only IP packets have one
            if protocol == dpkt.ip.IP_PROTO_TCP:
                tcp = packet.data
                _ = packet.src, packet.dst, tcp.sport, tcp.dport, tcp.flags
            elif protocol == dpkt.ip.IP_PROTO_UDP:
                udp = packet.data
                _ = packet.src, packet.dst, udp.sport, udp.dport
            count += protocol is not None
    return count


def by_tshark(path: Path) -> int:
    fields = [part for field in FIELDS for part in ("-e", field)]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", *fields]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return ran.stdout.count(b"\n")


def rate(read: Callable[[Path], int], path: Path) -> float:
    began = time.perf_counter()
    count = read(path)
    return count / (time.perf_counter() - began)


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "traffic.pcap"
    path.write_bytes(repeated(traffic(), COPIES))
    readers = {"sidelong": by_sidelong, "dpkt": by_dpkt}
    if shutil.which("tshark"):
        readers["tshark"] = by_tshark
    rounds = [{name: rate(read, path) for name, read in readers.items()} for _ in range(ROUNDS)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in readers}
    others = {"dpkt": "a dpkt loop over headers", "tshark": "tshark -T fields"}
    for name, title in others.items():
        if name in medians:
            yield {
                "name": f"pcap to flows, beside {title}",
                "rate": medians["sidelong"],
                "unit": "packets/s",
                "ratio": medians["sidelong"] / medians[name],
                "other": medians[name],
            }
    path.write_bytes(lookups())
    alone = statistics.median(rate(by_sidelong, path) for _ in range(ROUNDS))
    yield {"name": "pcap of DNS queries to flows", "rate": alone, "unit": "packets/s"}


def run() -> list[dict[str, Any]]:
    """Measure; rows of `name`, `rate`, `unit`, and beside another tool its rate and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        return list(rows(Path(folder)))


if __name__ == "__main__":
    for row in run():
        beside = f"  {row['other']:>12,.0f}  x{row['ratio']:.1f}" if "ratio" in row else ""
        print(f"{row['name']:<48} {row['rate']:>12,.0f} {row['unit']}{beside}")
