"""An API server in a hundred lines: it lists and watches, and fails on cue.

Objects are dictionaries as the Kubernetes API writes them. Every change gets the next resource
version; a watch from a version on tells the changes after it, and 410 once `forget` was called.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]

PATHS: Final = {
    "/api/v1/pods": "Pod",
    "/api/v1/services": "Service",
    "/api/v1/nodes": "Node",
    "/apis/discovery.k8s.io/v1/endpointslices": "EndpointSlice",
    "/apis/apps/v1/replicasets": "ReplicaSet",
    "/apis/batch/v1/jobs": "Job",
}


class FakeKubernetes:
    """The state of a cluster and a server for it, which `stop` and `start` take down and up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[tuple[str, str], Object] = {}
        self._events: list[tuple[int, str, str, Object]] = []
        self._version = 100
        self._oldest = 0
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.generation = 0
        """How many times connections were broken so far."""
        self.asked: list[str] = []
        self.failing: Callable[[str, bool], tuple[int, bytes] | None] = lambda _path, _watch: None
        """What to answer instead: given the path and whether it is a watch, a status and a body
        (an empty body with status 0 for no answer at all)."""

    # The cluster

    def put(self, kind: str, thing: Object) -> None:
        """Create or change an object."""
        with self._changed:
            key = kind, _uid(thing)
            self._note("MODIFIED" if key in self._objects else "ADDED", kind, thing)
            self._objects[key] = self._events[-1][3]

    def delete(self, kind: str, thing: Object) -> None:
        """Delete an object; `thing` is its last state."""
        with self._changed:
            self._objects.pop((kind, _uid(thing)))
            self._note("DELETED", kind, thing)

    def send(self, kind: str, text: str, thing: Object | None = None) -> None:
        """Send a line to those who watch, whatever it is."""
        with self._changed:
            self._note(text, kind, thing or {})

    def forget(self) -> None:
        """Compact the history: nobody can go on from before now."""
        with self._changed:
            self._version += 1
            self._oldest = self._version
            self._events.clear()

    def _note(self, what: str, kind: str, thing: Object) -> None:
        self._version += 1
        about = {**thing.get("metadata", {}), "resourceVersion": str(self._version)}
        self._events.append((self._version, what, kind, {**thing, "metadata": about}))
        self._changed.notify_all()

    # The server

    def start(self) -> str:
        """Listen, on the same port as before; returns the address."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.fake = self
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{self._port}"

    def hang_up(self) -> None:
        """Break all watches that are under way."""
        with self._changed:
            self.generation += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Listen no more, and break what is under way."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.hang_up()

    def page(self, kind: str, limit: int, after: int) -> Object:
        """A page of a list."""
        with self._changed:
            found = [thing for (of, _), thing in self._objects.items() if of == kind]
            more = str(after + limit) if after + limit < len(found) else ""
            about = {"resourceVersion": str(self._version), "continue": more}
        return {"kind": f"{kind}List", "metadata": about, "items": found[after : after + limit]}

    def follow(self, kind: str, version: int, seconds: float) -> Iterator[bytes]:
        """The lines of a watch."""
        if version < self._oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            yield json.dumps({"type": "ERROR", "object": gone}).encode()
            return
        generation = self.generation
        while True:
            with self._changed:
                new = [event for event in self._events if event[0] > version]
                if not new and not self._changed.wait(seconds):
                    about = {"resourceVersion": str(self._version)}
                    mark = {"type": "BOOKMARK", "object": {"kind": kind, "metadata": about}}
                    yield json.dumps(mark).encode()
                    return
                if generation != self.generation:
                    raise ConnectionAbortedError
            version = new[-1][0] if new else version
            for _, what, of, thing in new:
                if of == kind:
                    plain = what in ("ADDED", "MODIFIED", "DELETED")
                    event = json.dumps({"type": what, "object": thing}) if plain else what
                    yield event.encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeKubernetes

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients come and go."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, _Server)
        self.generation = self.server.fake.generation

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        if server.fake.generation != self.generation:
            raise ConnectionAbortedError  # the server that took this connection is no more
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        watch = "watch" in query
        server.fake.asked.append(self.path)
        failure = server.fake.failing(url.path, watch)
        if failure == (0, b""):
            threading.Event().wait(5)
            self.close_connection = True
        elif failure:
            self._answer(*failure)
        elif watch:
            self._watch(server.fake, PATHS[url.path], query)
        else:
            limit, after = int(query["limit"]), int(query.get("continue", 0))
            page = server.fake.page(PATHS[url.path], limit, after)
            self._answer(200, json.dumps(page).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, fake: FakeKubernetes, kind: str, query: dict[str, str]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seconds = float(query["timeoutSeconds"])
        for line in fake.follow(kind, int(query["resourceVersion"]), seconds):
            for part in (line[:40], line[40:] + b"\n"):  # a line may come in pieces
                if part:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


def _uid(thing: Object) -> str:
    about = thing["metadata"]
    return str(about.get("uid") or f"{about.get('namespace')}/{about['name']}")


@contextmanager
def fake_kubernetes() -> Iterator[tuple[FakeKubernetes, str]]:
    """A cluster and its address."""
    fake = FakeKubernetes()
    try:
        yield fake, fake.start()
    finally:
        fake.stop()


def kubeconfig(folder: Path, server: str, **user: str) -> str:
    """A kubeconfig for a server; returns its path."""
    path = folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return str(path)
