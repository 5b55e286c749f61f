"""ICMP errors that tell of somebody else's packet: destination unreachable.

The message quotes the packet that could not be delivered. What a detector needs is the quoted
flow, so the quoted header takes the place of the message's own, with the direction turned round.

Sources: RFC 792, RFC 1122 section 3.2.2.1 and RFC 1812 section 5.2.7.1 (type 3 of ICMP), RFC 4443
section 3.1 (type 1 of ICMPv6). "Fragmentation needed" (code 4) is about size, not about reach, and
stays an ICMP message.
"""

from typing import Final

import numpy as np

from sidelong.ingest.ip_packets import AS_IS, Fault, IPPackets, read_ip
from sidelong.ingest.packet_headers import ICMP, PORTS, Bytes, Ints, gather

__all__ = ["REASONS", "unreachable"]

REASONS: Final = (
    "ICMP_NET_UNREACHABLE",
    "ICMP_HOST_UNREACHABLE",
    "ICMP_PROTOCOL_UNREACHABLE",
    "ICMP_PORT_UNREACHABLE",
    "ICMP_ADMIN_PROHIBITED",
    "ICMP_SOURCE_ROUTE_FAILED",
    "ICMP_NET_UNKNOWN",
    "ICMP_HOST_UNKNOWN",
    "ICMP_HOST_ISOLATED",
    "ICMP_TOS_UNREACHABLE",
    "ICMP_PRECEDENCE_VIOLATION",
    "ICMP_BEYOND_SCOPE",
    "ICMP_REJECT_ROUTE",
)
"""What `drop_reason` says of an unreachable destination; `unreachable` returns indexes into it."""

_NONE: Final = -1
_TYPE: Final = {4: 3, 6: 1}  # version of IP -> "destination unreachable"
_CODES: Final = np.full((7, 256), _NONE, dtype=np.int64)
_CODES[4, [0, 1, 2, 3]] = [0, 1, 2, 3]
_CODES[4, [5, 6, 7, 8]] = [5, 6, 7, 8]
_CODES[4, [9, 10, 13]] = 4
_CODES[4, [11, 12]] = 9
_CODES[4, [14, 15]] = 10
_CODES[6, [0, 1, 2, 3, 4, 5, 6]] = [0, 4, 11, 1, 3, 4, 12]

_TCP_UDP: Final = (6, 17)


def unreachable(window: Bytes, packets: IPPackets, rows: Ints) -> tuple[Ints, Ints, IPPackets]:
    """Which of `rows`, ICMP messages all, report that a TCP or UDP packet found no destination.

    Returns those rows, the index of each one's reason in `REASONS`, and the packets they quote.
    """
    at, version = packets.payload[rows], packets.version[rows]
    header = gather(window, at, ICMP)
    reason = _CODES[version, header["code"]]
    reason[header["type"] != np.where(version == 4, _TYPE[4], _TYPE[6])] = _NONE
    told = reason != _NONE
    rows, reason = rows[told], reason[told]

    network, end = packets.payload[rows] + ICMP.itemsize, packets.end[rows]
    quoted = read_ip(window, network, end, end, np.full(rows.size, AS_IS))
    usable = (quoted.fault == Fault.NONE) & np.isin(quoted.protocol, _TCP_UDP) & ~quoted.later
    usable &= (network < end) & (quoted.payload + PORTS.itemsize <= end)
    kept = np.flatnonzero(usable)
    return rows[kept], reason[kept], quoted.select(kept)
