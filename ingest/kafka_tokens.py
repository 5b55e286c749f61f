"""Tokens that say to Kafka who we are (SASL OAUTHBEARER, RFC 7628)."""

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
import urllib3
from kafka.net.sasl.oauth import AbstractTokenProvider

from sidelong.errors import ConfigError, SidelongError, SourceError
from sidelong.ingest.kafka_settings import KafkaSasl
from sidelong.ingest.secret import Secret, masked, shortened

__all__ = ["Tokens"]

_SECONDS: Final = urllib3.Timeout(connect=3.0, read=5.0)  # heartbeats wait meanwhile
_LARGEST: Final = 1 << 20


class _Answer(msgspec.Struct):
    """What a token endpoint says (RFC 6749, section 5.1)."""

    access_token: str
    expires_in: float = 300.0


class Tokens(AbstractTokenProvider):  # type: ignore[misc]  # the library has no types
    """Gives a valid token for each new connection; called on the threads of clients."""

    def __init__(self, sasl: KafkaSasl, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._sasl: Final = sasl
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._token = ""
        self._until = 0.0

    def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The token. Errors: ConfigError for a secret that is not there, SourceError for an
        endpoint that gives none."""
        if self._sasl.token is not None:
            return self._sasl.token.reveal().strip()
        with self._lock:
            if self._clock() >= self._until:
                answer = self._fetch(self._sasl.client_secret)
                self._token = answer.access_token
                self._until = self._clock() + 0.8 * answer.expires_in
            return self._token

    def _fetch(self, where: Secret | None) -> _Answer:
        assert where is not None  # KafkaSasl asks for it
        secret = where.reveal()
        fields = {"grant_type": "client_credentials"}
        if self._sasl.scope:
            fields["scope"] = self._sasl.scope
        credentials = urllib3.make_headers(basic_auth=f"{self._sasl.client_id}:{secret}")
        try:
            with urllib3.PoolManager(num_pools=1, ca_certs=self._sasl.token_ca) as pool:
                answer = pool.request(
                    "POST",
                    self._sasl.token_url,
                    fields=fields,
                    encode_multipart=False,
                    headers=credentials,
                    timeout=_SECONDS,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
                said = answer.read(_LARGEST)
                answer.close()
        except urllib3.exceptions.HTTPError as error:
            raise self._refusal(masked(str(error), [secret])) from None
        if answer.status != 200:
            told = masked(said.decode("utf-8", "replace"), [secret])
            raise self._refusal(f"status {answer.status} {told}")
        try:
            return msgspec.json.decode(said, type=_Answer)
        except msgspec.DecodeError:
            raise self._refusal("an answer without access_token") from None

    def _refusal(self, why: str) -> SidelongError:
        if not self._sasl.token_url:
            return ConfigError("no token for Kafka", hint="set token or token_url in [kafka.sasl]")
        return SourceError(
            f"{self._sasl.token_url} gives no token for Kafka: {shortened(why)}",
            hint="check token_url, client_id, client_secret and scope in [kafka.sasl]",
        )
