"""The receiver syslog: CEF in messages of RFC 5424 over TLS, TCP or UDP."""

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from sidelong.alerts.format_syslog import FACILITIES, framed, syslog_messages
from sidelong.alerts.http_connection import (
    PERMIT,
    Resolve,
    addresses,
    failure,
    judged,
    resolved,
)
from sidelong.alerts.http_targets import Permission, Place
from sidelong.alerts.receiver import Message, Sent, Undelivered
from sidelong.alerts.receiver_settings import SyslogSettings
from sidelong.alerts.receiver_text import labels_of
from sidelong.errors import ConfigError
from sidelong.ingest.secret import shortened

__all__ = ["SyslogReceiver"]

_PORTS: Final = {"tls": 6514, "udp": 514}
_DATAGRAM: Final = 2_048  # what every receiver should take, RFC 5426
_STREAM: Final = 8_192
_REFUSAL: Final = 0.3  # seconds for a server to say that it refuses our certificate
_FAREWELL: Final = 1.0  # seconds for a server to say that it could not read what it was told


@dataclass(frozen=True, slots=True)
class _Server(Place):
    @property
    def shown(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


class SyslogReceiver:
    """A syslog server; each message over a connection of its own.

    Syslog acknowledges nothing: what a server took from the connection before it failed is lost,
    and over UDP so is whatever the network drops. Errors: ConfigError for settings that cannot be
    used.
    """

    def __init__(
        self,
        settings: SyslogSettings,
        *,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._server = _server(settings)
        self._permission = Permission(settings.allow_private)
        self._resolve = resolve or addresses
        self._clock = clock
        self._facility = FACILITIES[settings.facility]
        self._host = settings.hostname or socket.gethostname()
        datagram = self._server.scheme == "udp"
        self._longest = settings.max_bytes or (_DATAGRAM if datagram else _STREAM)

    def send(self, message: Message) -> Sent:
        """See Receiver."""
        told = syslog_messages(
            message.events,
            labels_of(message),
            sent_at=datetime.fromtimestamp(self._clock(), UTC),
            host=self._host,
            facility=self._facility,
            longest=self._longest,
        )
        ends = time.monotonic() + self._settings.seconds
        found = resolved(self._server, self._resolve, self._settings.seconds)
        permitted = judged(self._server, self._permission, found)
        failed: Exception | None = None
        for address in permitted:
            try:
                self._hand_over(address, told, ends)
            except (OSError, ssl.SSLError) as error:
                failed = error
            else:
                return Sent(f"{len(told)} over {self._server.scheme}", "")
        why = shortened(failure(failed))
        raise Undelivered(f"{self._server.shown}: {why}")

    def _hand_over(self, address: str, told: list[bytes], ends: float) -> None:
        if self._server.scheme == "udp":
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                datagrams.settimeout(_left(ends))
                datagrams.connect((address, self._server.port))
                for one in told:
                    datagrams.send(one)
            return
        plain = socket.create_connection((address, self._server.port), timeout=_left(ends))
        with contextlib.ExitStack() as stack:
            stack.enter_context(plain)
            content = b"".join(map(framed, told))
            if self._server.scheme == "tcp":
                plain.settimeout(_left(ends))
                plain.sendall(content)
                plain.shutdown(socket.SHUT_WR)
                plain.settimeout(min(_FAREWELL, _left(ends)))
                with contextlib.suppress(TimeoutError):
                    while plain.recv(4_096):
                        pass
                return
            plain.settimeout(_left(ends))
            secure = self._context().wrap_socket(plain, server_hostname=self._server.host)
            stack.enter_context(secure)
            secure.sendall(content)
            _listen_for_refusal(secure, min(_REFUSAL, _left(ends)))
            secure.settimeout(min(_FAREWELL, _left(ends)))
            with contextlib.suppress(TimeoutError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                secure.unwrap()

    def _context(self) -> ssl.SSLContext:
        settings = self._settings
        try:
            context = ssl.create_default_context(cafile=settings.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if settings.cert:
                context.load_cert_chain(settings.cert, settings.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the certificates of receiver {self.name} cannot be used: {failure(error)}",
                hint="they are PEM files, which sidelong must be allowed to read",
            ) from error
        return context


def _server(settings: SyslogSettings) -> _Server:
    try:
        parts = urlsplit(settings.url)
        port = parts.port or _PORTS.get(parts.scheme)
        host = parts.hostname
    except ValueError:
        parts, port, host = urlsplit(""), None, None
    extra = parts.path.strip("/") or parts.query or parts.username
    if parts.scheme not in ("tls", "tcp", "udp") or not host or not port or extra:
        raise ConfigError(
            f"the url of receiver {settings.name} is {settings.url!r}, no address of syslog",
            hint="write tls://HOST:6514, tcp://HOST:PORT or udp://HOST:514",
        )
    if parts.scheme != "tls" and not settings.allow_plain:
        raise ConfigError(
            f"receiver {settings.name} would send alerts unencrypted to {settings.url}",
            hint="use tls://, or set allow_plain = true",
        )
    server = _Server(scheme=parts.scheme, host=host, port=port, target="/")
    with contextlib.suppress(ValueError):
        permission = Permission(settings.allow_private)
        if why := permission.refusal(host, ipaddress.ip_address(host)):
            raise ConfigError(f"{server.shown} may not be sent to: {why}", hint=PERMIT)
    return server


def _listen_for_refusal(secure: ssl.SSLSocket, seconds: float) -> None:
    """Whether the server speaks up: one that wants another certificate says so only now.

    Errors: OSError, of which SSLError is one. To be called before `unwrap`, which would take a
    refusal that has already come for the close of a server that is content.
    """
    secure.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        if not secure.recv(1):
            raise ConnectionAbortedError("the server closed before it was told everything")


def _left(ends: float) -> float:
    return max(0.001, ends - time.monotonic())
