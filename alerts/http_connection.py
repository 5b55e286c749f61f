"""Connections to permitted addresses, which end when their time is up.

A name is resolved once, and the very addresses that were judged are dialled, so that a name server
cannot answer differently the second time. The certificate is still checked against the name.
"""

import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from urllib3.connection import HTTPConnection, HTTPSConnection

from sidelong.alerts.http_targets import Permission, Place
from sidelong.alerts.receiver import Undelivered

__all__ = ["PERMIT", "Deadline", "Resolve", "addresses", "connect", "failure", "judged", "resolved"]

Resolve = Callable[[str, int], list[str]]
"""From a host and a port to addresses. Errors: OSError."""

PERMIT: Final = "permit it in allow_private if that is meant"


def addresses(host: str, port: int) -> list[str]:
    """What the system's resolver says, each address once, in its order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def resolved(where: Place, resolve: Resolve, seconds: float) -> list[str]:
    """The addresses of a place, within `seconds`: resolvers have a patience of their own.

    Errors: Undelivered when there is none in time.
    """
    answer: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(resolve(where.host, where.port))
        except OSError as error:
            answer.put(error)
        except UnicodeError:  # a label that is empty or too long
            answer.put(OSError("it is no name of a host"))

    threading.Thread(target=ask, daemon=True, name="resolve").start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        raise Undelivered(f"{where.shown} was not resolved within {seconds:g} s") from None
    if isinstance(found, OSError):
        raise Undelivered(f"{where.shown} cannot be resolved: {found.strerror or found}")
    return found


def judged(where: Place, permission: Permission, found: list[str]) -> list[str]:
    """Those of the addresses `found` that may be connected to; at least one.

    Errors: Undelivered when there is none, which says why.
    """
    refused = {text: permission.refusal(where.host, ipaddress.ip_address(text)) for text in found}
    permitted = [text for text, why in refused.items() if not why]
    if not permitted:
        why = ", ".join(filter(None, refused.values())) or "there is no address"
        raise Undelivered(f"{where.shown} may not be sent to: {why}; {PERMIT}")
    return permitted


class Deadline:
    """Ends every connection it watches after so many seconds, in whatever they are.

    Time-outs of a socket begin anew with each byte, so a server that trickles would never meet one.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self._ends = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            while self._watched:
                self._watched.pop().close()

    @property
    def over(self) -> bool:
        """Whether the time is up; time-outs of a socket may come a moment before the timer's."""
        return self.passed or time.monotonic() > self._ends - 0.02

    @property
    def remaining(self) -> float:
        """Seconds until then; never below a millisecond, for zero means no time-out."""
        return max(0.001, self._ends - time.monotonic())

    def watch(self, connected: socket.socket) -> None:
        """End `connected` too; it may be wrapped or closed meanwhile."""
        with self._lock:
            self._watched.append(connected.dup())
        if self.passed:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self.passed = True
            for one in self._watched:
                with suppress(OSError):  # it has ended by itself
                    one.shutdown(socket.SHUT_RDWR)


class _Plain(HTTPConnection):
    dial: Callable[[], socket.socket]

    def _new_conn(self) -> socket.socket:
        return self.dial()


class _Encrypted(HTTPSConnection):
    dial: Callable[[], socket.socket]

    def _new_conn(self) -> socket.socket:
        return self.dial()


def connect(
    where: Place,
    reached: list[str],
    *,
    proxy: Place | None,
    tls: ssl.SSLContext,
    deadline: Deadline,
    connect_seconds: float,
    read_seconds: float,
) -> HTTPConnection:
    """A connection to `where` over one of the addresses `reached`, those of the proxy if any.

    Errors: OSError, ssl.SSLError.
    """
    through = proxy or where

    def dial() -> socket.socket:
        failed: OSError = OSError("no address")
        for address in reached:
            timeout = min(connect_seconds, deadline.remaining)
            try:
                connected = socket.create_connection((address, through.port), timeout=timeout)
            except OSError as error:
                failed = error
            else:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                deadline.watch(connected)
                return connected
        raise failed

    connection: _Plain | _Encrypted
    if where.scheme == "https":
        connection = _Encrypted(through.host, through.port, ssl_context=tls)
        if proxy:
            connection.set_tunnel(where.host, where.port, scheme="http")
    else:
        connection = _Plain(through.host, through.port)
    connection.dial = dial
    try:
        connection.connect()
        connection.timeout = read_seconds  # urllib3 takes it when it waits for the answer
        sock: Any = connection.sock
        sock.settimeout(read_seconds)
    except BaseException:
        connection.close()
        raise
    return connection


def failure(error: Exception | None) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
