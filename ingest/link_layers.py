"""From the first byte of a captured frame to its network layer.

Knows the link types of `LINK_TYPES`, VLAN tags (802.1Q and stacked, 802.1ad) and MPLS label stacks.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from sidelong.ingest.packet_headers import (
    ETHERNET,
    FAMILY,
    FIRST_BYTE,
    LABEL,
    SLL,
    SLL2,
    TAG,
    Bytes,
    Ints,
    gather,
)

__all__ = ["IPV4_TYPE", "IPV6_TYPE", "LINK_TYPES", "ethernet", "ip_by_version", "network_layer"]

Frames: TypeAlias = tuple[Ints, Ints]

IPV4_TYPE: Final = 0x0800
IPV6_TYPE: Final = 0x86DD

_TAGS: Final = (0x8100, 0x88A8, 0x9100)
_MPLS: Final = (0x8847, 0x8848)
_DEPTH: Final = 8  # tags or labels followed before a frame is taken for something else
_FAMILIES: Final = {2: IPV4_TYPE, 10: IPV6_TYPE, 24: IPV6_TYPE, 28: IPV6_TYPE, 30: IPV6_TYPE}


def ip_by_version(window: Bytes, at: Ints) -> Frames:
    """Where the link has no header: offsets as they are, Ethernet types by the version of IP."""
    version = gather(window, at, FIRST_BYTE)["byte"] >> 4
    return at, np.select([version == 4, version == 6], [IPV4_TYPE, IPV6_TYPE], 0)


def ethernet(window: Bytes, at: Ints) -> Frames:
    """Offsets and Ethernet types of what Ethernet frames carry, behind tags and labels."""
    types = gather(window, at, ETHERNET)["ethertype"].astype(np.int64)
    return _unwrap(window, at + ETHERNET.itemsize, types)


def _cooked(window: Bytes, at: Ints) -> Frames:
    types = gather(window, at, SLL)["ethertype"].astype(np.int64)
    return _unwrap(window, at + SLL.itemsize, types)


def _cooked2(window: Bytes, at: Ints) -> Frames:
    types = gather(window, at, SLL2)["ethertype"].astype(np.int64)
    return _unwrap(window, at + SLL2.itemsize, types)


def _loopback(window: Bytes, at: Ints) -> Frames:
    """The address family is in the byte order of the machine that captured, whichever that was."""
    family = gather(window, at, FAMILY)["family"].astype(np.uint32)
    family = np.where(family > 0xFFFF, family.byteswap(), family)
    types = np.zeros(at.size, dtype=np.int64)
    for number, ethertype in _FAMILIES.items():
        types[family == number] = ethertype
    return at + FAMILY.itemsize, types


def _unwrap(window: Bytes, at: Ints, types: Ints) -> Frames:
    tagged = np.flatnonzero(np.isin(types, _TAGS))
    for _ in range(_DEPTH):
        if not tagged.size:
            break
        types[tagged] = gather(window, at[tagged], TAG)["ethertype"]
        at[tagged] += TAG.itemsize
        tagged = tagged[np.isin(types[tagged], _TAGS)]
    stacked = labelled = np.flatnonzero(np.isin(types, _MPLS))
    for _ in range(_DEPTH):
        if not stacked.size:
            break
        bottom = gather(window, at[stacked], LABEL)["label"] & 0x100
        at[stacked] += LABEL.itemsize
        stacked = stacked[bottom == 0]
    if labelled.size:
        types[labelled] = ip_by_version(window, at[labelled])[1]
    return at, types


def _fixed(ethertype: int) -> Callable[[Bytes, Ints], Frames]:
    return lambda window, at: (at, np.full(at.size, ethertype, dtype=np.int64))


_DECODERS: Final[dict[int, Callable[[Bytes, Ints], Frames]]] = {
    0: _loopback,
    1: ethernet,
    12: ip_by_version,
    14: ip_by_version,
    101: ip_by_version,
    108: _loopback,
    113: _cooked,
    228: _fixed(IPV4_TYPE),
    229: _fixed(IPV6_TYPE),
    276: _cooked2,
}

LINK_TYPES: Final = {
    0: "NULL",
    1: "Ethernet",
    12: "raw IP",
    14: "raw IP",
    101: "raw IP",
    108: "LOOP",
    113: "Linux cooked",
    228: "raw IPv4",
    229: "raw IPv6",
    276: "Linux cooked v2",
}
"""The link types that are understood, by their number in a capture file."""


def network_layer(window: Bytes, at: Ints, link: Ints) -> Frames:
    """Where the network layer of each frame begins, and the Ethernet type that names it.

    window: the bytes of a batch, `LOOKAHEAD` more than the last frame. at, link: shape (n,), first
    byte and link type of each frame; each link type is one of `LINK_TYPES`. Returns two int64
    arrays of shape (n,). Where a frame is cut inside its link header the type means nothing: the
    offset then lies behind its captured end.
    """
    if link.size and link[0] == link.min() == link.max():
        return _DECODERS[int(link[0])](window, at.copy())
    network, types = at.copy(), np.zeros(at.size, dtype=np.int64)
    for number in np.unique(link).tolist():
        chosen = np.flatnonzero(link == number)
        network[chosen], types[chosen] = _DECODERS[number](window, at[chosen])
    return network, types
