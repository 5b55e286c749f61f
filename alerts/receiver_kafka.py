"""The receiver kafka: a message for each event in a topic, its key that of the incident.

All that is told of one incident lies in one partition, in order. A delivery that is tried again may
write a message twice; both bear the same header `message-id`.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.format_cloudevents import cloudevents
from sidelong.alerts.format_ecs import ecs_documents
from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.format_ocsf import ocsf_findings
from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import harmless
from sidelong.alerts.receiver import Message, Sent, Undelivered, event_key
from sidelong.alerts.receiver_settings import KafkaReceiverSettings
from sidelong.alerts.receiver_text import labels_of
from sidelong.ingest.kafka_client import KafkaError
from sidelong.ingest.kafka_producer import KafkaProducer

__all__ = ["KafkaReceiver"]

_CONTENT_TYPES: Final = {"cloudevents": "application/cloudevents+json"}

_Payloads = Callable[[Sequence[Incident], Mapping[str, str]], Sequence[Mapping[str, Any]]]


class KafkaReceiver:
    """Sends to a topic and waits until Kafka has the messages. Connects when it first sends, stays
    connected, and connects anew after a failure."""

    def __init__(self, settings: KafkaReceiverSettings) -> None:
        self.name = settings.name
        self._settings = settings
        self._payloads = _FORMATS[settings.format]
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None

    def send(self, message: Message) -> Sent:
        """See Receiver."""
        payloads = self._payloads(message.events, labels_of(message))
        content_type = _CONTENT_TYPES.get(self._settings.format, "application/json")
        ends = time.monotonic() + self._settings.seconds
        with self._lock:
            try:
                producer = self._connected()
                on_their_way = [
                    producer.send(
                        self._settings.topic,
                        json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode(),
                        key=event.id.encode(),
                        headers={
                            "content-type": content_type.encode(),
                            "message-id": event_key(event, message.occasion).encode(),
                        },
                    )
                    for event, payload in zip(message.events, payloads, strict=True)
                ]
                for one in on_their_way:
                    one.offset(max(0.1, ends - time.monotonic()))
            except KafkaError as error:
                self._let_go()
                raise Undelivered(error.problem) from error
        return Sent(f"{len(on_their_way)} in {self._settings.topic}")

    def close(self) -> None:
        """Let go of the connection; it is made again when there is something to send."""
        with self._lock:
            self._let_go()

    def _connected(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = KafkaProducer(self._settings.kafka, f"receiver.{self.name}")
        return self._producer

    def _let_go(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=0.1)
            self._producer = None


def _json(events: Sequence[Incident], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    beside = {"labels": plain_labels(labels)} if labels else {}
    return [{**harmless(event).to_dict(), **beside} for event in events]


_FORMATS: Final[Mapping[str, _Payloads]] = {
    "json": _json,
    "cloudevents": cloudevents,
    "ocsf": ocsf_findings,
    "ecs": ecs_documents,
}
