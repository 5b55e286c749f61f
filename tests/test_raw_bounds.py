"""Messages that claim more than there is: poison with its cause, within bounded memory."""

import gc
import io
import json
import resource
from collections.abc import Iterator
from typing import Final

import polars as pl
import pytest
import zstandard
from raw_samples import Sent, bomb, delimited, hubble, messages, sampled_flow

from sidelong.ingest.arrow_bounds import check_arrow
from sidelong.ingest.parquet_bounds import check_parquet
from sidelong.ingest.raw_messages import RawDecoder
from sidelong.ingest.raw_settings import MessageSettings
from sidelong.ingest.raw_values import Unreadable
from sidelong.ingest.settings import InputSettings

MEBIBYTE: Final = 1 << 20
SMALL: Final = MessageSettings(most_megabytes=1, most_records=1_000)


@pytest.fixture(scope="module")
def decoder() -> Iterator[RawDecoder]:
    with RawDecoder(InputSettings(messages=SMALL)) as decoder:
        yield decoder


def told(decoder: RawDecoder, value: bytes) -> str:
    batch = decoder.decode([Sent(value)])
    (poison,) = batch.poison
    assert batch.flows.is_empty()
    return poison.cause


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("packing", ["gzip", "zstd", "lz4"])
def test_a_bomb_is_given_up_when_it_has_grown_too_large(packing: str) -> None:
    value = bomb(96 * MEBIBYTE)[packing]
    with RawDecoder() as decoder:
        gc.collect()
        before = peak()
        assert told(decoder, value) == "it is more than 64 MiB once it is unpacked"
        assert peak() - before < 200 * MEBIBYTE


def test_bombs_that_are_flows_do_not_add_up(decoder: RawDecoder) -> None:
    """A thousand flows in a hundred bytes, and a thousand such messages: piece by piece."""
    lines = b"\n".join([hubble()] * 1_000)
    packed = zstandard.ZstdCompressor().compress(lines)
    sent = [Sent(packed)] * 80
    sizes = [len(piece) for piece, batch in decoder.pieces(sent) if batch.flows.height]
    assert sum(sizes) == 80
    assert max(sizes) <= 32 * MEBIBYTE // len(lines) + 1


def test_a_very_long_line_is_not_decoded() -> None:
    with RawDecoder() as decoder:
        value = hubble(x="y" * (20 * MEBIBYTE))
        assert told(decoder, value) == "longer than 10 MiB"
        many = b"\n".join([hubble(), value])
        (poison,) = decoder.decode([Sent(many)]).poison
        assert (poison.kept, poison.cause[:22]) == (1, "1 of its 2 records can")


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (b"x" * (2 * MEBIBYTE), "it is 2,097,152 bytes long, more than 1 MiB"),
        (b"\n".join([b"{}"] * 1_001), "it holds 1,001 lines, more than 1,000"),
        (b"[" + b",".join([b"{}"] * 1_001) + b"]", "it holds 1,001 lines, more than 1,000"),
        (delimited(*[sampled_flow()] * 1_001), "it holds 1,001 messages, above 1,000"),
        (b'{"flow":' + b"[" * 100_000, "not JSON: maximum recursion depth exceeded"),
        (b"[" * 100_000, "not JSON: maximum recursion depth exceeded"),
        (b"\x0a\xff\xff\xff\xff\x7f" + b"x" * 9, "of no known format"),
    ],
)
def test_what_is_too_much_is_said(value: bytes, cause: str, decoder: RawDecoder) -> None:
    assert told(decoder, value).startswith(cause)


def test_wrapping_within_wrapping_ends(decoder: RawDecoder) -> None:
    value = hubble()
    for _ in range(5):
        value = json.dumps({"log": value.decode()}).encode()
    assert told(decoder, value) == "wrapped too often in other JSON"


@pytest.mark.parametrize("packing", ["gzip", "zstd", "lz4"])
def test_compressed_data_that_is_cut_off_or_goes_on_is_not_read(
    packing: str, decoder: RawDecoder
) -> None:
    form = messages()[packing][0].value or b""
    assert told(decoder, form[:-5]) == f"cut off inside its {packing} data"
    assert told(decoder, form + b"more") == f"something else follows its {packing} data"
    assert decoder.decode([Sent(form + form)]).poison != []  # two objects on one line
    assert decoder.decode([Sent(form + bytes(8))]).poison == []


# Batches in columns


def arrow(rows: int = 1, text: str = "10.0.0.1") -> bytes:
    frame = pl.DataFrame({"time": [0] * rows, "src_ip": [text] * rows})
    frame = frame.with_columns(pl.from_epoch(pl.col("time") + 1_764_000_000))
    return frame.write_ipc_stream(None, compression="zstd").getvalue()


def parquet(rows: int = 1, text: str = "10.0.0.1") -> bytes:
    whole = io.BytesIO()
    frame = pl.DataFrame({"time": [0] * rows, "src_ip": [text] * rows})
    frame.with_columns(pl.from_epoch(pl.col("time") + 1_764_000_000)).write_parquet(whole)
    return whole.getvalue()


def test_batches_with_more_rows_than_allowed_are_not_read(decoder: RawDecoder) -> None:
    assert told(decoder, arrow(1_001)) == "Arrow of 1,001 rows, more than 1,000"
    assert told(decoder, parquet(1_001)) == "Parquet of 1,001 rows, more than 1,000"
    assert decoder.decode([Sent(arrow(1_000)), Sent(parquet(1_000))]).poison == []


def test_one_text_in_all_rows_counts_in_each(decoder: RawDecoder) -> None:
    text = "x" * 4_000
    for value in (parquet(1_000, text), arrow(1_000, text)):
        assert len(value) < 10_000
        assert "1 MiB" in told(decoder, value)


def test_lengths_that_lie_are_found_before_anything_is_allocated() -> None:
    """Every length in a batch in turn says that there are a million times as many."""
    gc.collect()
    before = peak()
    for value, check in ((arrow(50), check_arrow), (parquet(50), check_parquet)):
        lies = 0
        for at in range(0, len(value) - 8, 4):
            for width, size in ((4, 0x7FFF_FFFF), (8, 1 << 50)):
                lie = value[:at] + size.to_bytes(width, "little") + value[at + width :]
                try:
                    check(lie, MEBIBYTE, 1_000)
                except Unreadable:
                    lies += 1
        assert lies > 10
    assert peak() - before < 32 * MEBIBYTE


def test_a_batch_that_is_cut_anywhere_is_poison_or_whole(decoder: RawDecoder) -> None:
    for value in (arrow(3), parquet(3)):
        for end in range(8, len(value), 7):
            batch = decoder.decode([Sent(value[:end])])
            assert bool(batch.poison) != (batch.flows.height == 3)
