"""An HTTP/1.1 server for requests with a body, small on purpose: one handler, everything bounded.

Kept-alive connections, Content-Length and chunked bodies, `Expect: 100-continue` and gzip are
understood; what is not plainly HTTP/1.1 is turned away. Source: RFC 9112.
"""

import asyncio
import re
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple

from sidelong.errors import SourceError
from sidelong.ingest.listening import Identity, ServerSettings

__all__ = ["Answer", "HttpListener", "HttpRequest"]

_HEAD_BYTES: Final = 16 << 10
_IDLE_SECONDS: Final = 120
_BODY_SECONDS: Final = 30
_START: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (/[\x21-\x7e]*) HTTP/1\.([01])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_SINGLE: Final = (b"content-length", b"transfer-encoding", b"content-type", b"content-encoding")


class HttpRequest(NamedTuple):
    """A request with its body, decompressed. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return _content_type(self.headers)


class Answer(NamedTuple):
    """What is answered; `retry_seconds` tells when to try again."""

    status: HTTPStatus
    content_type: str = "text/plain"
    body: bytes = b""
    retry_seconds: int | None = None


class _Refusal(Exception):
    """A request that goes no further; the connection ends with the answer."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.answer = Answer(status, body=why.encode())


class HttpListener:
    """Serves `path` for POST with `content_types`; requests go to `handle`, refusals to `refuse`.

    refuse: gives what is answered to a request that did not get that far, in words of its content
    type. counts: `connections_open` and `refused` are kept there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        settings: ServerSettings,
        path: str,
        content_types: tuple[str, ...],
        handle: Callable[[HttpRequest], Awaitable[Answer]],
        refuse: Callable[[str, HTTPStatus, str], Answer],
        counts: dict[str, int],
    ) -> None:
        self._host, self._port = host, port
        self._settings = settings
        self._identity = Identity.of(settings)
        self._path = path
        self._content_types = content_types
        self._handle = handle
        self._refuse = refuse
        self._counts = counts
        self._server: asyncio.Server | None = None
        self._idle: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._ending = False

    async def start(self) -> int:
        """Listen; the port. Errors: SourceError when the address cannot be had."""
        try:
            self._server = await asyncio.start_server(
                self._connection,
                self._host,
                self._port,
                limit=_HEAD_BYTES,
                ssl=self._context(),
                ssl_handshake_timeout=10 if self._identity else None,
            )
        except OSError as error:
            raise SourceError(
                f"{self._host}:{self._port} cannot be listened at: {error.strerror or error}",
                hint="choose another port, or end what listens there",
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, seconds: float) -> None:
        """Take no new requests; those that have begun have `seconds` to end."""
        self._ending = True
        if self._server is not None:
            self._server.close()
        for idle in self._idle:
            idle.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=seconds)
        for late in self._busy:
            late.cancel()
        if left := self._idle | self._busy:
            await asyncio.wait(left, timeout=1)

    def _context(self) -> ssl.SSLContext | None:
        identity = self._identity
        if identity is None:
            return None
        context = identity.context

        def renew(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
            identity.changed()
            connection.context = identity.context

        context.sni_callback = renew  # asked for each connection, whether it names a host or not
        return context

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._counts["connections_open"] += 1
        try:
            if self._counts["connections_open"] > self._settings.streams:
                self._counts["refused"] += 1
                answer = Answer(HTTPStatus.SERVICE_UNAVAILABLE, retry_seconds=1)
                writer.write(_encoded(answer, close=True))
                await writer.drain()
                if self._counts["connections_open"] <= 2 * self._settings.streams:
                    await _swallow(reader)
                return
            again = True
            while again and not self._ending:
                self._idle.add(task)
                async with asyncio.timeout(_IDLE_SECONDS):
                    first = await reader.readexactly(1)
                self._idle.discard(task)
                self._busy.add(task)
                again = await self._request(first, reader, writer)
                self._busy.discard(task)
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError, ssl.SSLError):
            pass  # gone, silent for too long, or told to go
        finally:
            self._counts["connections_open"] -= 1
            self._idle.discard(task)
            self._busy.discard(task)
            writer.close()
            with suppress(OSError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _request(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one; whether another may follow."""
        content_type = ""
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                method, path, old, headers = await _head(first, reader)
                content_type = _content_type(headers)
                self._check(method, path, headers)
                if headers.get(b"expect", b"").lower() == b"100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await _body(reader, headers, self._settings.message_bytes)
                body = _unpacked(body, headers, self._settings.message_bytes)
        except _Refusal as refusal:
            self._counts["refused"] += 1
            status, why = refusal.answer.status, refusal.answer.body.decode()
            writer.write(_encoded(self._refuse(content_type, status, why), close=True))
            await writer.drain()
            await _swallow(reader)
            return False
        answer = await self._handle(HttpRequest(method, path, headers, body))
        close = self._ending or old or b"close" in headers.get(b"connection", b"").lower()
        writer.write(_encoded(answer, close=close))
        await writer.drain()
        return not close

    def _check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Errors: _Refusal of a request that need not be read on."""
        if path.partition("?")[0] != self._path:
            raise _Refusal(HTTPStatus.NOT_FOUND, f"there is only {self._path}")
        if method != "POST":
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "POST it")
        if _content_type(headers) not in self._content_types:
            known = " or ".join(self._content_types)
            raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {known}")


async def _head(
    first: bytes, reader: asyncio.StreamReader
) -> tuple[str, str, bool, dict[bytes, bytes]]:
    """Method, path, whether it is HTTP/1.0, headers."""
    try:
        head = first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large"
        ) from None
    lines = head[:-4].split(b"\r\n")
    started = _START.fullmatch(lines[0])
    if not started:
        raise _Refusal(HTTPStatus.BAD_REQUEST, "the request line is not of HTTP/1.1")
    headers: dict[bytes, bytes] = {}
    for line in lines[1:]:
        field = _FIELD.fullmatch(line)
        if not field:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "a header is none")
        name = field[1].lower()
        if name in headers and name in _SINGLE:
            raise _Refusal(HTTPStatus.BAD_REQUEST, f"{name.decode()} is there twice")
        headers[name] = field[2]
    return started[1].decode(), started[2].decode(), started[3] == b"0", headers


async def _body(reader: asyncio.StreamReader, headers: Mapping[bytes, bytes], most: int) -> bytes:
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked":
            raise _Refusal(HTTPStatus.BAD_REQUEST, "its length is told in two ways, or in none")
        return await _chunks(reader, most)
    if length is None:
        raise _Refusal(HTTPStatus.LENGTH_REQUIRED, "say how long it is")
    if not re.fullmatch(rb"[0-9]{1,12}", length):
        raise _Refusal(HTTPStatus.BAD_REQUEST, "content-length is no number")
    if int(length) > most:
        raise _too_large(most)
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader, most: int) -> bytes:
    body = bytearray()
    while True:
        try:
            line = await reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError:
            line = b""
        told = _SIZE.fullmatch(line)
        if not told:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "a chunk has no size")
        size = int(told[1], 16)
        if len(body) + size > most:
            raise _too_large(most)
        if not size:
            break
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise _Refusal(HTTPStatus.BAD_REQUEST, "a chunk does not end where it should")
    if await reader.readexactly(2) != b"\r\n":
        raise _Refusal(HTTPStatus.BAD_REQUEST, "trailers are not taken")
    return bytes(body)


def _unpacked(body: bytes, headers: Mapping[bytes, bytes], most: int) -> bytes:
    coding = headers.get(b"content-encoding", b"").lower()
    if coding in (b"", b"identity"):
        return body
    if coding != b"gzip":
        raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "of encodings only gzip is known")
    unpack = zlib.decompressobj(wbits=31)
    try:
        content = unpack.decompress(body, most + 1)
    except zlib.error:
        raise _Refusal(HTTPStatus.BAD_REQUEST, "it is not gzip") from None
    if len(content) > most:
        raise _too_large(most)
    if not unpack.eof or unpack.unused_data:
        raise _Refusal(HTTPStatus.BAD_REQUEST, "the gzip is cut off, or more follows it")
    return content


def _too_large(most: int) -> _Refusal:
    return _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"no more than {most:,} bytes are taken")


async def _swallow(reader: asyncio.StreamReader, seconds: float = 0.5) -> None:
    """Read on for a moment: a reset before the client has read its answer would take it away."""
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            while await reader.read(1 << 16):
                pass


def _content_type(headers: Mapping[bytes, bytes]) -> str:
    value = headers.get(b"content-type", b"")
    return value.partition(b";")[0].strip().lower().decode("latin-1")


def _encoded(answer: Answer, *, close: bool) -> bytes:
    head = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"content-type: {answer.content_type}",
        f"content-length: {len(answer.body)}",
    ]
    if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
        head.append("allow: POST")
    if answer.retry_seconds is not None:
        head.append(f"retry-after: {answer.retry_seconds}")
    if close:
        head.append("connection: close")
    return "\r\n".join([*head, "", ""]).encode() + answer.body
