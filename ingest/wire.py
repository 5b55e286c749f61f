"""Protobuf on the wire, as far as it can be told without knowing what it is.

Source: protobuf.dev, "Encoding".
"""

from typing import Final

__all__ = ["delimited", "fields_of", "varint", "whole_delimited"]

_MOST_FIELDS: Final = 4_096
_MOST_MESSAGES: Final = 1 << 20
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 10


def fields_of(content: bytes) -> dict[int, tuple[int, bytes]] | None:
    """Which fields there are: for each number its wire type, and its first value if that is bytes.

    None for what is no message. Of a message with thousands of fields only the first are looked at.
    """
    found: dict[int, tuple[int, bytes]] = {}
    at, end = 0, len(content)
    for _ in range(_MOST_FIELDS):
        if at >= end:
            break
        tag, at = _varint(content, at)
        number, kind = tag >> 3, tag & 7
        if at < 0 or not 0 < number < 1 << 29:
            return None
        value = b""
        if kind == _VARINT:
            _, at = _varint(content, at)
            if at < 0:
                return None
        elif kind == _LENGTH:
            size, at = _varint(content, at)
            if at < 0 or size > end - at:
                return None
            if number not in found:
                value = content[at : at + size]
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            if at > end:
                return None
        else:
            return None
        if number not in found:
            found[number] = kind, value
    return found


def whole_delimited(content: bytes) -> bytes | None:
    """The first of several messages, each after its length as a varint; None where that is not so
    to the very end, for an empty message, and for more than a million.
    """
    at, end = 0, len(content)
    first: bytes | None = None
    for _ in range(_MOST_MESSAGES):
        size, at = _varint(content, at)
        if at < 0 or not 0 < size <= end - at:
            return None
        if first is None:
            first = content[at : at + size]
        at += size
        if at == end:
            return first
    return None


def delimited(content: bytes) -> list[bytes]:
    """The messages of what is `whole_delimited`."""
    messages = []
    at, end = 0, len(content)
    while at < end:
        size, at = _varint(content, at)
        messages.append(content[at : at + size])
        at += size
    return messages


def varint(number: int) -> bytes:
    """A number as a varint."""
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number, and where it ends; -1 where there is none."""
    value = shift = 0
    for byte in content[at : at + _LONGEST_VARINT]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, -1
