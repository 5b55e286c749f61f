"""The fixed headers of a packet as NumPy record types, and reading one at many offsets at once.

A capture is one array of bytes. `gather` copies the same header from every packet of a batch in a
single operation, and the fields of the result are whole columns: no loop per packet.

Sources: RFC 791 and RFC 8200 (IP), RFC 9293 (TCP), RFC 768 (UDP), RFC 792 and RFC 4443 (ICMP),
RFC 7348 (VXLAN), RFC 8926 (Geneve), RFC 2784 and RFC 2890 (GRE), RFC 1035 (DNS), and the register
of link types of tcpdump.org.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DNS",
    "ETHERNET",
    "EXTENSION",
    "FAMILY",
    "FIRST_BYTE",
    "GENEVE",
    "GRE",
    "ICMP",
    "IPV4",
    "IPV6",
    "LABEL",
    "LOOKAHEAD",
    "PORTS",
    "SLL",
    "SLL2",
    "TAG",
    "TCP",
    "UDP",
    "VXLAN",
    "Bytes",
    "Flags",
    "Ints",
    "gather",
]

Bytes: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]

LOOKAHEAD: Final = 64
"""How many bytes must follow the last byte of a window, so that no header is read past its end."""

FIRST_BYTE: Final = np.dtype([("byte", "u1")])
FAMILY: Final = np.dtype([("family", "<u4")])
ETHERNET: Final = np.dtype([("macs", "V12"), ("ethertype", ">u2")])
SLL: Final = np.dtype([("sender", "V14"), ("ethertype", ">u2")])
SLL2: Final = np.dtype([("ethertype", ">u2"), ("sender", "V18")])
TAG: Final = np.dtype([("control", ">u2"), ("ethertype", ">u2")])
LABEL: Final = np.dtype([("label", ">u4")])
IPV4: Final = np.dtype(
    [
        ("version_ihl", "u1"),
        ("service", "u1"),
        ("length", ">u2"),
        ("ident", ">u2"),
        ("fragment", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("src", ">u4"),
        ("dst", ">u4"),
    ]
)
IPV6: Final = np.dtype(
    [
        ("flow", ">u4"),
        ("length", ">u2"),
        ("protocol", "u1"),
        ("hops", "u1"),
        ("src", ">u8", (2,)),
        ("dst", ">u8", (2,)),
    ]
)
EXTENSION: Final = np.dtype(
    [("protocol", "u1"), ("length", "u1"), ("fragment", ">u2"), ("ident", ">u4")]
)
PORTS: Final = np.dtype([("src", ">u2"), ("dst", ">u2")])
TCP: Final = np.dtype(
    [("ports", "V4"), ("sequence", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1")]
)
UDP: Final = np.dtype([("ports", "V4"), ("length", ">u2"), ("checksum", ">u2")])
ICMP: Final = np.dtype([("type", "u1"), ("code", "u1"), ("checksum", ">u2"), ("rest", ">u4")])
VXLAN: Final = np.dtype([("flags", "u1"), ("group", "V3"), ("vni", ">u4")])
GENEVE: Final = np.dtype(
    [("version_options", "u1"), ("flags", "u1"), ("ethertype", ">u2"), ("vni", ">u4")]
)
GRE: Final = np.dtype([("flags", ">u2"), ("ethertype", ">u2")])
DNS: Final = np.dtype(
    [
        ("id", ">u2"),
        ("flags", ">u2"),
        ("questions", ">u2"),
        ("answers", ">u2"),
        ("authorities", ">u2"),
        ("additionals", ">u2"),
    ]
)


def gather(window: Bytes, at: Ints, header: np.dtype[np.void]) -> NDArray[Any]:
    """The header that begins at each offset of `at`: a record array of the shape of `at`.

    Offsets past the window read its last bytes instead, so that a lying length field cannot lead
    out of it: the caller decides by the captured length which headers are really there.
    """
    last = window.size - header.itemsize
    # A view with one overlapping element per byte. The void type has no alignment to keep, which
    # lets NumPy copy each header in one move.
    every = np.ndarray(
        shape=(last + 1,), dtype=f"V{header.itemsize}", buffer=window.data, strides=(1,)
    )
    headers: NDArray[Any] = every[np.minimum(at, last)].view(header)
    return headers
