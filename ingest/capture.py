"""What the capture formats have in common: records, and finding them without reading each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Final, Protocol

import numpy as np

from sidelong.ingest.link_layers import LINK_TYPES
from sidelong.ingest.packet_headers import Bytes, Ints

__all__ = [
    "LONGEST_PACKET",
    "NO_TIME",
    "Format",
    "Found",
    "Records",
    "chain",
    "supported_links",
    "to_nanoseconds",
]

LONGEST_PACKET: Final = 1 << 18
"""Bytes of the longest packet a capture may hold, as in libpcap; a longer one is damage."""

NO_TIME: Final = int(np.iinfo(np.int64).min)
"""Time of a record that bears none, or one that cannot be true."""

_EARLIEST: Final = 631_152_000  # 1990
_LATEST: Final = 4_102_444_800  # 2100


@dataclass(frozen=True, slots=True)
class Records:
    """Packet records in the order of the file, as int64 columns of shape (n,).

    position: offset of the record in the file; begin: of its first captured byte. captured, wire:
    its bytes in the file and on the wire. time: nanoseconds since 1970, or `NO_TIME`. link: link
    type, which may be one that is not supported.
    """

    position: Ints
    begin: Ints
    captured: Ints
    wire: Ints
    time: Ints
    link: Ints

    @classmethod
    def none(cls) -> "Records":
        return cls(*(np.zeros(0, dtype=np.int64) for _ in fields(cls)))

    def __len__(self) -> int:
        return self.position.size

    @classmethod
    def join(cls, parts: Sequence["Records"]) -> "Records":
        """The records of all parts, one part after the other."""
        full = [part for part in parts if len(part)]
        if len(full) < 2:
            return full[0] if full else cls.none()
        return cls(
            *(
                np.concatenate([getattr(part, column.name) for part in full])
                for column in fields(cls)
            )
        )

    def part(self, which: slice | Ints) -> "Records":
        return Records(*(getattr(self, column.name)[which] for column in fields(self)))


@dataclass(frozen=True, slots=True)
class Found:
    """Records of a window, the offset in the file behind the last whole one, and what is wrong
    with the record there, if its header alone shows it; reading then has to stop."""

    records: Records
    following: int
    damage: str | None = None


class Format(Protocol):
    """A capture format, reading one file from its beginning."""

    def find(self, window: Bytes, base: int, size: int) -> Found:
        """The whole records among the first `size` bytes of the window.

        The window lies at offset `base` of the file, and begins with a record.
        """
        ...


def to_nanoseconds(seconds: Ints, rest: Ints) -> Ints:
    """Nanoseconds since 1970 out of seconds and a rest; `NO_TIME` outside of 1990 to 2100."""
    sane = (seconds >= _EARLIEST) & (seconds < _LATEST)
    return np.where(sane, np.where(sane, seconds, 0) * 1_000_000_000 + rest, NO_TIME)


def supported_links() -> str:
    """The supported link types, for a message."""
    return ", ".join(f"{name} ({number})" for number, name in LINK_TYPES.items())


def chain(
    begin: int,
    end: int,
    header: int,
    marks: Ints,
    lengths: Ints,
    length_at: Callable[[int], int],
) -> Ints:
    """Offsets of the records that begin at `begin` and then each where the one before ends.

    Goes on while `header` bytes of a record lie before `end`, so that the last one may not be
    whole. marks: offsets, ascending, at which records probably begin, a guess that may be wrong in
    both directions; lengths: how long each would be. length_at: the length of one record, at
    least 1. Where marks follow each other as records would, a whole run of them is taken at once;
    only where they do not is the file walked record by record.
    """
    ends = marks + lengths
    breaks = np.append(np.flatnonzero(ends[:-1] != marks[1:]), marks.size - 1)
    found: list[Ints | Sequence[int]] = []
    at = begin
    while at + header <= end:
        mark = int(np.searchsorted(marks, at))
        known = mark < marks.size
        if known and marks[mark] == at:
            stop = int(breaks[np.searchsorted(breaks, mark)])
            found.append(marks[mark : stop + 1])
            at = int(ends[stop])
            continue
        until = int(marks[mark]) if known else end - header + 1
        singly: list[int] = []
        while at < until:
            singly.append(at)
            at += length_at(at)
        found.append(singly)
    if not found:
        return np.zeros(0, dtype=np.int64)
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in found])
