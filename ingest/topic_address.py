"""Topics of Kafka by URL: `kafka://HOST:PORT[,HOST:PORT]/TOPIC[?follow]`.

Without servers, as `kafka:///TOPIC`, they are those of [kafka]; everything else of [kafka] counts
in any case. `kafka+tls://` is TLS with the system's certificates where [kafka.tls] says nothing.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sidelong.errors import ConfigError
from sidelong.ingest.kafka_settings import KafkaSettings, KafkaTls

__all__ = ["TOPIC_SCHEMES", "TopicAddress", "is_followed", "is_topic", "topic_address"]

TOPIC_SCHEMES: Final = ("kafka", "kafka+tls")

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_STARTS: Final = ("beginning", "end")


class TopicAddress(NamedTuple):
    """A topic and how to get there.

    url: without anything behind the topic. kafka: the settings, with the servers of the URL.
    follow: whether to go on at the end. start: "beginning" or "end". group: the name under which
    several processes share the topic, where one was given.
    """

    url: str
    kafka: KafkaSettings
    topic: str
    follow: bool = False
    start: str = "beginning"
    group: str | None = None


def is_topic(path: str) -> bool:
    """Whether an input names a topic of Kafka."""
    return path.partition("://")[0] in TOPIC_SCHEMES and "://" in path


def is_followed(url: str) -> bool:
    """Whether the URL of a topic asks to go on at its end."""
    return any(name == "follow" for name, _ in parse_qsl(urlsplit(url).query, True))


def topic_address(url: str, settings: KafkaSettings) -> TopicAddress:
    """What a URL means. Errors: ConfigError for one that cannot be used."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ConfigError(
            f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]} bears a name or a password",
            hint="set them in [kafka.sasl], from a file or the environment",
        )
    topic = parts.path.strip("/")
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise ConfigError(
            f"{url} names no topic of Kafka", hint="write it as kafka://HOST:PORT/TOPIC"
        )
    servers = tuple(server for server in parts.netloc.split(",") if server)
    if not servers and not settings.servers:
        raise ConfigError(
            f"{url} names no server", hint="kafka://HOST:PORT/TOPIC, or set servers in [kafka]"
        )
    try:
        kafka = msgspec.structs.replace(settings, servers=servers or settings.servers)
        kafka.__post_init__()  # which a replacement is not asked
    except ValueError as error:
        raise ConfigError(
            f"{url} cannot be used: {error}", hint="write it as kafka://HOST:PORT/TOPIC"
        ) from error
    if parts.scheme == "kafka+tls" and kafka.tls is None:
        kafka = msgspec.structs.replace(kafka, tls=KafkaTls())
    shown = f"{parts.scheme}://{','.join(kafka.servers)}/{topic}"
    return _with_query(TopicAddress(shown, kafka, topic), url, parts.query)


def _with_query(address: TopicAddress, url: str, query: str) -> TopicAddress:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "follow" and value in ("", "1", "true"):
            address = address._replace(follow=True)
        elif name == "from" and value in _STARTS:
            address = address._replace(start=value)
        elif name == "group" and _TOPIC.fullmatch(value):
            address = address._replace(group=value)
        else:
            raise ConfigError(
                f"{url} asks for {name}={value}, which is unknown",
                hint="follow, from=beginning, from=end or group=NAME",
            )
    return address
