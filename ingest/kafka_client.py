"""What all clients of Kafka have in common: how they are built, and what their errors mean.

Only the modules `kafka_*` beside this one know the library behind them.
"""

import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from kafka import errors

from sidelong.errors import ConfigError, SidelongError, SourceError
from sidelong.ingest.kafka_network import network
from sidelong.ingest.kafka_settings import KafkaSettings, KafkaTls
from sidelong.ingest.kafka_tokens import Tokens
from sidelong.ingest.secret import masked, shortened

__all__ = [
    "LARGEST_MESSAGE",
    "KafkaError",
    "KafkaRefused",
    "Partition",
    "Record",
    "built",
    "explained",
    "passes",
    "reach",
    "wait_for_broker",
]

LARGEST_MESSAGE: Final = 8 << 20
"""Bytes of the largest message that is sent, and that topics are created for."""

Partition: TypeAlias = tuple[str, int]
"""A topic, and the number of a partition of it."""

_Client = TypeVar("_Client")

_REFUSING: Final = (
    errors.InvalidConfigurationError,
    errors.InvalidPartitionsError,
    errors.InvalidReplicationFactorError,
    errors.PolicyViolationError,
)

_NAME: Final = re.compile(r"^(?:\[Error -?\d+\] )?\w+(?:: |$)")

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0)
_SAY_SECONDS: Final = 30.0


class KafkaError(SourceError):
    """Kafka did not do what was asked: it does not answer, or says no. Worth another attempt."""


class KafkaRefused(KafkaError):
    """Kafka will say the same next time: to a wrong password, a certificate, a missing right, a
    topic that is not there, a name that another process has."""


class Record(NamedTuple):
    """One message. `timestamp_ms` is Unix time in milliseconds; of a header that stands twice,
    `headers` has the last."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes]


def built(
    make: Callable[..., _Client], settings: KafkaSettings, name: str, **options: object
) -> _Client:
    """A client of the library, connected; `name` is what Kafka's logs call it.

    Errors: ConfigError without servers, and for files and secrets that cannot be read; KafkaError
    when no broker answers; KafkaRefused when it does not take us.
    """
    if not settings.servers:
        raise ConfigError(
            "no servers of Kafka are known", hint='set servers = ["HOST:9092"] in [kafka]'
        )
    # The library says each broken connection itself, on stderr unless somebody listens.
    library = logging.getLogger("kafka")
    library.propagate = False
    if not library.handlers:
        library.addHandler(logging.NullHandler())

    made: list[Any] = []

    def connections(**given: Any) -> Any:
        made.append(network(**given))
        return made[-1]

    with explained(settings, "answer"):
        common = _common(settings, name)
        _connect(settings, common.get("ssl_context"))
        try:
            return make(**common, **options, kafka_client=connections)
        except BaseException as error:
            for client in made:  # the library leaves its thread and sockets behind
                with suppress(Exception):
                    client.close()
            if isinstance(error, errors.KafkaTimeoutError):
                raise _silence(settings, made) from error
            raise


def passes(error: KafkaError) -> bool:
    """Whether it is a passing thing, such as a leader that moved, which the library tries again."""
    return bool(getattr(error.__cause__, "retriable", False))


@contextmanager
def explained(settings: KafkaSettings, doing: str) -> Iterator[None]:
    """Turn errors of the library into ours; `doing` is what Kafka does not do then.

    Errors: KafkaError, KafkaRefused.
    """
    try:
        yield
    except SidelongError:
        raise
    except errors.KafkaError as error:
        raise _translated(error, settings, doing) from error
    except (TypeError, ValueError) as error:  # such as a partition that there is not
        raise KafkaRefused(
            f"Kafka at {settings.shown}: {shortened(str(error))}",
            hint="see whether the topic has the partitions that are meant",
        ) from error


def wait_for_broker(
    settings: KafkaSettings, stop: threading.Event, say: Callable[[str], None]
) -> bool:
    """Wait until Kafka answers, or `stop` is set; whether it answers.

    Says once that it waits, again each 30 s, and that it ended. Errors: as `built`, except that
    Kafka does not answer.
    """
    from sidelong.ingest.kafka_admin import KafkaAdmin

    said, began, attempts = 0.0, time.monotonic(), 0
    while not stop.is_set():
        try:
            KafkaAdmin(settings, "wait").close()
        except KafkaRefused:
            raise
        except KafkaError as error:
            now = time.monotonic()
            if not said or now - said > _SAY_SECONDS:
                say(f"waiting for Kafka: {error.problem}")
                said = now
            stop.wait(_PAUSES[min(attempts, len(_PAUSES) - 1)])
            attempts += 1
        else:
            if said:
                say(f"Kafka answers after {time.monotonic() - began:.0f} s")
            return True
    return False


def _common(settings: KafkaSettings, name: str) -> dict[str, Any]:
    """What every client of the library is built with."""
    secure, known = settings.tls is not None, settings.sasl is not None
    protocol = {
        (False, False): "PLAINTEXT",
        (True, False): "SSL",
        (False, True): "SASL_PLAINTEXT",
        (True, True): "SASL_SSL",
    }
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.servers),
        "client_id": f"{settings.client_id}.{name}",
        "security_protocol": protocol[secure, known],
        "bootstrap_timeout_ms": int(settings.connect_seconds * 1000),
        "request_timeout_ms": int(min(20.0, settings.delivery_seconds / 2) * 1000),
        "reconnect_backoff_max_ms": 1_000,
        "metadata_max_age_ms": 15_000,
    }
    if settings.tls is not None:
        options["ssl_context"] = _context(settings.tls)
    if (sasl := settings.sasl) is not None:
        options["sasl_mechanism"] = sasl.mechanism
        if sasl.mechanism == "OAUTHBEARER":
            tokens = Tokens(sasl)
            tokens.token()  # what is wrong with it is best said here
            options["sasl_oauth_token_provider"] = tokens
        else:
            assert sasl.password is not None
            options["sasl_plain_username"] = sasl.username
            options["sasl_plain_password"] = sasl.password.reveal()
    return options


def _context(tls: KafkaTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        context.check_hostname = tls.check_name
        if tls.cert is not None:
            password = tls.key_password.reveal() if tls.key_password is not None else ""
            context.load_cert_chain(tls.cert, tls.key, lambda: password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = [name for name in (tls.ca, tls.cert, tls.key) if name is not None]
        raise ConfigError(
            f"the certificates of [kafka.tls] cannot be used ({', '.join(files)}): {error}",
            hint="check the paths, and that the files are PEM, and the key that of the certificate",
        ) from error
    return context


def reach(settings: KafkaSettings) -> None:
    """See that Kafka takes a connection. Errors: KafkaError; ConfigError for certificates."""
    _connect(settings, None if settings.tls is None else _context(settings.tls))


def _connect(settings: KafkaSettings, context: ssl.SSLContext | None) -> None:
    """See that one of the servers takes a connection: the library only says that time went by.

    Errors: KafkaError, KafkaRefused.
    """
    failures: list[str] = []
    refused = False
    for server, (host, port) in zip(settings.servers, settings.addresses, strict=True):
        try:
            with socket.create_connection((host, port), timeout=settings.connect_seconds) as plain:
                if context is not None:
                    context.wrap_socket(plain, server_hostname=host).close()
            return
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or str(error)
            failures.append(f"{server}: TLS fails, {why}")
            refused = True
        except OSError as error:
            failures.append(f"{server}: {error.strerror or error}")
    if refused:
        raise KafkaRefused(
            f"no broker is trusted at {'; '.join(failures)}",
            hint="check [kafka.tls]: ca, cert and key, and whether that port speaks TLS",
        )
    raise KafkaError(
        f"no broker answers at {'; '.join(failures)}",
        hint="start Kafka, or check servers in [kafka]",
    )


def _translated(error: Exception, settings: KafkaSettings, doing: str) -> KafkaError:
    """What an error of the library means to a person."""
    where = settings.shown
    secrets = []
    if (sasl := settings.sasl) is not None:
        for secret in (sasl.password, sasl.token, sasl.client_secret):
            with suppress(SidelongError):
                secrets += [secret.reveal()] if secret is not None else []
    cause = shortened(masked(_words(error), secrets))
    if isinstance(error, errors.SaslAuthenticationFailedError):
        assert sasl is not None
        who = f"the user {sasl.username}" if sasl.username else "the token"
        return KafkaRefused(
            f"Kafka at {where} refuses {who} ({sasl.mechanism}): {cause}",
            hint="check [kafka.sasl], and who is known to Kafka",
        )
    if isinstance(error, errors.FencedInstanceIdError):
        return KafkaRefused(
            f"another process reads from Kafka at {where} under the name of this one",
            hint="give each process a member name of its own",
        )
    if isinstance(error, errors.UnknownTopicOrPartitionError | errors.InvalidTopicError):
        return KafkaRefused(
            f"Kafka at {where} knows no such topic: {cause}", hint="sidelong topics create"
        )
    if isinstance(error, _REFUSING):
        return KafkaRefused(
            f"Kafka at {where} does not {doing}: {cause}",
            hint="check the numbers of partitions and replicas, and the settings of the topic",
        )
    if isinstance(error, errors.AuthorizationError):
        return KafkaRefused(
            f"Kafka at {where} does not allow it: {cause}", hint="grant it with Kafka's ACLs"
        )
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return KafkaRefused(
            f"a message is larger than Kafka at {where} takes: {cause}",
            hint="raise max.message.bytes of the topic, or send less in one message",
        )
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return KafkaRefused(
            f"Kafka at {where} does not know that mechanism: {cause}",
            hint="check mechanism in [kafka.sasl]",
        )
    return KafkaError(
        f"Kafka at {where} does not {doing}: {cause}",
        hint="see whether all brokers run, and can be reached under the names that they advertise",
    )


def _silence(settings: KafkaSettings, made: list[Any]) -> KafkaError:
    """Of servers that take connections, and no more."""
    failure = made[0]._manager.failure if made else None
    why = f", {shortened(_words(failure))}" if isinstance(failure, Exception) else ""
    way = "with TLS" if settings.tls is not None else "without TLS"
    if settings.sasl is not None:
        way += ", and check [kafka.sasl]"
    return KafkaError(
        f"no broker answers at {settings.shown}: it takes connections{why}",
        hint=f"see whether Kafka runs there, and whether that port is used {way}",
    )


def _words(error: Exception) -> str:
    """What it says, without number and name where it says anything."""
    text = str(error)
    return _NAME.sub("", text) or text
