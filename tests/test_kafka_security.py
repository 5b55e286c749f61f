"""Who we are to Kafka and whom we trust: TLS and SASL against a real one."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from peers.kafka_peer import PASSWORD, USER, Kafka
from web_server import Request, serving

from sidelong.errors import ConfigError, SidelongError, SourceError
from sidelong.ingest.kafka_admin import KafkaAdmin, Topic
from sidelong.ingest.kafka_client import KafkaError, KafkaRefused
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.kafka_settings import KafkaSasl, KafkaSettings, KafkaTls
from sidelong.ingest.kafka_tokens import Tokens
from sidelong.ingest.secret import Secret

WRONG = "not-the-password"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    monkeypatch.setenv("KAFKA_WRONG", WRONG)
    monkeypatch.setenv("KAFKA_TOKEN", unsigned({"sub": USER, "exp": time.time() + 600}))


def unsigned(claims: dict[str, Any]) -> str:
    """A token that nobody signed, which Kafka takes where it is told to (RFC 7519, section 6)."""
    parts = ({"alg": "none"}, {"iat": time.time(), **claims})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*(part.rstrip("=") for part in encoded), ""])


def settings_with(
    server: str, tls: KafkaTls | None = None, sasl: KafkaSasl | None = None, seconds: float = 5
) -> KafkaSettings:
    return KafkaSettings(servers=(server,), tls=tls, sasl=sasl, connect_seconds=seconds)


def passes_a_message(settings: KafkaSettings) -> bool:
    """Each of the clients does its part."""
    topic = Kafka.topic()
    admin = KafkaAdmin(settings, "test")
    admin.create_topics([Topic(topic, 1)])
    admin.close()
    producer = KafkaProducer(settings, "test")
    producer.send(topic, b"value").offset()
    producer.close()
    consumer = KafkaConsumer(settings, "test")
    consumer.assign({(topic, 0): 0})
    records = consumer.poll(10).records
    consumer.close()
    return [record.value for record in records[topic, 0]] == [b"value"]


@pytest.mark.parametrize("known", [False, True])
def test_messages_pass_over_tls_with_and_without_a_certificate_of_ours(
    kafka: Kafka, known: bool
) -> None:
    tls = KafkaTls(ca=str(kafka.ca), cert=str(kafka.client) if known else None)
    assert passes_a_message(settings_with(kafka.tls_server, tls))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_messages_pass_for_a_user_with_a_password(kafka: Kafka, mechanism: Any) -> None:
    sasl = KafkaSasl(mechanism=mechanism, username=USER, password=Secret(env="KAFKA_PASSWORD"))
    assert passes_a_message(settings_with(kafka.sasl_server, KafkaTls(ca=str(kafka.ca)), sasl))


def test_messages_pass_for_who_shows_a_token(kafka: Kafka) -> None:
    sasl = KafkaSasl(mechanism="OAUTHBEARER", token=Secret(env="KAFKA_TOKEN"))
    assert passes_a_message(settings_with(kafka.sasl_server, KafkaTls(ca=str(kafka.ca)), sasl))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_is_said_to_be_wrong_and_not_told(kafka: Kafka, mechanism: Any) -> None:
    sasl = KafkaSasl(mechanism=mechanism, username=USER, password=Secret(env="KAFKA_WRONG"))
    settings = settings_with(kafka.sasl_server, KafkaTls(ca=str(kafka.ca)), sasl, seconds=10)
    with pytest.raises(KafkaRefused, match=f"refuses the user {USER} \\({mechanism}\\)") as told:
        KafkaAdmin(settings, "test")
    assert WRONG not in str(told.value)
    assert "[kafka.sasl]" in told.value.hint


def test_a_token_that_is_none_is_refused_and_not_told(kafka: Kafka) -> None:
    sasl = KafkaSasl(mechanism="OAUTHBEARER", token=Secret(env="KAFKA_WRONG"))
    settings = settings_with(kafka.sasl_server, KafkaTls(ca=str(kafka.ca)), sasl, seconds=10)
    with pytest.raises(KafkaRefused, match="refuses the token") as told:
        KafkaAdmin(settings, "test")
    assert WRONG not in str(told.value)


def test_a_broker_whose_certificate_is_not_trusted_is_refused(kafka: Kafka) -> None:
    with pytest.raises(KafkaRefused, match="TLS fails, unable to get local issuer") as told:
        KafkaAdmin(settings_with(kafka.tls_server, KafkaTls()), "test")
    assert "[kafka.tls]" in told.value.hint


def test_tls_where_none_is_spoken_is_refused(kafka: Kafka) -> None:
    with pytest.raises(KafkaRefused, match="TLS fails"):
        KafkaAdmin(settings_with(kafka.server, KafkaTls(ca=str(kafka.ca))), "test")


def test_no_tls_where_it_is_spoken_is_no_answer_and_the_way_is_named(kafka: Kafka) -> None:
    with pytest.raises(KafkaError, match="it takes connections") as told:
        KafkaAdmin(settings_with(kafka.tls_server, seconds=0.5), "test")
    assert "without TLS" in told.value.hint


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    tls = KafkaTls(ca=str(tmp_path / "absent.pem"))
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        KafkaAdmin(settings_with("127.0.0.1:1", tls), "test")


def test_a_secret_that_is_not_there_is_named() -> None:
    sasl = KafkaSasl(mechanism="PLAIN", username=USER, password=Secret(env="KAFKA_ABSENT"))
    with pytest.raises(ConfigError, match="the variable KAFKA_ABSENT, which is not set"):
        KafkaAdmin(settings_with("127.0.0.1:1", sasl=sasl), "test")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def with_endpoint(port: int, authority: trustme.CA, folder: Path) -> KafkaSasl:
    ca = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    return KafkaSasl(
        mechanism="OAUTHBEARER",
        token_url=f"https://127.0.0.1:{port}/token",
        client_id="sidelong",
        client_secret=Secret(env="KAFKA_PASSWORD"),
        scope="kafka",
        token_ca=str(ca),
    )


def test_a_token_is_got_with_the_credentials_of_a_client_and_again_before_it_expires(
    authority: trustme.CA, tmp_path: Path
) -> None:
    given = iter(["one", "two"])

    def answer(_: Request) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, json.dumps({"access_token": next(given), "expires_in": 100}).encode()

    clock = Clock()
    with serving(answer, authority=authority) as server:
        tokens = Tokens(with_endpoint(server.port, authority, tmp_path), clock)
        told = []
        for clock.now in (0, 79, 81):
            told.append(tokens.token())
    assert told == ["one", "one", "two"]
    request = server.requests[0]
    assert (request.method, request.target) == ("POST", "/token")
    assert request.body == b"grant_type=client_credentials&scope=kafka"
    credentials = base64.b64encode(f"sidelong:{PASSWORD}".encode()).decode()
    assert request.headers["authorization"] == f"Basic {credentials}"


def test_kafka_takes_a_token_that_was_got_so(
    kafka: Kafka, authority: trustme.CA, tmp_path: Path
) -> None:
    token = unsigned({"sub": USER, "exp": time.time() + 600})
    answer: tuple[int, dict[str, str], bytes] = (
        200,
        {},
        json.dumps({"access_token": token}).encode(),
    )
    with serving(lambda _: answer, authority=authority) as server:
        sasl = with_endpoint(server.port, authority, tmp_path)
        assert passes_a_message(settings_with(kafka.sasl_server, KafkaTls(ca=str(kafka.ca)), sasl))


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (401, f"no {PASSWORD}".encode(), r"status 401 no \*\*\*"),
        (200, b"{}", "without access_token"),
        (200, b"<html>", "without access_token"),
        (302, b"", "status 302"),
    ],
)
def test_an_endpoint_without_a_token_is_named_and_the_secret_is_not(
    authority: trustme.CA, tmp_path: Path, status: int, body: bytes, why: str
) -> None:
    with serving(lambda _: (status, {"Location": "/"}, body), authority=authority) as server:
        tokens = Tokens(with_endpoint(server.port, authority, tmp_path))
        with pytest.raises(SourceError, match=why) as told:
            tokens.token()
    assert PASSWORD not in str(told.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ({"servers": ["a b"]}, "HOST:PORT"),
        ({"servers": ["a:70000"]}, "below 65536"),
        ({"servers": ["http://a:1"]}, "HOST:PORT"),
        ({"prefix": "with space"}, "matching regex"),
        ({"sasl": {"mechanism": "PLAIN"}}, "needs username and password"),
        ({"sasl": {"mechanism": "PLAIN", "username": "a", "password": "b"}}, "Expected `object"),
        ({"sasl": {"mechanism": "OAUTHBEARER"}}, "either token or token_url"),
        (
            {
                "sasl": {
                    "mechanism": "OAUTHBEARER",
                    "token_url": "http://a",
                    "client_id": "b",
                    "client_secret": {"env": "C"},
                }
            },
            "must begin with https://",
        ),
        ({"tls": {"key": "a.key"}}, "cert is not"),
    ],
)
def test_settings_that_cannot_work_are_refused(text: object, why: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(text, KafkaSettings)


def test_addresses_of_servers() -> None:
    settings = KafkaSettings(servers=("kafka", "kafka:9093", "[::1]:9094"))
    assert settings.addresses == (("kafka", 9092), ("kafka", 9093), ("::1", 9094))


def test_errors_of_kafka_are_those_of_a_source() -> None:
    assert issubclass(KafkaError, SourceError)
    assert issubclass(KafkaRefused, SidelongError)
