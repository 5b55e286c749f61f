"""The records of a pcapng file: several sections and interfaces, each with its own conventions.

Source: the specification of the format by the IETF's opsawg, draft-ietf-opsawg-pcapng. Packets
come in enhanced (6), simple (3) and old (2) packet blocks. A simple one bears no time: it is given
that of the packet before it.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from sidelong.errors import SourceError
from sidelong.ingest.capture import (
    LONGEST_PACKET,
    NO_TIME,
    Found,
    Records,
    chain,
    supported_links,
    to_nanoseconds,
)
from sidelong.ingest.link_layers import LINK_TYPES
from sidelong.ingest.packet_headers import Bytes, Ints, gather

__all__ = ["SECTION", "PcapngFormat"]

SECTION: Final = b"\x0a\x0d\x0d\x0a"
"""How a section, and with it a file, begins; the same in both byte orders."""

_SECTION_TYPE: Final = 0x0A0D0D0A
_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 1, 2, 3, 6
_BYTE_ORDER: Final = 0x1A2B3C4D
_OVERHEAD: Final = 12  # of a block: its type, and its length twice
_LONGEST_BLOCK: Final = 1 << 24  # as in libpcap
_DATA: Final = {_PACKET: 28, _OLD_PACKET: 28, _SIMPLE_PACKET: 12}
_STRETCH: Final = 1 << 16  # looked through at first: a file may consist of many small sections
_NO_INTERFACE: Final = -1
_RESOLUTION, _OFFSET = 9, 14  # options of an interface


@dataclass(frozen=True, slots=True)
class _Interface:
    """link type; units: of time per second; offset: seconds to add; snapshot: longest packet."""

    link: int
    units: int = 1_000_000
    offset: int = 0
    snapshot: int = 0

    def nanoseconds(self, units: Ints) -> Ints:
        unsigned = units.view(np.uint64)
        if self.units >= 1 << 64:
            return np.full(units.size, NO_TIME)
        seconds, rest = np.divmod(unsigned, np.uint64(self.units))
        # Where a unit is finer than a nanosecond, the product might not fit.
        finer = max(0, self.units.bit_length() - 30)
        rest = (rest >> np.uint64(finer)) * np.uint64(1_000_000_000)
        nanoseconds = rest // np.uint64(max(self.units >> finer, 1))
        return to_nanoseconds(
            np.minimum(seconds, 1 << 40).astype(np.int64) + self.offset,
            np.minimum(nanoseconds, 999_999_999).astype(np.int64),
        )


class PcapngFormat:
    """Reads one pcapng file from its first byte.

    Errors: SourceError when its first section cannot be read, or when a packet comes before any
    interface whose link type is supported.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._order: Literal["little", "big"] = "little"
        self._sections = 0
        self._interfaces: list[_Interface] = []
        self._supported = False
        self._last_time = NO_TIME

    def find(self, window: Bytes, base: int, size: int) -> Found:
        """See `Format.find`."""
        parts: list[Records] = []
        at, stretch, damage = 0, _STRETCH, None
        while at + _OVERHEAD <= size and damage is None:
            if window[at : at + 4].tobytes() == SECTION:
                damage = self._begin_section(window, at, base)
                if damage:
                    break
                stretch = _STRETCH
            limit = min(at + stretch, size)
            found = self._find_in_section(window, at, base, limit)
            parts.append(found.records)
            damage = found.damage
            if found.following == base + at and limit == size:
                break
            at = found.following - base
            stretch *= 2
        return Found(Records.join(parts), base + at, damage)

    def _begin_section(self, window: Bytes, at: int, base: int) -> str | None:
        magic = window[at + 8 : at + 12].tobytes()
        if int.from_bytes(magic, "little") == _BYTE_ORDER:
            self._order = "little"
        elif int.from_bytes(magic, "big") == _BYTE_ORDER:
            self._order = "big"
        elif self._sections:
            return f"the section at byte {base + at} has no byte order; nothing behind can be read"
        else:
            raise SourceError(
                f"{self._name} begins like pcapng but its byte order reads {magic.hex()}",
                hint="give a capture as dumpcap or Wireshark save it",
            )
        self._sections += 1
        self._interfaces = []
        return None

    def _find_in_section(self, window: Bytes, at: int, base: int, size: int) -> Found:
        """The records from `at` on, up to the next section."""
        starts = self._starts(window, at, size)
        order = "<" if self._order == "little" else ">"
        block = np.dtype([("type", f"{order}u4"), ("length", f"{order}u4")])
        header = gather(window, starts, block)
        length = (header["length"].astype(np.int64) + 3) & ~3
        section = header["type"] == _SECTION_TYPE
        section[:1] = False
        wrong = ((length < _OVERHEAD) | (length > _LONGEST_BLOCK)) & ~section
        stop = np.flatnonzero(wrong | section | (starts + length > size))
        count = int(stop[0]) if stop.size else starts.size
        damage = None
        following = int(starts[count] if count < starts.size else (starts + length)[-1])
        if count < starts.size and wrong[count]:
            damage = (
                f"the block at byte {base + following} claims {length[count]} bytes, which no "
                "block can have; nothing behind it can be read"
            )
        kinds = header["type"][:count].astype(np.int64)
        starts, length = starts[:count], length[:count]
        for place in np.flatnonzero(kinds == _INTERFACE).tolist():
            begin = int(starts[place])
            self._add_interface(window[begin : begin + int(length[place])].tobytes())
        packets = np.flatnonzero(np.isin(kinds, list(_DATA)))
        records, lying = self._records(window, starts[packets], length[packets], kinds[packets])
        if lying is not None:
            damage = (
                f"the packet at byte {base + lying} claims more bytes than its block has; nothing "
                "behind it can be read"
            )
            following = lying
        moved = Records(
            records.position + base,
            records.begin + base,
            records.captured,
            records.wire,
            records.time,
            records.link,
        )
        return Found(moved, base + following, damage)

    def _starts(self, window: Bytes, at: int, size: int) -> Ints:
        order: Literal["little", "big"] = self._order
        data = window.data

        def length_at(offset: int) -> int:
            if offset != at and bytes(data[offset : offset + 4]) == SECTION:
                return _LONGEST_BLOCK << 16  # another byte order may begin there: go no further
            length = int.from_bytes(data[offset + 4 : offset + 8], order)
            return max((length + 3) & ~3, _OVERHEAD)

        # Blocks begin at multiples of four, counted from the beginning of the file.
        last = max(size - _OVERHEAD, at)
        prefix = "<" if order == "little" else ">"
        words = window[at : at + (last - at) // 4 * 4 + 4].view(f"{prefix}u4")
        marks = at + 4 * np.flatnonzero(words == _PACKET)
        lengths = gather(window, marks + 4, np.dtype([("length", f"{prefix}u4")]))["length"]
        lengths = np.maximum((lengths.astype(np.int64) + 3) & ~3, _OVERHEAD)
        return chain(at, size, _OVERHEAD, marks, lengths, length_at)

    def _add_interface(self, block: bytes) -> None:
        link = int.from_bytes(block[8:10], self._order)
        snapshot = int.from_bytes(block[12:16], self._order)
        units, offset, at = 1_000_000, 0, 16
        while at + 4 <= len(block) - 4:
            code = int.from_bytes(block[at : at + 2], self._order)
            size = int.from_bytes(block[at + 2 : at + 4], self._order)
            value = block[at + 4 : at + 4 + size]
            if code == 0:
                break
            if code == _RESOLUTION and size == 1:
                units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            if code == _OFFSET and size == 8:
                offset = int.from_bytes(value, self._order, signed=True)
                offset = min(max(offset, -(1 << 40)), 1 << 40)
            at += 4 + (size + 3) // 4 * 4
        self._interfaces.append(_Interface(link, units, offset, snapshot))
        self._supported |= link in LINK_TYPES

    def _records(
        self, window: Bytes, starts: Ints, length: Ints, kinds: Ints
    ) -> tuple[Records, int | None]:
        """The packets in the blocks at `starts`, up to one that claims more than its block has."""
        if not starts.size:
            return Records.none(), None
        if not self._supported:
            links = sorted({interface.link for interface in self._interfaces})
            raise SourceError(
                f"{self._name} holds frames of link type {', '.join(map(str, links))}, which is "
                "not supported",
                hint=f"capture on another interface; supported are {supported_links()}",
            )
        order = "<" if self._order == "little" else ">"
        names = ("interface", "upper", "lower", "captured", "wire")
        header = gather(window, starts + 8, np.dtype([(name, f"{order}u4") for name in names]))
        interface = header["interface"].astype(np.int64)
        captured, wire = header["captured"].astype(np.int64), header["wire"].astype(np.int64)
        units = header["upper"].astype(np.int64) << 32 | header["lower"].astype(np.int64)
        begin = starts + _DATA[_PACKET]

        old, simple = kinds == _OLD_PACKET, kinds == _SIMPLE_PACKET
        # An old block has two halves there: the interface, and a count of drops.
        halves = interface & 0xFFFF if order == "<" else interface >> 16
        interface = np.where(old, halves, interface)
        if simple.any():
            wire = np.where(simple, header["interface"].astype(np.int64), wire)
            longest = self._interfaces[0].snapshot if self._interfaces else 0
            within = np.minimum(wire, longest) if longest else wire
            room = length - _OVERHEAD - 4
            captured = np.where(simple, np.minimum(within, room), captured)
            interface = np.where(simple, 0, interface)
            begin = np.where(simple, starts + _DATA[_SIMPLE_PACKET], begin)

        room = starts + length - 4 - begin
        lying = np.flatnonzero((captured > room) | (captured > LONGEST_PACKET))
        count = int(lying[0]) if lying.size else starts.size
        interface = np.where(interface < len(self._interfaces), interface, _NO_INTERFACE)
        time, link = np.full(starts.size, NO_TIME), np.full(starts.size, _NO_INTERFACE)
        for number in np.unique(interface[interface >= 0]).tolist():
            mine = interface == number
            time[mine] = self._interfaces[number].nanoseconds(units[mine])
            link[mine] = self._interfaces[number].link
        time = self._fill_times(time, simple)
        records = Records(starts, begin, captured, np.maximum(wire, captured), time, link)
        return records.part(slice(count)), int(starts[count]) if lying.size else None

    def _fill_times(self, time: Ints, simple: Ints) -> Ints:
        if simple.any():
            known = np.where(simple, 0, np.arange(1, time.size + 1))
            time = np.append(self._last_time, time)[np.maximum.accumulate(known)]
        self._last_time = int(time[-1])
        return time
