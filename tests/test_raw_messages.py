"""Messages of a topic to flows: every form, in bulk, and what is poison."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from raw_samples import (
    FLOW,
    START,
    Sent,
    agent_flow,
    delimited,
    hubble,
    messages,
    sampled_flow,
)
from test_otlp import as_protobuf

from sidelong.errors import ConfigError
from sidelong.ingest.csv_settings import CsvSettings
from sidelong.ingest.envoy_logs import EnvoySettings
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.raw_batches import SCHEMA, flow_batches
from sidelong.ingest.raw_messages import RawBatch, RawDecoder
from sidelong.ingest.raw_settings import MessageFormat, MessageSettings
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.settings import InputSettings

LINE: Final = hubble()
ARROW: Final = {"content-type": b"application/vnd.apache.arrow.stream"}


@pytest.fixture(scope="module")
def decoder() -> Iterator[RawDecoder]:
    with RawDecoder() as decoder:
        yield decoder


def told(decoder: RawDecoder, value: bytes, **headers: str) -> str:
    """The cause for which a message is poison, all of it."""
    named = {name.replace("_", "-"): text.encode() for name, text in headers.items()}
    batch = decoder.decode([Sent(value, named)])
    (poison,) = batch.poison
    assert (batch.flows.height, poison.kept) == (0, 0)
    return poison.cause


def declared(format: MessageFormat, **settings: Any) -> RawDecoder:
    formats = MessageSettings(formats={"flows.raw": format})
    return RawDecoder(InputSettings(messages=formats, **settings))


# What is read


@pytest.mark.parametrize("form", messages())
def test_every_form_is_told_by_its_looks(form: str, decoder: RawDecoder) -> None:
    for sent in messages()[form]:
        batch = decoder.decode([sent])
        assert not batch.poison
        assert batch.flows.height == batch.rows_per_record.sum() > 0
        assert batch.flows.schema == FLOW_SCHEMA


def test_all_forms_together_give_what_each_gives_alone(decoder: RawDecoder) -> None:
    every = [sent for forms in messages().values() for sent in forms]
    whole = decoder.decode(every)
    alone = [decoder.decode([sent]) for sent in every]
    assert_frame_equal(whole.flows, pl.concat(batch.flows for batch in alone))
    assert whole.rows_per_record.tolist() == [batch.flows.height for batch in alone]


@pytest.mark.parametrize(
    "place",
    ["hubble-otel", "hubble-modern", "istio-logs", "linkerd-docs"],
)
def test_real_lines_in_messages_are_the_flows_of_their_file(
    place: str, data: Path, decoder: RawDecoder
) -> None:
    for path in sorted((data / place).glob("*.[jl]*[nlg]")):
        content = path.read_bytes()
        of_file = pl.concat(batch.flows for batch in merged(open_inputs([str(path)])))
        lines = [Sent(line) for line in content.splitlines() if line.strip()]
        assert_frame_equal(decoder.decode(lines).flows, of_file)
        assert_frame_equal(decoder.decode([Sent(gzip.compress(content))]).flows, of_file)


def test_real_records_of_netobserv_are_the_flows_of_their_file(
    data: Path, decoder: RawDecoder
) -> None:
    path = data / "netobserv" / "flow_records_sent.json"
    streams = json.loads(path.read_text())["data"]["result"]
    lines = [
        json.dumps({**stream["stream"], **json.loads(line)})
        for stream in streams
        for _, line in stream["values"]
    ]
    flows = decoder.decode([Sent(line.encode()) for line in lines]).flows
    of_file = pl.concat(batch.flows for batch in merged(open_inputs([str(path)])))
    order = ["time", "src_ip", "dst_ip", "src_port", "dst_port", "bytes", "reply", "origin"]
    assert_frame_equal(flows.sort(order), of_file.sort(order))


def test_protobuf_of_collectors_says_what_their_json_says(decoder: RawDecoder) -> None:
    goflow2 = {"type": "IPFIX", "time_received_ns": START * 10**9 + 9, "sampling_rate": 1}
    goflow2 |= {"sampler_address": "10.0.9.1", "time_flow_start_ns": START * 10**9, "bytes": 100}
    goflow2 |= {"time_flow_end_ns": START * 10**9 + 5, "packets": 1, "src_addr": "10.0.0.1"}
    goflow2 |= {"dst_addr": "10.0.0.2", "etype": "IPv4", "proto": "TCP", "src_port": 40_000}
    goflow2 |= {"dst_port": 443, "tcp_flags": 2}
    agent = {"SrcAddr": "10.0.0.1", "DstAddr": "10.0.0.2", "SrcPort": 40_000, "DstPort": 443}
    agent |= {"Proto": 6, "Etype": 2048, "Bytes": 74, "Packets": 1, "Flags": 2}
    agent |= {"TimeFlowStartMs": START * 1000 + 500, "TimeFlowEndMs": START * 1000 + 1000}
    agent |= {"FlowDirection": 1, "AgentIP": "10.0.9.1"}
    for protobuf, record in ((sampled_flow(), goflow2), (agent_flow(), agent)):
        of_json = decoder.decode([Sent(json.dumps(record).encode())]).flows
        assert of_json.height == 1
        assert_frame_equal(decoder.decode([Sent(protobuf)]).flows, of_json)


def test_addresses_of_ipv6_are_read_from_protobuf(decoder: RawDecoder) -> None:
    six = bytes.fromhex("20010db8000000000000000000000001")
    mapped = bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 2])
    flows = decoder.decode([Sent(sampled_flow(src_addr=six, dst_addr=mapped))]).flows
    assert flows.row(0)[2:4] == ("2001:db8::1", "10.0.0.2")


def test_otlp_in_protobuf_and_in_json_say_the_same(decoder: RawDecoder) -> None:
    (sent,) = messages()["otlp"]
    export = json.loads(sent.value or b"")
    for of_resource in export["resourceLogs"]:
        of_resource.setdefault("resource", {}).setdefault("attributes", [])
        for of_scope in of_resource["scopeLogs"]:
            for record in of_scope["logRecords"]:
                record.setdefault("attributes", [])
    protobuf = decoder.decode([Sent(as_protobuf(export))])
    assert protobuf.flows.height > 0
    assert_frame_equal(protobuf.flows, decoder.decode([sent]).flows)


def test_lines_that_a_shipper_put_into_an_export_are_read(decoder: RawDecoder) -> None:
    bodies = [LINE.decode(), "starting up", json.dumps({"log": LINE.decode()}), "{}"]
    records = [{"timeUnixNano": "1764000000000000000", "body": {"stringValue": b}} for b in bodies]
    export = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    batch = decoder.decode([Sent(json.dumps(export).encode()), Sent(LINE)])
    assert (batch.rows_per_record.tolist(), batch.poison, batch.passed) == ([2, 1], [], 2)
    assert batch.flows["origin"].unique().to_list() == ["hubble"]


def test_other_logs_in_an_export_are_passed_over_and_counted(decoder: RawDecoder) -> None:
    record = {"timeUnixNano": "1764000000000000000", "body": {"stringValue": "starting up"}}
    export = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, record]}]}]}
    batch = decoder.decode([Sent(json.dumps(export).encode())])
    assert (batch.flows.height, batch.poison, batch.passed) == (0, [], 2)


def test_nothing_in_a_message_is_no_poison(decoder: RawDecoder) -> None:
    nothing = [Sent(None), Sent(b""), Sent(b" \n"), Sent(b"[]"), Sent(b'{"log":"\\n"}')]
    batch = decoder.decode([nothing[0], Sent(LINE), *nothing[1:3]])
    assert (batch.rows_per_record.tolist(), batch.poison) == ([0, 1, 0, 0], [])
    assert decoder.decode([nothing[4]]).poison == []


def test_no_messages_are_no_flows(decoder: RawDecoder) -> None:
    batch: RawBatch[Sent] = decoder.decode([])
    assert (batch.flows.height, batch.rows_per_record.tolist()) == (0, [])


def test_rows_keep_the_order_of_messages_of_different_forms(decoder: RawDecoder) -> None:
    sampled = sampled_flow(time_flow_start_ns=START * 10**9 + 1)
    batch = decoder.decode([Sent(LINE), Sent(sampled), Sent(LINE), Sent(delimited(sampled) * 2)])
    assert batch.flows["origin"].to_list() == ["hubble", "netflow", "hubble", "netflow", "netflow"]
    assert batch.rows_per_record.tolist() == [1, 1, 1, 2]


def test_lines_of_one_message_may_be_of_different_forms(decoder: RawDecoder) -> None:
    goflow2, zeek = (messages()[form][0].value or b"" for form in ("goflow2", "zeek"))
    batch = decoder.decode([Sent(b"\n".join([goflow2, LINE, zeek, LINE]))])
    assert batch.poison == []
    assert batch.flows["origin"].unique(maintain_order=True).to_list() == [
        *("netflow", "hubble", "zeek"),
    ]


def test_a_declared_topic_is_not_guessed() -> None:
    keys = {"client": "downstream_remote", "to": "upstream_host", "at": "start_time"}
    own = {"client": "10.0.0.1:4000", "to": "10.0.0.2:80", "at": "2026-11-23T02:18:27.763Z"}
    settings = EnvoySettings(json={name: key for key, name in keys.items()})
    with RawDecoder(InputSettings(envoy=settings)) as guessing:
        assert told(guessing, json.dumps(own).encode()).startswith("JSON of no known format")
    with declared("envoy-json", envoy=settings) as decoder:
        assert decoder.decode([Sent(json.dumps(own).encode())]).flows.height > 0


def test_csv_is_read_where_it_is_declared() -> None:
    csv = CsvSettings(columns={"time": "ts", "src_ip": "from", "dst_ip": "to"}, time_unit="s")
    with declared("csv", csv=csv) as decoder:
        batch = decoder.decode([Sent(b"ts,from,to\n1764000000,10.0.0.1,10.0.0.2\n")])
        assert batch.flows["dst_ip"].to_list() == ["10.0.0.2"]
        (poison,) = decoder.decode([Sent(b"when,from,to\n1,10.0.0.1,10.0.0.2\n")]).poison
        assert "ts" in poison.cause


def test_settings_that_cannot_be_used_are_an_error_before_the_first_message() -> None:
    with pytest.raises(ConfigError, match="no field"):
        RawDecoder(InputSettings(envoy=EnvoySettings(json={"nonsense": "x"})))


# Our own batches


def flows(decoder: RawDecoder) -> pl.DataFrame:
    every = [sent for form in ("hubble", "envoy", "zeek", "netobserv") for sent in messages()[form]]
    return decoder.decode(every).flows


def test_a_batch_gives_back_what_went_in(decoder: RawDecoder) -> None:
    before = flows(decoder)
    sent = [Sent(batch.value, batch.headers) for batch in flow_batches(before, "test", 3)]
    assert [int(one.headers["rows"]) for one in sent] == [3] * (before.height // 3) + (
        [before.height % 3] if before.height % 3 else []
    )
    after = decoder.decode(sent)
    assert after.rows_per_record.tolist() == [int(one.headers["rows"]) for one in sent]
    assert_frame_equal(after.flows, before)


def test_a_batch_says_what_it_is(decoder: RawDecoder) -> None:
    before = flows(decoder)
    (batch,) = flow_batches(before, "hubble://relay:4245")
    times = before["time"].to_physical()
    assert {name: text.decode() for name, text in batch.headers.items()} == {
        "content-type": "application/vnd.apache.arrow.stream",
        "schema": SCHEMA,
        "rows": str(before.height),
        "ts_min": str(times.min()),
        "ts_max": str(times.max()),
        "source": "hubble://relay:4245",
    }


def test_a_large_batch_is_cut_until_it_is_small(decoder: RawDecoder) -> None:
    wide = pl.concat([flows(decoder)] * 100)
    wide = wide.with_columns(
        path=pl.int_range(pl.len()).hash().cast(pl.String).str.pad_end(900, "x")
        + pl.int_range(pl.len()).hash(7).cast(pl.String)
    ).with_columns(pl.concat_str(*(pl.col("path").hash(seed) for seed in range(60))).alias("path"))
    sizes = [len(batch.value) for batch in flow_batches(wide, "test", 2_000)]
    assert len(sizes) > 1
    assert max(sizes) <= 512 << 10


def test_verdicts_that_are_none_cost_only_their_own(decoder: RawDecoder) -> None:
    good, odd = flows(decoder), flows(decoder).cast({"verdict": pl.String})
    odd = odd.with_columns(verdict=pl.lit("PERHAPS"))
    sent = [Sent(batch(frame)) for frame in (good, odd, good)]
    together = decoder.decode(sent).flows
    assert_frame_equal(together, pl.concat(decoder.decode([one]).flows for one in sent))
    assert together["verdict"].is_null().sum() >= odd.height


def batch(frame: pl.DataFrame) -> bytes:
    texts = frame.cast({pl.Enum: pl.String})
    return texts.write_ipc_stream(None).getvalue()


# Poison


def test_a_message_that_cannot_be_read_says_why(decoder: RawDecoder) -> None:
    assert told(decoder, b"\x91\x07\x00 no flow").startswith("of no known format: it begins with")
    assert told(decoder, b'{"flow":{') == (
        "not JSON: Expecting property name enclosed in double quotes at character 10"
    )
    assert told(decoder, b'{"a":1}') == "JSON of no known format: its keys are 'a'"
    assert told(decoder, b'{"flow":{}}') == "it has no time"
    assert told(decoder, b"starting up") == "of no known format: it begins with 'starting up'"
    assert told(decoder, sampled_flow(src_addr=b"xyz")).startswith("its src_addr is")
    assert told(decoder, hubble(time="1969-01-01T00:00:00Z")).startswith("its time is")


def test_avro_is_told_from_what_only_has_its_frame(decoder: RawDecoder) -> None:
    avro = b"\0\0\0\0\x2a\x02\x0eweb\x0a10.0.0.1"
    assert told(decoder, avro).startswith("it is framed for a schema registry (schema 42)")
    assert told(decoder, b"Obj\x01\x04\x14avro.codec").startswith("it is Avro")
    assert told(decoder, LINE, content_type="application/avro").startswith("it is Avro")


@pytest.mark.parametrize(
    ("value", "headers", "cause"),
    [
        (LINE, ARROW, "its content-type says arrow, and it begins with"),
        (b"PAR1 and so on", {"content-type": b"application/json"}, "its content-type says JSON"),
        (LINE, {"content-type": b"application/x-protobuf"}, "its content-type says protobuf"),
        (LINE, {"content-encoding": b"gzip"}, "its content-encoding is gzip"),
        (None, {"schema": b"sidelong.flows/2"}, "its schema is sidelong.flows/2"),
        (None, {"rows": b"7"}, "its header says 7 rows, and it holds 2"),
    ],
)
def test_a_header_that_lies_is_poison(
    value: bytes | None, headers: dict[str, bytes], cause: str, decoder: RawDecoder
) -> None:
    value = value or messages()["arrow"][0].value
    (poison,) = decoder.decode([Sent(value, headers)]).poison
    assert poison.cause.startswith(cause)


def test_a_header_that_says_nothing_known_does_not_matter(decoder: RawDecoder) -> None:
    headers = {"content-type": b"application/cloudevents; x=1", "schema": b"theirs/9"}
    assert decoder.decode([Sent(LINE, headers)]).flows.height == 1


def test_of_a_message_with_a_bad_line_the_others_are_kept(decoder: RawDecoder) -> None:
    value = b"\n".join([LINE, b'{"flow":{"verdict":1}}', LINE, b"{", LINE])
    batch = decoder.decode([Sent(LINE), Sent(value)])
    (poison,) = batch.poison
    assert poison.cause == "2 of its 5 records cannot be read; 2: it has no time"
    assert (poison.record.value, poison.kept) == (value, 3)
    assert batch.rows_per_record.tolist() == [1, 3]


def test_of_messages_after_each_other_the_whole_ones_are_kept(decoder: RawDecoder) -> None:
    value = delimited(sampled_flow(), sampled_flow(src_addr=b"x"), sampled_flow())
    (poison,) = decoder.decode([Sent(value)]).poison
    assert poison.cause.startswith("1 of its 3 records cannot be read; 2: its src_addr is")
    assert poison.kept == 2


def test_rows_of_a_batch_that_do_not_fit_are_told(decoder: RawDecoder) -> None:
    frame = pl.DataFrame({"time": [START, None], "src_ip": ["10.0.0.1", "10.0.0.2"]})
    frame = frame.with_columns(pl.from_epoch("time"))
    (poison,) = decoder.decode([Sent(batch(frame))]).poison
    assert poison.cause == "1 of its 2 rows do not fit: row 1: its time is None"
    assert poison.kept == 1


def test_ten_thousand_poisoned_messages_are_found_in_a_few_seconds(decoder: RawDecoder) -> None:
    kinds = [b'{"flow":{%d', b'{"flow":{"verdict":%d}}', b"\xff\xfe%d", b"\0\0\0\0\1 %d", b"[%d"]
    kinds += [b'{"flow":{"a":"\xff%d"}}', b'{"flow":' + b"[" * 200 + b"%d", b'{"x":%d}']
    sent = [Sent(kinds[number % len(kinds)] % number) for number in range(10_000)]
    sent[5_000] = Sent(LINE)
    began = time.monotonic()
    batch: RawBatch[Sent] = decoder.decode(sent)
    assert time.monotonic() - began < 20  # two, on a machine that has nothing else to do
    assert (len(batch.poison), batch.flows.height) == (9_999, 1)
    assert [poison.record for poison in batch.poison] == sent[:5_000] + sent[5_001:]


def test_what_is_told_of_a_message_is_not_long(decoder: RawDecoder) -> None:
    long = json.dumps({"flow": {**FLOW, "time": "x" * 5_000}}).encode()
    for value in (b"x" * 5_000, long, b'{"%s":1}' % (b"k" * 5_000), b"\xff" * 5_000):
        assert len(told(decoder, value)) < 200
