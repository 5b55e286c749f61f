"""Every source of flows, put to the rules of source_contract.py."""

import gzip
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl
import pytest
import zstandard
from source_contract import RULES, Case

from sidelong.ingest.files import InputFile
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.line_files import LineFile
from sidelong.ingest.parquet import ParquetFile, write_flows
from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import Source

Pack = Callable[[bytes], bytes]

SMALL, LARGE = 40_000, 16 << 20


def hubble_lines(shop: Path) -> bytes:
    packed = (shop / "test.hubble.jsonl.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().stream_reader(packed).read().splitlines(keepends=True)
    return b"".join([*lines[:300], b"{spoilt\n", b"\n", *lines[300:400]])


def hubble(path: Path, block_bytes: int) -> Source:
    file = InputFile(str(path))
    return LineFile(file.name, file.open, file.size_bytes, HubbleLines, block_bytes)


def hubble_case(shop: Path, folder: Path, pack: Pack, cut: int) -> Case:
    content = pack(hubble_lines(shop))
    paths = {"whole": content, "empty": pack(b""), "damaged": content[:-cut]}
    for name, part in paths.items():
        (folder / name).write_bytes(part)
    return Case(
        small=partial(hubble, folder / "whole", SMALL),
        large=partial(hubble, folder / "whole", LARGE),
        empty=partial(hubble, folder / "empty", SMALL),
        damaged=partial(hubble, folder / "damaged", SMALL),
    )


def plain(shop: Path, data: Path, folder: Path) -> Case:
    return hubble_case(shop, folder, bytes, cut=100)


def gz(shop: Path, data: Path, folder: Path) -> Case:
    return hubble_case(shop, folder, gzip.compress, cut=20)


def zst(shop: Path, data: Path, folder: Path) -> Case:
    return hubble_case(shop, folder, zstandard.ZstdCompressor(3).compress, cut=20)


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, as a pipe does."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(1_000)


def stream(shop: Path, data: Path, folder: Path) -> Case:
    content = hubble_lines(shop)

    def source(content: bytes, block_bytes: int) -> Source:
        def opened() -> BinaryIO:
            return Trickle(content)

        return LineFile("standard input", opened, None, HubbleLines, block_bytes)

    return Case(
        small=partial(source, content, SMALL),
        large=partial(source, content, LARGE),
        empty=partial(source, b"", SMALL),
        damaged=partial(source, content[:-100], SMALL),
    )


def parquet(shop: Path, data: Path, folder: Path) -> Case:
    flows = [batch.flows for batch in plain(shop, data, folder).large().batches()]
    whole, empty, damaged = (folder / f"{name}.parquet" for name in ("whole", "empty", "damaged"))
    write_flows(flows, whole)
    write_flows([empty_flows()], empty)
    spoilt = pl.concat(flows).with_columns(pl.col("src_port").cast(pl.Int64))
    last = spoilt.tail(1).with_columns(src_port=pl.lit(70_000, dtype=pl.Int64))
    pl.concat([spoilt.head(-1), last]).write_parquet(damaged)
    return Case(
        small=lambda: ParquetFile(str(whole), whole, rows_per_batch=90),
        large=lambda: ParquetFile(str(whole), whole),
        empty=lambda: ParquetFile(str(empty), empty),
        damaged=lambda: ParquetFile(str(damaged), damaged, rows_per_batch=90),
    )


def pcap(shop: Path, data: Path, folder: Path) -> Case:
    content = (data / "cluster-lab" / "test.pcap").read_bytes()[:1_000_000]
    for name, part in {"empty": content[:24], "damaged": content}.items():
        (folder / name).write_bytes(part)
    whole = folder / "whole"
    whole.write_bytes(content[: whole_records(content)])

    def source(path: Path, packets: int) -> Source:
        file = InputFile(str(path))
        return PcapFile(file.name, file.open, file.size_bytes, packets)

    return Case(
        small=partial(source, whole, 500),
        large=partial(source, whole, 1_000_000),
        empty=partial(source, folder / "empty", 500),
        damaged=partial(source, folder / "damaged", 500),
    )


def whole_records(capture: bytes) -> int:
    """Where the last record of a little-endian pcap ends that is there in whole."""
    at, ended = 24, 24
    while at <= len(capture):
        ended = at
        at += 16 + int.from_bytes(capture[at + 8 : at + 12], "little")
    return ended


CASES: Final = (plain, gz, zst, stream, parquet, pcap)


@pytest.fixture(scope="module", params=CASES, ids=lambda make: make.__name__)
def case(
    request: pytest.FixtureRequest,
    shop: Path,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    made: Case = request.param(shop, data, tmp_path_factory.mktemp("source"))
    return made


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_source_holds_to_the_contract(case: Case, rule: Callable[[Case], None]) -> None:
    rule(case)
