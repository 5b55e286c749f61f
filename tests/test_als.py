"""Envoy's access log service: what its entries become, and how it is listened to."""

import threading
from pathlib import Path
from typing import Any

import grpc
import polars as pl
import pytest
from als_messages import IDENTIFIER, METHOD, http, message, samples, tcp
from envoy.data.accesslog.v3 import accesslog_pb2  # type: ignore[import-untyped]
from envoy.service.accesslog.v3 import als_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from listening import Reading, TlsFolder, raw_channel, until
from mesh_stubs import NAMES, generate

from sidelong.config import read_config
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest import envoy_als_pb2
from sidelong.ingest.als_live import open_als
from sidelong.ingest.envoy_als import AlsDecoder, AlsMessage, Sender
from sidelong.ingest.intake import Intake
from sidelong.ingest.line_files import Decoded
from sidelong.ingest.listening import ServerSettings
from sidelong.ingest.receiving import Receiver

CART, LEDGER = "spiffe://cluster.local/ns/shop/sa/cart", "spiffe://cluster.local/ns/pay/sa/ledger"
QUICK: dict[str, Any] = {"drain_seconds": 0.2}


def decoded(*messages: bytes, counts: dict[str, int] | None = None) -> Decoded:
    decoder = AlsDecoder(counts if counts is not None else {"received": 0, "skipped": 0})
    sender = Sender("ipv4:10.0.1.9:40000")
    return decoder.decode([AlsMessage(sender, content) for content in messages])[0]


def rows(*messages: bytes) -> list[dict[str, Any]]:
    return decoded(*messages).flows.to_dicts()


def opened(**settings: Any) -> Any:
    return open_als("als://localhost:0", ServerSettings(**{**QUICK, **settings}))


def send(channel: Any, *messages: bytes, timeout: float = 10) -> bytes:
    """One whole stream; returns when the server has ended it."""
    answer: bytes = channel.stream_unary(METHOD)(iter(messages), timeout=timeout)
    return answer


class Open:
    """A stream that stays open until `end`."""

    def __init__(self, channel: Any, *messages: bytes) -> None:
        self._more = threading.Event()
        self.sent = threading.Event()
        self.call = channel.stream_unary(METHOD).future(self._messages(messages), timeout=20)

    def _messages(self, messages: tuple[bytes, ...]) -> Any:
        yield from messages
        self.sent.set()
        self._more.wait(20)

    def end(self) -> None:
        self._more.set()


# What entries become


def test_a_request_is_an_attempt_and_an_answer_with_both_principals() -> None:
    attempt, answer = rows(message(http(), identifier=IDENTIFIER))
    assert (attempt["src_ip"], attempt["src_port"]) == ("10.0.1.7", 52814)
    assert (attempt["dst_ip"], attempt["dst_port"]) == ("10.0.1.9", 8080)
    assert (attempt["src_principal"], attempt["dst_principal"]) == (CART, LEDGER)
    assert (attempt["method"], attempt["path"]) == ("GET", "/v1/items/1")
    assert (attempt["bytes"], answer["bytes"]) == (7, 12)
    assert (answer["status"], answer["l7"], answer["encrypted"]) == (200, "http", True)
    assert attempt["origin"] == "envoy:inbound"


def test_the_proxy_that_reports_names_its_own_end() -> None:
    attempt, answer = rows(message(http(), identifier=IDENTIFIER))
    pod = "pay/ledger-7c4d8b9f6d-q9w2z"
    assert (attempt["dst"], attempt["dst_pod"], attempt["src"]) == ("pay/ledger", pod, None)
    assert (answer["src"], answer["src_pod"], attempt["node"]) == ("pay/ledger", pod, pod)


def test_the_first_message_of_a_stream_names_the_proxy_for_all_that_follow() -> None:
    messages = message(http(), identifier=IDENTIFIER), message(http()), message(http())
    assert {row["dst"] for row in rows(*messages) if not row["reply"]} == {"pay/ledger"}


def test_streams_do_not_share_their_proxies() -> None:
    decoder = AlsDecoder({"received": 0, "skipped": 0})
    one, other = Sender("one"), Sender("other")
    mixed = [
        AlsMessage(one, message(http(), identifier=IDENTIFIER)),
        AlsMessage(other, message(http())),
        AlsMessage(one, message(http())),
    ]
    flows = decoder.decode(mixed)[0].flows.filter(~pl.col("reply"))
    assert flows["dst"].to_list() == ["pay/ledger", None, "pay/ledger"]


@pytest.mark.parametrize(
    "kind", ["TcpUpstreamConnected", "TcpPeriodic", "DownstreamStart", "DownstreamPeriodic"]
)
def test_only_the_end_of_a_request_or_connection_counts(kind: str) -> None:
    counts = {"received": 0, "skipped": 0}
    assert decoded(message(http(access_log_type=kind)), counts=counts).flows.is_empty()
    assert counts == {"received": 0, "skipped": 1}


def test_an_entry_without_a_type_counts() -> None:
    assert len(rows(message(http(access_log_type=None)))) == 2


def test_a_claimed_address_is_not_taken_for_the_peer() -> None:
    entry = http(downstream_remote_address="192.0.2.66:0", request={"forwarded_for": "192.0.2.66"})
    assert {row["src_ip"] for row in rows(message(entry)) if not row["reply"]} == {"10.0.1.7"}


def test_a_connection_has_the_bytes_of_both_ways() -> None:
    attempt, answer = rows(message(tcp(), identifier=IDENTIFIER))
    assert (attempt["bytes"], answer["bytes"], attempt["l7"]) == (82, 118, None)


def test_a_refused_connection_is_a_reset() -> None:
    entry = tcp(
        upstream_cluster="outbound|8080||gone.pay.svc.cluster.local",
        upstream_remote_address="10.0.1.99:8080",
        upstream_local_address=None,
        tls_properties=None,
        response_flags={"upstream_connection_failure": True, "upstream_retry_limit_exceeded": True},
        upstream_transport_failure_reason="delayed connect error: Connection refused",
    )
    attempt, answer = rows(message(entry))
    assert (attempt["dst_ip"], attempt["origin"]) == ("10.0.1.99", "envoy:outbound")
    assert answer["tcp_flags"] == 0x14


def rbac(**told: str) -> dict[str, Any]:
    return {"filter_metadata": {"envoy.filters.http.rbac": told}}


def test_what_rbac_enforced_is_a_denial_and_names_its_policy() -> None:
    policy = "ns[pay]-policy[no-admin]-rule[0]"
    metadata = rbac(enforced_engine_result="denied", enforced_effective_policy_id=policy)
    denied = {"response_code": 403, "response_code_details": ""}
    attempt, answer = rows(message(http(metadata=metadata, response=denied)))
    assert (attempt["verdict"], attempt["policy"]) == ("DROPPED", "pay/no-admin")
    assert (attempt["drop_reason"], answer["status"]) == ("POLICY_DENIED", 403)


def test_what_rbac_only_would_have_done_is_no_denial() -> None:
    metadata = rbac(
        shadow_engine_result="denied",
        shadow_effective_policy_id="ns[pay]-policy[dry]-rule[0]",
        enforced_engine_result="allowed",
    )
    attempt, _ = rows(message(http(metadata=metadata)))
    assert (attempt["verdict"], attempt["policy"]) == ("FORWARDED", None)


def test_addresses_of_ipv6_are_read() -> None:
    entry = http(
        downstream_direct_remote_address="[2001:db8::7]:52814",
        downstream_remote_address="[2001:db8::7]:52814",
        downstream_local_address="[2001:db8::9]:8080",
    )
    attempt, _ = rows(message(entry))
    assert (attempt["src_ip"], attempt["dst_ip"]) == ("2001:db8::7", "2001:db8::9")


def test_an_older_envoy_tells_how_long_it_took_by_its_last_byte() -> None:
    entry = http(duration=None, time_to_last_downstream_tx_byte="0.250s")
    attempt, _ = rows(message(entry))
    assert (attempt["end"] - attempt["time"]).total_seconds() == 0.25


def test_a_message_that_is_none_is_counted_and_the_others_are_read() -> None:
    found = decoded(message(http()), b"\xff\xff\xff", message(http()))
    assert (found.flows.height, found.bad) == (4, 1)
    assert found.faults == ((1, "3 bytes from ipv4:10.0.1.9:40000: not an access log message"),)


@pytest.mark.parametrize("start", [None, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_an_entry_without_a_time_is_counted(start: str | None) -> None:
    found = decoded(message(http(start_time=start), http()))
    assert (found.flows.height, found.bad) == (2, 1)
    assert "no time" in found.faults[0][1]


def test_numbers_out_of_their_range_are_unknown() -> None:
    (attempt,) = rows(message(http(response={"response_code": 70_000})))
    assert attempt["status"] is None


def test_what_a_real_envoy_sent_is_read_whole() -> None:
    counts = {"received": 0, "skipped": 0}
    found = decoded(*samples(), counts=counts)
    assert (counts, found.bad) == ({"received": 27, "skipped": 0}, 0)
    inbound = found.flows.filter(pl.col("origin") == "envoy:inbound", ~pl.col("reply"))
    assert set(inbound["src_principal"]) == {CART}
    assert set(inbound["dst_principal"]) == {LEDGER}
    assert inbound.filter(verdict="DROPPED")["policy"].drop_nulls().len() > 0


# The messages themselves

MESSAGES = {
    "StreamAccessLogsMessage": als_pb2.DESCRIPTOR.message_types_by_name["StreamAccessLogsMessage"],
    "Flags": accesslog_pb2.DESCRIPTOR.message_types_by_name["ResponseFlags"],
    "Tls": accesslog_pb2.DESCRIPTOR.message_types_by_name["TLSProperties"],
}


def agree(ours: Descriptor, theirs: Descriptor, seen: set[str]) -> None:
    """Each field of ours is one of theirs, by number and by what it is on the wire."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    numbers = {field.number: field for field in theirs.fields}
    for field in ours.fields:
        other = numbers[field.number]
        assert field.is_repeated == other.is_repeated, field.full_name
        if field.type == FieldDescriptor.TYPE_BYTES:
            assert other.type == FieldDescriptor.TYPE_MESSAGE, field.full_name
        elif field.type == FieldDescriptor.TYPE_UINT32:
            assert other.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_ENUM)
        else:
            assert field.type == other.type, field.full_name
        if field.message_type and other.message_type:
            agree(field.message_type, other.message_type, seen)


@pytest.mark.parametrize("name", MESSAGES)
def test_our_messages_are_envoys_on_the_wire(name: str) -> None:
    agree(getattr(envoy_als_pb2, name).DESCRIPTOR, MESSAGES[name], set())


def test_the_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    ingest = Path(__file__).resolve().parent.parent / "ingest"
    made = generate(tmp_path)
    assert len(made) == 2 * len(NAMES)
    for name, text in made.items():
        assert (ingest / name).read_text() == text


# Listening


def test_what_is_sent_is_read_and_counted() -> None:
    with Reading(opened()) as reading, raw_channel(reading.port) as channel:
        send(channel, message(http(), identifier=IDENTIFIER), message(http(), http()))
        until(lambda: reading.flows.height == 6)
        assert reading.batches[-1].position == 6
        counters = reading.source.counters()
    assert (counters["received"], counters["messages"], counters["streams"]) == (3, 2, 1)
    assert (counters["streams_open"], counters["bad"], counters["queued_bytes"]) == (0, 0, 0)


def test_a_batch_comes_at_least_once_a_second() -> None:
    source = opened()
    batches = source.batches()
    assert next(batches).flows.is_empty()
    assert next(batches).position == 0
    batches.close()


def test_at_the_end_what_was_sent_is_taken() -> None:
    with Reading(opened()) as reading, raw_channel(reading.port) as channel:
        stream = Open(channel, *[message(http())] * 500)
        assert stream.sent.wait(20)
        reading.end()
        assert reading.attempts.height == 500
        assert stream.call.result(5) == b""  # ended in peace, not broken off
        stream.end()


def test_a_source_that_is_closed_before_it_was_read_ends() -> None:
    source = opened()
    source.close()
    assert list(source.batches()) == []


def test_closing_twice_is_closing() -> None:
    with Reading(opened()) as reading:
        reading.source.close()
        reading.source.close()


def test_streams_beyond_the_limit_are_told_to_come_later() -> None:
    with Reading(opened(streams=1)) as reading, raw_channel(reading.port) as channel:
        stream = Open(channel, message(http()))
        until(lambda: reading.source.counters()["streams_open"] == 1)
        with pytest.raises(grpc.RpcError) as refused:
            send(channel, message(http()))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reading.source.counters()["refused"] == 1
        stream.end()


def test_a_message_beyond_the_limit_ends_its_stream_only() -> None:
    with Reading(opened(message_bytes=10_000)) as reading, raw_channel(reading.port) as channel:
        other = Open(channel, message(http()))
        with pytest.raises(grpc.RpcError) as refused:
            send(channel, message(http(request={"path": "/" + "x" * 20_000})))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        send(channel, message(http()))
        until(lambda: reading.attempts.height == 2)
        other.end()


def test_senders_are_held_back_while_the_reader_is_slow() -> None:
    entry = message(http(request={"path": "/" + "x" * 40_000}))
    source = opened(queue_bytes=100_000)
    with Reading(source) as reading, raw_channel(reading.port) as channel:
        reading.pause.set()
        call = channel.stream_unary(METHOD).future(iter([entry] * 200), timeout=20)
        until(lambda: source.counters()["queued_bytes"] > 60_000)
        assert not call.done()
        assert source.counters()["queued_bytes"] <= 100_000
        assert source.counters()["messages"] < 200
        reading.pause.clear()
        reading.go.set()
        assert call.result(20) == b""
        until(lambda: reading.attempts.height == 200)


def test_a_port_that_is_taken_is_an_error() -> None:
    with Reading(opened()) as reading:
        other = open_als(f"als://localhost:{reading.port}", ServerSettings(**QUICK))
        with pytest.raises(SourceError, match="cannot be listened at"):
            next(other.batches())


def test_a_source_opened_again_takes_the_same_port() -> None:
    with Reading(opened()) as first:
        pass
    again = open_als(f"als://localhost:{first.port}", ServerSettings(**QUICK))
    with Reading(again) as reading, raw_channel(reading.port) as channel:
        send(channel, message(http()))
        until(lambda: reading.attempts.height == 1)


def test_a_reader_that_fails_ends_the_server() -> None:
    source = opened()
    port = source.listen()
    batches = source.batches()
    next(batches)
    batches.close()
    with raw_channel(port) as channel, pytest.raises(grpc.RpcError):
        send(channel, message(http()), timeout=3)


def test_it_says_that_it_serves() -> None:
    with Reading(opened()) as reading, raw_channel(reading.port) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=5) == b"\x08\x01"


def test_over_tls_only_those_of_the_client_ca_may_come(tmp_path: Path) -> None:
    tls = TlsFolder(tmp_path)
    source = opened(**tls.settings, client_ca=str(tmp_path / "ca.pem"))
    key, certificate = tls.client()
    known = grpc.ssl_channel_credentials(tls.ca, key, certificate)
    with Reading(source) as reading:
        with raw_channel(reading.port, known) as channel:
            send(channel, message(http()))
        until(lambda: reading.attempts.height == 1)
        stranger = grpc.ssl_channel_credentials(tls.ca)
        with raw_channel(reading.port, stranger) as channel, pytest.raises(grpc.RpcError):
            send(channel, message(http()), timeout=3)
        with raw_channel(reading.port) as channel, pytest.raises(grpc.RpcError):
            send(channel, message(http()), timeout=3)
    assert reading.attempts.height == 1


def test_a_renewed_certificate_is_used_at_once(tmp_path: Path) -> None:
    tls = TlsFolder(tmp_path)
    with Reading(opened(**tls.settings)) as reading:
        for renewed in (False, True):
            if renewed:
                tls.__init__(tmp_path)  # type: ignore[misc]  # of another authority
            with raw_channel(reading.port, grpc.ssl_channel_credentials(tls.ca)) as channel:
                send(channel, message(http()))
        until(lambda: reading.attempts.height == 2)


@pytest.mark.parametrize(
    "url", ["als://", "als://localhost", "als://:99999", "als://localhost:1/path", "als://u@h:1"]
)
def test_a_url_that_is_no_address_is_an_error(url: str) -> None:
    with pytest.raises(ConfigError, match="no address to listen at"):
        open_als(url, ServerSettings())


def test_a_certificate_without_a_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both cert and key"):
        opened(cert=str(tmp_path / "server.pem"))


def test_tls_files_that_cannot_be_used_are_an_error_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "server.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"server\.pem"):
        opened(cert=str(tmp_path / "server.pem"), key=str(tmp_path / "server.key"))


def test_its_settings_are_a_section_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "sidelong.toml"
    file.write_text("[als]\nstreams = 7\n[otlp]\nmessage_bytes = 2_000_000\n")
    config = read_config(str(file))
    assert (config.als.streams, config.otlp.message_bytes) == (7, 2_000_000)
    file.write_text("[als]\nstreams = 0\n")
    with pytest.raises(ConfigError, match=r"als\.streams"):
        read_config(str(file))


class Broken:
    """A server that fails, at its start or when it is to end."""

    def __init__(self, when: str) -> None:
        self.when = when

    async def start(self) -> int:
        if self.when == "start":
            raise RuntimeError("no loop")
        return 1

    async def stop(self) -> None:
        raise RuntimeError("no loop")


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_server_that_fails_is_an_error(when: str) -> None:
    counts: dict[str, int] = dict.fromkeys(("received", "skipped", "bad"), 0)
    decoder = AlsDecoder(counts)
    source: Receiver[AlsMessage] = Receiver("als://x", Broken(when), Intake(1), decoder, counts)
    batches = source.batches()
    if when == "end":
        next(batches)
        source.close()
    with pytest.raises(SourceError, match="als://x stopped: RuntimeError: no loop"):
        list(batches)
