"""Input that is cut off, corrupt, hostile or simply something else: counted or refused, never a
traceback, never more memory than a bound."""

import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import polars as pl
import pytest
import zstandard

from sidelong.errors import SourceError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import BadRows

FLOW: Final = (
    b'{"flow":{"time":"2026-11-23T09:14:02Z","verdict":"FORWARDED",'
    b'"IP":{"source":"10.0.0.1","destination":"10.0.0.2"},'
    b'"l4":{"UDP":{"source_port":5,"destination_port":53}}},"node_name":"n"}\n'
)


def read(
    folder: Path, content: bytes, format: str | None = None, name: str = "input"
) -> tuple[pl.DataFrame, BadRows]:
    path = folder / name
    path.write_bytes(content)
    batches = list(merged(open_inputs([str(path)], format)))
    flows = pl.concat([empty_flows(), *(batch.flows for batch in batches)])
    return flows, sum((batch.bad for batch in batches), BadRows())


# Cut off and corrupt


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_packed_file_that_is_cut_off_is_read_to_there_and_counted(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    lines = b"".join(FLOW.replace(b'port":5,', b'port":%d,' % port) for port in range(20_000))
    packed = pack(lines)
    flows, bad = read(tmp_path, packed[: len(packed) * 3 // 4])
    assert 0 < flows.height < 20_000
    assert bad.count in (1, 2)  # the end of the data, and the line it falls into
    assert any("cut off inside its" in sample for sample in bad.samples)


def test_a_corrupt_file_is_read_to_there_and_counted(tmp_path: Path) -> None:
    lines = FLOW * 20_000 + os.urandom(1_000).hex().encode()
    packed = bytearray(gzip.compress(lines))
    packed[len(packed) // 2] ^= 0xFF
    flows, bad = read(tmp_path, bytes(packed))
    assert flows.height > 0
    assert any("corrupt gzip data" in sample for sample in bad.samples)


def test_a_last_line_that_is_cut_off_is_one_bad_row(tmp_path: Path) -> None:
    flows, bad = read(tmp_path, FLOW * 10 + FLOW[:50])
    assert (flows.height, bad.count) == (10, 1)


def test_a_last_line_needs_no_newline(tmp_path: Path) -> None:
    flows, bad = read(tmp_path, FLOW * 10 + FLOW.rstrip())
    assert (flows.height, bad.count) == (11, 0)


def test_something_else_after_the_packed_data_is_counted(tmp_path: Path) -> None:
    flows, bad = read(tmp_path, gzip.compress(FLOW) + b"and a note")
    assert (flows.height, bad.count) == (1, 1)


# Something else


@pytest.mark.parametrize("seed", range(20))
def test_binary_junk_is_refused_or_counted(tmp_path: Path, seed: int) -> None:
    state = seed
    junk = bytearray()
    for _ in range(2_000):
        state = zlib.crc32(state.to_bytes(4, "big"))
        junk += state.to_bytes(4, "big")
    with pytest.raises(SourceError):
        read(tmp_path, bytes(junk))
    for format in ("pcap", "parquet"):
        with pytest.raises(SourceError):
            read(tmp_path, bytes(junk), format)
    flows, bad = read(tmp_path, bytes(junk), "hubble")
    assert flows.is_empty()
    assert bad.count > 0


@pytest.mark.parametrize("start", [b"PAR1", b"ARROW1\0\0", b"\xff" * 4 + b"\x80\x07\0\0\x04\0\0\0"])
def test_what_only_begins_like_a_table_is_refused(tmp_path: Path, start: bytes) -> None:
    for rest in (b"", b"\0" * 100, bytes(range(256)) * 10):
        with pytest.raises(SourceError):
            read(tmp_path, start + rest)


def test_a_table_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    empty_flows().write_parquet(whole)
    content = whole.read_bytes()
    for end in range(4, len(content), len(content) // 10):
        with pytest.raises(SourceError):
            read(tmp_path, content[:end])


def test_an_empty_file_is_refused_by_its_name(tmp_path: Path) -> None:
    for content in (b"", gzip.compress(b""), zstandard.compress(b"")):
        with pytest.raises(SourceError, match="input: empty"):
            read(tmp_path, content)


# Hostile


def test_a_line_that_is_too_long_is_skipped(tmp_path: Path) -> None:
    long = b'{"flow":"' + b"x" * (10 << 20) + b'"}\n'
    flows, bad = read(tmp_path, FLOW + long + FLOW)
    assert (flows.height, bad.count) == (2, 1)
    assert bad.samples[0].endswith(f"at byte {len(FLOW)}: longer than 10 MiB")


def test_a_line_just_within_the_bound_is_read(tmp_path: Path) -> None:
    summary = b"x" * ((10 << 20) - len(FLOW) - 20)
    long = FLOW.replace(b'"node_name"', b'"extra":"' + summary + b'","node_name"')
    flows, bad = read(tmp_path, FLOW + long + FLOW)
    assert (flows.height, bad.count) == (3, 0)


def test_invalid_text_costs_only_its_own_line(tmp_path: Path) -> None:
    flows, bad = read(tmp_path, FLOW + FLOW.replace(b'"n"', b'"\xff\xfe"') + FLOW)
    assert (flows.height, bad.count) == (2, 1)
    assert "not UTF-8" in bad.samples[0]


@pytest.mark.parametrize("year", [b"0001", b"1969", b"2100", b"9999"])
def test_a_time_that_cannot_be_is_counted(tmp_path: Path, year: bytes) -> None:
    flows, bad = read(tmp_path, FLOW + FLOW.replace(b"2026", year))
    assert (flows.height, bad.count) == (1, 1)


@pytest.mark.parametrize("depth", [100, 125, 126, 127, 128, 129, 1_000, 100_000])
def test_nesting_costs_at_most_its_own_line(tmp_path: Path, depth: int) -> None:
    """Beyond what DuckDB accepts, where it gives up on all the lines it was given."""
    deep = FLOW.replace(b'"node_name"', b'"extra":' + b"[" * depth + b"]" * depth + b',"node_name"')
    flows, bad = read(tmp_path, FLOW + deep + FLOW)
    assert flows.height + bad.count == 3
    assert flows.height >= 2


def test_many_deep_lines_are_no_more_work_than_others(tmp_path: Path) -> None:
    deep = b'{"flow":' + b"[" * 300 + b"]" * 300 + b"}\n"
    flows, bad = read(tmp_path, FLOW + deep * 5_000 + FLOW)
    assert (flows.height, bad.count) == (2, 5_000)


def test_a_pcap_record_that_lies_about_its_length_is_counted(tmp_path: Path, data: Path) -> None:
    capture = bytearray((data / "cluster-lab" / "test.pcap").read_bytes()[:200_000])
    at = 24
    for _ in range(100):
        at += 16 + int.from_bytes(capture[at + 8 : at + 12], "little")
    capture[at + 8 : at + 12] = (0x7FFFFFFF).to_bytes(4, "little")
    flows, bad = read(tmp_path, bytes(capture))
    assert flows.height > 0
    assert bad.count >= 1


# Memory

PEAK: Final = """
import resource, sys
import polars as pl
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged

(source,) = open_inputs(sys.argv[1:], "hubble")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
flows = bad = 0
for batch in merged([source]):
    flows, bad = flows + batch.flows.height, bad + batch.bad.count
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(flows, bad, (after - before) >> 10)
"""


def peak(path: Path) -> tuple[int, int, int]:
    """Flows, bad rows and MiB of memory it took to read the file in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    flows, bad, mebibytes = map(int, ran.stdout.split())
    return flows, bad, mebibytes


def bomb(path: Path, pattern: bytes, mebibytes: int, packing: str) -> Path:
    """`pattern` over and over, packed."""
    piece = pattern * ((1 << 20) // len(pattern))
    opened = gzip.open if packing == "gzip" else zstandard.open
    with opened(path, "wb") as packed:
        for _ in range(mebibytes):
            packed.write(piece)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@pytest.mark.parametrize(
    ("pattern", "mebibytes", "bad"),
    [(b"\0", 600, 1), (b"\n", 5, 0), (b"x\n", 1, 1 << 19)],
    ids=["one line", "blank lines", "short lines"],
)
def test_a_bomb_costs_time_and_no_memory(
    tmp_path: Path, pattern: bytes, mebibytes: int, bad: int, packing: str
) -> None:
    path = bomb(tmp_path / "bomb", pattern, mebibytes, packing)
    flows, counted, peak_mebibytes = peak(path)
    assert (flows, counted) == (0, bad)
    assert peak_mebibytes < 400


@pytest.mark.slow
def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = bomb(tmp_path / "flows", FLOW, 100, "zstd")
    flows, bad, mebibytes = peak(path)
    assert (flows, bad) == (100 * ((1 << 20) // len(FLOW)), 0)
    assert mebibytes < 400
