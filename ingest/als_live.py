"""Envoy's access logs as Envoy sends them: the gRPC access log service, v3.

Every worker thread of every Envoy keeps a stream open, on which nothing is ever answered. So what
was sent when such a stream ends is lost, unless it was read before: at the end each stream is read
until its Envoy has said what it had gathered, and only then ended. An Envoy that finds nobody
keeps what it has to say in its buffer, or drops it, as it is set.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio

from sidelong.ingest.envoy_als import AlsDecoder, AlsMessage, Sender
from sidelong.ingest.grpc_listener import GrpcListener
from sidelong.ingest.intake import Intake
from sidelong.ingest.listening import ServerSettings, listening_address
from sidelong.ingest.receiving import Receiver

__all__ = ["open_als"]

_METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
_LONGEST_SECONDS: Final = 6  # for streams that do not stop to speak
_QUIET_SECONDS: Final = 0.1
"""A stream that spoke and then is quiet for so long is so for the rest of its interval."""


def open_als(url: str, settings: ServerSettings) -> Receiver[AlsMessage]:
    """The source that listens at `als://HOST:PORT`. Section [als].

    Counters: `received` entries; `skipped` ones, which tell of no end; `bad` entries and messages;
    `messages`; `streams` ever and `streams_open` now; `refused` streams; `queued_bytes`.
    Errors: ConfigError for a URL or files of TLS that cannot be used.
    """
    host, port = listening_address(url)
    names = ("received", "skipped", "bad", "messages", "streams", "streams_open", "refused")
    counts: dict[str, int] = dict.fromkeys(names, 0)
    intake: Intake[AlsMessage] = Intake(settings.queue_bytes)
    server = _AlsServer(host, port, settings, intake, counts)
    return Receiver(url, server, intake, AlsDecoder(counts), counts)


class _AlsServer:
    def __init__(
        self,
        host: str,
        port: int,
        settings: ServerSettings,
        intake: Intake[AlsMessage],
        counts: dict[str, int],
    ) -> None:
        method: Any = grpc.stream_unary_rpc_method_handler(self._stream)
        self._listener = GrpcListener(host, port, settings, {_METHOD: method})
        self._settings = settings
        self._intake = intake
        self._counts = counts
        self._draining = False
        self._open: set[asyncio.Task[Any]] = set()
        self._silent: set[asyncio.Task[Any]] = set()  # since the end was asked for

    async def start(self) -> int:
        return await self._listener.start()

    async def stop(self) -> None:
        self._draining, self._silent = True, set(self._open)
        patience = self._settings.drain_seconds
        ending = asyncio.create_task(self._listener.stop(patience + _LONGEST_SECONDS))
        for streams, seconds in ((self._silent, patience), (self._open, _LONGEST_SECONDS - 1)):
            if self._open:
                await asyncio.wait(self._open, timeout=seconds)
            for reading in list(streams):
                reading.cancel()
        await ending

    async def _stream(self, _: AsyncIterator[bytes], context: Any) -> bytes:
        if self._draining or self._counts["streams_open"] >= self._settings.streams:
            self._counts["refused"] += 1
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "sidelong ends, or has as many streams as it may"
            )
        self._counts["streams"] += 1
        self._counts["streams_open"] += 1
        # A task of its own, for it can be ended at the end while the stream still is answered.
        reading = asyncio.create_task(self._read(context))
        reading.add_done_callback(_forget)  # a client that is gone is an error to read from
        self._open.add(reading)
        try:
            await asyncio.wait([reading])
        finally:
            reading.cancel()
            self._open.discard(reading)
            self._silent.discard(reading)
            self._counts["streams_open"] -= 1
        return b""

    async def _read(self, context: Any) -> None:
        sender = Sender(context.peer())
        message = _next(context)
        while (content := await message) is not grpc.aio.EOF:
            self._counts["messages"] += 1
            if not await self._intake.put(AlsMessage(sender, content), len(content)):
                return  # nobody takes it any more
            message = _next(context)
            if self._draining:
                self._silent.discard(asyncio.current_task())
                await asyncio.wait([message], timeout=_QUIET_SECONDS)
                if not message.done():
                    return


def _next(context: Any) -> "asyncio.Future[Any]":
    """The next message of a stream; one that waits while the stream is ended ends in an error."""
    message: asyncio.Future[Any] = asyncio.ensure_future(context.read())
    message.add_done_callback(_forget)
    return message


def _forget(ended: "asyncio.Future[Any]") -> None:
    if not ended.cancelled():
        ended.exception()
