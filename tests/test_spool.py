"""Flows put in the order of time, in memory and on disk."""

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from sidelong.errors import SourceError
from sidelong.ingest.schema import FLOW_SCHEMA, conform
from sidelong.ingest.spool import Spool

BEGAN = datetime(2026, 11, 24, tzinfo=UTC)
ON_DISK, IN_MEMORY = 2, 1_000


def rows(*seconds: int, **columns: list[int | None]) -> pl.DataFrame:
    times = [BEGAN + timedelta(seconds=second) for second in seconds]
    flows = conform(
        pl.DataFrame({"time": times, "src_ip": [str(second) for second in seconds]})
    ).with_columns(
        verdict=pl.lit("DROPPED", FLOW_SCHEMA["verdict"]), dns_answers=["192.0.2.7", "a"]
    )
    return flows.with_columns(
        pl.Series(name, values, dtype=pl.UInt64) for name, values in columns.items()
    )


def ordered(held_rows: int, *parts: pl.DataFrame) -> pl.DataFrame:
    with Spool(held_rows) as spool:
        for part in parts:
            spool.add(part)
        batches = [flows for flows, _ in spool.ordered(2)]
    return pl.concat([FLOW_SCHEMA.to_frame(), *batches])


@pytest.mark.parametrize("held_rows", [ON_DISK, IN_MEMORY])
def test_flows_come_in_the_order_of_time(held_rows: int) -> None:
    flows = ordered(held_rows, rows(5, 1), rows(3), rows(4, 2))
    assert flows["src_ip"].to_list() == ["1", "2", "3", "4", "5"]
    assert flows.schema == FLOW_SCHEMA
    assert flows["verdict"].to_list() == ["DROPPED"] * 5
    assert flows["time"][0] == BEGAN + timedelta(seconds=1)


@pytest.mark.parametrize("held_rows", [ON_DISK, IN_MEMORY])
def test_flows_of_one_time_keep_the_order_they_came_in(held_rows: int) -> None:
    parts = [rows(7).with_columns(src_ip=pl.lit(str(number))) for number in range(9)]
    assert ordered(held_rows, *parts)["src_ip"].to_list() == [str(n) for n in range(9)]


@pytest.mark.parametrize("held_rows", [ON_DISK, IN_MEMORY])
def test_what_another_row_tells_goes_missing(held_rows: int) -> None:
    told = rows(1, 2, 3, tells=[None, 8, None], unless_told=[7, None, 8])
    later = rows(4, 5, tells=[9, None], unless_told=[None, 9])
    assert ordered(held_rows, told, later)["src_ip"].to_list() == ["1", "2", "4"]


def test_few_rows_of_a_run_are_at_hand_and_those_of_one_time_may_be_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidelong.ingest.spool._AT_ONCE", 3)
    seconds = [number * 7 % 13 for number in range(200)]
    parts = [rows(*seconds[at : at + 20]) for at in range(0, 200, 20)]
    flows = ordered(50, *parts)
    assert flows.equals(ordered(IN_MEMORY, *parts))
    assert flows["src_ip"].to_list() == [str(second) for second in sorted(seconds)]


def test_what_is_told_may_be_in_another_run() -> None:
    asking = [rows(second, unless_told=[second], tells=[None]) for second in range(8)]
    telling = [rows(20 + second, tells=[second], unless_told=[None]) for second in (1, 4, 6)]
    assert ordered(ON_DISK, *asking, *telling)["src_ip"].to_list() == [
        *("0", "2", "3", "5", "7"),
        *("21", "24", "26"),
    ]


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ordered(ON_DISK, rows(1, 2), rows(3, 4))
    assert os.listdir(tmp_path) == []


def test_without_room_it_says_where_to_make_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(SourceError, match=r"cannot be sorted in .*missing.*\n.*TMPDIR"):
        ordered(ON_DISK, rows(1, 2), rows(3, 4))
