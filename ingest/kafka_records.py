"""Partitions and messages as the library behind the transport has them, and as we do."""

from collections.abc import Iterable
from typing import Any

from kafka.structs import TopicPartition

from sidelong.ingest.kafka_client import Partition, Record

__all__ = ["as_pair", "as_partition", "as_records"]


def as_partition(pair: Partition) -> TopicPartition:
    """For the library."""
    return TopicPartition(*pair)


def as_pair(partition: TopicPartition) -> Partition:
    """For us."""
    return (partition.topic, partition.partition)


def as_records(messages: Iterable[Any]) -> list[Record]:
    """What a poll brought of one partition; by the number of the field, for there may be 50,000 a
    second."""
    new = tuple.__new__
    return [
        new(
            Record,
            (
                message[0],  # topic
                message[1],  # partition
                message[3],  # offset
                message[4],  # timestamp
                message[6],  # key
                b"" if message[7] is None else message[7],  # value
                {name: b"" if content is None else content for name, content in message[8]}
                if message[8]
                else {},
            ),
        )
        for message in messages
    ]
