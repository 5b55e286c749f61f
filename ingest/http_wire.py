"""HTTP/1.1 requests off a stream: heads, bodies, and what is wrong with them.

Everything is bounded, and what is not plainly HTTP/1.1 is refused. Source: RFC 9112.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

__all__ = ["HEAD_BYTES", "Refusal", "content_type", "read_body", "read_head", "unpacked"]

HEAD_BYTES: Final = 16 << 10
"""How long a head may be; the limit of the streams that are read here."""

_PART_BYTES: Final = 64 << 10
_START: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (/[\x21-\x7e]*) HTTP/1\.([01])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_SINGLE: Final = (b"content-length", b"transfer-encoding", b"content-type", b"content-encoding")


class Refusal(Exception):
    """A request that goes no further: with which status, and why."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


async def read_head(
    first: bytes, reader: asyncio.StreamReader
) -> tuple[str, str, bool, dict[bytes, bytes]]:
    """Method, path, whether it is HTTP/1.0, headers."""
    try:
        head = first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large"
        ) from None
    lines = head[:-4].split(b"\r\n")
    started = _START.fullmatch(lines[0])
    if not started:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the request line is not of HTTP/1.1")
    headers: dict[bytes, bytes] = {}
    for line in lines[1:]:
        field = _FIELD.fullmatch(line)
        if not field:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a header is none")
        name = field[1].lower()
        if name in headers and name in _SINGLE:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"{name.decode()} is there twice")
        headers[name] = field[2]
    return started[1].decode(), started[2].decode(), started[3] == b"0", headers


async def read_body(
    reader: asyncio.StreamReader, headers: Mapping[bytes, bytes], most: int
) -> AsyncIterator[bytes]:
    """The body in parts, together no more than `most` bytes."""
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked":
            raise Refusal(HTTPStatus.BAD_REQUEST, "its length is told in two ways, or in none")
        async for chunk in _chunks(reader, most):
            yield chunk
        return
    if length is None:
        raise Refusal(HTTPStatus.LENGTH_REQUIRED, "say how long it is")
    if not re.fullmatch(rb"[0-9]{1,12}", length):
        raise Refusal(HTTPStatus.BAD_REQUEST, "content-length is no number")
    if int(length) > most:
        raise _too_large(most)
    left = int(length)
    while left:
        part = await reader.read(min(left, _PART_BYTES))
        if not part:
            raise EOFError
        left -= len(part)
        yield part


async def _chunks(reader: asyncio.StreamReader, most: int) -> AsyncIterator[bytes]:
    so_far = 0
    while True:
        try:
            line = await reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError:
            line = b""
        told = _SIZE.fullmatch(line)
        if not told:
            raise Refusal(HTTPStatus.BAD_REQUEST, "a chunk has no size")
        size = int(told[1], 16)
        so_far += size
        if so_far > most:
            raise _too_large(most)
        if not size:
            break
        yield await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise Refusal(HTTPStatus.BAD_REQUEST, "a chunk does not end where it should")
    if await reader.readexactly(2) != b"\r\n":
        raise Refusal(HTTPStatus.BAD_REQUEST, "trailers are not taken")


def unpacked(body: bytes, headers: Mapping[bytes, bytes], most: int) -> bytes:
    coding = headers.get(b"content-encoding", b"").lower()
    if coding in (b"", b"identity"):
        return body
    if coding != b"gzip":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "of encodings only gzip is known")
    unpack = zlib.decompressobj(wbits=31)
    try:
        content = unpack.decompress(body, most + 1)
    except zlib.error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "it is not gzip") from None
    if len(content) > most:
        raise _too_large(most)
    if not unpack.eof or unpack.unused_data:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the gzip is cut off, or more follows it")
    return content


def _too_large(most: int) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"no more than {most:,} bytes are taken")


def content_type(headers: Mapping[bytes, bytes]) -> str:
    value = headers.get(b"content-type", b"")
    return value.partition(b";")[0].strip().lower().decode("latin-1")
