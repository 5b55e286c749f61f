"""The topics of the service, and the settings with which Kafka should keep them.

| topic | holds | partitions |
|---|---|---|
| flows.raw | what anybody sent about flows, as it came | 8 |
| flows.raw.dlq | of these, what cannot be read, with the cause | 1 |
| flows.batches | normalised flows, by the workload that acts | 4 |
| evidence | what detectors found, a message for each stretch of the stream | 1 |
| alerts | incidents as they open, grow and close, by their id | 1 |

The time of a message is that of its arrival in Kafka (LogAppendTime): flows that are replayed bear
old times, and retention would delete such messages at once; lag in seconds follows from it too.
Nothing is compacted: of an incident that opened, grew and closed, each message is one to deliver.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sidelong.errors import ConfigError
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_client import LARGEST_MESSAGE
from sidelong.ingest.kafka_settings import KafkaSettings

__all__ = [
    "ALERTS",
    "BATCHES",
    "EVIDENCE",
    "RAW",
    "TOPICS",
    "Made",
    "create_topics",
    "dead_letters",
    "wanted_topics",
]

RAW: Final = "flows.raw"
BATCHES: Final = "flows.batches"
EVIDENCE: Final = "evidence"
ALERTS: Final = "alerts"

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


def dead_letters(topic: str) -> str:
    """The topic of what was in `topic` and cannot be read."""
    return f"{topic}.dlq"


TOPICS: Final[Mapping[str, tuple[int, int]]] = {
    RAW: (8, 2 * _DAY_MS),
    dead_letters(RAW): (1, 14 * _DAY_MS),
    BATCHES: (4, 2 * _DAY_MS),
    EVIDENCE: (1, 7 * _DAY_MS),
    ALERTS: (1, 30 * _DAY_MS),
}
"""Of each topic, without prefix: partitions, and how long a message is kept, in ms. As long the
service may stand still and miss nothing."""


@dataclass(frozen=True, slots=True)
class Made:
    """What became of the topics: `new` ones, those that were there as they should be, and those
    that are there but otherwise, with what is different."""

    new: tuple[str, ...]
    same: tuple[str, ...]
    different: Mapping[str, tuple[str, ...]]


def wanted_topics(
    settings: KafkaSettings,
    *,
    partitions: Mapping[str, int] | None = None,
    replicas: int | None = None,
) -> list[Topic]:
    """The topics as they should be, with the prefix of `settings`.

    partitions: by name without prefix, where it is not the default. replicas: how often each
    message is kept, None for what the brokers do by default; from three on, two must have a message
    before it counts as sent. Errors: ConfigError.
    """
    for name, number in (partitions or {}).items():
        if name not in TOPICS:
            raise ConfigError(f"there is no topic {name}", hint=f"topics are {', '.join(TOPICS)}")
        if number < 1:
            raise ConfigError(f"{name} has {number} partitions", hint="give at least one")
    found = []
    for name, (default, kept_ms) in TOPICS.items():
        config = {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "max.message.bytes": str(LARGEST_MESSAGE),
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(kept_ms),
            "segment.ms": str(min(_DAY_MS, kept_ms // 8)),  # deleted are whole segments
        }
        if replicas is not None and replicas > 2:
            config["min.insync.replicas"] = "2"
        number = (partitions or {}).get(name, default)
        found.append(Topic(settings.topic(name), number, replicas, config))
    return found


def create_topics(
    settings: KafkaSettings,
    *,
    partitions: Mapping[str, int] | None = None,
    replicas: int | None = None,
) -> Made:
    """Make the topics that are not there; those that are stay as they are.

    partitions, replicas: as in `wanted_topics`. Errors: ConfigError; KafkaError when Kafka does not
    answer or takes a setting; KafkaRefused when it never will.
    """
    wanted = wanted_topics(settings, partitions=partitions, replicas=replicas)
    admin = KafkaAdmin(settings, "topics")
    try:
        new = admin.create_topics(wanted)
        there = admin.describe(topic.name for topic in wanted)
    finally:
        admin.close()
    different: dict[str, tuple[str, ...]] = {}
    for topic in wanted:
        if topic.name not in new and (found := _differences(topic, there[topic.name])):
            different[topic.name] = found
    same = [one.name for one in wanted if one.name not in new and one.name not in different]
    return Made(tuple(new), tuple(same), different)


def _differences(wanted: Topic, found: Topic) -> tuple[str, ...]:
    """In words: "retention.ms is 1000, not 86400000"."""
    pairs = [("partitions", str(found.partitions), str(wanted.partitions))]
    if wanted.replicas is not None:
        pairs.append(("replicas", str(found.replicas), str(wanted.replicas)))
    pairs += [(key, found.config.get(key, ""), value) for key, value in wanted.config.items()]
    return tuple(f"{key} is {is_}, not {should}" for key, is_, should in pairs if is_ != should)
