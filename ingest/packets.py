"""Captured frames to packets: addresses, ports, flags and lengths as columns, no loop per packet.

A frame is read from the link inwards, through tags, tunnels, extension headers and fragments, to
the innermost IP packet; an ICMP "unreachable" to the packet it quotes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from sidelong.ingest.fragments import first_fragments
from sidelong.ingest.icmp_errors import unreachable
from sidelong.ingest.ip_packets import Fault, IPPackets, read_ip
from sidelong.ingest.link_layers import network_layer
from sidelong.ingest.packet_headers import ICMP, PORTS, TCP, Bytes, Flags, Ints, gather
from sidelong.ingest.tunnels import open_tunnels

__all__ = [
    "ECHO_REPLY",
    "ECHO_REQUEST",
    "FLAGS_SEEN",
    "OTHER_TRAFFIC",
    "UNREACHABLE",
    "Packets",
    "Protocol",
    "dissect",
]

OTHER_TRAFFIC: Final = 3
ECHO_REQUEST: Final = 4
ECHO_REPLY: Final = 5
UNREACHABLE: Final = 6
"""Kinds of a packet: 0 SYN, 1 SYN-ACK, 2 RST, then these; from 6 on an unreachable destination,
with the index of its reason added."""

FLAGS_SEEN: Final = 0x100
"""Set in `Packets.tcp_flags` where the flags were captured: they may all be zero."""


class Protocol:
    """The protocols that flows tell apart, by their place in `PROTOCOLS`."""

    TCP, UDP, ICMP, SCTP, OTHER = range(5)


_BY_NUMBER: Final = np.full(256, Protocol.OTHER, dtype=np.int64)
_BY_NUMBER[[6, 17, 1, 58, 132]] = [
    Protocol.TCP,
    Protocol.UDP,
    Protocol.ICMP,
    Protocol.ICMP,
    Protocol.SCTP,
]

_KIND_OF_FLAGS: Final = np.full(256, OTHER_TRAFFIC, dtype=np.int64)
_KIND_OF_FLAGS[[bits for bits in range(256) if bits & 0x04]] = 2
_KIND_OF_FLAGS[[bits for bits in range(256) if bits & 0x12 == 0x12]] = 1
_KIND_OF_FLAGS[[bits for bits in range(256) if bits & 0x12 == 0x02]] = 0

_ECHO: Final = {4: (8, 0), 6: (128, 129)}  # version of IP -> types of echo request and reply


@dataclass(frozen=True, slots=True)
class Packets:
    """The IP packets of a batch, as columns of shape (n,) in the order of the capture.

    frame: index of the frame each was found in. network: offset of the IP header that bears the
    addresses; turned: they are to be swapped. version: 4 or 6. protocol: see `Protocol`; ports are
    0 where it has none. kind: see `UNREACHABLE`. tcp_flags: see `FLAGS_SEEN`. length: bytes on
    the wire from the IP header on. payload, end: offsets of the transport header and of the end of
    the captured bytes. whole: it has a transport header, so it is no later fragment.
    """

    frame: Ints
    network: Ints
    turned: Flags
    version: Ints
    protocol: Ints
    src_port: Ints
    dst_port: Ints
    kind: Ints
    tcp_flags: Ints
    length: Ints
    payload: Ints
    end: Ints
    whole: Flags


def dissect(
    window: Bytes, begin: Ints, end: Ints, wire_end: Ints, link: Ints, span: Ints
) -> tuple[Packets, Ints]:
    """Read the packets in captured frames.

    window: the bytes of the batch, with `LOOKAHEAD` more at its end. begin, end: where each frame
    begins and its captured part ends; wire_end: where it would end, had nothing been cut off.
    link: its link type. span: fragments belong together only within one of these. All int64 of
    shape (n,). Returns the packets and, of shape (n,), the `Fault` of each frame.
    """
    network, ethertype = network_layer(window, begin, link)
    ip = read_ip(window, network, end, wire_end, ethertype)
    open_tunnels(window, ip, wire_end)

    protocol = _BY_NUMBER[ip.protocol]
    has_ports = (protocol <= Protocol.UDP) | (protocol == Protocol.SCTP)
    good = ip.fault == Fault.NONE
    cut = good & has_ports & ~ip.later & (ip.payload + PORTS.itemsize > ip.end)
    ip.fault[cut] = Fault.CUT_BEFORE_PORTS

    source = np.arange(begin.size)
    orphan = np.zeros(begin.size, dtype=np.bool_)
    later = np.flatnonzero(ip.later & has_ports & (ip.fault == Fault.NONE))
    if later.size:
        source[later] = first_fragments(window, ip, later, span)
        orphan[later] = source[later] < 0

    frame = np.flatnonzero((ip.fault == Fault.NONE) & ~orphan)
    if frame.size < begin.size:
        kept, protocol, has_ports, source = (
            ip.select(frame),
            protocol[frame],
            has_ports[frame],
            source[frame],
        )
    else:
        kept = ip
    ports = gather(window, ip.payload[source], PORTS)
    packets = Packets(
        frame=frame,
        network=kept.network,
        turned=np.zeros(frame.size, dtype=np.bool_),
        version=kept.version,
        protocol=protocol,
        src_port=np.where(has_ports, ports["src"], 0).astype(np.int64),
        dst_port=np.where(has_ports, ports["dst"], 0).astype(np.int64),
        kind=np.full(frame.size, OTHER_TRAFFIC, dtype=np.int64),
        tcp_flags=np.zeros(frame.size, dtype=np.int64),
        length=kept.length,
        payload=kept.payload,
        end=kept.end,
        whole=~kept.later,
    )
    _read_tcp(window, packets)
    _read_icmp(window, packets, kept)
    return packets, ip.fault


def _read_tcp(window: Bytes, packets: Packets) -> None:
    seen = (packets.protocol == Protocol.TCP) & packets.whole
    seen &= packets.payload + TCP.itemsize <= packets.end
    rows = np.flatnonzero(seen)
    flags = window[packets.payload[rows] + TCP.itemsize - 1]
    packets.tcp_flags[rows] = flags.astype(np.int64) | FLAGS_SEEN
    packets.kind[rows] = _KIND_OF_FLAGS[flags]


def _read_icmp(window: Bytes, packets: Packets, ip: IPPackets) -> None:
    is_icmp = (packets.protocol == Protocol.ICMP) & packets.whole
    rows = np.flatnonzero(is_icmp & (packets.payload + ICMP.itemsize <= packets.end))
    if not rows.size:
        return
    message, six = gather(window, packets.payload[rows], ICMP)["type"], packets.version[rows] == 6
    for kind, four_type, six_type in (
        (ECHO_REQUEST, _ECHO[4][0], _ECHO[6][0]),
        (ECHO_REPLY, _ECHO[4][1], _ECHO[6][1]),
    ):
        packets.kind[rows[message == np.where(six, six_type, four_type)]] = kind

    rows, reason, quoted = unreachable(window, ip, rows)
    ports = gather(window, quoted.payload, PORTS)
    packets.network[rows] = quoted.network
    packets.version[rows] = quoted.version
    packets.turned[rows] = True
    packets.protocol[rows] = _BY_NUMBER[quoted.protocol]
    packets.src_port[rows] = ports["dst"]
    packets.dst_port[rows] = ports["src"]
    packets.kind[rows] = UNREACHABLE + reason
    packets.whole[rows] = False  # it has no transport header of its own to read on from
