"""Fragments of IP packets: only the first bears ports, the others borrow them."""

import numpy as np

from sidelong.ingest.ip_packets import Fault, IPPackets
from sidelong.ingest.packet_headers import IPV4, IPV6, Bytes, Ints, gather

__all__ = ["first_fragments"]


def first_fragments(window: Bytes, packets: IPPackets, later: Ints, span: Ints) -> Ints:
    """For each of the packets `later`, the index of the first fragment of the same packet, or -1.

    Fragments belong together when addresses, identification and, in version 4, protocol agree
    within one `span`; of several firsts the nearest before counts, else the nearest after.
    Source: RFC 791 section 3.2, RFC 8200 section 4.5.
    """
    first = np.flatnonzero(packets.first & (packets.fault == Fault.NONE))
    if not first.size:
        return np.full(later.size, -1, dtype=np.int64)
    rows = np.concatenate([first, later])
    keys = np.zeros((rows.size, 6), dtype=np.uint64)
    six = packets.version[rows] == 6
    four_header = gather(window, packets.network[rows], IPV4)
    six_header = gather(window, packets.network[rows], IPV6)
    keys[:, 0] = np.where(six, six_header["src"][:, 0], four_header["src"])
    keys[:, 1] = np.where(six, six_header["src"][:, 1], 0)
    keys[:, 2] = np.where(six, six_header["dst"][:, 0], four_header["dst"])
    keys[:, 3] = np.where(six, six_header["dst"][:, 1], 0)
    protocol = np.where(six, 0, packets.protocol[rows])
    keys[:, 4] = packets.ident[rows] << 16 | protocol << 8 | packets.version[rows]
    keys[:, 5] = span[rows]
    packet = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    # In the order of packet, then place in the capture, each first is next to its own.
    of_first, of_later = packet[: first.size], packet[first.size :]
    frames = int(packets.fault.size)
    sorted_first = np.sort(of_first * frames + first)
    wanted = of_later * frames + later
    before = np.searchsorted(sorted_first, wanted) - 1
    found = np.full(later.size, -1, dtype=np.int64)
    for candidate in (before + 1, before):  # the latter wins
        inside = (candidate >= 0) & (candidate < sorted_first.size)
        place = sorted_first[np.where(inside, candidate, 0)]
        matches = inside & (place // frames == of_later)
        found[matches] = place[matches] % frames
    return found
