"""How receivers speak HTTP: once, bounded in every way, to permitted places, without leaking.

urllib3 speaks the protocol; here is what it leaves open. No redirect is followed, no proxy of the
environment is used, and no answer may be larger than it should be, or last longer, however slowly
it trickles.
"""

import base64
import email.utils
import ipaddress
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC
from http.client import HTTPException
from typing import Final

import msgspec
from urllib3.exceptions import HTTPError

from sidelong.alerts.http_connection import (
    PERMIT,
    Deadline,
    Resolve,
    addresses,
    connect,
    failure,
    judged,
    resolved,
)
from sidelong.alerts.http_targets import Permission, Place, place
from sidelong.alerts.receiver import Sent, Undelivered
from sidelong.errors import ConfigError
from sidelong.ingest.secret import masked, shortened

__all__ = ["Answer", "HttpClient", "HttpSettings", "retry_after"]

_AGAIN: Final = frozenset({408, 425, 429})  # of 400 to 499, those that may succeed later
_CONFIDENTIAL: Final = re.compile("auth|token|key|secret|cookie|signature|pass", re.IGNORECASE)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How receivers are reached over HTTP.

    allow_http: whether a URL may be http. allow_private: what besides the public Internet may be
    reached: networks ("10.0.0.0/8"), addresses, and names ("alertmanager.monitoring.svc",
    "*.monitoring.svc"); metadata services only by their address. ca: PEM file of the authorities to
    trust, instead of the system's. cert, key: PEM files, for servers that want to know their
    client. proxy: http://HOST:PORT, which then makes the connections; it needs permission like any
    other target. connect_seconds, read_seconds: how long to wait for a connection, and for the next
    bytes. total_seconds: how long everything may take. answer_bytes: how much of an answer is read.
    """

    allow_http: bool = False
    allow_private: tuple[str, ...] = ()
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    proxy: str | None = None
    connect_seconds: float = 5.0
    read_seconds: float = 10.0
    total_seconds: float = 20.0
    answer_bytes: int = 64 << 10

    def __post_init__(self) -> None:
        if min(self.connect_seconds, self.read_seconds, self.total_seconds, self.answer_bytes) <= 0:
            raise ValueError("time-outs and answer_bytes are above zero")
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: header names are in lower case, `body` is cut at `answer_bytes`."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    shown: str
    """The body's beginning, masked, in one line."""

    @property
    def sent(self) -> Sent:
        """The answer as a receiver passes it on."""
        return Sent(status=f"{self.status} {self.reason}".strip(), answer=self.shown)


class HttpClient:
    """Sends one request at a time, each over a connection of its own; safe for threads.

    Alerts are rare, so that a new connection costs less than one which may have died unnoticed.
    """

    def __init__(
        self,
        settings: HttpSettings | None = None,
        *,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or HttpSettings()
        self._permission = Permission(self.settings.allow_private)
        self._resolve = resolve or addresses
        self._clock = clock
        self._lock = threading.Lock()
        self._tls: tuple[tuple[float, ...], ssl.SSLContext] | None = None
        self._proxy = place(self.settings.proxy, allow_http=True) if self.settings.proxy else None
        if self._proxy and (self._proxy.scheme != "http" or self._proxy.credentials):
            raise ConfigError(
                f"the proxy {self._proxy.shown} cannot be used",
                hint="write it as http://HOST:PORT, without a user; TLS to the target goes through",
            )

    def check(self, url: str) -> None:
        """See that `url` may be sent to, as far as can be told without a network.

        Errors: ConfigError, which shows nothing of the URL beyond its host.
        """
        where = place(url, allow_http=self.settings.allow_http)
        with suppress(ValueError):
            address = ipaddress.ip_address(where.host)
            if why := self._permission.refusal(where.host, address):
                raise ConfigError(f"{where.shown} may not be sent to: {why}", hint=PERMIT)

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        secrets: Iterable[str] = (),
        method: str = "POST",
    ) -> Answer:
        """Send `body` once and give the answer, which is of 200 to 299.

        The path of the URL, headers that look confidential and `secrets` appear in no error and in
        no answer that is shown.

        Errors: ConfigError for a URL or header that cannot be sent; Undelivered for everything that
        the network or the server did.
        """
        where = place(url, allow_http=self.settings.allow_http)
        secrets = tuple(secrets)
        confidential = [value for name, value in headers.items() if _CONFIDENTIAL.search(name)]
        # A scheme such as Bearer is no secret, what follows it is one, and so is the whole.
        confidential += [value.partition(" ")[2] for value in confidential]
        hidden = [*secrets, *where.secrets, *(value for value in confidential if len(value) > 3)]
        sent = self._headers(where, headers)
        what = f"{method} {where.shown}"
        try:
            status, reason, got, content = self._exchange(where, method, body, sent)
        except Undelivered as error:
            raise Undelivered(masked(error.why, hidden), permanent=error.permanent) from None
        # Without the cause: tracebacks of it hold the URL.
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            why = shortened(masked(failure(error), hidden))
            raise Undelivered(f"{what}: {why}") from None
        shown = shortened(masked(content.decode("utf-8", "replace"), hidden))
        reason = shortened(masked(reason, hidden), 60)
        answer = Answer(status=status, reason=reason, headers=got, body=content, shown=shown)
        if 200 <= status < 300:
            return answer
        raise self._refusal(what, answer)

    def _refusal(self, what: str, answer: Answer) -> Undelivered:
        why = f"{what} answered {answer.sent.status}"
        if 300 <= answer.status < 400:
            why += ", a redirect, and none is followed: write the final URL"
            return Undelivered(why, permanent=True)
        if answer.shown:
            why += f": {answer.shown}"
        return Undelivered(
            why,
            permanent=400 <= answer.status < 500 and answer.status not in _AGAIN,
            retry_after=retry_after(answer.headers.get("retry-after"), self._clock()),
        )

    def _headers(self, where: Place, headers: Mapping[str, str]) -> dict[str, str]:
        sent = {"Host": where.authority, "User-Agent": "sidelong", "Accept-Encoding": "identity"}
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ConfigError(
                    f"the header {name!r} for {where.shown} holds characters that no header holds",
                    hint="a secret in a file often ends in more lines than it should",
                )
            sent[name] = value
        if where.credentials and "authorization" not in map(str.lower, sent):
            pair = ":".join(where.credentials).encode()
            sent["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return sent

    def _exchange(
        self, where: Place, method: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, str, dict[str, str], bytes]:
        limits = self.settings
        reached = self._reached(where)
        with Deadline(limits.total_seconds) as deadline:
            try:
                connection = connect(
                    where,
                    reached,
                    proxy=self._proxy,
                    tls=self._context(),
                    deadline=deadline,
                    connect_seconds=limits.connect_seconds,
                    read_seconds=limits.read_seconds,
                )
                with closing(connection):
                    connection.request(
                        method,
                        where.target if where.scheme == "https" or not self._proxy else where.whole,
                        body=body,
                        headers=headers,
                        preload_content=False,
                        decode_content=False,
                    )
                    with closing(connection.getresponse()) as response:
                        if deadline.passed:  # headers that we cut off look as if they had ended
                            raise TimeoutError
                        content = b""
                        # The status decides; a server that has taken the alert and then falters
                        # has taken it.
                        with suppress(HTTPError, HTTPException, OSError, ValueError):
                            content = response.read(limits.answer_bytes, decode_content=False)
            except (HTTPError, HTTPException, OSError, ValueError):
                if not deadline.over:
                    raise
                raise TimeoutError(f"no answer within {deadline.seconds:g} s") from None
        got = {name.lower(): value for name, value in response.headers.items()}
        return response.status, response.reason or "", got, content

    def _reached(self, where: Place) -> list[str]:
        """The addresses to dial, and with a proxy a look at where that would be sent to."""
        seconds = self.settings.connect_seconds
        through = self._proxy or where
        reached = judged(through, self._permission, resolved(through, self._resolve, seconds))
        if self._proxy:
            try:
                behind = resolved(where, self._resolve, seconds)
            except Undelivered:  # it may know names that are unknown here, and judges those itself
                return reached
            judged(where, self._permission, behind)
        return reached

    def _context(self) -> ssl.SSLContext:
        """What is trusted, read again when one of its files has changed."""
        files = [file for file in (self.settings.ca, self.settings.cert, self.settings.key) if file]
        with self._lock:
            try:
                state = tuple(os.stat(file).st_mtime_ns for file in files)
                if self._tls is None or self._tls[0] != state:
                    tls = ssl.create_default_context(cafile=self.settings.ca)
                    tls.minimum_version = ssl.TLSVersion.TLSv1_2
                    if self.settings.cert:
                        tls.load_cert_chain(self.settings.cert, self.settings.key)
                    self._tls = state, tls
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"the certificates in {', '.join(files)} cannot be used: {failure(error)}",
                    hint="they are PEM files, which sidelong must be allowed to read",
                ) from error
            return self._tls[1]


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds until the moment of a Retry-After header, in either form; None if it says nothing.

    >>> retry_after("120", 0.0)
    120.0
    >>> retry_after("Thu, 01 Jan 1970 00:01:30 GMT", 60.0)
    30.0
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
        if moment.tzinfo is None:  # "-0000", which RFC 5322 has for UTC of no place
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now)
    except (ValueError, OverflowError):
        return None
