"""Sends messages to Kafka, so that few wait in memory and none is lost unnoticed."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from kafka import KafkaProducer as _Producer
from kafka import errors

from sidelong.ingest.kafka_client import LARGEST_MESSAGE, KafkaError, built, explained
from sidelong.ingest.kafka_settings import KafkaSettings, MessageCompression

__all__ = ["KafkaProducer", "Sent"]

_MEGABYTE: Final = 1_000_000
_OVERHEAD: Final = 100  # of a message, in the library and on the wire
_BATCH_BYTES: Final = 1 << 20
_METADATA_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 5.0


class Sent:
    """A message on its way."""

    __slots__ = ("_future", "_settings")

    def __init__(self, future: Any, settings: KafkaSettings) -> None:
        self._future: Final = future
        self._settings: Final = settings

    @property
    def done(self) -> bool:
        """Whether it is acknowledged, or has failed for good."""
        return bool(self._future.is_done)

    def offset(self, timeout: float | None = None) -> int:
        """Wait for the acknowledgement; the offset of the message in its partition.

        timeout: in seconds; for None, as long as a delivery may take. Errors: KafkaError.
        """
        with explained(self._settings, "acknowledge a message"):
            wait = self._settings.delivery_seconds + 5 if timeout is None else timeout
            return int(self._future.get(timeout=wait).offset)


class KafkaProducer:
    """Sends messages, each at least once, in the order of their sending within a partition.

    An acknowledged message is on all replicas that Kafka asks for; one that is sent again by the
    client itself is not doubled (idempotence). A message that is not acknowledged within
    `delivery_seconds` fails the producer: every later `send` and `flush` raises, so that nothing is
    committed as if it had been sent; build a new one and send again what matters. May be shared by
    threads. name: what Kafka's logs call it. compression: instead of that of the settings; "none"
    for values that are compressed.

    Errors: those of `kafka_client.built`.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        name: str,
        *,
        compression: MessageCompression | None = None,
    ) -> None:
        self._settings: Final = settings
        self._bound: Final = settings.in_flight_megabytes * _MEGABYTE
        self._changed: Final = threading.Condition()
        self._in_flight = 0
        self._failure: tuple[str, Exception] | None = None
        self._closed = False
        kind = compression or settings.compression
        self._producer: Final[Any] = built(
            _Producer,
            settings,
            name,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=int(settings.delivery_seconds * 1000),
            linger_ms=settings.linger_ms,
            batch_size=_BATCH_BYTES,
            max_request_size=LARGEST_MESSAGE,
            max_block_ms=int(_METADATA_SECONDS * 1000),
            compression_type=None if kind == "none" else kind,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    @property
    def in_flight_bytes(self) -> int:
        """What was sent and is not acknowledged yet."""
        return self._in_flight

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int | None = None,
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
        timestamp_ms: int | None = None,
    ) -> Sent:
        """Hand a message over; waits while more than `in_flight_megabytes` are on their way.

        partition: else that of the hash of `key`, else any. Errors: KafkaError when an earlier
        message failed for good; KafkaRefused for a message that is too large, and for a topic or
        partition that is not there.
        """
        size = len(value) + len(key or b"") + _OVERHEAD
        listed = list((headers or {}).items())
        size += sum(len(name) + len(content) for name, content in listed)
        self._reserve(size)
        try:
            with explained(self._settings, f"take a message for {topic}"):
                future = self._producer.send(
                    topic,
                    value,
                    key=key,
                    headers=listed,
                    partition=partition,
                    timestamp_ms=timestamp_ms,
                )
        except BaseException as error:
            self._release(size)
            if isinstance(error.__cause__, errors.KafkaTimeoutError):
                raise self._missing(topic) from error
            raise
        # On the thread of the library, or here when it is done already.
        future.add_both(lambda _: self._settle(size, topic, future))
        return Sent(future, self._settings)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was sent before is acknowledged.

        timeout: in seconds; for None, as long as a delivery may take. Errors: KafkaError when it is
        not, or was not earlier.
        """
        wait = self._settings.delivery_seconds + 5 if timeout is None else timeout
        with explained(self._settings, "acknowledge messages"):
            self._producer.flush(timeout=wait)
        self._check()

    def close(self, timeout: float = _CLOSE_SECONDS) -> None:
        """Let go of it; waits at most `timeout` seconds for what is on its way. Never raises."""
        if self._closed:
            return
        self._closed = True
        with self._changed:
            self._changed.notify_all()
        try:
            self._producer.close(timeout=timeout)
        except errors.KafkaError:
            # Its flush ran out of time, and it left its thread running.
            self._producer._sender.force_close()
            self._producer._sender.join(_CLOSE_SECONDS)
            self._producer._closed = True

    def _reserve(self, size: int) -> None:
        ends = time.monotonic() + self._settings.delivery_seconds + 5
        with self._changed:
            while True:
                self._check()
                # One that is larger than the bound goes alone.
                if not self._in_flight or self._in_flight + size <= self._bound:
                    self._in_flight += size
                    return
                if not self._changed.wait(max(0.0, ends - time.monotonic())):
                    raise KafkaError(
                        f"Kafka at {self._settings.shown} has acknowledged nothing of"
                        f" {self._in_flight} bytes for {self._settings.delivery_seconds:g} s",
                        hint="see whether the brokers run and have room",
                    )

    def _settle(self, size: int, topic: str, future: Any) -> None:
        if future.exception is not None and self._failure is None:
            self._failure = (topic, future.exception)
        self._release(size)

    def _release(self, size: int) -> None:
        with self._changed:
            self._in_flight -= size
            self._changed.notify_all()

    def _check(self) -> None:
        if self._closed:
            raise KafkaError("the producer is closed", hint="build a new one")
        if self._failure is not None:
            topic, cause = self._failure
            with explained(self._settings, f"take messages for {topic}"):
                raise cause

    def _missing(self, topic: str) -> KafkaError:
        return KafkaError(
            f"Kafka at {self._settings.shown} has said nothing of a topic {topic} for"
            f" {_METADATA_SECONDS:g} s",
            hint="sidelong topics create, unless no broker runs",
        )
