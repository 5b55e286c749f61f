"""Whatever lies in a topic: no crash, bounded work, and each message for itself."""

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_samples import Sent, messages

from sidelong.ingest.raw_messages import RawBatch, RawDecoder
from sidelong.ingest.raw_settings import MESSAGE_FORMATS, MessageFormat, MessageSettings
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.settings import InputSettings

EXAMPLES: Final = 150 if os.environ.get("CI") == "true" else 25
FUZZ: Final = settings(
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
REAL: Final = [sent for forms in messages().values() for sent in forms]
SMALL: Final = [sent for sent in REAL if sent.value and len(sent.value) < 12_000]
TYPES: Final = (
    "application/json",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
    "application/x-protobuf",
    "application/avro",
    "text/plain",
    "what/ever",
)
HEADERS: Final[st.SearchStrategy[dict[str, bytes]]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "content-type": st.sampled_from(TYPES).map(str.encode),
            "content-encoding": st.sampled_from([b"gzip", b"zstd", b"lz4", b"\xff"]),
            "schema": st.sampled_from([b"sidelong.flows/1", b"sidelong.flows/2", b"other"]),
            "rows": st.sampled_from([b"1", b"2", b"x", b"99999999999999999999999"]),
        },
    ),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real message with some bytes changed, left out, put in or taken from another."""
    content = bytearray(draw(st.sampled_from(SMALL)).value or b"")
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 4)):
            case 0:
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del content[at : at + draw(st.integers(1, 40))]
            case 2:
                content[at:at] = draw(st.binary(max_size=12))
            case 3:
                other = draw(st.sampled_from(SMALL)).value or b""
                start = draw(st.integers(0, len(other)))
                content[at:at] = other[start : start + draw(st.integers(1, 60))]
            case 4:  # a length that lies
                number = draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, 1 << 62]))
                content[at : at + 8] = number.to_bytes(8, "little")
    return bytes(content)


values = st.one_of(mutated(), st.sampled_from(SMALL).map(lambda sent: sent.value), st.none())
sent = st.builds(Sent, st.one_of(values, st.binary(max_size=300)), HEADERS)


@pytest.fixture(scope="module")
def decoder() -> Iterator[RawDecoder]:
    with RawDecoder() as decoder:
        yield decoder


def same(one: RawBatch[Sent], others: list[RawBatch[Sent]]) -> None:
    flows = pl.concat([FLOW_SCHEMA.to_frame(), *(other.flows for other in others)])
    assert one.flows.equals(flows)
    assert one.rows_per_record.tolist() == [
        rows for other in others for rows in other.rows_per_record.tolist()
    ]
    # Of several columns that cannot be read polars names any.
    told = [(each.record, each.cause[:20], each.kept) for each in one.poison]
    assert told == [
        (each.record, each.cause[:20], each.kept) for other in others for each in other.poison
    ]
    assert one.passed == sum(other.passed for other in others)


@FUZZ
@given(sents=st.lists(sent, max_size=8))
def test_what_becomes_of_a_message_does_not_depend_on_the_others(
    decoder: RawDecoder, sents: list[Sent]
) -> None:
    whole = decoder.decode(sents)
    assert whole.flows.schema == FLOW_SCHEMA
    assert whole.flows["time"].null_count() == 0
    assert whole.rows_per_record.sum() == whole.flows.height
    same(whole, [decoder.decode([one]) for one in sents])


@FUZZ
@given(
    sents=st.lists(sent, min_size=1, max_size=4),
    format=st.sampled_from([format for format in MESSAGE_FORMATS if format != "csv"]),
)
def test_a_declared_format_is_no_better_protected_than_a_guessed_one(
    sents: list[Sent], format: MessageFormat
) -> None:
    told = MessageSettings(formats={"flows.raw": format}, most_megabytes=1, most_records=1_000)
    with RawDecoder(InputSettings(messages=told)) as decoder:
        whole = decoder.decode(sents)
        assert whole.flows.schema == FLOW_SCHEMA
        same(whole, [decoder.decode([one]) for one in sents])
