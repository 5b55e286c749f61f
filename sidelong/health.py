"""The small HTTP server by which a process of the service is watched.

/metrics for Prometheus, /healthz and /readyz for Kubernetes, / for a person. It only answers GET
and HEAD, one request a connection, and whoever is slow or asks for much is turned away: nothing
that is sent here can hold up detection.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from threading import Thread
from typing import Final, NamedTuple, TypeVar

from sidelong.errors import ConfigError
from sidelong.ingest.http_wire import HEAD_BYTES, Refusal, read_head
from sidelong.ingest.listening import listening_address
from sidelong.metrics import CONTENT_TYPE
from sidelong.vitals import FINE

__all__ = ["HealthServer"]

_log: Final = logging.getLogger(__name__)

_REQUEST_SECONDS: Final = 5.0  # from the first byte to the end of the head
_ANSWER_SECONDS: Final = 10.0
_CONNECTIONS: Final = 64
_ASKING: Final = 2  # threads that ask the roles: no more than that can hang there
_Told = TypeVar("_Told")

_JSON: Final = "application/json"
_INDEX: Final = """\
sidelong

/metrics  what is measured, for Prometheus
/healthz  whether it moves: if not, restart it
/readyz   whether it does its work: if not, what each role lacks
"""


class _Answer(NamedTuple):
    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class HealthServer:
    """Serves at `listen` (HOST:PORT, port 0 for any) from `start` to `stop`.

    scrape: gives what is measured. alive, ready: of each role what is wrong, or `vitals.FINE`.
    request_seconds: how long a request may take to arrive.

    Errors: ConfigError for what is no address.
    """

    def __init__(
        self,
        listen: str,
        *,
        scrape: Callable[[], bytes],
        alive: Callable[[], Mapping[str, str]],
        ready: Callable[[], Mapping[str, str]],
        request_seconds: float = _REQUEST_SECONDS,
    ) -> None:
        self._host, self._port = listening_address(f"http://{listen}")
        self._scrape, self._alive, self._ready = scrape, alive, ready
        self._request_seconds = request_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._thread: Thread | None = None
        self._asking: ThreadPoolExecutor | None = None
        self._open: dict[asyncio.Task[None], None] = {}  # the longest open first

    def start(self) -> int:
        """Listen, in a thread of its own; the port.

        Errors: ConfigError when the address cannot be had.
        """
        loop = asyncio.new_event_loop()
        try:
            server = loop.run_until_complete(
                asyncio.start_server(self._connection, self._host, self._port, limit=HEAD_BYTES)
            )
        except OSError as error:
            loop.close()
            raise ConfigError(
                f"{self._host}:{self._port} cannot be listened at: {error.strerror or error}",
                hint='set listen in [service] to another address, or to "" for none',
            ) from error
        self._loop, self._server = loop, server
        self._asking = ThreadPoolExecutor(_ASKING, thread_name_prefix="health")
        self._thread = Thread(target=loop.run_forever, name="health", daemon=True)
        self._thread.start()
        return int(server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Answer no more; may be called twice, and without a start."""
        loop, thread, asking = self._loop, self._thread, self._asking
        if loop is None or thread is None or asking is None:
            return
        self._loop = None
        asyncio.run_coroutine_threadsafe(self._close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
        asking.shutdown(wait=False, cancel_futures=True)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open, timeout=2)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = None
        if len(self._open) > _CONNECTIONS:
            # In favour of who comes now: silent connections shall not keep a probe out.
            next(iter(self._open)).cancel()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._request_seconds):
                    method, path = await _request(reader)
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await self._answer(method, path)
                    writer.write(_encoded(answer, head_only=method == "HEAD"))
                    await writer.drain()
        except Refusal as refusal:
            writer.write(_encoded(_Answer(refusal.status, f"{refusal.why}\n".encode())))
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # gone, or told to go
        except Exception:
            _log.exception("what /metrics or /readyz asks for fails")
            writer.write(_encoded(_Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"see the log\n")))
        finally:
            self._open.pop(task, None)
            writer.close()
            with suppress(OSError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    async def _answer(self, method: str, path: str) -> _Answer:
        if method not in ("GET", "HEAD"):
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"GET or HEAD\n")
        match path.partition("?")[0]:
            case "/":
                return _Answer(HTTPStatus.OK, _INDEX.encode())
            case "/healthz":  # at once, whatever may hang there
                return _judged("alive", self._alive())
            case "/readyz":
                return _judged("ready", await self._asked(self._ready))
            case "/metrics":
                return _Answer(HTTPStatus.OK, await self._asked(self._scrape), CONTENT_TYPE)
            case _:
                return _Answer(HTTPStatus.NOT_FOUND, b"there is /metrics, /healthz and /readyz\n")

    async def _asked(self, ask: Callable[[], _Told]) -> _Told:
        """What somebody else tells, who may hang."""
        return await asyncio.get_running_loop().run_in_executor(self._asking, ask)


async def _request(reader: asyncio.StreamReader) -> tuple[str, str]:
    method, path, _, headers = await read_head(await reader.readexactly(1), reader)
    if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "no body is taken")
    return method, path


def _judged(what: str, roles: Mapping[str, str]) -> _Answer:
    fine = all(lack == FINE for lack in roles.values())
    body = json.dumps({what: fine, "roles": dict(roles)}, indent=2) + "\n"
    status = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
    return _Answer(status, body.encode(), _JSON)


def _encoded(answer: _Answer, *, head_only: bool = False) -> bytes:
    head = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"content-type: {answer.content_type}",
        f"content-length: {len(answer.body)}",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "connection: close",
    ]
    if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
        head.append("allow: GET, HEAD")
    return "\r\n".join([*head, "", ""]).encode() + (b"" if head_only else answer.body)
