"""How much an Arrow IPC stream claims to hold, found out before anything is allocated for it.

A length in a message is whatever its writer put there. The stream is walked as far as its frames,
records and buffers go; what columns mean is left to polars, which reads it only when the sums fit.

Source: Arrow columnar format 1.5 (IPC), `format/Message.fbs`; FlatBuffers' internals.
"""

import struct
from typing import Final

from sidelong.ingest.raw_values import Unreadable

__all__ = ["check_arrow"]

_CONTINUED: Final = 0xFFFF_FFFF
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_MOST_PARTS: Final = 1 << 14  # messages, or buffers of one; a schema of ours has a hundred
_NOT_COMPRESSED: Final = -1


def check_arrow(content: bytes, most_bytes: int, most_rows: int) -> None:
    """Errors: Unreadable when it is no whole stream, or more than that once it is unpacked."""
    at, messages, size, rows = 0, 0, 0, 0
    ended = False
    while at < len(content):
        messages += 1
        try:
            marker, length = struct.unpack_from("<Ii", content, at)
        except struct.error:
            raise Unreadable("Arrow, cut off inside a message") from None
        if marker != _CONTINUED or messages > _MOST_PARTS:
            raise Unreadable("no Arrow stream that can be read")
        at += 8
        if length == 0:
            ended = True
            break
        if length < 0 or length > len(content) - at:
            raise Unreadable(f"Arrow, with a message of {length:,} bytes where there are fewer")
        try:
            body, held, count = _message(content[at : at + length], content, at + length)
        except (struct.error, IndexError):
            raise Unreadable("Arrow, with a message that is none") from None
        at += length + body
        size, rows = size + held, rows + count
        if size > most_bytes:
            raise Unreadable(f"Arrow of more than {most_bytes >> 20:,} MiB once it is unpacked")
        if rows > most_rows:
            raise Unreadable(f"Arrow of {rows:,} rows, more than {most_rows:,}")
    if messages < 2 and not ended:  # the end need not be marked, but what there is comes first
        raise Unreadable("Arrow, cut off before its first rows")


def _message(head: bytes, content: bytes, start: int) -> tuple[int, int, int]:
    """Of one message: the bytes of its body, those once it is unpacked, and its rows."""
    root = _u32(head, 0)
    kind = head[place] if (place := _field(head, root, 1)) else 0
    header = _field(head, root, 2)
    place = _field(head, root, 3)
    body = _i64(head, place) if place else 0
    if body < 0 or body > len(content) - start:
        raise Unreadable(f"Arrow, with a body of {body:,} bytes where there are fewer")
    if not header or kind not in (_DICTIONARY, _RECORDS):
        return body, 0, 0
    table = header + _u32(head, header)
    if kind == _DICTIONARY:
        data = _field(head, table, 1)
        if not data:
            raise Unreadable("Arrow, with a dictionary of nothing")
        table = data + _u32(head, data)
    rows, size = _records(head, table, content, start, body)
    return body, size, rows


def _records(head: bytes, table: int, content: bytes, start: int, body: int) -> tuple[int, int]:
    place = _field(head, table, 0)
    rows = _i64(head, place) if place else 0
    if rows < 0:
        raise Unreadable("Arrow, with fewer rows than none")
    size = 0
    for offset, length in _pairs(head, _field(head, table, 1)):
        if length < 0 or offset < 0:
            raise Unreadable("Arrow, with a column of less than nothing")
        rows = max(rows, offset)  # a pair of a column is its length and its nulls
    compressed = _field(head, table, 3) != 0
    for offset, length in _pairs(head, _field(head, table, 2)):
        if offset < 0 or length < 0 or offset + length > body:
            raise Unreadable(f"Arrow, with a buffer of {length:,} bytes where there are fewer")
        if compressed and length >= 8:
            unpacked = _i64(content, start + offset)
            length = length if unpacked == _NOT_COMPRESSED else unpacked
            if length < 0:
                raise Unreadable("Arrow, with a buffer of less than nothing")
        size += length
    return rows, size


def _field(head: bytes, table: int, slot: int) -> int:
    """Where a field of a table lies, or 0 where it is absent."""
    vtable = table - _i32(head, table)
    if vtable < 0:
        raise IndexError
    if 4 + 2 * slot + 2 > _u16(head, vtable):
        return 0
    offset = _u16(head, vtable + 4 + 2 * slot)
    return table + offset if offset else 0


def _pairs(head: bytes, place: int) -> list[tuple[int, int]]:
    """A vector of structs of two numbers."""
    if not place:
        return []
    vector = place + _u32(head, place)
    count = _u32(head, vector)
    if count > _MOST_PARTS:
        raise Unreadable(f"Arrow, with {count:,} columns or buffers")
    numbers = struct.unpack_from(f"<{2 * count}q", head, vector + 4)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _u16(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", content, at)[0])


def _i32(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<i", content, at)[0])


def _u32(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", content, at)[0])


def _i64(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<q", content, at)[0])
