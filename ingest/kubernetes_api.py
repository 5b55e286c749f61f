"""The API server of a cluster: lists in pages, watches as lines, credentials kept fresh.

What comes back is decoded straight into the few fields that are needed.

Source: Kubernetes API concepts, "Efficient detection of changes" and "Retrieving large results sets
in chunks"; the metadata of owners by "Metadata-only fetches".
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from sidelong.ingest.kubernetes_login import KubernetesSettings, credentials, log_in

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

__all__ = [
    "OPENED",
    "RESOURCES",
    "ApiBroken",
    "ApiGarbled",
    "ApiGone",
    "ApiRefused",
    "ApiServer",
    "ApiUntrusted",
    "Page",
    "Resource",
]

_CONNECT_SECONDS: Final = 5.0
_LIST_SECONDS: Final = 20.0  # between two pieces of an answer
_PAGE: Final = 500
_PAGE_BYTES: Final = 256 << 20
_LINE_BYTES: Final = 16 << 20  # the server itself stores no object above some MiB
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


OPENED: Final = "OPENED"


class Resource(NamedTuple):
    """Something to watch. without: what is missing where it may not be."""

    name: str
    kind: str
    path: str
    without: str
    only_metadata: bool = False


RESOURCES: Final = (
    Resource("pods", "Pod", "/api/v1/pods", "no address has a name"),
    Resource("services", "Service", "/api/v1/services", "cluster IPs have no name"),
    Resource(
        "endpointslices",
        "EndpointSlice",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "cluster IPs go by the Service, not by the workload behind it",
    ),
    Resource(
        "replicasets",
        "ReplicaSet",
        "/apis/apps/v1/replicasets",
        "Deployments are told from the names of ReplicaSets",
        only_metadata=True,
    ),
    Resource(
        "jobs",
        "Job",
        "/apis/batch/v1/jobs",
        "CronJobs are told from the names of Jobs",
        only_metadata=True,
    ),
    Resource("nodes", "Node", "/api/v1/nodes", "a node is known by the pods on its network only"),
)
"""What is watched; the first is needed, the others help."""


class ApiBroken(Exception):
    """The connection failed; it may get better."""


class ApiGarbled(ApiBroken):
    """What came over a connection makes no sense."""


class ApiUntrusted(ApiBroken):
    """The server's certificate is not the expected one."""


class ApiGone(Exception):
    """The server no longer knows what happened since then: list again."""


class ApiRefused(Exception):
    """The server said no. retry_after: the seconds it asks for, if it does."""

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status: Final = status
        self.retry_after: Final = retry_after


class _ListMetadata(msgspec.Struct):
    version: str = msgspec.field(default="", name="resourceVersion")
    more: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct):
    """A part of a list; its items are not decoded yet."""

    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class ApiServer:
    """A connection to the API server that the settings name.

    Errors: ConfigError when the extra is not installed, or when the settings name no cluster.
    """

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings: Final = settings
        self._lock: Final = Lock()
        self._open: Final[set[BaseHTTPResponse]] = set()
        self._closed = False
        self._login: Final = Lock()  # held while a token is renewed, which may take a while
        self._configuration, self._pool = log_in(settings)

    @property
    def name(self) -> str:
        """The address of the server."""
        return str(self._configuration.host)

    def renew(self) -> None:
        """Read the credentials again, as after the server has turned them down."""
        with self._login:
            self._configuration, self._pool = log_in(self._settings)

    def pages(self, resource: Resource) -> Iterator[Page]:
        """All objects of a resource as they are now. Errors: ApiBroken, ApiRefused, ApiGone."""
        more = ""
        while True:
            query: dict[str, str | int] = {"limit": _PAGE}
            if more:
                query["continue"] = more
            accept = _METADATA_LIST if resource.only_metadata else "application/json"
            with self._get(resource.path, query, accept, _LIST_SECONDS) as response:
                body = _whole(response, _PAGE_BYTES)
            try:
                page = msgspec.json.decode(body, type=Page)
            except msgspec.DecodeError as error:
                raise ApiGarbled(f"its list of {resource.name} makes no sense: {error}") from error
            yield page
            more = page.metadata.more
            if not more:
                return

    def events(self, resource: Resource, version: str) -> Iterator[tuple[str, msgspec.Raw]]:
        """What happens to a resource from this version on, until the server ends the watch.

        It also ends when nothing comes for the set time: the connection may be dead, or the server
        has nothing to say, and either way the next watch tells what happened since.
        The first is of the kind `OPENED`: there is nothing to tell yet, but the server listens.
        Errors: ApiBroken, ApiRefused, ApiGone.
        """
        query: dict[str, str | int] = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": self._settings.watch_seconds,
        }
        accept = f"{_METADATA},application/json" if resource.only_metadata else "application/json"
        silence = self._settings.silence_seconds
        with self._get(resource.path, query, accept, silence) as response:
            yield OPENED, msgspec.Raw(b"{}")
            for line in _until_quiet(_lines(response)):
                try:
                    event = msgspec.json.decode(line, type=_Event)
                except msgspec.DecodeError as error:
                    raise ApiGarbled(f"its watch of {resource.name}: {error}") from error
                if event.type == "ERROR":
                    raise _ended(event.object)
                yield event.type, event.object

    def close(self) -> None:
        """End all that is under way; nothing can be asked any more."""
        with self._lock:
            self._closed = True
            for response in self._open:
                _interrupt(response)

    @contextmanager
    def _get(
        self, path: str, query: Mapping[str, str | int], accept: str, silence: float
    ) -> "Iterator[BaseHTTPResponse]":
        """The answer to a question, to be read inside the context."""
        import urllib3
        from urllib3.exceptions import HTTPError, SSLError

        with self._login:
            pool, host = self._pool, self.name
            headers = {"Accept": accept, "User-Agent": "sidelong"}
            headers |= credentials(self._configuration)
        try:
            response = pool.request(
                "GET",
                f"{host}{path}?{urlencode(query)}",
                headers=headers,
                preload_content=False,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=silence),
            )
        except SSLError as error:
            raise ApiUntrusted(str(error)) from error
        except (HTTPError, OSError) as error:
            raise ApiBroken(_said(error)) from error
        with self._lock:
            self._open.add(response)
            if self._closed:
                _interrupt(response)
        try:
            if response.status == 410:
                raise ApiGone
            if response.status != 200:
                raise _refusal(response)
            yield response
        except (HTTPError, OSError, AttributeError, ValueError) as error:
            # The last two come from a response that another thread has closed.
            raise ApiBroken(_said(error)) from error
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()


def _interrupt(response: "BaseHTTPResponse") -> None:
    """Let whoever reads the response find its end now."""
    with suppress(OSError, RuntimeError, ValueError):  # of one that has ended by itself
        response.shutdown()


def _whole(response: "BaseHTTPResponse", most: int) -> bytes:
    parts, size = [], 0
    for part in response.stream(1 << 16):
        parts.append(part)
        size += len(part)
        if size > most:
            raise ApiGarbled(f"its answer is longer than {most >> 20} MiB")
    return b"".join(parts)


def _lines(response: "BaseHTTPResponse") -> Iterator[bytes]:
    """The lines of a response, each as soon as it is complete."""
    begun: list[bytes] = []
    size = 0
    for part in response.stream(1 << 16):
        *ends, rest = part.split(b"\n")
        for end in ends:
            line = b"".join([*begun, end])
            begun, size = [], 0
            if line.strip():
                yield line
        begun.append(rest)
        size += len(rest)
        if size > _LINE_BYTES:
            raise ApiGarbled(f"a line of its watch is longer than {_LINE_BYTES >> 20} MiB")


def _until_quiet(lines: Iterator[bytes]) -> Iterator[bytes]:
    from urllib3.exceptions import ReadTimeoutError

    with suppress(ReadTimeoutError):
        yield from lines


def _ended(status: msgspec.Raw) -> ApiGone | ApiBroken:
    """Why the server ended a watch."""
    try:
        why = msgspec.json.decode(status, type=_Status)
    except msgspec.DecodeError as error:
        return ApiGarbled(f"it ended a watch: {error}")
    return (
        ApiGone() if why.code == 410 else ApiBroken(f"it ended a watch: {why.code} {why.message}")
    )


def _refusal(response: "BaseHTTPResponse") -> ApiRefused:
    after = response.headers.get("Retry-After", "")
    return ApiRefused(
        response.status, response.reason or "", float(after) if after.isdecimal() else None
    )


def _said(error: Exception) -> str:
    """What a failure comes to, without the objects that urllib3 prints before it."""
    cause = getattr(error, "reason", None) or error
    return str(cause).rpartition(">: ")[2].rpartition("): ")[2] or type(error).__name__
