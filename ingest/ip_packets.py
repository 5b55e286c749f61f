"""IP headers, many at a time: versions 4 and 6, options, extension headers, fragments."""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

import numpy as np

from sidelong.ingest.link_layers import IPV4_TYPE, IPV6_TYPE
from sidelong.ingest.packet_headers import EXTENSION, IPV4, IPV6, Bytes, Flags, Ints, gather

__all__ = ["AS_IS", "Fault", "IPPackets", "read_ip"]


class Fault(IntEnum):
    """Why a frame is not read as an IP packet."""

    NONE = 0
    NOT_IP = 1
    CUT_IN_LINK = 2
    CUT_IN_IP = 3
    MALFORMED_IP = 4
    CUT_BEFORE_PORTS = 5


_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _OPTIONS = 0, 43, 44, 51, 60
_MOBILITY, _HIP, _SHIM6 = 135, 139, 140
_DEPTH: Final = 8

AS_IS: Final = -1
"""Of `ethertypes`: whatever the version field says."""

# Which protocol numbers are one more header rather than a transport, by version of IP.
_EXTENDS: Final = np.zeros((7, 256), dtype=np.bool_)
_EXTENDS[4, _AUTHENTICATION] = True
_EXTENDS[6, [_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _OPTIONS]] = True
_EXTENDS[6, [_MOBILITY, _HIP, _SHIM6]] = True


@dataclass(frozen=True, slots=True)
class IPPackets:
    """One IP packet per element, as columns of shape (n,).

    network, payload: offsets of the IP header and of what follows it and its extensions.
    end: where its captured bytes end. length: of the whole packet, header included, on the wire.
    protocol: number of the payload's protocol. first, later: the first fragment of several, a
    fragment without a transport header. ident: what fragments of one packet share.
    fault: a `Fault`; where it is not NONE, the other columns mean nothing.
    """

    network: Ints
    version: Ints
    protocol: Ints
    payload: Ints
    end: Ints
    length: Ints
    first: Flags
    later: Flags
    ident: Ints
    fault: Ints

    def select(self, which: Ints) -> "IPPackets":
        """The packets at the indexes `which`."""
        return IPPackets(*(getattr(self, column.name)[which] for column in fields(self)))

    def put(self, where: Ints, others: "IPPackets", which: Ints) -> None:
        """Replace the packets at `where` by `which` of the others."""
        for column in fields(self):
            getattr(self, column.name)[where] = getattr(others, column.name)[which]


def read_ip(window: Bytes, network: Ints, end: Ints, wire_end: Ints, ethertype: Ints) -> IPPackets:
    """Read the IP headers that begin at `network`.

    All arguments but the window have shape (n,). end, wire_end: where the captured bytes of the
    frame end, and where they would if nothing had been cut off; ethertype: `AS_IS` to go by the
    version field. A packet that states no length (segmentation was left to the network card) is
    as long as its frame.
    """
    n = network.size
    four = ethertype == IPV4_TYPE
    six = ethertype == IPV6_TYPE
    if (ethertype == AS_IS).any():
        version = window[np.minimum(network, window.size - 1)] >> 4
        four |= (ethertype == AS_IS) & (version == 4)
        six |= (ethertype == AS_IS) & (version == 6)
    packets = IPPackets(
        network=network,
        version=np.where(six, 6, 4),
        protocol=np.zeros(n, dtype=np.int64),
        payload=network.copy(),
        end=end.copy(),
        length=np.zeros(n, dtype=np.int64),
        first=np.zeros(n, dtype=np.bool_),
        later=np.zeros(n, dtype=np.bool_),
        ident=np.zeros(n, dtype=np.int64),
        fault=np.where(four | six, Fault.NONE, Fault.NOT_IP).astype(np.int64),
    )
    for mask, read in ((four, _read_ipv4), (six, _read_ipv6)):
        if mask.all():
            read(window, packets, slice(None), wire_end)
        elif mask.any():
            read(window, packets, np.flatnonzero(mask), wire_end)
    packets.fault[network > end] = Fault.CUT_IN_LINK
    _read_extensions(window, packets)
    return packets


def _read_ipv4(window: Bytes, packets: IPPackets, rows: Ints | slice, wire_end: Ints) -> None:
    at, end = packets.network[rows], packets.end[rows]
    header = gather(window, at, IPV4)
    size = (header["version_ihl"] & 0x0F).astype(np.int64) * 4
    stated = header["length"].astype(np.int64)
    length = np.where(stated == 0, wire_end[rows] - at, stated)
    fragment = header["fragment"].astype(np.int64)
    fault = packets.fault[rows]
    wrong = (header["version_ihl"] >> 4 != 4) | (size < IPV4.itemsize) | (length < size)
    fault[wrong] = Fault.MALFORMED_IP
    fault[at + np.maximum(size, IPV4.itemsize) > end] = Fault.CUT_IN_IP
    packets.fault[rows] = fault
    packets.protocol[rows] = header["protocol"]
    packets.payload[rows] = at + size
    packets.length[rows] = length
    packets.end[rows] = np.minimum(end, at + length)
    packets.ident[rows] = header["ident"]
    packets.later[rows] = later = fragment & 0x1FFF != 0
    packets.first[rows] = (fragment & 0x2000 != 0) & ~later


def _read_ipv6(window: Bytes, packets: IPPackets, rows: Ints | slice, wire_end: Ints) -> None:
    at, end = packets.network[rows], packets.end[rows]
    header = gather(window, at, IPV6)
    stated = header["length"].astype(np.int64)
    length = np.where(stated == 0, wire_end[rows] - at, stated + IPV6.itemsize)
    fault = packets.fault[rows]
    fault[header["flow"] >> 28 != 6] = Fault.MALFORMED_IP
    fault[at + IPV6.itemsize > end] = Fault.CUT_IN_IP
    packets.fault[rows] = fault
    packets.protocol[rows] = header["protocol"]
    packets.payload[rows] = at + IPV6.itemsize
    packets.length[rows] = length
    packets.end[rows] = np.minimum(end, at + length)


def _read_extensions(window: Bytes, packets: IPPackets) -> None:
    """Step over extension headers, one of each packet that has another per round."""
    extended = _EXTENDS[packets.version, packets.protocol] & (packets.fault == Fault.NONE)
    rows = np.flatnonzero(extended & ~packets.later)
    for _ in range(_DEPTH):
        if not rows.size:
            return
        at, kind = packets.payload[rows], packets.protocol[rows]
        header = gather(window, at, EXTENSION)
        units = header["length"].astype(np.int64)
        size = np.where(kind == _AUTHENTICATION, (units + 2) * 4, (units + 1) * 8)
        size[kind == _FRAGMENT] = EXTENSION.itemsize
        is_fragment = kind == _FRAGMENT
        later = is_fragment & (header["fragment"] >> 3 != 0)
        packets.later[rows] |= later
        packets.first[rows] |= is_fragment & ~later & (header["fragment"] & 1 != 0)
        packets.ident[rows[is_fragment]] = header["ident"][is_fragment]
        packets.protocol[rows] = header["protocol"]
        packets.payload[rows] = at + size
        cut = at + size > packets.end[rows]
        packets.fault[rows[cut]] = Fault.CUT_IN_IP
        more = _EXTENDS[packets.version[rows], packets.protocol[rows]]
        rows = rows[more & ~cut & ~later]
