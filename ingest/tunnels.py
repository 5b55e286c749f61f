"""Opening tunnels: what matters is who talks to whom inside the overlay, not between its nodes.

VXLAN, Geneve, GRE (with IP or Ethernet inside) and IP in IP are opened, also one in another. A
tunnel is opened when a readable IP packet is found in it; if not (ARP, an empty probe to the
tunnel's port), the outer packet is what is reported.
"""

from typing import Final

import numpy as np

from sidelong.ingest.ip_packets import AS_IS, Fault, IPPackets, read_ip
from sidelong.ingest.link_layers import IPV4_TYPE, IPV6_TYPE, ethernet
from sidelong.ingest.packet_headers import (
    GENEVE,
    GRE,
    PORTS,
    UDP,
    VXLAN,
    Bytes,
    Flags,
    Ints,
    gather,
)

__all__ = ["open_tunnels"]

_UDP: Final = 17
_GRE: Final = 47
_IP_IN_IP: Final = (4, 41)
_VXLAN_PORTS: Final = (8472, 4789)  # Linux's default and the registered one
_GENEVE_PORT: Final = 6081
_BRIDGED: Final = 0x6558  # an Ethernet frame, in the terms of GRE and Geneve
_DEPTH: Final = 4

_CLOSED: Final = 0
"""Ethernet type of what is not opened."""


def open_tunnels(window: Bytes, packets: IPPackets, wire_end: Ints) -> None:
    """Replace each packet that carries another by the one inside. wire_end: as for `read_ip`."""
    rows = np.flatnonzero(_carries(packets))
    for _ in range(_DEPTH):
        if not rows.size:
            return
        network, ethertype = _inside(window, packets, rows)
        found = np.flatnonzero(ethertype != _CLOSED)
        rows = rows[found]
        inner = read_ip(window, network[found], packets.end[rows], wire_end[rows], ethertype[found])
        readable = np.flatnonzero(inner.fault == Fault.NONE)
        rows = rows[readable]
        packets.put(rows, inner, readable)
        rows = rows[_carries(packets)[rows]]


def _carries(packets: IPPackets) -> Flags:
    """Which packets may be tunnels, by protocol alone."""
    numbers = packets.protocol
    may: Flags = (numbers == _UDP) | (numbers == _GRE) | np.isin(numbers, _IP_IN_IP)
    may &= (packets.fault == Fault.NONE) & ~packets.later
    return may


def _inside(window: Bytes, packets: IPPackets, rows: Ints) -> tuple[Ints, Ints]:
    """Offset and Ethernet type of the network layer in each of `rows`, `_CLOSED` where none is."""
    at, end, protocol = packets.payload[rows], packets.end[rows], packets.protocol[rows]
    network, ethertype = at.copy(), np.full(at.size, _CLOSED, dtype=np.int64)
    ethertype[np.isin(protocol, _IP_IN_IP)] = AS_IS

    port = np.where(protocol == _UDP, gather(window, at, PORTS)["dst"], 0)
    body = at + UDP.itemsize
    _open_vxlan(window, np.flatnonzero(np.isin(port, _VXLAN_PORTS)), body, network, ethertype)
    _open_geneve(window, np.flatnonzero(port == _GENEVE_PORT), body, network, ethertype)
    _open_gre(window, np.flatnonzero(protocol == _GRE), at, network, ethertype)

    bridged = np.flatnonzero(ethertype == _BRIDGED)
    if bridged.size:
        network[bridged], ethertype[bridged] = ethernet(window, network[bridged])
    known = (ethertype == IPV4_TYPE) | (ethertype == IPV6_TYPE) | (ethertype == AS_IS)
    ethertype[~known | (network >= end)] = _CLOSED
    return network, ethertype


def _open_vxlan(window: Bytes, rows: Ints, body: Ints, network: Ints, ethertype: Ints) -> None:
    header = gather(window, body[rows], VXLAN)
    rows = rows[header["flags"] & 0x08 != 0]  # "the network identifier is valid"
    network[rows] = body[rows] + VXLAN.itemsize
    ethertype[rows] = _BRIDGED


def _open_geneve(window: Bytes, rows: Ints, body: Ints, network: Ints, ethertype: Ints) -> None:
    header = gather(window, body[rows], GENEVE)
    first_version = header["version_options"] >> 6 == 0
    rows, header = rows[first_version], header[first_version]
    options = (header["version_options"] & 0x3F).astype(np.int64) * 4
    network[rows] = body[rows] + GENEVE.itemsize + options
    ethertype[rows] = header["ethertype"]


def _open_gre(window: Bytes, rows: Ints, body: Ints, network: Ints, ethertype: Ints) -> None:
    header = gather(window, body[rows], GRE)
    flags = header["flags"].astype(np.int64)
    plain = flags & 0x4007 == 0  # version 0, no source routing
    rows, header, flags = rows[plain], header[plain], flags[plain]
    optional = sum((flags >> bit) & 1 for bit in (15, 13, 12))  # checksum, key, sequence number
    network[rows] = body[rows] + GRE.itemsize + 4 * optional
    ethertype[rows] = header["ethertype"]
