"""Whatever arrives as ALS or OTLP: no crash, all of it accounted for, however it is cut.

A few seconds of mutations here; in CI, and with SIDELONG_FUZZ=1, a minute for each decoder.
"""

import asyncio
import os
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl
from als_messages import IDENTIFIER, http, message, samples, tcp
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidelong.ingest.envoy_als import AlsDecoder, AlsMessage, Sender
from sidelong.ingest.envoy_als_pb2 import StreamAccessLogsMessage
from sidelong.ingest.envoy_logs import EnvoySettings
from sidelong.ingest.http_listener import Answer, HttpListener, HttpRequest
from sidelong.ingest.listening import ServerSettings
from sidelong.ingest.otlp_logs import OtlpDecoder
from sidelong.ingest.otlp_logs_pb2 import ExportRequest
from sidelong.ingest.otlp_records import RecordReader
from sidelong.ingest.schema import FLOW_SCHEMA

LONG: Final = os.environ.get("CI") == "true" or os.environ.get("SIDELONG_FUZZ") == "1"
FUZZ: Final = settings(
    max_examples=1_000 if LONG else 100,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)

ALS: Final = [
    message(http(), http(access_log_type=None), identifier=IDENTIFIER),
    message(tcp(), tcp(response_flags={"upstream_connection_failure": True})),
    message(
        http(
            metadata={
                "filter_metadata": {
                    "envoy.filters.http.rbac": {
                        "enforced_engine_result": "denied",
                        "enforced_effective_policy_id": "ns[a]-policy[b]-rule[0]",
                    }
                }
            }
        )
    ),
    *samples()[1:3],
]
OTLP_JSON: Final = (
    (Path(__file__).parent / "samples" / "envoy_otlp_logs.ndjson").read_bytes().splitlines()
)


def _protobuf() -> list[bytes]:
    """Exports of text, of labels, and of a body of pairs."""
    text = (
        '[2026-11-23T02:18:27.763Z] "GET /v1 HTTP/1.1" 200 - via_upstream - "-" 7 12 1 0 "-" "c" '
        '"a12c" "ledger" "127.0.0.1:8080" inbound|8080|| 127.0.0.1:46934 10.0.1.9:8080 '
        "10.0.1.7:52814 - default\n"
    )
    request = ExportRequest()
    logs = request.resource_logs.add(resource=b"\n\x0b\n\x01k\x12\x06\n\x04v\xff\xfe1")
    records = logs.scope_logs.add().log_records
    records.add(time_unix_nano=1_795_400_307_763_793_000).body.string_value = text
    labels = records.add(time_unix_nano=1_795_400_307_763_793_000)
    for key, value in (("upstream_cluster", "inbound|8080||"), ("response_code", "200")):
        labels.attributes.add(key=key).value.string_value = value
    pairs = records.add().body.kvlist_value.values
    pairs.add(key="start_time").value.string_value = "2026-11-23T02:18:27.763Z"
    pairs.add(key="upstream_host").value.string_value = "10.0.1.9:8080"
    pairs.add(key="bytes_sent").value.int_value = -5
    return [request.SerializeToString()]


OTLP: Final = _protobuf()


@st.composite
def mutated(draw: st.DrawFn, real: list[bytes]) -> bytes:
    """Something real with some bytes changed, left out, put in or taken from another."""
    content = bytearray(draw(st.sampled_from(real)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 4)):
            case 0:
                content[at : at + 1] = draw(st.binary(max_size=3))
            case 1:
                del content[at : at + draw(st.integers(1, 200))]
            case 2:
                other = draw(st.sampled_from(real))
                start = draw(st.integers(0, len(other)))
                content[at:at] = other[start : start + draw(st.integers(0, 100))]
            case 3 if at < len(content):
                content[at] ^= 1 << draw(st.integers(0, 7))
            case _:
                content[at:at] = draw(st.sampled_from([b"\xff" * 10, b"\x00", b"-", b'"', b"\n"]))
    return bytes(content)


def entries_in(content: bytes) -> int | None:
    """How many entries there are, None where it is no message."""
    try:
        found = StreamAccessLogsMessage.FromString(content)
    except DecodeError:
        return None
    return len(found.http_logs.log_entry) + len(found.tcp_logs.log_entry)


@FUZZ
@given(st.lists(mutated(ALS), min_size=1, max_size=4))
def test_every_entry_is_received_skipped_or_bad(messages: list[bytes]) -> None:
    counts = {"received": 0, "skipped": 0}
    sender = Sender("peer")
    found, size = AlsDecoder(counts).decode([AlsMessage(sender, one) for one in messages])
    told = [entries_in(content) for content in messages]
    known = sum(count for count in told if count is not None)
    assert counts["received"] + counts["skipped"] + found.bad == known + told.count(None)
    assert found.flows.schema == FLOW_SCHEMA
    assert found.flows["time"].null_count() == 0
    assert found.flows.height <= 2 * counts["received"]
    assert size == sum(map(len, messages))
    assert bool(found.faults) == bool(found.bad)


@FUZZ
@given(st.lists(mutated(ALS), min_size=2, max_size=4))
def test_messages_may_be_decoded_one_by_one_or_together(messages: list[bytes]) -> None:
    together = AlsDecoder({"received": 0, "skipped": 0})
    sender = Sender("peer")
    whole, _ = together.decode([AlsMessage(sender, one) for one in messages])
    single, sender = AlsDecoder({"received": 0, "skipped": 0}), Sender("peer")
    parts = [single.decode([AlsMessage(sender, one)])[0] for one in messages]
    assert whole.flows.equals(pl.concat([part.flows for part in parts]))
    assert whole.bad == sum(part.bad for part in parts)


def exports_hold(contents: list[bytes], *, json: bool) -> None:
    reader, decoder = RecordReader(), OtlpDecoder(EnvoySettings())
    exports = [reader.read(content, json=json) for content in contents]
    found, rejected = decoder.flows(exports)
    assert found.flows.schema == FLOW_SCHEMA
    assert found.flows["time"].null_count() == 0
    assert len(rejected) == len(exports)
    assert all(0 <= count <= len(e.records) for count, e in zip(rejected, exports, strict=True))
    assert found.bad >= sum(rejected) + sum(export.fault is not None for export in exports)
    apart = [decoder.flows([export])[0] for export in exports]
    assert found.flows.equals(pl.concat([one.flows for one in apart]))
    assert found.bad == sum(one.bad for one in apart)


@FUZZ
@given(st.lists(mutated(OTLP), min_size=1, max_size=3))
def test_every_record_in_protobuf_is_a_log_or_rejected(contents: list[bytes]) -> None:
    exports_hold(contents, json=False)


@FUZZ
@given(st.lists(mutated(OTLP_JSON), min_size=1, max_size=3))
def test_every_record_in_json_is_a_log_or_rejected(contents: list[bytes]) -> None:
    exports_hold(contents, json=True)


VALUES: Final = st.recursive(
    st.fixed_dictionaries({}, optional={"stringValue": st.text(), "intValue": st.integers()})
    | st.fixed_dictionaries({"doubleValue": st.floats()})
    | st.fixed_dictionaries({"boolValue": st.booleans()}),
    lambda inner: st.fixed_dictionaries(
        {
            "kvlistValue": st.fixed_dictionaries(
                {
                    "values": st.lists(
                        st.fixed_dictionaries({"key": st.text(max_size=20), "value": inner}),
                        max_size=3,
                    )
                }
            )
        }
    ),
    max_leaves=5,
)
KEYS: Final = st.sampled_from(
    ["start_time", "upstream_host", "response_code", "bytes_sent", "downstream_remote_address", "x"]
)
RECORDS: Final = st.fixed_dictionaries(
    {},
    optional={
        "timeUnixNano": st.integers(-1, 2**64).map(str) | st.integers(0, 2**64),
        "body": VALUES,
        "attributes": st.lists(st.fixed_dictionaries({"key": KEYS, "value": VALUES}), max_size=4),
    },
)


@FUZZ
@given(st.lists(RECORDS, max_size=4))
def test_a_record_of_any_values_is_a_log_or_rejected(records: list[dict[str, Any]]) -> None:
    content = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    exports_hold([msgspec.json.encode(content)], json=True)


HTTP: Final = [
    b"POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    b"content-length: 2\r\n\r\n{}",
    b"POST /v1/logs HTTP/1.1\r\ncontent-type: application/x-protobuf\r\n"
    b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
    b"POST /v1/logs HTTP/1.1\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n"
    b"content-encoding: gzip\r\ncontent-length: 20\r\n\r\n\x1f\x8b\x08\x00" + bytes(16),
]


@FUZZ
@given(st.lists(mutated(HTTP), min_size=1, max_size=3))
def test_whatever_is_said_to_the_http_server_it_answers_or_hangs_up(sent: list[bytes]) -> None:
    asyncio.run(asyncio.wait_for(_said(b"".join(sent)), timeout=9))


async def _said(content: bytes) -> None:
    taken = []

    async def handle(request: HttpRequest) -> Answer:
        taken.append(request)
        return Answer(HTTPStatus.OK)

    def refuse(kind: str, status: HTTPStatus, why: str) -> Answer:
        return Answer(status, body=why.encode())

    counts = {"connections_open": 0, "refused": 0}
    listener = HttpListener(
        "127.0.0.1",
        0,
        ServerSettings(message_bytes=1024),
        "/v1/logs",
        ("application/json", "application/x-protobuf"),
        handle,
        refuse,
        counts,
    )
    port = await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    writer.write_eof()
    answers = await reader.read()
    writer.close()
    await listener.stop(1)
    said = answers.count(b"HTTP/1.1 ") - answers.count(b"HTTP/1.1 100 ")
    assert said == len(taken) + counts["refused"]
    assert all(len(request.body) <= 1024 for request in taken)
    assert counts["connections_open"] == 0
