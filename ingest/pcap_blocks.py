"""The records of a pcap file: either byte order, micro- or nanoseconds.

Source: the specification of the format by the IETF's opsawg, draft-ietf-opsawg-pcap.
"""

from typing import Final, Literal

import numpy as np

from sidelong.errors import SourceError
from sidelong.ingest.capture import (
    LONGEST_PACKET,
    Found,
    Records,
    chain,
    supported_links,
    to_nanoseconds,
)
from sidelong.ingest.link_layers import LINK_TYPES
from sidelong.ingest.packet_headers import Bytes, Ints, gather

__all__ = ["PCAP_HEADER", "PcapFormat"]

PCAP_HEADER: Final = 24
"""Bytes of the file's header, in front of the first record."""

_NANOSECONDS: Final = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # magic number -> nanoseconds per unit
_SIZE: Final = 16  # of a record's header
_LENIENCE: Final = 4  # tools exist that state too small a snapshot length
_LONG: Final = 800


class PcapFormat:
    """Reads one pcap file, given its header.

    Errors: SourceError when the header is not that of a pcap file or names a link type that is not
    supported.
    """

    def __init__(self, name: str, header: bytes) -> None:
        self._name = name
        for order in ("<", ">"):
            magic, _, _, _, snapshot, link = np.frombuffer(
                header,
                np.dtype(
                    [
                        ("magic", f"{order}u4"),
                        ("version", f"{order}u4"),
                        ("zone", f"{order}u4"),
                        ("accuracy", f"{order}u4"),
                        ("snapshot", f"{order}u4"),
                        ("link", f"{order}u4"),
                    ]
                ),
                count=1,
            )[0].item()
            if magic in _NANOSECONDS:
                break
        else:
            raise SourceError(
                f"{name} begins with {header[:4].hex()}, which is no pcap or pcapng file",
                hint="give a capture as tcpdump, dumpcap or Wireshark save it",
            )
        self._link = link & 0xFFFF  # the upper half tells of checksums behind the frames
        if self._link not in LINK_TYPES:
            raise SourceError(
                f"{name} holds frames of link type {self._link}, which is not supported",
                hint=f"capture on another interface; supported are {supported_links()}",
            )
        self._record = np.dtype(
            [(field, f"{order}u4") for field in ("seconds", "fraction", "captured", "wire")]
        )
        self._order: Literal["little", "big"] = "little" if order == "<" else "big"
        self._unit = _NANOSECONDS[magic]
        self._longest = min(snapshot * _LENIENCE, LONGEST_PACKET) if snapshot else LONGEST_PACKET
        self._scan = True

    def find(self, window: Bytes, base: int, size: int) -> Found:
        """See `Format.find`."""
        starts = self._starts(window, size)
        header = gather(window, starts, self._record)
        captured = header["captured"].astype(np.int64)
        following = starts + _SIZE + captured
        lying = np.flatnonzero(captured > self._longest)
        damage = None
        count = int(lying[0]) if lying.size else int(np.count_nonzero(following <= size))
        if lying.size:
            damage = (
                f"the record at byte {base + starts[count]} claims {captured[count]} bytes, more "
                f"than the {self._longest} a packet may have here; nothing behind it can be read"
            )
        behind = base + (int(following[count - 1]) if count else 0)
        # Frames of many bytes make looking at each byte dearer than a step per record.
        self._scan = behind - base < _LONG * max(count, 1)
        header, captured = header[:count], captured[:count]
        position = base + starts[:count]
        records = Records(
            position=position,
            begin=position + _SIZE,
            captured=captured,
            wire=np.maximum(header["wire"].astype(np.int64), captured),
            time=to_nanoseconds(
                header["seconds"].astype(np.int64), header["fraction"] * np.int64(self._unit)
            ),
            link=np.full(count, self._link, dtype=np.int64),
        )
        return Found(records, behind, damage)

    def _starts(self, window: Bytes, size: int) -> Ints:
        data = window.data
        order = self._order

        def length_at(at: int) -> int:
            return _SIZE + int.from_bytes(data[at + 8 : at + 12], order)

        marks = lengths = np.zeros(0, dtype=np.int64)
        if self._scan and size >= _SIZE:
            # Records of the same 18 hours share the upper half of their seconds. Hardly anything
            # else in a capture does.
            upper = 2 if order == "little" else 0
            count = size - _SIZE + 1
            same = window[upper : upper + count] == window[upper]
            same &= window[upper + 1 : upper + 1 + count] == window[upper + 1]
            marks = np.flatnonzero(same)
            lengths = _SIZE + gather(window, marks, self._record)["captured"].astype(np.int64)
        return chain(0, size, _SIZE, marks, lengths, length_at)
