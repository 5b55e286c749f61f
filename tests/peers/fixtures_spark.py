"""A real Spark session, one for all tests, that can read Kafka."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from peers.kafka_jars import KafkaError
from peers.spark_jars import spark_jars
from sidelong.spark_session import session

__all__ = ["spark"]


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The session; commands use the one that is there.

    SIDELONG_PEERS=off skips what needs it, save in CI: its jars come by Maven.
    """
    if os.environ.get("SIDELONG_PEERS") == "off" and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no Spark")
    try:
        jars = spark_jars()
    except KafkaError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)
    settings = {
        "spark.jars": jars,
        # Short runs: the compiler that starts fast, the collector without threads of its own.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.memory": "1g",
    }
    with session("local[2]", settings, tmp_path_factory.mktemp("spark")) as made:
        yield made
