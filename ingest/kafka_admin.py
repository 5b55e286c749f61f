"""Asks Kafka for its topics, and makes them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import KafkaAdminClient as _Admin
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType

from sidelong.ingest.kafka_client import built, explained
from sidelong.ingest.kafka_settings import KafkaSettings

__all__ = ["KafkaAdmin", "Topic"]

_BROKERS_CHOICE: Final = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its partitions, how often each is kept (None: as the brokers are configured), and
    the settings that are not left to the brokers."""

    name: str
    partitions: int
    replicas: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)


class KafkaAdmin:
    """What is asked of Kafka about topics. Errors: those of `kafka_client.built`."""

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._settings: Final = settings
        self._admin: Final[Any] = built(_Admin, settings, name)

    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None when there is no such topic. Errors: KafkaError."""
        found = self.describe([topic])
        return found[topic].partitions if topic in found else None

    def describe(self, topics: Iterable[str]) -> dict[str, Topic]:
        """Those of `topics` that there are, with all settings that are in force.

        Errors: KafkaError; KafkaRefused when they may not be seen.
        """
        names = list(dict.fromkeys(topics))
        if not names:
            return {}
        with explained(self._settings, "describe topics"):
            described = [one for one in self._admin.describe_topics(names) if _is_there(one)]
            found = [str(one["name"]) for one in described]
            configs = self._configs(found) if found else {}
        return {
            str(one["name"]): Topic(
                name=str(one["name"]),
                partitions=len(one["partitions"]),
                replicas=len(one["partitions"][0]["replica_nodes"]),
                config=configs.get(str(one["name"]), {}),
            )
            for one in described
        }

    def create_topics(self, topics: Iterable[Topic]) -> list[str]:
        """Make those that are not there, and wait until they can be used; the names of the new.

        Those that are there are left as they are. Errors: KafkaError, such as for settings that
        Kafka does not take.
        """
        wanted = {one.name: one for one in topics}
        missing = wanted.keys() - self.describe(wanted).keys()
        new: list[str] = []
        for name in (name for name in wanted if name in missing):
            with explained(self._settings, f"make the topic {name}"):
                answer = self._admin.create_topics({name: _asked(wanted[name])}, raise_errors=False)
                (made,) = answer["topics"]
                kind = errors.for_code(made["error_code"])
                if kind is errors.TopicAlreadyExistsError:
                    continue  # another process made it just now
                if kind is not errors.NoError:
                    raise kind(made.get("error_message") or "")
            new.append(name)
        if missing:  # a topic is made before it can be used
            with explained(self._settings, "make topics ready"):
                self._admin.wait_for_topics(sorted(missing))
        return new

    def close(self) -> None:
        """Let go of it. Never raises; safe to repeat."""
        self._admin.close()

    def _configs(self, topics: list[str]) -> dict[str, dict[str, str]]:
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
        found = self._admin.describe_configs(asked, config_filter="all")
        return {
            name: {key: str(entry["value"]) for key, entry in entries.items()}
            for name, entries in found["topic"].items()
        }


def _asked(topic: Topic) -> dict[str, Any]:
    return {
        "num_partitions": topic.partitions,
        "replication_factor": topic.replicas or _BROKERS_CHOICE,
        "configs": dict(topic.config),
    }


def _is_there(described: Mapping[str, Any]) -> bool:
    """Whether what Kafka says of a topic is that it is there. Errors: the library's."""
    kind = errors.for_code(described["error_code"])
    if kind is errors.UnknownTopicOrPartitionError:
        return False
    if kind not in (errors.NoError, errors.LeaderNotAvailableError):
        raise kind(described["name"])
    return bool(described["partitions"])
