"""Whatever arrives as a flow log: no crash, each line accounted for, the same however it is cut."""

import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cache
from typing import Final

import log_samples as samples
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidelong.ingest.csv_flows import CsvLines
from sidelong.ingest.csv_settings import CsvSettings
from sidelong.ingest.goflow2 import Goflow2Lines
from sidelong.ingest.lines import line_blocks
from sidelong.ingest.loki import LokiAnswer
from sidelong.ingest.netobserv import NetObservLines
from sidelong.ingest.nfdump import NfdumpArray, NfdumpLines
from sidelong.ingest.schema import FLOW_SCHEMA, TCP_FLAGS
from sidelong.ingest.source import Source
from sidelong.ingest.unordered import HeadedDecoder, UnorderedFile
from sidelong.ingest.vpc_logs import VpcLines
from sidelong.ingest.zeek_lines import ZeekLines

EXAMPLES: Final = 100 if os.environ.get("CI") == "true" else 12
FUZZ: Final = settings(
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
CSV: Final = CsvSettings(
    columns={**samples.CSV_COLUMNS, "packets": "Note", "tcp_flags": "Note"}, time_unit="s"
)
DECODERS: Final[dict[str, Callable[[], AbstractContextManager[HeadedDecoder]]]] = {
    "zeek": ZeekLines,
    "zeek json": ZeekLines,
    "netobserv": NetObservLines,
    "goflow2": Goflow2Lines,
    "vpc": VpcLines,
    "csv": lambda: CsvLines(CSV),
    "nfdump": NfdumpLines,
}
# What is odd in one format or another, to be put in place of a piece of a real line.
ODD: Final = (
    *(b"", b"-", b"\t", b" ", b'"', b"\\", b"\0", b"\r", b"\x1f", b"#", b"{", b"}", b"[", b"]"),
    *(b"null", b"true", b"-1", b"1e309", b"nan", b"99999999999999999999", b"0x10", b"4294967296"),
    *(b"#fields\t", b"#separator ,", b"\xff\xfe", b"\xef\xbb\xbf", "ä".encode(), b"\\x5c", b"::"),
    *(b"2100-01-01T00:00:00Z", b"9" * 400, b"{" * 150, b"[" * 150, b"a" * 5_000, b"\\ud800"),
)


@cache
def lines_of(name: str) -> tuple[bytes, ...]:
    return tuple(samples.FORMATS[name].splitlines(keepends=True)[:25])


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A few lines of a real log, with pieces replaced, left out, doubled and moved."""
    lines = list(lines_of(name))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        begin = draw(st.integers(0, len(line)))
        end = min(begin + draw(st.integers(0, 12)), len(line))
        odd = draw(st.one_of(st.sampled_from(ODD), st.binary(max_size=8)))
        lines[at] = line[:begin] + odd + line[end:]
        if draw(st.booleans()):
            lines.insert(draw(st.integers(0, len(lines))), lines[at])
    return b"".join(lines)


def source(name: str, content: bytes, block_bytes: int = 8 << 20) -> Source:
    def opened() -> io.BytesIO:
        return io.BytesIO(content)

    if name == "loki":
        return LokiAnswer("log", opened, len(content), NetObservLines)
    if name == "nfdump array":
        return NfdumpArray("log", opened, len(content))
    size = len(content)
    return UnorderedFile("log", opened, size, DECODERS[name], block_bytes=block_bytes)


def read(found: Source) -> tuple[pl.DataFrame, int]:
    batches = list(found.batches())
    samples = [sample for batch in batches for sample in batch.bad.samples]
    bad = sum(batch.bad.count for batch in batches)
    flows = pl.concat([FLOW_SCHEMA.to_frame(), *(batch.flows for batch in batches)])
    assert flows.schema == FLOW_SCHEMA
    assert bool(bad) == bool(samples)
    return flows, bad


@pytest.mark.parametrize("name", [*DECODERS, "loki", "nfdump array"])
def test_any_bytes_are_read_without_a_crash(name: str) -> None:
    @FUZZ
    @given(st.one_of(st.binary(max_size=400), st.text(max_size=200).map(str.encode)))
    def rule(content: bytes) -> None:
        flows, _ = read(source(name, content))
        assert flows.height <= 2 * len(content)

    rule()


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "nfdump"])
def test_a_spoilt_log_is_read_the_same_however_it_is_cut(name: str) -> None:
    @FUZZ
    @given(mutated(name))
    def rule(content: bytes) -> None:
        whole, bad = read(source(name, content))
        cut, as_bad = read(source(name, content, block_bytes=1_500))
        assert whole.equals(cut)
        assert bad == as_bad
        assert flows_are_possible(whole)

    rule()


@pytest.mark.parametrize("name", ["loki", "nfdump"])
def test_a_spoilt_document_is_read_without_a_crash(name: str) -> None:
    @FUZZ
    @given(mutated(name))
    def rule(content: bytes) -> None:
        flows, _ = read(source("nfdump array" if name == "nfdump" else name, content))
        assert flows_are_possible(flows)

    rule()


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "nfdump"])
def test_a_spoilt_line_costs_no_other(name: str) -> None:
    lines = lines_of(name)
    headers = sum(line.startswith((b"#", b"When", b"version")) for line in lines)

    @FUZZ
    @given(st.integers(headers, len(lines) - 1), st.binary(min_size=1, max_size=60))
    def rule(at: int, junk: bytes) -> None:
        junk = junk.replace(b"\n", b"").replace(b"#", b"").replace(b"\r", b"") + b"~"
        spoilt = b"".join([*lines[:at], junk + b"\n", *lines[at + 1 :]])
        rest = b"".join([*lines[:at], *lines[at + 1 :]])
        flows, bad = read(source(name, spoilt))
        whole, _ = read(source(name, rest))
        assert flows.equals(whole)
        assert bad == 1

    rule()


def flows_are_possible(flows: pl.DataFrame) -> bool:
    """Whether what decides is in its bounds."""
    flags = sum(TCP_FLAGS.values())
    possible: bool = flows.select(
        pl.all_horizontal(
            pl.col("time").is_not_null().all(),
            (pl.col("tcp_flags") <= flags).fill_null(True).all(),
            (pl.col("time").dt.year().is_between(1970, 2100)).all(),
            (pl.col("src_ip").str.len_bytes() <= 60).fill_null(True).all(),
        )
    ).item()
    return possible


def test_a_line_of_many_megabytes_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is that of lines.py; here it is seen to reach every format."""
    monkeypatch.setattr("sidelong.ingest.lines.LONGEST_LINE", 2_000)
    for name, decoder in DECODERS.items():
        content = samples.FORMATS["goflow2" if name == "nfdump" else name]
        stream = io.BytesIO(b"x" * 300_000 + b"\n" + content)
        with decoder() as lines:
            blocks = list(line_blocks(stream, 0, 1 << 20))
            assert sum(len(block.content) for block in blocks) <= len(content)
            assert sum(len(block.too_long) for block in blocks) >= 1
            for block in blocks:
                lines.decode(block)
