"""What every server of ours has to set: TLS, limits, how long to wait; and its address."""

import ssl
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from sidelong.errors import ConfigError

__all__ = ["Identity", "ServerSettings", "listening_address"]

Bytes = Annotated[int, msgspec.Meta(ge=1024)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server of ours listens: [als] for Envoy's access log service, [otlp] for OTLP.

    - `cert`, `key`: PEM files of its certificate, with those between it and the root, and of its
      key; without them it speaks plainly. They are read again when they change.
    - `client_ca`: PEM file of those whose clients may come; all others are turned away.
    - `message_bytes`: the largest message or request, after decompression.
    - `queue_bytes`: how much may wait to be decoded. Beyond that senders are held back.
    - `streams`: how many streams (ALS), calls (OTLP) or connections (OTLP over HTTP) at a time.
    - `wait_seconds`: how long a call waits for room in the queue before it is told to come later.
    - `drain_seconds`: how long, at the end, is waited for what senders hold back; Envoy does for a
      second, as it comes.
    """

    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    message_bytes: Bytes = 4 << 20
    queue_bytes: Bytes = 64 << 20
    streams: Count = 4096
    wait_seconds: Seconds = 3.0
    drain_seconds: Seconds = 2.0


def listening_address(url: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of a URL to listen at; port 0 is any that is free.

    Errors: ConfigError when it has no host, no port or anything after them.
    """
    try:
        parts = urlsplit(url)
        port = default_port if parts.port is None else parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if not parts.hostname or port is None or parts.path.strip("/") or parts.query or parts.username:
        scheme = url.partition("://")[0]
        raise ConfigError(
            f"{url} is no address to listen at",
            hint=f"write {scheme}://HOST:PORT, with 0.0.0.0 for all addresses of this host",
        )
    return parts.hostname, port


class Identity:
    """The certificate of a server as files, read again when they change.

    Errors: ConfigError for files that cannot be used, when it is made. Later the last that could
    be used stay.
    """

    def __init__(self, cert: str, key: str, client_ca: str | None) -> None:
        self._paths = [Path(path) for path in (cert, key, client_ca) if path]
        self._client_ca = client_ca
        try:
            self._seen = self._stamp()
            self.context = self._made()
            self.content = [path.read_bytes() for path in self._paths]
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"TLS cannot be had with {', '.join(map(str, self._paths))}: {_why(error)}",
                hint="give cert and key as PEM files that belong together, and client_ca likewise",
            ) from error

    @staticmethod
    def of(settings: ServerSettings) -> "Identity | None":
        """That of `settings`, None where they have none. Errors: ConfigError."""
        if settings.cert and settings.key:
            return Identity(settings.cert, settings.key, settings.client_ca)
        if settings.cert or settings.key or settings.client_ca:
            raise ConfigError(
                "a server with TLS needs both cert and key",
                hint="set cert and key to PEM files; client_ca alone secures nothing",
            )
        return None

    def changed(self) -> bool:
        """Whether the files are others than last time and can be used."""
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            context = self._made()
            content = [path.read_bytes() for path in self._paths]
        except (OSError, ssl.SSLError):  # half of them written, most likely
            return False
        self._seen, self.context, self.content = stamp, context, content
        return True

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        states = [path.stat() for path in self._paths]
        return tuple((state.st_mtime_ns, state.st_ino, state.st_size) for state in states)

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        cert, key = self._paths[:2]
        context.load_cert_chain(cert, key, password=lambda: b"")  # or it would ask the terminal
        if self._client_ca:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _why(error: OSError | ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or 'no PEM in it'}"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
