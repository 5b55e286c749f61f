"""The way to a Hubble server: its URL and settings, a gRPC channel, and what its errors mean.

    hubble://HOST:PORT          without TLS, as Relay's port is by default
    hubble+tls://HOST:PORT      with TLS, of one side or of both
    hubble+unix:///PATH         an agent's own socket, /var/run/cilium/hubble.sock

The port is 4245 unless given. A part of the settings may stand in the URL, as in
`hubble+tls://relay:443?ca=ca.crt&server-name=ui.hubble-relay.cilium.io&since=5m`.

Sources: Cilium 1.19, `hubble/pkg/defaults`, `pkg/hubble/relay/defaults`; gRPC status codes.
"""

import os
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import grpc
import grpc.experimental
import msgspec

from sidelong.errors import ConfigError, SidelongError, SourceError
from sidelong.ingest.hubble_settings import HubbleSettings

__all__ = ["SCHEMES", "HubbleSettings", "Stamp", "Target", "explain", "shown"]

SCHEMES: Final = ("hubble", "hubble+tls", "hubble+unix")

_DEFAULT_PORT: Final = 4245
_LONGEST_WORDS: Final = 300
_KEEPALIVE_MS: Final = 310_000  # Go's servers call more than one ping in 5 minutes abuse
_KEEPALIVE_TIMEOUT_MS: Final = 20_000

Stamp = tuple[tuple[int, int, int], ...]
"""What changes when a certificate is replaced: of each file its inode, size and time."""


_IN_URL: Final = ("ca", "cert", "key", "server_name", "since", "until", "last", "first", "follow")
_POSITIVE: Final = (
    "last",
    "first",
    "max_message_bytes",
    "batch_rows",
    "batch_milliseconds",
    "queue_rows",
    "queue_bytes",
    "connect_seconds",
    "reconnect_seconds",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how to reach it: the URL without its settings, gRPC's name for it, whether TLS
    is spoken, and all settings.
    """

    url: str
    address: str
    tls: bool
    settings: HubbleSettings

    @classmethod
    def parse(cls, url: str, settings: HubbleSettings | None = None) -> "Target":
        """From a URL, whose own settings go first. Errors: ConfigError for what cannot be."""
        parts = urlsplit(url)
        plain = url.partition("?")[0]
        if parts.scheme not in SCHEMES:
            raise ConfigError(
                f"{shown(plain)} is no address of Hubble",
                hint="hubble://HOST:PORT, hubble+tls://HOST:PORT or hubble+unix:///PATH",
            )
        if parts.username or parts.password:
            raise ConfigError(
                "the address of Hubble has a user name in it, which Hubble does not know",
                hint="a client is known by its certificate: ?cert=FILE&key=FILE",
            )
        settings = _checked(_with_query(settings or HubbleSettings(), parts.query), parts.scheme)
        if parts.scheme == "hubble+unix":
            if parts.netloc or len(parts.path) < 2:
                raise ConfigError(
                    f"{shown(plain)} has no path of a socket",
                    hint="hubble+unix:///var/run/cilium/hubble.sock, with three slashes",
                )
            return cls(plain, f"unix:{unquote(parts.path)}", False, settings)
        try:
            host, port = parts.hostname, parts.port or _DEFAULT_PORT
        except ValueError as error:
            raise ConfigError(
                f"{shown(plain)} has no port that can be: {error}", hint="a number up to 65535"
            ) from error
        if not host or parts.path.strip("/"):
            raise ConfigError(
                f"{shown(plain)} names no host and port", hint=f"{parts.scheme}://HOST:PORT"
            )
        bracketed = f"[{host}]" if ":" in host else host
        return cls(plain, f"dns:///{bracketed}:{port}", parts.scheme == "hubble+tls", settings)

    def stamp(self) -> Stamp:
        """Of the certificates as they lie on disk now; empty while one of them cannot be read."""
        settings = self.settings
        paths = [path for path in (settings.ca, settings.cert, settings.key) if path]
        try:
            states = [os.stat(path) for path in paths]
        except OSError:
            return ()
        return tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states)

    def connect(self) -> grpc.Channel:
        """A channel, with the certificates as they are on disk now. Errors: ConfigError."""
        options: list[tuple[str, int | str]] = [
            # Half the cost of a message: no thread between the socket and its reader.
            (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
            ("grpc.max_receive_message_length", self.settings.max_message_bytes),
            ("grpc.min_reconnect_backoff_ms", round(self.settings.connect_seconds * 1_000)),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
            ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
        ]
        if not self.tls:
            return grpc.insecure_channel(self.address, options)
        if self.settings.server_name:
            options.append(("grpc.ssl_target_name_override", self.settings.server_name))
        return grpc.secure_channel(self.address, self._credentials(), options)

    def _credentials(self) -> grpc.ChannelCredentials:
        settings = self.settings
        ca, cert, key = (
            _content(name, path)
            for name, path in (("ca", settings.ca), ("cert", settings.cert), ("key", settings.key))
        )
        # gRPC would only say that it "failed to create security handshaker".
        context = ssl.create_default_context()
        try:
            if settings.ca:
                context.load_verify_locations(settings.ca)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{settings.ca} is no certificate of an authority: {_reason(error)}",
                hint="the ca.crt of Hubble's secret, in PEM",
            ) from error
        try:
            if settings.cert:
                context.load_cert_chain(settings.cert, settings.key, password=lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{settings.cert} and {settings.key} are no certificate and its key: "
                f"{_reason(error)}",
                hint="the tls.crt and tls.key of one secret, in PEM and without a password",
            ) from error
        return grpc.ssl_channel_credentials(ca, key, cert)


def explain(error: grpc.RpcError, target: Target) -> SidelongError:
    """What to tell the user of a call that failed."""
    code, words = error.code(), shown(error.details() or "")
    name, settings = target.url, target.settings
    if code is grpc.StatusCode.UNIMPLEMENTED:
        problem = f"{name} answers, but it is no Hubble: {words}"
        return SourceError(problem, hint="the address of hubble-relay, or of an agent's port 4244")
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNKNOWN):
        problem = f"{name} refuses what it is asked: {words}"
        return SourceError(problem, hint="look at allow, deny, since, last, first and field_mask")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        problem = f"{name} does not let this client in: {words}"
        return SourceError(problem, hint="set cert and key, signed by Hubble's authority")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in words:
        problem = f"{name} sent more in one message than is allowed: {words}"
        return SourceError(problem, hint="raise max_message_bytes")
    if target.tls:
        if "Hostname Verification" in words or "not in peer certificate" in words:
            problem = f"the certificate of {name} is for another name than {_expected(target)}"
            return SourceError(problem, hint="set server_name, such as ui.hubble-relay.cilium.io")
        if "CERTIFICATE_VERIFY_FAILED" in words:
            problem = f"the certificate of {name} is not trusted: {words}"
            return SourceError(problem, hint="set ca to the ca.crt that signed it")
        if "WRONG_VERSION_NUMBER" in words:
            return SourceError(f"{name} does not speak TLS", hint="hubble:// instead")
        if "handshake" in words or "SSL" in words:
            problem = f"{name} and this client agree on no TLS: {words}"
            return SourceError(problem, hint="look at ca, cert, key and server_name")
        if _closed(words) and not settings.cert:
            problem = f"{name} hangs up on a client without a certificate: {words}"
            return SourceError(problem, hint="set cert and key, signed by Hubble's authority")
        if _closed(words):
            problem = f"{name} hangs up; it may not accept {settings.cert}: {words}"
            return SourceError(problem, hint="set cert and key to ones signed by its authority")
    elif _closed(words) or "HTTP/2" in words:
        problem = f"{name} hangs up on a client without TLS: {words}"
        return SourceError(problem, hint="hubble+tls:// if it speaks TLS, or another port")
    problem = f"{name} cannot be reached: {words or code.name}"
    return SourceError(problem, hint="check the address; cilium hubble port-forward opens one")


def shown(text: str) -> str:
    """Another's words, safe to print: in one line, without control characters, not too long."""
    safe = "".join(character if character.isprintable() else "?" for character in text)
    return safe if len(safe) <= _LONGEST_WORDS else f"{safe[: _LONGEST_WORDS - 3]}..."


def _closed(words: str) -> bool:
    # With TLS 1.3 a server judges the client's certificate when the client is through: what Go's
    # then says to one that it refuses, gRPC takes for data that cannot be decrypted.
    signs = ("Socket closed", "reset by peer", "Broken pipe", "TSI_DATA_CORRUPTED")
    return any(sign in words for sign in signs)


def _expected(target: Target) -> str:
    return target.settings.server_name or target.address.removeprefix("dns:///").rpartition(":")[0]


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def _content(name: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(
            f"{name} = {path} cannot be read: {error.strerror}", hint="check the path"
        ) from error


def _with_query(settings: HubbleSettings, query: str) -> HubbleSettings:
    changes: dict[str, object] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        name = key.replace("-", "_")
        if name not in _IN_URL:
            keys = ", ".join(each.replace("_", "-") for each in _IN_URL)
            raise ConfigError(
                f"{shown(key)} is nothing that the address of Hubble may set", hint=f"one of {keys}"
            )
        kind = {"last": int, "first": int, "follow": bool}.get(name, str)
        try:
            changes[name] = msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{key} in the address of Hubble is {shown(value)!r}",
                hint="such as ?last=1000&follow=false",
            ) from error
    return msgspec.structs.replace(settings, **changes)


def _checked(settings: HubbleSettings, scheme: str) -> HubbleSettings:
    secrets = {"ca": settings.ca, "cert": settings.cert, "key": settings.key}
    unused = [name for name, path in secrets.items() if path and scheme != "hubble+tls"]
    if unused:
        raise ConfigError(f"{unused[0]} is set, but {scheme}:// has no TLS", hint="hubble+tls://")
    if bool(settings.cert) != bool(settings.key):
        raise ConfigError("of cert and key only one is set", hint="set both, or neither")
    for name in _POSITIVE:
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise ConfigError(f"hubble.{name} is {value}", hint="a number above 0")
    if settings.first is not None and (settings.follow or settings.last is not None):
        raise ConfigError("first is set, and follow or last too", hint="follow = false, no last")
    return settings
