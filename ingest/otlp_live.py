"""Access logs as OpenTelemetry sends them: OTLP over gRPC, and over HTTP with protobuf or JSON.

A call is answered when its logs were handed over, so that what sidelong has not dealt with is sent
again by a sender that does so (OpenTelemetry's collector does, Envoy does not). A sender that does
not hear in time may send twice what has arrived.

Source: the OTLP specification, 1.5: partial success, throttling.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import grpc
import msgspec

from sidelong.ingest.envoy_logs import EnvoySettings
from sidelong.ingest.grpc_listener import GrpcListener, come_later
from sidelong.ingest.http_listener import Answer, HttpListener, HttpRequest
from sidelong.ingest.intake import Intake
from sidelong.ingest.line_files import Decoded
from sidelong.ingest.listening import ServerSettings, listening_address
from sidelong.ingest.otlp_logs import OtlpDecoder
from sidelong.ingest.otlp_logs_pb2 import ExportResponse, PartialSuccess, Status
from sidelong.ingest.otlp_records import RecordReader
from sidelong.ingest.receiving import Receiver, Server

__all__ = ["open_otlp", "open_otlp_http"]

_METHOD: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_PATH: Final = "/v1/logs"
_PORT, _HTTP_PORT = 4317, 4318
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_RETRY_SECONDS: Final = 1
_NAMES: Final = ("received", "bad", "requests", "requests_open", "refused")


class _Result(msgspec.Struct):
    """What became of a request: how many of its records were none, and why; or none of it was."""

    rejected: int = 0
    why: str = ""
    readable: bool = True
    delivered: bool = True


class _Request:
    """One export. `result` is set in the thread of the reader, `answer` then on the event loop."""

    __slots__ = ("_answer", "_loop", "content", "json", "result")

    def __init__(self, content: bytes, *, json: bool) -> None:
        self.content = content
        self.json = json
        self.result = _Result()
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[_Result] = self._loop.create_future()

    async def answer(self) -> _Result:
        return await self._answer

    def settle(self) -> None:
        with suppress(RuntimeError):  # the loop has ended, and whoever waited with it
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if not self._answer.done():  # the client may have gone
            self._answer.set_result(self.result)


class _Takes:
    """Decodes requests and says what became of them."""

    def __init__(self, decoder: OtlpDecoder, counts: dict[str, int]) -> None:
        self._reader = RecordReader()
        self._decoder = decoder
        self._counts = counts

    def decode(self, requests: Sequence[_Request]) -> tuple[Decoded, int]:
        exports = [self._reader.read(request.content, json=request.json) for request in requests]
        decoded, rejected = self._decoder.flows(exports)
        faults = dict(reversed(decoded.faults))
        for number, (request, export) in enumerate(zip(requests, exports, strict=True)):
            why = faults.get(number, "not an access log")
            request.result = _Result(rejected[number], why, export.fault is None)
            self._counts["received"] += len(export.records)
        return decoded, sum(len(request.content) for request in requests)

    def done(self, requests: Sequence[_Request]) -> None:
        for request in requests:
            request.settle()

    def lost(self, requests: Sequence[_Request]) -> None:
        for request in requests:
            request.result = _Result(delivered=False)
            request.settle()


class _Exports:
    """What both transports share: into the queue, and back with what became of it."""

    def __init__(
        self, settings: ServerSettings, intake: Intake[_Request], counts: dict[str, int]
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._counts = counts

    async def take(self, content: bytes, *, json: bool) -> _Result | None:
        """None: there is no room, it is to be sent again later."""
        request = _Request(content, json=json)
        self._counts["requests_open"] += 1
        try:
            if not await self._intake.put(request, len(content), self._settings.wait_seconds):
                self._counts["refused"] += 1
                return None
            self._counts["requests"] += 1
            return await request.answer()
        finally:
            self._counts["requests_open"] -= 1


class _GrpcServer:
    def __init__(self, host: str, port: int, settings: ServerSettings, exports: _Exports) -> None:
        method: Any = grpc.unary_unary_rpc_method_handler(self._export)
        methods = {_METHOD: method}
        self._listener = GrpcListener(host, port, settings, methods, calls=settings.streams)
        self._exports = exports
        self._settings = settings

    async def start(self) -> int:
        return await self._listener.start()

    async def stop(self) -> None:
        await self._listener.stop(self._settings.drain_seconds)

    async def _export(self, content: bytes, context: Any) -> bytes:
        result = await self._exports.take(content, json=False)
        if result is None:
            full = grpc.StatusCode.RESOURCE_EXHAUSTED
            await context.abort(full, "the queue is full", come_later(_RETRY_SECONDS))
        elif not result.delivered:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "nobody reads any more")
        elif not result.readable:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, result.why)
        return _response(result or _Result()).SerializeToString()


class _HttpServer:
    def __init__(
        self,
        host: str,
        port: int,
        settings: ServerSettings,
        exports: _Exports,
        counts: dict[str, int],
    ) -> None:
        kinds = (_PROTOBUF, _JSON)
        self._listener = HttpListener(
            host, port, settings, _PATH, kinds, self._export, _refusal, counts
        )
        self._exports = exports
        self._settings = settings

    async def start(self) -> int:
        return await self._listener.start()

    async def stop(self) -> None:
        await self._listener.stop(self._settings.drain_seconds)

    async def _export(self, request: HttpRequest) -> Answer:
        kind = request.content_type
        result = await self._exports.take(request.body, json=kind == _JSON)
        if result is None:
            answer = _refusal(kind, HTTPStatus.TOO_MANY_REQUESTS, "the queue is full")
            return answer._replace(retry_seconds=_RETRY_SECONDS)
        if not result.delivered:
            answer = _refusal(kind, HTTPStatus.SERVICE_UNAVAILABLE, "nobody reads any more")
            return answer._replace(retry_seconds=_RETRY_SECONDS)
        if not result.readable:
            return _refusal(kind, HTTPStatus.BAD_REQUEST, result.why)
        if kind == _PROTOBUF:
            return Answer(HTTPStatus.OK, kind, _response(result).SerializeToString())
        partial: dict[str, object] = {}
        if result.rejected:  # numbers of 64 bits are text in the JSON of protobuf
            rejected = str(result.rejected)
            partial = {
                "partialSuccess": {"rejectedLogRecords": rejected, "errorMessage": result.why}
            }
        return Answer(HTTPStatus.OK, kind, msgspec.json.encode(partial))


def open_otlp(url: str, settings: ServerSettings, envoy: EnvoySettings) -> Receiver[_Request]:
    """The source that listens at `otlp://HOST:PORT` for gRPC; port 4317 unless it is told.

    Counters: `received` records and those `bad` among them, which are no access logs; `requests`,
    `requests_open` now, and those `refused` for want of room; `queued_bytes`.
    Errors: ConfigError for a URL, files of TLS or a format of Envoy that cannot be used.
    """
    host, port = listening_address(url, _PORT)
    counts: dict[str, int] = dict.fromkeys(_NAMES, 0)
    intake: Intake[_Request] = Intake(settings.queue_bytes)
    exports = _Exports(settings, intake, counts)
    return _receiver(url, _GrpcServer(host, port, settings, exports), intake, envoy, counts)


def open_otlp_http(url: str, settings: ServerSettings, envoy: EnvoySettings) -> Receiver[_Request]:
    """The same at `otlp+http://HOST:PORT`, for POST /v1/logs; port 4318 unless it is told.

    Counters: those of `open_otlp`, and `connections_open` now; `refused` counts all requests that
    went no further.
    """
    host, port = listening_address(url, _HTTP_PORT)
    counts: dict[str, int] = dict.fromkeys((*_NAMES, "connections_open"), 0)
    intake: Intake[_Request] = Intake(settings.queue_bytes)
    exports = _Exports(settings, intake, counts)
    server = _HttpServer(host, port, settings, exports, counts)
    return _receiver(url, server, intake, envoy, counts)


def _receiver(
    url: str,
    server: Server,
    intake: Intake[_Request],
    envoy: EnvoySettings,
    counts: dict[str, int],
) -> Receiver[_Request]:
    return Receiver(url, server, intake, _Takes(OtlpDecoder(envoy), counts), counts)


def _response(result: _Result) -> ExportResponse:
    if not result.rejected:
        return ExportResponse()
    partial = PartialSuccess(rejected_log_records=result.rejected, error_message=result.why)
    return ExportResponse(partial_success=partial)


def _refusal(kind: str, status: HTTPStatus, why: str) -> Answer:
    """An error as OTLP tells it over HTTP: a google.rpc.Status, in the form of the request."""
    if kind == _JSON:
        return Answer(status, kind, msgspec.json.encode({"message": why}))
    if kind == _PROTOBUF:
        return Answer(status, kind, Status(message=why).SerializeToString())
    return Answer(status, body=why.encode())
