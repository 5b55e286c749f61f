"""A case out of Kafka: from the service's alerts to the flows that it reads."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from peers.kafka_peer import Kafka
from polars.testing import assert_frame_equal
from shop_case import TEST, shop_baseline, shop_case

import sidelong
from sidelong.case_stream import CaseStream
from sidelong.cli import run
from sidelong.config import read_config
from sidelong.errors import ConfigError
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.kafka_settings import KafkaSettings


@pytest.fixture(scope="module")
def prefix(kafka: Kafka) -> str:
    """Topics of a service that has told the incidents of the shop, and has its flows."""
    settings = KafkaSettings(servers=(kafka.server,), prefix=kafka.topic("case") + ".")
    admin = KafkaAdmin(settings, "test")
    alerts, raw = settings.topic("alerts"), settings.topic("flows.raw")
    admin.create_topics([Topic(alerts, 1), Topic(raw, 2)])
    admin.close()
    producer = KafkaProducer(settings, "test")
    for incident in shop_case().incidents:
        opened = incident.to_json().replace('"closed"', '"open"', 1)
        for text in (opened, incident.to_json()):
            producer.send(alerts, text.encode(), key=incident.id.encode(), partition=0)
    producer.flush(30)
    producer.close()
    assert run(["collect", TEST, "--to", f"kafka://{kafka.server}/{raw}"]) == 0
    return settings.prefix


def test_a_topic_of_alerts_is_opened_as_its_incidents(kafka: Kafka, prefix: str) -> None:
    case = sidelong.open(f"kafka://{kafka.server}/{prefix}alerts", baseline=shop_baseline())
    assert list(case.incidents) == list(shop_case().incidents)
    with pytest.raises(ConfigError, match="incidents without their flows"):
        case.flows(case.incidents[0])


def test_a_topic_of_flows_is_replayed(kafka: Kafka, prefix: str) -> None:
    case = sidelong.open(f"kafka://{kafka.server}/{prefix}flows.raw", baseline=shop_baseline())
    assert [one.id for one in case.incidents] == [one.id for one in shop_case().incidents]


def test_the_configuration_of_a_service_leads_to_its_alerts_flows_and_baseline(
    kafka: Kafka, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "sidelong.toml"
    config.write_text(
        f'[kafka]\nservers = ["{kafka.server}"]\nprefix = "{prefix}"\n'
        f'[service]\nbaseline = "{shop_baseline()}"\n'
        f'[delivery]\noutbox = "{tmp_path}/outbox.db"\n'
    )
    case = sidelong.open(config)
    assert list(case.incidents) == list(shop_case().incidents)
    assert case.baseline("shop/orders").state == "learning"
    one = case.incidents[-1]
    columns = ["about", "time", "src", "dst", "dns_name", "reply"]
    assert_frame_equal(
        case.flows(one).frame.select(columns), shop_case().flows(one).frame.select(columns)
    )
    kept = tmp_path / "kept.evidence"
    assert run(["explain", one.id[:6], "--config", str(config), "--bundle", str(kept)]) == 0
    assert one.summary in " ".join(capsys.readouterr().out.split())
    assert len(sidelong.open(kept).flows(one)) == len(case.flows(one))


def test_flows_of_a_told_incident_are_read_from_just_before_it(kafka: Kafka, prefix: str) -> None:
    """What was written to the topic before is passed over: here everything was written after."""
    flows = f"kafka://{kafka.server}/{prefix}flows.raw"
    stream = CaseStream(inputs=(flows,), settings=read_config(None))
    now = datetime.now(UTC)
    assert sum(batch.flows.height for one in stream.opened_for(now) for batch in one.batches()) > 0
    later = stream.opened_for(now + timedelta(hours=1))
    assert sum(batch.flows.height for one in later for batch in one.batches()) == 0
