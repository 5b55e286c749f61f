"""Parquet for many machines: found, cut into chunks, and in the order of a replay."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import polars as pl
import pytest

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.parquet import STORED, write_flows
from sidelong.ingest.schema import conform
from sidelong.spark_chunks import Chunk, bounds_of, flows_of, runs_of, times_of
from sidelong.spark_files import find_flows, flow_columns, footer_of, read_rows, to_check

START = datetime(2026, 11, 23, 9, tzinfo=UTC)


def flows(seconds: list[float], name: str = "a") -> pl.DataFrame:
    times = [int((START.timestamp() + one) * 1e9) for one in seconds]
    frame = pl.DataFrame({"time": times}).with_columns(
        pl.col("time").cast(pl.Datetime("ns", "UTC")), src=pl.lit(name), src_ip=pl.lit("10.0.0.1")
    )
    return conform(frame)


def chunked(folder: Path, rows: int) -> list[Chunk]:
    urls = find_flows([str(folder)])[""]
    footers = [footer_of(url) for url in urls]
    bounds = bounds_of(footers, rows)
    chunks = [Chunk(0, place) for place in range(len(bounds) + 1)]
    for url, footer in zip(urls, footers, strict=True):
        for place, run in runs_of(url, footer.rows, bounds):
            chunks[place].runs.append(run)
    return [chunk for chunk in chunks if chunk.runs]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three files that overlap, whose times jitter and are equal here and there."""
    jitter = [0.0, 0.5, -0.7, 0.0, 0.2]
    for number in range(3):
        seconds = [row / 3 + jitter[(row + number) % 5] for row in range(600)]
        write_flows([flows(seconds, f"n{number}")], tmp_path / f"{number}.parquet")
    return tmp_path


@pytest.mark.parametrize("rows", [50, 333, 100_000])
def test_chunks_are_the_order_of_a_replay(shards: Path, rows: int) -> None:
    chunks = chunked(shards, rows)
    assert (len(chunks) > 1) == (rows < 1_000)
    expected = pl.concat([batch.flows for batch in merged(open_inputs([str(shards)]))])
    found = pl.concat([flows_of(chunk)[0] for chunk in chunks])
    assert found.equals(expected)
    times = [time for chunk in chunks for time in times_of(chunk)[0].tolist()]
    assert times == expected["time"].to_physical().to_list()


def test_rows_that_do_not_fit_are_left_out_and_counted(tmp_path: Path) -> None:
    good = flows([0, 1, 2, 3, 4, 5]).cast(STORED)
    odd = good.with_columns(
        pl.when(pl.int_range(pl.len()) == 2).then(None).otherwise("time").alias("time"),
        bytes=pl.Series([1, 2, 3, 4, -5, 6]),  # less than none at all
    )
    odd.write_parquet(tmp_path / "a.parquet", row_group_size=2)
    chunks = chunked(tmp_path, 1)
    expected = pl.concat([batch.flows for batch in merged(open_inputs([str(tmp_path)]))])
    found = [flows_of(chunk) for chunk in chunks]
    assert pl.concat([one for one, _ in found]).equals(expected)
    assert expected.height == 4
    assert sum(bad.count for _, bad in found) == 2
    assert any("its bytes is -5" in sample for _, bad in found for sample in bad.samples)


def test_columns_of_other_types_are_looked_at_and_native_ones_are_not(tmp_path: Path) -> None:
    stored = flows([0, 1]).cast(STORED)
    stored.with_columns(bytes=pl.lit("12"), count=pl.lit(1, pl.UInt32)).write_parquet(
        tmp_path / "a.parquet"
    )
    assert to_check(flow_columns(str(tmp_path / "a.parquet"))) == ["time", "end", "bytes"]


def test_files_come_before_folders_and_hidden_ones_not_at_all(tmp_path: Path) -> None:
    for name in ("b.parquet", "a/z.parquet", "a/.hidden/x.parquet", "_temporary/y.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_flows([flows([0])], path)
    (tmp_path / "notes.txt").write_text("no flows")
    found = [Path(url).relative_to(tmp_path).as_posix() for url in find_flows([str(tmp_path)])[""]]
    assert found == ["b.parquet", "a/z.parquet"]


def test_folders_of_clusters_are_streams_of_their_own(tmp_path: Path) -> None:
    for cluster in ("shop", "bank"):
        (tmp_path / f"cluster={cluster}").mkdir()
        write_flows([flows([0])], tmp_path / f"cluster={cluster}" / "a.parquet")
    assert list(find_flows([str(tmp_path)])) == ["bank", "shop"]
    assert list(find_flows([str(tmp_path / "cluster=*")])) == ["bank", "shop"]


@pytest.fixture
def memory() -> Iterator[str]:
    """A place that is no folder of this machine."""
    filesystem = fsspec.filesystem("memory")
    yield "memory://flows"
    filesystem.rm("/flows", recursive=True)


def test_rows_out_of_an_object_store_are_those_of_a_file(memory: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    flows([row / 7 for row in range(100)]).cast(STORED).write_parquet(path, row_group_size=30)
    fsspec.filesystem("memory").pipe_file("/flows/hour=01/a.parquet", path.read_bytes())
    (url,) = find_flows([memory])[""]
    assert url.startswith("memory://")
    assert url.endswith("flows/hour=01/a.parquet")
    here, there = footer_of(str(path)), footer_of(url)
    assert there == here
    columns = flow_columns(url).names()
    for low, high in ((0, 100), (0, 1), (29, 31), (60, 95), (99, 100)):
        assert read_rows(url, columns, low, high).equals(read_rows(str(path), columns, low, high))


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("nowhere", "nowhere is not there"),
        ("empty", "there is no .parquet file in"),
        ("none-*", "no file matches"),
    ],
)
def test_a_place_without_flows_is_said(place: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=problem):
        find_flows([str(tmp_path / place)])


def test_a_kind_of_place_that_nobody_knows_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        find_flows(["nfs4://server/flows"])


def test_what_is_no_parquet_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then something else PAR1")
    with pytest.raises(SourceError, match="is no Parquet file that can be read"):
        footer_of(str(tmp_path / "a.parquet"))
