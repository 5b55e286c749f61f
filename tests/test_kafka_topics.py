"""The topics of the service: made as they should be, once, and left alone."""

import uuid

import pytest
from peers.kafka_peer import Kafka

from sidelong.errors import ConfigError
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_client import KafkaRefused
from sidelong.ingest.kafka_settings import KafkaSettings
from sidelong.ingest.kafka_topics import RAW, TOPICS, create_topics, dead_letters, wanted_topics


@pytest.fixture
def settings(kafka: Kafka) -> KafkaSettings:
    return KafkaSettings(servers=(kafka.server,), prefix=f"{uuid.uuid4().hex[:8]}.")


def test_topics_are_made_once(settings: KafkaSettings) -> None:
    names = tuple(settings.topic(name) for name in TOPICS)
    made = create_topics(settings, partitions={RAW: 3})
    assert (made.new, made.same, made.different) == (names, (), {})
    again = create_topics(settings, partitions={RAW: 3})
    assert (again.new, again.same, again.different) == ((), names, {})


def test_a_topic_that_is_otherwise_is_told_and_left(settings: KafkaSettings) -> None:
    name = settings.topic(RAW)
    admin = KafkaAdmin(settings, "test")
    admin.create_topics([Topic(name, 2, config={"retention.ms": "1000"})])
    made = create_topics(settings)
    assert set(made.new) == {settings.topic(one) for one in TOPICS if one != RAW}
    told = made.different[name]
    assert told[:1] == ("partitions is 2, not 8",)
    assert "retention.ms is 1000, not 172800000" in told
    assert "message.timestamp.type is CreateTime, not LogAppendTime" in told
    assert admin.partitions(name) == 2
    admin.close()


def test_more_replicas_than_brokers_are_refused_in_kafkas_words(settings: KafkaSettings) -> None:
    with pytest.raises(KafkaRefused, match="only 1 broker"):
        create_topics(settings, replicas=3)


def test_with_three_replicas_two_must_have_a_message() -> None:
    (raw, *_) = wanted_topics(KafkaSettings(prefix="prod."), replicas=3)
    assert (raw.name, raw.partitions, raw.replicas) == ("prod.flows.raw", 8, 3)
    assert raw.config["min.insync.replicas"] == "2"


def test_names_of_other_topics_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"there is no topic flows\.row"):
        wanted_topics(KafkaSettings(), partitions={"flows.row": 3})
    with pytest.raises(ConfigError, match="0 partitions"):
        wanted_topics(KafkaSettings(), partitions={RAW: 0})


def test_what_cannot_be_read_has_a_topic_beside() -> None:
    assert dead_letters("shop.flows") == "shop.flows.dlq"


def test_what_there_is_not_is_not_described(settings: KafkaSettings) -> None:
    admin = KafkaAdmin(settings, "test")
    assert admin.describe(["nothing.of.that.name"]) == {}
    assert admin.partitions("nothing.of.that.name") is None
    admin.close()
