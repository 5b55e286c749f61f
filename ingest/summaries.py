"""Packets to summaries: one for each directed 5-tuple, second and kind of packet.

SYN, SYN-ACK, RST and everything else are counted apart, so that no summary hides a handshake.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sidelong.ingest.ip_text import Addresses
from sidelong.ingest.packet_headers import Ints
from sidelong.ingest.packets import Packets

__all__ = ["Summaries", "flow_keys", "summarise"]

_MIX_LEFT: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_RIGHT: Final = np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True, slots=True)
class Summaries:
    """Columns of shape (summaries,), in the order of their first packets.

    lead: index of the first packet, which has what all have in common. first, last: earliest and
    latest time in nanoseconds. count, length: packets and their bytes. tcp_flags: OR of all.
    """

    lead: Ints
    first: Ints
    last: Ints
    count: Ints
    length: Ints
    tcp_flags: Ints


def flow_keys(
    packets: Packets, addresses: Addresses, rows: Ints, slot: Ints
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Two numbers that agree for exactly those of `rows` that go into one summary.

    slot: number of the second each of the rows belongs to, below 2**23.
    """
    src, dst = addresses.src[rows], addresses.dst[rows]
    pair = src << 32 | dst & 0xFFFFFFFF
    # Both addresses of a packet are of one version, so one bit says which.
    rest = slot << 41 | src >> 32 << 40 | packets.protocol[rows] << 37 | packets.kind[rows] << 32
    rest |= packets.src_port[rows] << 16 | packets.dst_port[rows]
    return pair.view(np.uint64), rest.view(np.uint64)


def summarise(
    packets: Packets, addresses: Addresses, time: Ints, rows: Ints, slot: Ints
) -> Summaries:
    """Summarise the packets at `rows`, ascending.

    time: of each packet, shape (packets,). slot: the number of its second, shape (rows,).
    """
    if not rows.size:
        return Summaries(rows, rows, rows, rows, rows, rows)
    pair, rest = flow_keys(packets, addresses, rows, slot)
    order = _together(pair, rest)
    sorted_pair, sorted_rest = pair[order], rest[order]
    new = np.ones(order.size, dtype=np.bool_)
    new[1:] = (sorted_pair[1:] != sorted_pair[:-1]) | (sorted_rest[1:] != sorted_rest[:-1])
    begins = np.flatnonzero(new)
    members = rows[order]
    lead = np.minimum.reduceat(members, begins)
    place = np.argsort(lead)
    begins_count = np.diff(np.append(begins, order.size))
    times = time[members]
    return Summaries(
        lead=lead[place],
        first=np.minimum.reduceat(times, begins)[place],
        last=np.maximum.reduceat(times, begins)[place],
        count=begins_count[place],
        length=np.add.reduceat(packets.length[members], begins)[place],
        tcp_flags=np.bitwise_or.reduceat(packets.tcp_flags[members], begins)[place],
    )


def _together(pair: NDArray[np.uint64], rest: NDArray[np.uint64]) -> Ints:
    """An order in which equal keys are neighbours."""
    # Sorting one mixed number is twice as fast as sorting by two keys. Should two different keys
    # mix to the same number, which sorted neighbours show, the slow way is taken.
    mixed = pair * _MIX_LEFT
    mixed ^= mixed >> np.uint64(29)
    mixed += rest * _MIX_RIGHT
    order = np.argsort(mixed)
    by_mix, by_pair, by_rest = mixed[order], pair[order], rest[order]
    same = by_mix[1:] == by_mix[:-1]
    differ = (by_pair[1:] != by_pair[:-1]) | (by_rest[1:] != by_rest[:-1])
    if (same & differ).any():
        return np.lexsort((rest, pair))
    return order
