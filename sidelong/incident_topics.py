"""Incidents in a topic of Kafka, as the service writes them to `alerts`."""

from typing import Final

import msgspec

from sidelong.alerts.incident import Incident
from sidelong.errors import SourceError
from sidelong.incident_finding import is_incident
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.topic_address import TopicAddress

__all__ = ["in_topic", "is_alerts"]

_MOST: Final = 1_000_000  # events of one topic
_SILENT_POLLS: Final = 20


def in_topic(address: TopicAddress) -> list[Incident]:
    """The events in a topic of alerts, in the order of its partitions.

    Errors: KafkaError when Kafka does not answer; SourceError for what is no alert.
    """
    consumer = KafkaConsumer(address.kafka, "explain")
    try:
        places = [(address.topic, number) for number in consumer.partitions(address.topic)]
        ends = {
            place: end for place, (first, end) in consumer.bounds(places).items() if end > first
        }
        consumer.assign({place: first for place, (first, _) in consumer.bounds(ends).items()})
        found: list[Incident] = []
        silent = 0
        left = set(ends)
        while left and silent < _SILENT_POLLS and len(found) < _MOST:
            polled = consumer.poll(0.5)
            silent = 0 if polled.records else silent + 1
            for place, records in polled.records.items():
                found += [_alert(record.value, address) for record in records]
                if records[-1].offset + 1 >= ends[place]:
                    left.discard(place)
            left -= {place for place in left if (consumer.position(place) or 0) >= ends[place]}
    finally:
        consumer.close()
    return found


def is_alerts(address: TopicAddress) -> bool:
    """Whether a topic holds incidents rather than flows, by the header of its first message."""
    consumer = KafkaConsumer(address.kafka, "look")
    try:
        for number in consumer.partitions(address.topic):
            place = (address.topic, number)
            first, end = consumer.bounds([place])[place]
            if end <= first:
                continue
            consumer.assign({place: first})
            for _ in range(_SILENT_POLLS):
                for records in consumer.poll(0.5).records.values():
                    return is_incident(records[0].value)
    finally:
        consumer.close()
    return False


def _alert(value: bytes, address: TopicAddress) -> Incident:
    try:
        return msgspec.json.decode(value, type=Incident)
    except msgspec.MsgspecError as error:
        raise SourceError(
            f"{address.url} holds a message that is no incident: {error}",
            hint="give the topic of alerts, kafka://HOST:PORT/alerts",
        ) from error
