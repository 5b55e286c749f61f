"""Messages that cannot be read, as they go to the topic of dead letters beside their own.

The value is as it was, so that it can be looked at and sent again; a very large one is cut. The
headers tell the rest:

| header | value |
|---|---|
| error | why it cannot be read |
| topic, partition, offset, timestamp | where it lies; the time in milliseconds since 1970 |
| kept | how many flows of it went on, where only a part is bad |
| size | how many bytes it had, where it was cut |
| content-type, content-encoding, schema | as they were |
"""

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Final, NamedTuple

from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_client import KafkaError, Record
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.kafka_settings import KafkaSettings
from sidelong.ingest.kafka_topics import dead_letters
from sidelong.ingest.raw_messages import Poison

__all__ = ["LETTER_BYTES", "Letters", "MessageLetter", "letter_of"]

LETTER_BYTES: Final = 900_000
"""Of a value more than this is cut off: a topic takes messages of 1 MiB if nobody set it."""

_KEPT: Final = ("content-type", "content-encoding", "schema")
_LONGEST_HEADER: Final = 1_000


class MessageLetter(NamedTuple):
    """A dead letter, ready to be sent."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes]


def letter_of(poison: Poison[Record], most_bytes: int = LETTER_BYTES) -> MessageLetter:
    """The dead letter of a message. most_bytes: how much of its value goes along."""
    record = poison.record
    headers = {
        "error": poison.cause.encode(errors="replace")[:_LONGEST_HEADER],
        "topic": record.topic.encode(),
        "partition": str(record.partition).encode(),
        "offset": str(record.offset).encode(),
        "timestamp": str(record.timestamp_ms).encode(),
    }
    headers |= {
        name: record.headers[name][:_LONGEST_HEADER] for name in _KEPT if name in record.headers
    }
    if poison.kept:
        headers["kept"] = str(poison.kept).encode()
    if len(record.value) > most_bytes:
        headers["size"] = str(len(record.value)).encode()
    key = record.key if record.key is None or len(record.key) <= _LONGEST_HEADER else None
    return MessageLetter(dead_letters(record.topic), key, record.value[:most_bytes], headers)


class Letters:
    """Sends dead letters, each acknowledged before `send` returns; may be shared by threads.

    Their topic is made if it is not there. Where that cannot be, or Kafka does not take them, it is
    said and counted, and nothing waits for it: the messages lie in their own topic still.
    """

    def __init__(self, settings: KafkaSettings, say: Callable[[str], None]) -> None:
        self._settings: Final = settings
        self._say: Final = say
        self._lock: Final = Lock()
        self._producer: KafkaProducer | None = None
        self._made: set[str] = set()
        self.sent = 0
        self.failed = 0

    def send(self, poisons: Iterable[Poison[Record]]) -> None:
        """Send the letters of messages."""
        letters = [letter_of(poison) for poison in poisons]
        if not letters:
            return
        with self._lock:
            try:
                self._send(letters)
                self.sent += len(letters)
            except KafkaError as error:
                self.failed += len(letters)
                self._say(f"{len(letters):,} dead letters were not taken: {error.problem}")
                self._close()

    def close(self) -> None:
        """Let go of it. Never raises; safe to repeat."""
        with self._lock:
            self._close()

    def _send(self, letters: list[MessageLetter]) -> None:
        missing = {letter.topic for letter in letters} - self._made
        if missing:
            admin = KafkaAdmin(self._settings, "dead-letters")
            try:
                admin.create_topics(Topic(topic, 1) for topic in missing)
            finally:
                admin.close()
            self._made |= missing
        if self._producer is None:
            self._producer = KafkaProducer(self._settings, "dead-letters")
        for letter in letters:
            self._producer.send(letter.topic, letter.value, key=letter.key, headers=letter.headers)
        self._producer.flush()

    def _close(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None
