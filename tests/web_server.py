"""A web server on loopback that answers as a test says, plainly or over TLS."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

__all__ = ["Request", "WebServer", "serving", "trickling", "tunnelling"]


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[Request], tuple[int, dict[str, str], bytes]]


@dataclass
class WebServer:
    """`answer` may be replaced while it serves; `requests` is what came."""

    port: int
    answer: Answering
    requests: list[Request] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of these tests hang up as they like."""


@contextmanager
def serving(
    answer: Answering = lambda _: (200, {}, b"ok"), *, authority: trustme.CA | None = None
) -> Iterator[WebServer]:
    """A server, with a certificate for hooks.example and 127.0.0.1 if there is an authority."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(length))
            server.requests.append(request)
            status, given, body = server.answer(request)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **given}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = _Server(("127.0.0.1", 0), Handler)
    if authority:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("hooks.example", "127.0.0.1").configure_cert(tls)
        # The handshake in the request's own thread, or a client that does none would block all.
        listening.socket = tls.wrap_socket(
            listening.socket, server_side=True, do_handshake_on_connect=False
        )
    server = WebServer(listening.server_address[1], answer)
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join(10)


@contextmanager
def trickling(beginning: bytes, drop: bytes, every: threading.Event) -> Iterator[int]:
    """The port of a server that sends `beginning`, then `drop` after `drop`, until `every`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                connected, _ = listening.accept()
                with connected:
                    connected.sendall(beginning)
                    while not every.wait(0.02):
                        connected.sendall(drop)
            except OSError:
                pass  # the client has gone, which is what the test is about

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            every.set()
            thread.join(10)


@contextmanager
def tunnelling(port: int, asked: list[str]) -> Iterator[int]:
    """The port of a proxy that takes one CONNECT, notes what was `asked`, and leads to `port`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while some := source.recv(65536):
                    sink.sendall(some)
                sink.shutdown(socket.SHUT_WR)

        def serve() -> None:
            with suppress(OSError):
                client, _ = listening.accept()
                with client, socket.create_connection(("127.0.0.1", port)) as server:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        head += client.recv(1)
                    asked.append(head.decode().splitlines()[0])
                    client.sendall(b"HTTP/1.1 200 Go\r\n\r\n")
                    back = threading.Thread(target=pump, args=(server, client), daemon=True)
                    back.start()
                    pump(client, server)
                    back.join(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join(10)
