"""OpenTelemetry's logs: which become flows, and how they are taken over gRPC and HTTP."""

import gzip
import http.client
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import polars as pl
import pytest
from listening import Reading, TlsFolder, raw_channel, until
from source_contract import RULES, Case

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.envoy_logs import EnvoySettings
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.line_files import Decoded, LineFile
from sidelong.ingest.listening import ServerSettings
from sidelong.ingest.live import open_live
from sidelong.ingest.otlp_live import open_otlp, open_otlp_http
from sidelong.ingest.otlp_logs import OtlpDecoder, OtlpLines
from sidelong.ingest.otlp_logs_pb2 import AnyValue, ExportRequest, ExportResponse, RetryInfo, Status
from sidelong.ingest.otlp_records import RecordReader
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.source import Source

Json = dict[str, Any]

DEFAULT: Final = EnvoySettings()

METHOD: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
SAMPLE: Final = Path(__file__).parent / "samples" / "envoy_otlp_logs.ndjson"
PROTOBUF, JSON = "application/x-protobuf", "application/json"

TEXT: Final = (
    '[2026-11-23T02:18:27.763Z] "GET /v1/items/1 HTTP/1.1" 200 - via_upstream - "-" 7 12 1 0 "-" '
    '"curl/7.88.1" "a12c1a54" "ledger.pay:8080" "127.0.0.1:8080" inbound|8080|| 127.0.0.1:46934 '
    "10.0.1.9:8080 10.0.1.7:52814 outbound_.8080_._.ledger.pay.svc.cluster.local default\n"
)
LABELS: Final = {
    "start_time": "2026-11-23T02:18:27.763Z",
    "method": "GET",
    "path": "/v1/items/1",
    "protocol": "HTTP/1.1",
    "response_code": "200",
    "response_flags": "-",
    "response_code_details": "via_upstream",
    "connection_termination_details": "-",
    "upstream_transport_failure_reason": "-",
    "bytes_received": "7",
    "bytes_sent": "12",
    "duration": "1",
    "x_forwarded_for": "-",
    "upstream_host": "127.0.0.1:8080",
    "upstream_cluster": "inbound|8080||",
    "upstream_local_address": "127.0.0.1:46934",
    "downstream_local_address": "10.0.1.9:8080",
    "downstream_remote_address": "10.0.1.7:52814",
    "requested_server_name": "-",
    "route_name": "default",
}
NANOS: Final = 1795400307_763_793_000
QUICK: Final[Json] = {"drain_seconds": 0.5, "wait_seconds": 0.2}


def pairs(values: Json) -> list[Json]:
    return [{"key": key, "value": wrapped(value)} for key, value in values.items()]


def wrapped(value: Any) -> Json:
    if isinstance(value, dict):
        return {"kvlistValue": {"values": pairs(value)}}
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return {kinds[type(value)]: str(value) if type(value) is int else value}


def record(body: Any = None, labels: Json | None = None, nanos: int = NANOS) -> Json:
    made: Json = {"timeUnixNano": str(nanos), "attributes": pairs(labels or {})}
    return made | ({"body": wrapped(body)} if body is not None else {})


def export(*records: Json, resource: Json | None = None) -> Json:
    attributes = {"attributes": pairs(resource or {})}
    return {
        "resourceLogs": [{"resource": attributes, "scopeLogs": [{"logRecords": list(records)}]}]
    }


def as_json(request: Json) -> bytes:
    return json.dumps(request).encode()


def as_protobuf(request: Json) -> bytes:
    """The same on the wire, made by hand: two packages ship OpenTelemetry's, one of them an old."""
    made = ExportRequest()
    for of_resource in request["resourceLogs"]:
        ours = made.resource_logs.add()
        resource = AnyValue()
        fill_pairs(resource.kvlist_value.values, of_resource["resource"]["attributes"])
        ours.resource = resource.kvlist_value.SerializeToString()
        for scope in of_resource["scopeLogs"]:
            of_scope = ours.scope_logs.add()
            for told in scope["logRecords"]:
                one = of_scope.log_records.add()
                one.time_unix_nano = int(told["timeUnixNano"])
                if "body" in told:
                    fill(one.body, told["body"])
                fill_pairs(one.attributes, told["attributes"])
    return made.SerializeToString()


def fill_pairs(target: Any, told: list[Json]) -> None:
    for pair in told:
        ours = target.add()
        ours.key = pair["key"]
        fill(ours.value, pair["value"])


def fill(target: AnyValue, told: Json) -> None:
    ((kind, value),) = told.items()
    if kind == "kvlistValue":
        fill_pairs(target.kvlist_value.values, value["values"])
        target.kvlist_value.SetInParent()
    else:
        names = {"stringValue": "string_value", "boolValue": "bool_value"}
        name = names.get(kind, kind.replace("Value", "_value"))
        setattr(target, name, int(value) if kind == "intValue" else value)


ENCODINGS: Final[dict[bool, Callable[[Json], bytes]]] = {True: as_json, False: as_protobuf}


def decoded(
    *requests: Json, settings: EnvoySettings = DEFAULT, as_json: bool = False
) -> tuple[Decoded, list[int]]:
    reader = RecordReader()
    exports = [reader.read(ENCODINGS[as_json](request), json=as_json) for request in requests]
    return OtlpDecoder(settings).flows(exports)


def rows(*records: Json, resource: Json | None = None, **more: Any) -> list[Json]:
    return decoded(export(*records, resource=resource), **more)[0].flows.to_dicts()


# What records become


@pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])
@pytest.mark.parametrize(
    "told",
    [
        record(TEXT),
        record(labels=LABELS),
        record(LABELS),
        record(json.dumps(LABELS)),
        record(TEXT, LABELS),
        record(TEXT, {"cluster": "prod-eu"}),
        record("something else", LABELS),
    ],
    ids=["text", "labels", "pairs", "json", "text+labels", "text+other", "labels+other"],
)
def test_a_request_is_told_in_any_of_these_ways(told: Json, as_json: bool) -> None:
    attempt, answer = rows(told, as_json=as_json)
    assert (attempt["src_ip"], attempt["src_port"]) == ("10.0.1.7", 52814)
    assert (attempt["dst_ip"], attempt["dst_port"]) == ("10.0.1.9", 8080)
    assert (attempt["method"], attempt["path"]) == ("GET", "/v1/items/1")
    assert (attempt["bytes"], answer["bytes"], answer["status"]) == (7, 12, 200)
    assert attempt["origin"] == "envoy:inbound"


def test_the_records_own_time_is_taken_where_text_tells_the_same_to_the_millisecond() -> None:
    attempt, _ = rows(record(TEXT))
    assert attempt["time"].microsecond == 763_793


def test_another_time_of_the_record_is_not_that_of_the_request() -> None:
    attempt, _ = rows(record(TEXT, nanos=NANOS + 10**9))
    assert attempt["time"].microsecond == 763_000


def test_labels_without_a_time_have_the_records() -> None:
    labels = {key: value for key, value in LABELS.items() if key != "start_time"}
    attempt, _ = rows(record(labels=labels))
    assert attempt["time"].microsecond == 763_793


def test_labels_count_before_a_text_that_a_client_wrote_into() -> None:
    forged = TEXT.replace("curl/7.88.1", 'x" "y" "z" "10.9.9.9:1')
    attempt, _ = rows(record(forged, LABELS))
    assert (attempt["src_ip"], attempt["dst_ip"]) == ("10.0.1.7", "10.0.1.9")


def test_text_tells_what_labels_leave_open() -> None:
    some = ("start_time", "upstream_cluster", "downstream_local_address")
    attempt, answer = rows(record(TEXT, {key: LABELS[key] for key in some}))
    assert (attempt["src_ip"], attempt["path"], answer["status"]) == (
        "10.0.1.7",
        "/v1/items/1",
        200,
    )


def test_keys_are_those_of_the_settings() -> None:
    settings = EnvoySettings(json={"%DOWNSTREAM_PEER_URI_SAN%": "client", "path": "url"})
    labels = {key: value for key, value in LABELS.items() if key != "path"}
    more = {"client": "spiffe://cluster.local/ns/shop/sa/cart", "url": "/v2"}
    attempt, _ = rows(record(labels={**labels, **more}), settings=settings)
    assert (attempt["src_principal"], attempt["path"]) == (more["client"], "/v2")


@pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])
@pytest.mark.parametrize(
    "resource",
    [
        {
            "k8s.pod.name": "ledger-7c4d8b9f6d-q9w2z",
            "k8s.namespace.name": "pay",
            "k8s.deployment.name": "ledger",
        },
        {
            "node_name": "sidecar~10.0.1.9~ledger-7c4d8b9f6d-q9w2z.pay~pay.svc.cluster.local",
            "k8s.namespace.name": "pay",
            "k8s.statefulset.name": "ledger",
        },
    ],
    ids=["opentelemetry", "envoy"],
)
def test_the_resource_names_the_proxy_and_its_own_end(resource: Json, as_json: bool) -> None:
    attempt, _ = rows(record(TEXT), resource=resource, as_json=as_json)
    pod = "pay/ledger-7c4d8b9f6d-q9w2z"
    assert (attempt["dst"], attempt["dst_pod"], attempt["node"]) == ("pay/ledger", pod, pod)


@pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])
def test_numbers_may_be_numbers(as_json: bool) -> None:
    numbers = {"response_code": 404, "bytes_sent": 12, "duration": 1.5}
    _, answer = rows(record(labels={**LABELS, **numbers}), as_json=as_json)
    assert (answer["status"], answer["bytes"]) == (404, 12)


@pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])
@pytest.mark.parametrize(
    "told",
    [record("hello"), record(), record({"level": "info"}), record("{"), record(labels={"a": "b"})],
)
def test_a_record_that_is_no_access_log_is_counted_and_rejected(told: Json, as_json: bool) -> None:
    found, rejected = decoded(export(told, record(TEXT)), export(record(TEXT)), as_json=as_json)
    assert (found.flows.height, found.bad, rejected) == (4, 1, [1, 0])
    assert found.faults[0][0] == 0
    assert found.faults[0][1]


def test_a_request_that_is_none_is_counted_and_the_others_are_read() -> None:
    reader = RecordReader()
    good = as_protobuf(export(record(TEXT)))
    exports = [reader.read(content, json=False) for content in (good, b"\xff\xff", good)]
    found, rejected = OtlpDecoder(EnvoySettings()).flows(exports)
    assert (found.flows.height, found.bad, rejected) == (4, 1, [0, 0, 0])
    assert found.faults == ((1, "not OTLP logs in protobuf"),)


def test_a_byte_that_is_not_utf8_costs_no_record() -> None:
    content = as_protobuf(export(record(TEXT), record(labels=LABELS)))
    content = content.replace(b"curl/7", b"cu\xff\xfe/7").replace(b"/v1/items/1", b"/v1/\xfftems/1")
    export_ = RecordReader().read(content, json=False)
    found, _ = OtlpDecoder(EnvoySettings()).flows([export_])
    assert (found.flows.height, found.bad) == (4, 0)


@pytest.mark.parametrize("nanos", [0, 2**63, 2**64 - 1])
def test_a_time_out_of_range_is_none(nanos: int) -> None:
    found, _ = decoded(export(record(labels={**LABELS, "start_time": "-"}, nanos=nanos)))
    assert (found.flows.height, found.bad) == (0, 1)


# Stored as the collector's file exporter writes it


def stored(content: bytes, block_bytes: int, settings: EnvoySettings = DEFAULT) -> Source:
    lines = OtlpLines(settings)
    return LineFile("stored", lambda: io.BytesIO(content), None, lambda: lines, block_bytes)


def case() -> Case:
    requests = [
        export(record(TEXT.replace("/1 ", f"/{number} ")), record(labels=LABELS))
        for number in range(200)
    ]
    requests[50] = export(record("hello"))
    lines = [as_json(request) for request in requests]
    lines[100:100] = [b"{spoilt", b""]
    content = b"\n".join(lines) + b"\n"
    return Case(
        small=partial(stored, content, 20_000),
        large=partial(stored, content, 16 << 20),
        empty=partial(stored, b"", 20_000),
        damaged=partial(stored, content[:-300], 20_000),
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_stored_logs_hold_to_the_contract_of_sources(rule: Callable[[Case], None]) -> None:
    rule(case())


def test_a_bad_line_is_told_with_its_place() -> None:
    good = as_json(export(record(TEXT)))
    (batch,) = stored(good + b"\n{spoilt\n" + good + b"\n", 1 << 20).batches()
    assert (batch.flows.height, batch.bad.count) == (4, 1)
    assert batch.bad.samples == (f"stored at byte {len(good) + 1:,}: not OTLP logs in JSON",)


def test_a_file_of_otlp_is_known_by_its_beginning() -> None:
    (source,) = open_inputs([str(SAMPLE)])
    batches = list(source.batches())
    flows = pl.concat([batch.flows for batch in batches])
    assert flows.filter(~pl.col("reply")).height == 11  # the twelfth had no route: nothing was sent
    assert sum(batch.bad.count for batch in batches) == 0
    assert set(flows["node"].drop_nulls()) == {"shop/cart-6d9f-abcde"}


# Over gRPC


def opened(**settings: Any) -> Any:
    return open_otlp("otlp://localhost", ServerSettings(**{**QUICK, **settings}), EnvoySettings())


@pytest.fixture(autouse=True)
def any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidelong.ingest.otlp_live._PORT", 0)
    monkeypatch.setattr("sidelong.ingest.otlp_live._HTTP_PORT", 0)


def send(channel: Any, content: bytes, timeout: float = 10, **more: Any) -> ExportResponse:
    return ExportResponse.FromString(channel.unary_unary(METHOD)(content, timeout=timeout, **more))


GOOD: Final = as_protobuf(export(record(TEXT)))


def test_a_call_is_answered_when_its_logs_were_handed_over() -> None:
    with Reading(opened()) as reading, raw_channel(reading.port) as channel:
        reading.pause.set()
        call = channel.unary_unary(METHOD).future(GOOD, timeout=20)
        until(lambda: reading.attempts.height == 1)
        time.sleep(0.1)
        assert not call.done()  # the reader holds the batch
        reading.go.set()
        assert ExportResponse.FromString(call.result(10)) == ExportResponse()


def test_records_that_are_no_access_logs_are_a_partial_success() -> None:
    request = as_protobuf(export(record("hello"), record(TEXT), record("hello")))
    with Reading(opened()) as reading, raw_channel(reading.port) as channel:
        partial = send(channel, request).partial_success
        assert (partial.rejected_log_records, partial.error_message != "") == (2, True)
        assert reading.attempts.height == 1
        assert reading.bad.count == 2
        assert reading.source.counters()["bad"] == 2
        assert reading.source.counters()["received"] == 3


def test_a_request_that_is_none_is_an_invalid_argument() -> None:
    with Reading(opened()) as reading, raw_channel(reading.port) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            send(channel, b"\xff\xff\xff")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        send(channel, GOOD)
        assert (reading.attempts.height, reading.bad.count) == (1, 1)


def test_a_full_queue_says_when_to_try_again() -> None:
    content = as_protobuf(export(*[record(TEXT)] * 20))
    with Reading(opened(queue_bytes=3 * len(content))) as reading:
        reading.pause.set()
        with raw_channel(reading.port) as channel:
            first = channel.unary_unary(METHOD).future(content, timeout=20)
            until(lambda: bool(reading.batches))
            more = [channel.unary_unary(METHOD).future(content, timeout=20) for _ in range(9)]
            until(lambda: reading.source.counters()["refused"] >= 7)
            assert reading.source.counters()["queued_bytes"] <= 3 * len(content)
            reading.pause.clear()
            reading.go.set()
            results = [call.exception(20) for call in (first, *more)]
    refused = [error for error in results if error is not None]
    assert (len(refused), reading.attempts.height) == (7, 60)
    for error in refused:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        (detail,) = Status.FromString(details).details
        assert RetryInfo.FromString(detail.value).retry_delay.seconds == 1


def test_at_the_end_what_was_sent_is_taken_and_acknowledged() -> None:
    with Reading(opened()) as reading, raw_channel(reading.port) as channel:
        reading.pause.set()
        calls = [channel.unary_unary(METHOD).future(GOOD, timeout=20) for _ in range(20)]
        until(lambda: reading.source.counters()["requests_open"] == 20)
        reading.end()
        assert all(call.exception(10) is None for call in calls)
        assert reading.attempts.height == 20


def test_what_a_reader_that_fails_had_not_dealt_with_is_not_acknowledged() -> None:
    source = opened()
    port = source.listen()
    with raw_channel(port) as channel:
        call = channel.unary_unary(METHOD).future(GOOD, timeout=20)
        batches = source.batches()
        while not next(batches).flows.height:
            pass
        batches.close()
        assert call.exception(10).code() is grpc.StatusCode.UNAVAILABLE


def test_a_request_beyond_the_limit_is_refused() -> None:
    with Reading(opened(message_bytes=10_000)) as reading, raw_channel(reading.port) as channel:
        big = as_protobuf(export(*[record(TEXT)] * 100))
        with pytest.raises(grpc.RpcError) as refused:
            send(channel, big)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        send(channel, GOOD)


def test_a_call_may_be_compressed_but_not_beyond_the_limit() -> None:
    with Reading(opened(message_bytes=1 << 20)) as reading, raw_channel(reading.port) as channel:
        send(channel, GOOD, compression=grpc.Compression.Gzip)
        bomb = as_protobuf(export(record("x" * (50 << 20))))
        with pytest.raises(grpc.RpcError) as refused:
            send(channel, bomb, compression=grpc.Compression.Gzip)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reading.attempts.height == 1


def test_calls_beyond_the_limit_are_told_to_come_later() -> None:
    with Reading(opened(streams=1)) as reading, raw_channel(reading.port) as channel:
        reading.pause.set()
        first = channel.unary_unary(METHOD).future(GOOD, timeout=20)
        until(lambda: reading.source.counters()["requests_open"] == 1)
        with pytest.raises(grpc.RpcError) as refused:
            send(channel, GOOD)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        reading.go.set()
        first.result(10)


# Over HTTP


def opened_http(**settings: Any) -> Any:
    settings = {**QUICK, **settings}
    return open_otlp_http("otlp+http://localhost", ServerSettings(**settings), EnvoySettings())


@contextmanager
def connected(port: int, context: ssl.SSLContext | None = None) -> Iterator[Any]:
    if context:
        connection: Any = http.client.HTTPSConnection(
            "localhost", port, timeout=10, context=context
        )
    else:
        connection = http.client.HTTPConnection("localhost", port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def post(
    connection: Any, content: bytes, kind: str = PROTOBUF, path: str = "/v1/logs", **headers: str
) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, content, {"Content-Type": kind, **named})
    answer = connection.getresponse()
    answer.content = answer.read()
    return answer


@pytest.mark.parametrize("kind", [PROTOBUF, JSON, f"{JSON}; charset=utf-8"])
def test_a_post_is_answered_in_its_own_form(kind: str) -> None:
    content = GOOD if kind == PROTOBUF else as_json(export(record(TEXT)))
    with Reading(opened_http()) as reading, connected(reading.port) as connection:
        for _ in range(2):  # over the same connection
            answer = post(connection, content, kind)
            assert answer.status == 200
            assert answer.getheader("content-type") == kind.partition(";")[0]
            assert answer.content == (b"" if kind == PROTOBUF else b"{}")
        assert reading.attempts.height == 2
        assert reading.source.counters()["connections_open"] == 1


def test_a_partial_success_is_told_in_both_forms() -> None:
    request = export(record("hello"), record(TEXT))
    with Reading(opened_http()) as reading, connected(reading.port) as connection:
        told = json.loads(post(connection, as_json(request), JSON).content)
        assert told["partialSuccess"]["rejectedLogRecords"] == "1"
        answer = ExportResponse.FromString(post(connection, as_protobuf(request)).content)
        assert answer.partial_success.rejected_log_records == 1
        assert reading.bad.count == 2


def test_a_body_may_be_gzip_or_in_chunks() -> None:
    with Reading(opened_http()) as reading, connected(reading.port) as connection:
        assert post(connection, gzip.compress(GOOD), content_encoding="gzip").status == 200
        connection.request(
            "POST", "/v1/logs", iter([GOOD[:100], GOOD[100:]]), {"Content-Type": PROTOBUF}
        )
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
        assert reading.attempts.height == 2


REFUSED: Final = {
    "not protobuf": (400, b"\xff\xff\xff", {}),
    "not JSON": (400, b"{", {"kind": JSON}),
    "not gzip": (400, b"not gzip", {"content_encoding": "gzip"}),
    "gzip cut off": (400, gzip.compress(GOOD)[:-9], {"content_encoding": "gzip"}),
    "another path": (404, GOOD, {"path": "/v1/traces"}),
    "another type": (415, GOOD, {"kind": "text/plain"}),
    "another encoding": (415, GOOD, {"content_encoding": "br"}),
    "too large": (413, b"x" * 20_000, {}),
    "a gzip bomb": (413, gzip.compress(bytes(50 << 20)), {"content_encoding": "gzip"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_with_its_status(name: str) -> None:
    status, content, how = REFUSED[name]
    with Reading(opened_http(message_bytes=60_000 if "bomb" in name else 10_000)) as reading:
        with connected(reading.port) as connection:
            answer = post(connection, content, **how)
            assert answer.status == status
            if how.get("kind", PROTOBUF) == PROTOBUF:
                assert Status.FromString(answer.content).message
        with connected(reading.port) as connection:
            assert post(connection, GOOD).status == 200


def test_only_post_is_allowed() -> None:
    with Reading(opened_http()) as reading, connected(reading.port) as connection:
        connection.request("GET", "/v1/logs")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("allow")) == (405, "POST")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"POST /v1/logs HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /v1/logs HTTP/1.1\r\ncontent-type: application/json\r\n"
        b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        b"POST /v1/logs HTTP/1.1\r\ncontent-type: application/json\r\n"
        b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"POST /v1/logs HTTP/1.1\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /v1/logs HTTP/1.1\r\nx: " + b"x" * 40_000 + b"\r\n\r\n",
        b"POST /v1/logs HTTP/1.1\r\ncontent-type: application/json\r\n\r\n",
    ],
)
def test_what_is_not_plainly_http_is_turned_away(sent: bytes) -> None:
    with (
        Reading(opened_http()) as reading,
        socket.create_connection(("localhost", reading.port), timeout=10) as connection,
    ):
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
        assert answer.split(b" ")[1] in (b"400", b"411", b"431")
        assert b"connection: close" in answer


def test_a_full_queue_says_when_to_post_again() -> None:
    content = as_protobuf(export(*[record(TEXT)] * 20))
    with Reading(opened_http(queue_bytes=len(content))) as reading:
        reading.pause.set()
        with connected(reading.port) as first, connected(reading.port) as second:
            threading.Thread(target=post, args=(first, content), daemon=True).start()
            until(lambda: bool(reading.batches))
            answer = post(second, content)
            assert (answer.status, answer.getheader("retry-after")) == (429, "1")
            reading.pause.clear()
            reading.go.set()
            assert post(second, content).status == 200
            until(lambda: reading.attempts.height == 40)


def test_what_is_being_sent_at_once_is_bounded() -> None:
    most = {"message_bytes": 100_000, "queue_bytes": 150_000}
    with (
        Reading(opened_http(**most)) as reading,
        socket.create_connection(("localhost", reading.port), timeout=10) as slow,
        connected(reading.port) as connection,
    ):
        head = f"POST /v1/logs HTTP/1.1\r\ncontent-type: {JSON}\r\ncontent-length: 100000\r\n\r\n"
        slow.sendall(head.encode() + b" " * 99_000)
        until(lambda: post(connection, b" " * 60_000, JSON).status == 429)
        slow.sendall(b" " * 998 + b"{}")
        assert b"200 OK" in slow.recv(1 << 16)
        assert post(connection, b" " * 60_000 + b"{}", JSON).status == 200


def test_connections_beyond_the_limit_are_told_to_come_later() -> None:
    with Reading(opened_http(streams=1)) as reading, connected(reading.port) as first:
        post(first, GOOD)
        with connected(reading.port) as second:
            answer = post(second, GOOD)
            assert (answer.status, answer.getheader("retry-after")) == (503, "1")


def test_at_the_end_a_post_that_was_begun_is_taken() -> None:
    with Reading(opened_http()) as reading, connected(reading.port) as connection:
        connection.putrequest("POST", "/v1/logs")
        connection.putheader("Content-Type", PROTOBUF)
        connection.putheader("Content-Length", str(len(GOOD)))
        connection.endheaders(GOOD[:100])
        until(lambda: reading.source.counters()["connections_open"] == 1)
        time.sleep(0.1)
        reading.source.close()
        connection.send(GOOD[100:])
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (200, "close")
        reading.end()
        assert reading.attempts.height == 1


def test_https_asks_for_the_certificate_of_a_client(tmp_path: Path) -> None:
    tls = TlsFolder(tmp_path)
    known = ssl.create_default_context(cadata=tls.ca.decode())
    key, certificate = tls.client()
    (tmp_path / "client.pem").write_bytes(key + certificate)
    known.load_cert_chain(tmp_path / "client.pem")
    stranger = ssl.create_default_context(cadata=tls.ca.decode())
    with Reading(opened_http(**tls.settings, client_ca=str(tmp_path / "ca.pem"))) as reading:
        with connected(reading.port, known) as connection:
            assert post(connection, GOOD).status == 200
        with (
            connected(reading.port, stranger) as connection,
            pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)),
        ):
            post(connection, GOOD)


def test_a_renewed_certificate_is_used_for_the_next_connection(tmp_path: Path) -> None:
    tls = TlsFolder(tmp_path)
    with Reading(opened_http(**tls.settings)) as reading:
        for renewed in (False, True):
            if renewed:
                tls.__init__(tmp_path)  # type: ignore[misc]  # of another authority
            trusting = ssl.create_default_context(cadata=tls.ca.decode())
            with connected(reading.port, trusting) as connection:
                assert post(connection, GOOD).status == 200


# As sources


@pytest.mark.parametrize("scheme", ["otlp", "otlp+http"])
def test_a_port_that_is_taken_is_an_error(scheme: str) -> None:
    with Reading(open_live(f"{scheme}://localhost:0", InputSettings())) as reading:  # type: ignore[arg-type]
        other = open_live(f"{scheme}://localhost:{reading.port}", InputSettings())
        with pytest.raises(SourceError, match="cannot be listened at"):
            next(iter(other.batches()))


@pytest.mark.parametrize("scheme", ["otlp", "otlp+http"])
def test_a_source_opened_again_takes_the_same_port(scheme: str) -> None:
    port = 0
    for _ in range(2):
        with Reading(open_live(f"{scheme}://localhost:{port}", InputSettings())) as reading:  # type: ignore[arg-type]
            port = reading.port


def test_a_format_that_cannot_be_read_is_an_error_before_anything_listens() -> None:
    settings = InputSettings(envoy=EnvoySettings(format="no operator at all"))
    with pytest.raises(ConfigError):
        open_live("otlp://localhost:0", settings)
