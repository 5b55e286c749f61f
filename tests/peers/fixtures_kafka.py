"""The real Kafka. Without it tests fail; SIDELONG_PEERS=off skips them, save in CI."""

import os
from collections.abc import Iterator

import pytest

from peers.kafka_peer import Kafka, KafkaCluster, KafkaError

__all__ = ["kafka", "kafka_cluster"]


def _wanted() -> None:
    if os.environ.get("SIDELONG_PEERS") == "off" and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no real Kafka")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One node, for all tests of a session: each takes its own `kafka.topic()` and group.

    A test may stop, kill or freeze it, and leaves it running.
    """
    _wanted()
    try:
        node = Kafka(tmp_path_factory.mktemp("kafka"))
    except KafkaError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)
    with node:
        yield node


@pytest.fixture(scope="module")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three nodes, for the tests of one file."""
    _wanted()
    try:
        cluster = KafkaCluster(tmp_path_factory.mktemp("kafka"))
    except KafkaError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)
    with cluster:
        yield cluster
