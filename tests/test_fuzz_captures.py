"""Whatever arrives as a capture, as Hubble's JSON or as a table: read, counted or refused.

A few seconds of mutations here; in CI, and with SIDELONG_FUZZ=1, a minute for each.
"""

import io
import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final

import pcap_builder as build
import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidelong.errors import SourceError
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.line_files import LineFile
from sidelong.ingest.parquet import ParquetFile, write_flows
from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.source import Source

LONG: Final = os.environ.get("CI") == "true" or os.environ.get("SIDELONG_FUZZ") == "1"
EXAMPLES: Final = {"hubble": 500, "pcap": 5_000, "parquet": 8_000} if LONG else {}
"""What a kind gets through in about half a minute."""

SHOP: Final = Path(__file__).resolve().parent.parent / "examples" / "shop-incident"

ODD: Final = (
    *(b"", b"\0", b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x0a\x0d\x0d\x0a", b"PAR1"),
    *(b"{", b"}", b"[" * 150, b'"', b"\\u0000", b"null", b"-1", b"1e999", b"true", b"9" * 300),
    *(b"\n", b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"\xc0\x0c", b"\x3f" * 70, b"::ffff:1.2.3.4"),
)


@cache
def hubble() -> bytes:
    packed = (SHOP / "test.hubble.jsonl.zst").read_bytes()
    whole = zstandard.ZstdDecompressor().stream_reader(packed)
    return b"".join(io.BufferedReader(whole).readlines()[:12])


@cache
def pcap() -> bytes:
    names = [f"host{n}.shop.svc.cluster.local" for n in range(6)]
    frames = [
        build.ethernet(build.ipv4(build.udp(build.dns(build.question(name)), dst=53), 17))
        for name in names
    ]
    frames += [
        build.ethernet(build.ipv4(build.tcp(1_024 + n, payload=b"x" * 9), 6)) for n in (1, 2)
    ]
    return build.pcap(*((n * 1_000_000, frame) for n, frame in enumerate(frames)))


@cache
def parquet() -> bytes:
    source = LineFile("shop", lambda: io.BytesIO(hubble()), None, HubbleLines)
    path = Path(os.environ.get("TMPDIR", "/tmp"), f"fuzz-{os.getpid()}.parquet")
    try:
        write_flows([batch.flows for batch in source.batches()], path)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """The content with a few pieces replaced, left out, doubled, or cut off."""
    content = whole
    for _ in range(draw(st.integers(1, 5))):
        begin = draw(st.integers(0, len(content)))
        end = min(begin + draw(st.integers(0, 16)), len(content))
        piece = draw(st.sampled_from(ODD) | st.binary(max_size=8) | st.just(content[begin:end] * 2))
        content = content[:begin] + piece + content[end:]
    return content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content


def as_hubble(content: bytes, folder: Path) -> Source:
    return LineFile("fuzz", lambda: io.BytesIO(content), None, HubbleLines)


def as_pcap(content: bytes, folder: Path) -> Source:
    return PcapFile("fuzz", lambda: io.BytesIO(content))


def as_parquet(content: bytes, folder: Path) -> Source:
    path = folder / "fuzz.parquet"
    path.write_bytes(content)
    return ParquetFile("fuzz", path)


KINDS: Final[dict[str, tuple[Callable[[], bytes], Callable[[bytes, Path], Source]]]] = {
    "hubble": (hubble, as_hubble),
    "pcap": (pcap, as_pcap),
    "parquet": (parquet, as_parquet),
}


def read(source: Source) -> pl.DataFrame | None:
    """The flows, or None where the source is refused."""
    try:
        batches = list(source.batches())
    except SourceError:
        return None
    return pl.concat([FLOW_SCHEMA.to_frame(), *(batch.flows for batch in batches)])


def fuzz(kind: str) -> settings:
    return settings(
        max_examples=EXAMPLES.get(kind, 60),
        deadline=timedelta(seconds=10),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_damaged_is_read_counted_or_refused(kind: str, tmp_path: Path) -> None:
    whole, opened = KINDS[kind]
    rows = read(opened(whole(), tmp_path))
    assert rows is not None
    most = 4 * rows.height + 64  # what is doubled may come twice, but nothing comes from nowhere

    @fuzz(kind)
    @given(mutated(whole()))
    def holds(content: bytes) -> None:
        flows = read(opened(content, tmp_path))
        if flows is not None:
            assert flows.schema == FLOW_SCHEMA
            assert flows.height <= most
            assert flows["time"].null_count() == 0

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_octets_of_any_kind_are_read_counted_or_refused(kind: str, tmp_path: Path) -> None:
    _, opened = KINDS[kind]

    @fuzz(kind)
    @given(st.binary(max_size=400))
    def holds(content: bytes) -> None:
        read(opened(content, tmp_path))

    holds()
