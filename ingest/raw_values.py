"""The value of a Kafka message, unpacked: within bounds, or with the reason why not.

A value may be compressed as a whole, beside what Kafka does to batches of messages, and it may
stand behind the frame of a schema registry. Sources: RFC 1952 (gzip), RFC 8878 (Zstandard), LZ4
Frame Format 1.6, Confluent's wire format.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import lz4.frame
import zstandard

__all__ = ["Unreadable", "begins", "deframed", "unpacked"]

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LZ4: Final = b"\x04\x22\x4d\x18"
_STEP: Final = 256 << 10
_ZSTD_STEP: Final = 1 << 10  # of input: a block of 128 KiB can be written in 4 bytes
_LARGEST_WINDOW: Final = 128 << 20
_FRAME_BYTES: Final = 5  # a zero and the number of the schema
_ENCODINGS: Final = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd", "lz4": "lz4"}


class Unreadable(Exception):
    """Why a message cannot be read, in a few words."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def rest(self) -> bytes: ...
    def some(self, content: bytes) -> bytes: ...
    def left(self) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data

    def some(self, content: bytes) -> bytes:
        return self._inner.decompress(content, _STEP)

    def left(self) -> bytes:
        """What goes into the next call."""
        return self._inner.unconsumed_tail


class _Zstd:
    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        self._inner = decompressor.decompressobj()
        self._left = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def rest(self) -> bytes:
        return self._inner.unused_data + self._left

    def some(self, content: bytes) -> bytes:
        self._left = content[_ZSTD_STEP:]
        return self._inner.decompress(content[:_ZSTD_STEP])

    def left(self) -> bytes:
        return self._left


class _Lz4:
    def __init__(self) -> None:
        self._inner = lz4.frame.LZ4FrameDecompressor()

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def rest(self) -> bytes:
        return bytes(self._inner.unused_data or b"")

    def some(self, content: bytes) -> bytes:
        return bytes(self._inner.decompress(content, _STEP))

    def left(self) -> bytes:
        return b""  # it keeps what it was given


_PACKINGS: Final[dict[str, tuple[bytes, Callable[[], _Decompressor]]]] = {
    "gzip": (_GZIP, _Gzip),
    "zstd": (_ZSTD, _Zstd),
    "lz4": (_LZ4, _Lz4),
}
_DAMAGE: Final = (zlib.error, zstandard.ZstdError, RuntimeError, EOFError)


def unpacked(value: bytes, headers: Mapping[str, bytes], most: int) -> bytes:
    """What the value holds; itself, where it is not compressed.

    most: bytes that may come out. Errors: Unreadable for more than that, for what is cut off or
    corrupt, and for a header that says it is compressed where it is not.
    """
    packing = _packing(value)
    said = headers.get("content-encoding")
    if said is not None:
        name = said.decode(errors="replace").strip().lower()
        if name in _ENCODINGS and _ENCODINGS[name] != packing:
            raise Unreadable(f"its content-encoding is {name}, and it begins with {begins(value)}")
    if packing is not None:
        return _inside(value, packing, most)
    if len(value) > most:
        raise Unreadable(f"it is {len(value):,} bytes long, more than {most >> 20:,} MiB")
    return value


def _packing(value: bytes) -> str | None:
    return next((name for name, (start, _) in _PACKINGS.items() if value.startswith(start)), None)


def _inside(value: bytes, packing: str, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    content = value
    while content:
        if _packing(content) != packing:
            if not content.strip(b"\0"):
                break
            raise Unreadable(f"something else follows its {packing} data")
        decompressor = _PACKINGS[packing][1]()
        while not decompressor.eof:
            try:
                part = decompressor.some(content)
            except _DAMAGE as error:
                raise Unreadable(f"corrupt {packing} data ({str(error)[:80]})") from error
            content = decompressor.left()
            size += len(part)
            parts.append(part)
            if size > most:
                raise Unreadable(f"it is more than {most >> 20:,} MiB once it is unpacked")
            if not part and not content and not decompressor.eof:
                raise Unreadable(f"cut off inside its {packing} data")
        content = decompressor.rest
    return b"".join(parts)


def deframed(content: bytes) -> tuple[bytes, int | None]:
    """What stands behind the frame of a schema registry, and the number of its schema; or itself.

    Nothing else that is read here begins with a zero.
    """
    if content[:1] != b"\0" or len(content) <= _FRAME_BYTES:
        return content, None
    number = int.from_bytes(content[1:_FRAME_BYTES], "big")
    return content[_FRAME_BYTES:], number


def begins(content: bytes, most: int = 16) -> str:
    """How something begins, as a message may quote it."""
    start = content[:most]
    return ascii(start)[1:] + ("..." if len(content) > most else "")
