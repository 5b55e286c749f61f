"""Stretches as messages: whole again from all partitions, and damage is told."""

from contextlib import suppress

import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from streams import events, flows_of

from sidelong.ingest.keys import hash_strings
from sidelong.ingest.stream import Stream, Stretch
from sidelong.ingest.stretch_messages import DamagedStretch, decode, encode, parts_of

LAW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

SOME = [
    (kind, client, 3, n % 5, 20, 0)
    for n in range(30)
    for client in (0, 1, 2)
    for kind in ("syn", "answered", "lookup", "lost")
]


def stretch() -> Stretch:
    (found,) = Stream().stretches(flows_of(SOME))
    return found


def message() -> tuple[bytes, dict[str, bytes]]:
    (found,) = encode(parts_of(stretch(), "s", 3, 1))
    return found


@LAW
@given(events, st.integers(1, 5))
def test_a_stretch_is_whole_again_from_all_partitions(
    happened: list[tuple[str, int, int, int, int, int]], partitions: int
) -> None:
    for one in Stream().stretches(flows_of(happened)):
        sent = list(encode(parts_of(one, "s", 3, partitions)))
        read = [decode(value, headers) for value, headers in sent]
        assert [part.partition for part in read] == list(range(partitions))
        for part in read:
            assert part[:2] == ("s", 3)
            assert part[3:7] == (partitions, one.low, one.high, one.tick_ns)
            assert part.pulse.equals(one.pulse)
            assert part.pulse.schema == one.pulse.schema
        flows = pl.concat([part.flows for part in read]).sort("row")
        assert flows.schema == one.flows.schema
        assert flows.equals(one.flows)


def test_both_directions_of_a_connection_go_where_its_client_does() -> None:
    partitions = 7
    for part in parts_of(stretch(), "s", 0, partitions):
        actor = pl.when(pl.col("reply").fill_null(False)).then("dst").otherwise("src")
        for name in part.flows.select(actor).to_series().unique():
            expected = 0 if name is None else int(hash_strings([name])[0] % partitions)
            assert part.partition == expected


def test_headers_say_what_the_value_is() -> None:
    value, headers = message()
    assert headers["content-type"] == b"application/vnd.apache.arrow.stream"
    assert headers["content-encoding"] == b"zstd"
    flows = pl.read_ipc_stream(zstandard.decompress(value))
    assert int(headers["rows"]) == flows.height
    times = flows["time"].to_physical()
    assert (int(headers["ts_min"]), int(headers["ts_max"])) == (times.min(), times.max())
    assert sum(len(name) + len(content) for name, content in headers.items()) < 700


@pytest.mark.parametrize(
    ("name", "lie", "told"),
    [
        ("schema", b"sidelong.normal/2", "its schema"),
        ("schema", None, "its schema"),
        ("rows", b"7", "tells of 7 flows"),
        ("rows", b"-1", "no number"),
        ("rows", b"9" * 30, "no number"),
        ("low", b"5", "but tells 5 to"),
        ("high", b"20", "but tells 0 to 20"),
        ("partition", b"1", "partition 1 of 1"),
        ("stream", b"\xff", "its stream"),
        ("stream", b"", "its stream"),
        ("tick", b"soon", "no number"),
        ("pulse", b"\x00\x01", "its pulse is damaged"),
        ("pulse", zstandard.compress(b"\x01" * 8), "its pulse has 8 bytes"),
        ("pulse", zstandard.compress(b"\x7f" * 24), "its pulse is of rows"),
    ],
)
def test_a_header_that_lies_is_told(name: str, lie: bytes | None, told: str) -> None:
    value, headers = message()
    if lie is None:
        del headers[name]
    else:
        headers[name] = lie
    with pytest.raises(DamagedStretch, match=told):
        decode(value, headers)


def test_a_frame_that_says_it_is_huge_is_told_before_memory_is_taken() -> None:
    _, headers = message()
    # A frame header alone: content size in 8 bytes, one TiB of it.
    bomb = b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(DamagedStretch, match="larger than"):
        decode(bomb, headers)


@LAW
@given(st.data())
def test_a_value_that_is_damaged_is_told(data: st.DataObject) -> None:
    value, headers = message()
    damaged = bytearray(value)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = damaged[: data.draw(st.sampled_from([len(value), len(value) // 2, 5, 0]))]
    try:
        read = decode(bytes(damaged), headers)
    except DamagedStretch:
        return
    assert read.flows.equals(decode(value, headers).flows)  # a bit that has no meaning


@LAW
@given(st.data())
def test_a_stream_that_is_damaged_before_it_is_packed_is_told(data: st.DataObject) -> None:
    """No checksum helps against one who writes it."""
    value, headers = message()
    inside = bytearray(zstandard.decompress(value))
    for _ in range(data.draw(st.integers(1, 4))):
        inside[data.draw(st.integers(0, 400))] ^= data.draw(st.integers(1, 255))
    with suppress(DamagedStretch):
        decode(zstandard.compress(bytes(inside)), headers)


@pytest.mark.parametrize("value", [None, b""])
def test_a_message_without_its_value_is_told(value: bytes | None) -> None:
    with pytest.raises(DamagedStretch, match="holds 0"):
        decode(value, message()[1])
