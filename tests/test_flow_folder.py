"""The folder of Parquet: what a commit leaves behind, whenever its writer dies."""

import errno
import os
import shutil
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from builders import START, flows
from hypothesis import given
from hypothesis import strategies as st

from sidelong.errors import ConfigError
from sidelong.ingest import flow_folder
from sidelong.ingest.flow_folder import FlowFolder, NoRoom, SourceState
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.known_rows import KnownRows
from sidelong.ingest.merge import merged
from sidelong.ingest.schema import conform, empty_flows

SOME = ("0s shop/web -> data/db:5432", "1s shop/web <- data/db:5432 SYN-ACK")
Usage = namedtuple("Usage", "total used free")


def read(folder: Path) -> pl.DataFrame:
    """All that is in the folder, as replay reads it."""
    batches = merged(open_inputs([str(folder)]))
    return pl.concat([empty_flows(), *(batch.flows for batch in batches)])


def files(folder: Path) -> list[str]:
    return sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))


def at(*times_ns: int) -> pl.DataFrame:
    time = pl.Series("time", times_ns, pl.Int64).cast(pl.Datetime("ns", "UTC"))
    return conform(pl.DataFrame({"time": time, "src_ip": "10.0.0.1"}))


# What lies where


def test_what_was_written_is_read_again_as_it_was(tmp_path: Path) -> None:
    told = flows(*SOME, "2s LOST 7", "3s shop/web -> kube-system/dns:53 QUERY a.example")
    told = told.with_columns(dns_answers=pl.lit(["10.0.0.7"]))
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [told[:2], told[2:]]}, {})
    assert read(tmp_path).equals(told)


def test_each_flow_lies_in_the_hour_of_its_own_time(tmp_path: Path) -> None:
    told = flows("7205s a/b -> c/d:1", "0s a/b -> c/d:2", "7206s a/b -> c/d:3")
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [told]}, {})
    assert files(tmp_path) == ["date=2026-11-23/hour=09", "date=2026-11-23/hour=11"]
    assert read(tmp_path)["dst_port"].to_list() == [2, 1, 3]


def test_no_time_leads_out_of_the_folder(tmp_path: Path) -> None:
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [at(-(2**63) + 1, -1, 0, 2**63 - 1)]}, {})
    assert files(tmp_path) == [
        "date=1677-09-21/hour=00",
        "date=1969-12-31/hour=23",
        "date=1970-01-01/hour=00",
        "date=2262-04-11/hour=23",
    ]


def test_a_row_without_a_time_goes_with_the_one_before(tmp_path: Path) -> None:
    told = flows(*SOME).with_columns(time=pl.when(pl.int_range(pl.len()) == 0).then(pl.col("time")))
    with FlowFolder(tmp_path) as folder:
        (written,) = folder.commit({"a": [told]}, {})
    assert written.rows == 2


def test_duckdb_and_polars_see_date_and_hour(tmp_path: Path) -> None:
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [flows(*SOME)]}, {})
    pattern = f"{tmp_path}/date=*/hour=*/*.parquet"
    asked = f"from read_parquet('{pattern}', hive_partitioning=true)"
    found = duckdb.connect().execute(f"select distinct date::text, hour::int {asked}")
    assert found.fetchall() == [("2026-11-23", 9)]
    seen = pl.read_parquet(pattern, hive_partitioning=True)
    assert seen.select("date", "hour", "src").unique().height == 2


def test_two_sources_have_files_of_their_own(tmp_path: Path) -> None:
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [flows(SOME[0])], "b": [flows(SOME[1])]}, {})
        assert pl.concat(folder.rows_since("a", 0)).equals(flows(SOME[0]))
        assert pl.concat(folder.rows_since("b", 0)).equals(flows(SOME[1]))
    assert len(files(tmp_path)) == 2


def test_rows_since_a_time_are_those_at_it_and_after(tmp_path: Path) -> None:
    told = flows("0s a/b -> c/d:1", "5s a/b -> c/d:2", "7200s a/b -> c/d:3")
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [told]}, {})
        since = int((START + timedelta(seconds=5)).timestamp()) * 10**9
        assert pl.concat(folder.rows_since("a", since))["dst_port"].to_list() == [2, 3]


# When the writer dies


def test_the_state_and_the_files_are_one(tmp_path: Path) -> None:
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [flows(*SOME)]}, {"a": SourceState(position=7)})
        folder.commit({}, {"b": SourceState(position=1)})
    with FlowFolder(tmp_path) as folder:
        assert folder.state.sources == {"a": SourceState(position=7), "b": SourceState(position=1)}


def test_a_death_before_the_state_is_in_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlowFolder(tmp_path) as folder:
        monkeypatch.setattr(folder, "_put", lambda _: os.kill)  # it dies instead
        monkeypatch.setattr(folder, "_settle", lambda: None)
        folder.commit({"a": [flows(*SOME)]}, {"a": SourceState(position=7)})
    assert list(tmp_path.rglob("*.draft"))
    with FlowFolder(tmp_path) as folder:
        assert folder.state.sources == {}
    assert not list(tmp_path.rglob("*.draft"))
    assert files(tmp_path) == []


def test_a_death_after_the_state_is_in_place_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlowFolder(tmp_path) as folder:
        monkeypatch.setattr(folder, "_settle", lambda: None)
        folder.commit({"a": [flows(*SOME)]}, {"a": SourceState(position=7)})
    assert files(tmp_path) == []
    with FlowFolder(tmp_path) as folder:
        assert folder.state.sources["a"].position == 7
    assert read(tmp_path).equals(flows(*SOME))


def test_a_state_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    inside = tmp_path / "flows" / ".collect"
    inside.mkdir(parents=True)
    (inside / "x.parquet.draft").write_bytes(b"PAR1")
    (inside / "state.json").write_text('{"files": ["../x.parquet"]}')
    with FlowFolder(tmp_path / "flows"):
        pass
    assert not list(tmp_path.rglob("x.parquet*"))


def test_a_damaged_state_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".collect").mkdir()
    (tmp_path / ".collect" / "state.json").write_text('{"commit":')
    with pytest.raises(ConfigError, match=r"state\.json cannot be understood"):
        FlowFolder(tmp_path)


def test_a_state_of_another_version_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".collect").mkdir()
    (tmp_path / ".collect" / "state.json").write_text('{"version": 2}')
    with pytest.raises(ConfigError, match="is of version 2, not 1"):
        FlowFolder(tmp_path)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with FlowFolder(tmp_path), pytest.raises(ConfigError, match="is written by another sidelong"):
        FlowFolder(tmp_path)
    with FlowFolder(tmp_path):
        pass


# When there is no room


def test_nothing_is_written_below_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 10**6, 10**6))
    with FlowFolder(tmp_path, free_bytes=10**6) as folder:
        with pytest.raises(NoRoom):
            folder.commit({"a": [flows(*SOME)]}, {})
        assert files(tmp_path) == []
        folder.commit({"a": [flows(*SOME)]}, {}, reserve=False)
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_disk_that_fills_up_leaves_all_as_it_was(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third file to write is the state."""
    really = flow_folder._write
    written = iter(range(1, 9))

    def write(path: Path, content: bytes) -> None:
        if next(written) == fails_at:
            really(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        really(path, content)

    told = flows("0s a/b -> c/d:1", "3600s a/b -> c/d:2")
    with FlowFolder(tmp_path) as folder:
        monkeypatch.setattr(flow_folder, "_write", write)
        with pytest.raises(NoRoom):
            folder.commit({"a": [told]}, {"a": SourceState(position=7)})
        assert files(tmp_path) == []
        assert folder.state.sources == {}
        folder.commit({"a": [told]}, {"a": SourceState(position=7)})
    assert read(tmp_path).equals(told)


def test_another_failure_than_a_full_disk_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, content: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with FlowFolder(tmp_path) as folder:
        monkeypatch.setattr(flow_folder, "_write", write)
        with pytest.raises(OSError, match="Read-only"):
            folder.commit({"a": [flows(*SOME)]}, {})


# What is kept


def test_hours_older_than_wanted_are_deleted(tmp_path: Path) -> None:
    told = flows("0s a/b -> c/d:1", "3600s a/b -> c/d:2", "7200s a/b -> c/d:3")
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [told]}, {})
        assert folder.prune(timedelta(hours=1), datetime(2030, 1, 1, tzinfo=UTC)) == 1
    assert files(tmp_path) == ["date=2026-11-23/hour=10", "date=2026-11-23/hour=11"]
    assert not (tmp_path / "date=2026-11-23" / "hour=09").exists()


def test_a_time_ahead_of_the_clock_deletes_nothing(tmp_path: Path) -> None:
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [flows(*SOME), at(2**63 - 1)]}, {})
        assert folder.prune(timedelta(hours=1), START + timedelta(minutes=5)) == 0


def test_only_what_was_collected_is_deleted(tmp_path: Path) -> None:
    with FlowFolder(tmp_path) as folder:
        folder.commit({"a": [flows("0s a/b -> c/d:1", "9000s a/b -> c/d:2")]}, {})
        theirs = tmp_path / "date=2026-11-23" / "hour=09" / "mine.parquet"
        theirs.write_bytes(b"")
        elsewhere = tmp_path / "2026" / "20261123T090000Z-00000001-00000000-00000000.parquet"
        elsewhere.parent.mkdir()
        elsewhere.write_bytes(b"")
        assert folder.prune(timedelta(hours=1), datetime(2030, 1, 1, tzinfo=UTC)) == 1
    assert theirs.exists()
    assert elsewhere.exists()


def test_no_link_is_followed_to_delete(tmp_path: Path) -> None:
    with FlowFolder(tmp_path / "other") as folder:
        folder.commit({"a": [flows(*SOME)]}, {})
    with FlowFolder(tmp_path / "flows") as folder:
        folder.commit({"a": [flows("90000s a/b -> c/d:1")]}, {})
        (tmp_path / "flows" / "date=2026-11-23").symlink_to(tmp_path / "other" / "date=2026-11-23")
        assert folder.prune(timedelta(hours=1), datetime(2030, 1, 1, tzinfo=UTC)) == 0
    assert len(files(tmp_path / "other")) == 1


# What is told again


def test_what_was_written_twice_is_dropped_twice() -> None:
    one, other = flows(SOME[0]), flows(SOME[1])
    known = KnownRows([one, one, other], 2**62)
    assert known.drop(pl.concat([one, other, one, one])).equals(one)
    assert known.done


def test_rows_that_differ_in_anything_are_new() -> None:
    told = flows(SOME[0]).with_columns(dns_answers=pl.lit(["a", "b"]))
    known = KnownRows([told], 2**62)
    for name, other in (
        ("dns_answers", pl.lit(["a"])),
        ("dns_answers", pl.lit([], pl.List(pl.String))),
        ("dns_answers", pl.lit(None, pl.List(pl.String))),
        ("node", pl.lit("n2")),
        ("lost", pl.lit(0, pl.UInt64)),
        ("bytes", pl.lit(0, pl.UInt64)),
    ):
        assert known.drop(told.with_columns(other.alias(name))).height == 1
    assert known.drop(told).height == 0


def test_beyond_the_time_nothing_is_remembered() -> None:
    told = flows(*SOME)
    known = KnownRows([told], told["time"].to_physical().to_list()[-1])
    assert known.drop(flows("9s a/b -> c/d:1")).height == 1
    assert known.done


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)), st.integers(0, 8))
def test_it_is_the_difference_of_multisets(had: list[int], got: list[int], cut: int) -> None:
    known = KnownRows([at(*had)], 2**62)
    told = at(*got)
    new = pl.concat([known.drop(told[:cut]), known.drop(told[cut:])])
    left = list(had)
    expected = []
    for one in got:
        if one in left:
            left.remove(one)
        else:
            expected.append(one)
    assert new["time"].to_physical().to_list() == expected
