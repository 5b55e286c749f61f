"""The receiver kafka against a real Kafka: what it says was taken is in the topic."""

import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from alert_forms import shop_incidents
from peers.kafka_peer import Kafka

from sidelong.alerts.receiver import Message, Receiver, Undelivered, event_key
from sidelong.alerts.receiver_settings import KafkaReceiverSettings
from sidelong.alerts.receivers import build_receiver
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_client import Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_settings import KafkaSettings


def settings(kafka: Kafka, topic: str, **given: Any) -> KafkaReceiverSettings:
    told = {"type": "kafka", "name": "siem", "servers": [kafka.server], "topic": topic}
    return msgspec.convert({**told, **given}, KafkaReceiverSettings)


@pytest.fixture
def topic(kafka: Kafka) -> str:
    name = kafka.topic("siem")
    admin = KafkaAdmin(KafkaSettings(servers=(kafka.server,)), "test")
    admin.create_topics([Topic(name, 2)])
    admin.close()
    return name


@pytest.fixture
def receiver(kafka: Kafka, topic: str) -> Iterator[Receiver]:
    receiver = build_receiver(settings(kafka, topic))
    yield receiver
    receiver.close()  # type: ignore[attr-defined]


def read(kafka: Kafka, topic: str, count: int) -> list[Record]:
    consumer = KafkaConsumer(KafkaSettings(servers=(kafka.server,)), "test")
    try:
        consumer.assign({(topic, 0): 0, (topic, 1): 0})
        ends = time.monotonic() + 15
        found: list[Record] = []
        while len(found) < count and time.monotonic() < ends:
            for records in consumer.poll(0.5).records.values():
                found += records
    finally:
        consumer.close()
    return found


def message() -> Message:
    return Message(receiver="siem", events=tuple(shop_incidents()), created_at=0.0)


def test_each_event_is_a_message_with_its_incident_as_key(
    kafka: Kafka, topic: str, receiver: Receiver
) -> None:
    told = message()
    sent = receiver.send(told)
    receiver.send(told)  # as after an answer that was lost: the same once more
    events = {event_key(event): event for event in told.events}
    assert sent.status == f"{len(events)} in {topic}"
    records = read(kafka, topic, 2 * len(events))
    assert len(records) == 2 * len(events)
    for record in records:
        event = events[record.headers["message-id"].decode()]
        assert record.key == event.id.encode()
        assert json.loads(record.value)["id"] == event.id
        assert record.headers["content-type"] == b"application/json"
    assert len({(record.key, record.partition) for record in records}) == len(
        {event.id for event in told.events}
    )


@pytest.mark.parametrize(
    ("format", "mark"), [("cloudevents", "specversion"), ("ocsf", "class_uid"), ("ecs", "ecs")]
)
def test_other_forms_can_be_asked_for(kafka: Kafka, topic: str, format: str, mark: str) -> None:
    receiver = build_receiver(settings(kafka, topic, format=format))
    receiver.send(message())
    receiver.close()  # type: ignore[attr-defined]
    assert mark in json.loads(read(kafka, topic, 1)[0].value)


def test_it_connects_anew_after_a_failure(kafka: Kafka, topic: str) -> None:
    receiver = build_receiver(settings(kafka, topic, seconds=2))
    receiver.send(message())
    with kafka.frozen(), pytest.raises(Undelivered) as caught:
        receiver.send(message())
    assert not caught.value.permanent
    assert receiver.send(message()).status.endswith(topic)
    receiver.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"servers": []}, "servers is empty"),
        ({"servers": ["a b"]}, "servers has 'a b'"),
        ({"topic": "no topic"}, "topic"),
        ({"seconds": 0.1}, "seconds"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any], why: str) -> None:
    told = {"type": "kafka", "name": "siem", "servers": ["kafka:9092"], "topic": "alerts"}
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert({**told, **given}, KafkaReceiverSettings)
