"""An HTTP/1.1 server for requests with a body, small on purpose: one handler, everything bounded.

Kept-alive connections, Content-Length and chunked bodies, `Expect: 100-continue` and gzip are
understood; what is refused, and why, is told by http_wire.py.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple

from sidelong.errors import SourceError
from sidelong.ingest.http_wire import (
    HEAD_BYTES,
    Refusal,
    content_type,
    read_body,
    read_head,
    unpacked,
)
from sidelong.ingest.listening import Identity, ServerSettings

__all__ = ["Answer", "HttpListener", "HttpRequest"]

_IDLE_SECONDS: Final = 120
_BODY_SECONDS: Final = 30


class HttpRequest(NamedTuple):
    """A request with its body, decompressed. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return content_type(self.headers)


class Answer(NamedTuple):
    """What is answered; `retry_seconds` tells when to try again."""

    status: HTTPStatus
    content_type: str = "text/plain"
    body: bytes = b""
    retry_seconds: int | None = None


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
        self._held = 0  # bytes of bodies that have begun and not ended

    async def start(self) -> int:
        """Listen; the port. Errors: SourceError when the address cannot be had."""
        try:
            self._server = await asyncio.start_server(
                self._connection,
                self._host,
                self._port,
                limit=HEAD_BYTES,
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
        kind = ""
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                method, path, old, headers = await read_head(first, reader)
                kind = content_type(headers)
                self._check(method, path, headers)
                if headers.get(b"expect", b"").lower() == b"100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                async for part in read_body(reader, headers, self._settings.message_bytes):
                    self._hold(len(part))
                    body += part  # as much as is held
                content = unpacked(bytes(body), headers, self._settings.message_bytes)
        except Refusal as refusal:
            self._counts["refused"] += 1
            answer = self._refuse(kind, refusal.status, refusal.why)
            if refusal.status is HTTPStatus.TOO_MANY_REQUESTS:
                answer = answer._replace(retry_seconds=1)
            writer.write(_encoded(answer, close=True))
            await writer.drain()
            await _swallow(reader)
            return False
        finally:
            self._held -= len(body)
        answer = await self._handle(HttpRequest(method, path, headers, content))
        close = self._ending or old or b"close" in headers.get(b"connection", b"").lower()
        writer.write(_encoded(answer, close=close))
        await writer.drain()
        return not close

    def _hold(self, size: int) -> None:
        """Errors: Refusal when senders together are sending more than may be held."""
        if self._held + size > max(self._settings.queue_bytes, self._settings.message_bytes):
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too much is being sent at once")
        self._held += size

    def _check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Errors: Refusal of a request that need not be read on."""
        if path.partition("?")[0] != self._path:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is only {self._path}")
        if method != "POST":
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "POST it")
        if content_type(headers) not in self._content_types:
            known = " or ".join(self._content_types)
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {known}")


async def _swallow(reader: asyncio.StreamReader, seconds: float = 0.5) -> None:
    """Read on for a moment: a reset before the client has read its answer would take it away."""
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            while await reader.read(1 << 16):
                pass


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
