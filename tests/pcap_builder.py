"""Packets and captures built by hand, layer by layer, with nothing of sidelong in them."""

import ipaddress
import struct
from collections.abc import Iterable
from typing import Final

__all__ = [
    "DB",
    "DB6",
    "SECOND",
    "START",
    "WEB",
    "WEB6",
    "dns",
    "enhanced",
    "ethernet",
    "geneve",
    "gre",
    "icmp",
    "interface",
    "ipv4",
    "ipv6",
    "old",
    "option",
    "pcap",
    "question",
    "record",
    "section",
    "simple",
    "tcp",
    "udp",
    "vxlan",
]

SECOND: Final = 1_000_000_000
START: Final = 1_700_000_000 * SECOND

WEB: Final = "10.0.0.1"
DB: Final = "10.0.0.2"
WEB6: Final = "fd00::1"
DB6: Final = "fd00::2"


def ethernet(payload: bytes, *tags: int, kind: int | None = None) -> bytes:
    """A frame, with a VLAN tag for each of `tags` (their Ethernet types)."""
    if kind is None:
        kind = 0x86DD if payload[0] >> 4 == 6 else 0x0800
    head = b"\x02" * 12 + b"".join(struct.pack(">HH", tag, 7) for tag in tags)
    return head + struct.pack(">H", kind) + payload


def ipv4(
    payload: bytes,
    protocol: int,
    src: str = WEB,
    dst: str = DB,
    *,
    options: bytes = b"",
    ident: int = 0,
    fragment: int = 0,
    length: int | None = None,
) -> bytes:
    size = 20 + len(options)
    total = size + len(payload) if length is None else length
    return (
        struct.pack(">BBHHHBBH", 0x40 | size // 4, 0, total, ident, fragment, 64, protocol, 0)
        + ipaddress.IPv4Address(src).packed
        + ipaddress.IPv4Address(dst).packed
        + options
        + payload
    )


def ipv6(
    payload: bytes, protocol: int, src: str = WEB6, dst: str = DB6, extensions: bytes = b""
) -> bytes:
    """`protocol` is that of the first extension, if there are any; they name the next."""
    return (
        struct.pack(">IHBB", 6 << 28, len(extensions) + len(payload), protocol, 64)
        + ipaddress.IPv6Address(src).packed
        + ipaddress.IPv6Address(dst).packed
        + extensions
        + payload
    )


def tcp(
    src: int = 40000, dst: int = 80, flags: int = 0x10, payload: bytes = b"", sequence: int = 0
) -> bytes:
    return struct.pack(">HHIIBBHHH", src, dst, sequence, 0, 0x50, flags, 0, 0, 0) + payload


def udp(payload: bytes = b"", src: int = 40000, dst: int = 5000) -> bytes:
    return struct.pack(">HHHH", src, dst, 8 + len(payload), 0) + payload


def icmp(kind: int, code: int = 0, quoted: bytes = b"") -> bytes:
    return struct.pack(">BBHI", kind, code, 0, 0) + quoted


def vxlan(frame: bytes, port: int = 8472) -> bytes:
    """A UDP datagram."""
    return udp(struct.pack(">II", 0x08 << 24, 5 << 8) + frame, dst=port)


def geneve(frame: bytes, kind: int = 0x6558, options: bytes = b"") -> bytes:
    """A UDP datagram."""
    return udp(struct.pack(">BBHI", len(options) // 4, 0, kind, 5 << 8) + options + frame, dst=6081)


def gre(payload: bytes, kind: int = 0x0800, flags: int = 0) -> bytes:
    """GRE with as many zero words as the flags announce (checksum, key, sequence number)."""
    words = (flags & 0xB000).bit_count()
    return struct.pack(">HH", flags, kind) + b"\0" * 4 * words + payload


def question(name: str | bytes, kind: int = 1) -> bytes:
    """A question; `name` as text, or as it is on the wire."""
    if isinstance(name, str):
        labels = name.encode().split(b".") if name else []
        name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return name + struct.pack(">HH", kind, 1)


def dns(
    *questions: bytes,
    flags: int = 0x0100,
    answers: Iterable[bytes | tuple[int, bytes]] = (),
    count: int | None = None,
) -> bytes:
    """A message; `answers` are RDATA of type TXT, or type and RDATA, named by offset 12."""
    typed = [answer if isinstance(answer, tuple) else (16, answer) for answer in answers]
    records = [
        b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(rdata)) + rdata for kind, rdata in typed
    ]
    header = struct.pack(
        ">HHHHHH", 7, flags, len(questions) if count is None else count, len(records), 0, 0
    )
    return header + b"".join(questions) + b"".join(records)


def record(
    frame: bytes,
    time: int = START,
    *,
    order: str = "<",
    unit: int = 1000,
    snap: int | None = None,
) -> bytes:
    """A record of a pcap file; time in nanoseconds, `unit` nanoseconds to a unit of the file."""
    kept = frame[:snap]
    seconds, rest = divmod(time, SECOND)
    return struct.pack(f"{order}IIII", seconds, rest // unit, len(kept), len(frame)) + kept


def pcap(
    *frames: bytes | tuple[int, bytes],
    link: int = 1,
    order: str = "<",
    unit: int = 1000,
    snap: int | None = None,
) -> bytes:
    """A file of frames; each with its time in nanoseconds after `START`, or all at that moment."""
    magic = {1000: 0xA1B2C3D4, 1: 0xA1B23C4D}[unit]
    head = struct.pack(f"{order}IHHIIII", magic, 2, 4, 0, 0, snap or 65535, link)
    timed = [frame if isinstance(frame, tuple) else (0, frame) for frame in frames]
    return head + b"".join(
        record(frame, START + time, order=order, unit=unit, snap=snap) for time, frame in timed
    )


def _block(kind: int, body: bytes, order: str) -> bytes:
    padded = body + b"\0" * (-len(body) % 4)
    length = struct.pack(f"{order}I", 12 + len(padded))
    return struct.pack(f"{order}I", kind) + length + padded + length


def section(order: str = "<") -> bytes:
    return _block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def interface(link: int = 1, options: bytes = b"", order: str = "<", snap: int = 0) -> bytes:
    return _block(1, struct.pack(f"{order}HHI", link, 0, snap) + options, order)


def enhanced(frame: bytes, units: int, number: int = 0, order: str = "<") -> bytes:
    """An enhanced packet block; `units` is its time as the interface counts it."""
    size = len(frame)
    head = struct.pack(f"{order}IIIII", number, units >> 32, units & 0xFFFFFFFF, size, size)
    return _block(6, head + frame, order)


def simple(frame: bytes, order: str = "<") -> bytes:
    return _block(3, struct.pack(f"{order}I", len(frame)) + frame, order)


def old(frame: bytes, units: int, number: int = 0, order: str = "<") -> bytes:
    """An obsolete packet block, with a count of drops of 3."""
    size = len(frame)
    head = struct.pack(f"{order}HHIIII", number, 3, units >> 32, units & 0xFFFFFFFF, size, size)
    return _block(2, head + frame, order)
