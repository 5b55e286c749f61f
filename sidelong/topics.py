"""The work of `sidelong topics`: make the topics of the service, and say what is in them."""

import json
from collections.abc import Sequence
from typing import Any, Final

from sidelong.config import read_config
from sidelong.errors import ConfigError
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_settings import KafkaSettings
from sidelong.ingest.kafka_topics import ALERTS, BATCHES, EVIDENCE, RAW, TOPICS, create_topics
from sidelong.terminal import Terminal, plural

__all__ = ["create", "listed"]

_FINE: Final = 0
_MISSING: Final = 1

_READERS: Final = {RAW: "normalise", BATCHES: "detect", EVIDENCE: "correlate", ALERTS: "deliver"}


def create(
    *, terminal: Terminal, config: str | None, partitions: Sequence[str], replicas: int | None
) -> int:
    """Make what is missing and say what is otherwise, which may be meant; returns 0.

    Errors: ConfigError; KafkaError when Kafka does not answer, or not as we need.
    """
    kafka = read_config(config).kafka
    made = create_topics(kafka, partitions=_numbers(partitions), replicas=replicas)
    for name in made.new:
        terminal.tell(f"{name} is new")
    for name in made.same:
        terminal.tell(f"{name} is there")
    for name, differences in made.different.items():
        terminal.tell(f"{name} is there, but {'; '.join(differences)}")
    return _FINE


def listed(*, terminal: Terminal, config: str | None, output: str | None) -> int:
    """Say what is there, and how far behind its readers are; returns the exit status.

    Errors: KafkaError when Kafka does not answer.
    """
    kafka = read_config(config).kafka
    admin = KafkaAdmin(kafka, "topics")
    try:
        there = admin.describe(kafka.topic(name) for name in TOPICS)
    finally:
        admin.close()
    found = [_described(kafka, name, there.get(kafka.topic(name))) for name in TOPICS]
    as_table = output == "table" or (output is None and terminal.out.is_terminal)
    for topic in found:
        terminal.tell(_line(topic) if as_table else json.dumps(topic))
    return _FINE if all(topic["partitions"] for topic in found) else _MISSING


def _described(kafka: KafkaSettings, name: str, there: Topic | None) -> dict[str, Any]:
    """Of a topic: its partitions, how many messages it holds, and how many are still to be read."""
    topic = kafka.topic(name)
    if there is None:
        return {"topic": topic, "partitions": 0, "messages": 0}
    told: dict[str, Any] = {"topic": topic, "partitions": there.partitions}
    role = _READERS.get(name)
    group = kafka.group(role) if role else None
    consumer = KafkaConsumer(kafka, "topics", group=group)
    try:
        bounds = consumer.bounds((topic, number) for number in range(there.partitions))
        told["messages"] = sum(end - first for first, end in bounds.values())
        if role:
            read = {place: consumer.committed(place) for place in bounds}
            told["reader"] = role
            if any(at is not None for at in read.values()):
                told["unread"] = sum(
                    end - max(first, read[place] or 0) for place, (first, end) in bounds.items()
                )
    finally:
        consumer.close()
    return told


def _line(told: dict[str, Any]) -> str:
    if not told["partitions"]:
        return f"{told['topic']}: is not there"
    text = (
        f"{told['topic']}: {plural(told['partitions'], 'partition')}, "
        f"{plural(told['messages'], 'message')}"
    )
    if "unread" in told:
        text += f", {told['unread']:,} not committed by {told['reader']}"
    return text


def _numbers(given: Sequence[str]) -> dict[str, int]:
    """From "flows.batches=12". Errors: ConfigError."""
    numbers = {}
    for text in given:
        name, sign, number = text.partition("=")
        if not sign or not number.isdecimal():
            raise ConfigError(
                f"--partitions is {text}, but must be NAME=N", hint="as flows.batches=12"
            )
        numbers[name] = int(number)
    return numbers
