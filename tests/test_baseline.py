"""The baseline on disk: what is written is what is read, and nothing else is touched."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from builders import flows, learnt, lookups

from sidelong.errors import ConfigError
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import DECLARED_SCHEMA, GUARDED_SCHEMA, TABLES


@pytest.fixture(scope="module")
def ordinary() -> Baseline:
    """A baseline with something in every table."""
    seen = learnt(
        flows(
            "0s shop/web -> data/db:5432 SYN",
            "0.1s shop/web <- data/db:5432 SYN-ACK",
            "0.2s LOST 3",
            "1s shop/web -> ip:10.1.2.3:80 SYN",
        ),
        lookups("shop/web", ["a.example.org", "b.example.org"]),
    )
    allowed = [("shop/web", "data/db", "TCP", 5432, 5432, 3)]
    windows: dict[str, Any] = {
        name: TABLES[name].to_frame().clear(1) for name in TABLES if name.endswith("_windows")
    }
    return replace(
        seen,
        trial=seen.contacts,
        declared=pl.DataFrame(allowed, schema=DECLARED_SCHEMA, orient="row"),
        guarded=pl.DataFrame([("data/db", True, False, "db")], schema=GUARDED_SCHEMA, orient="row"),
        **windows,
    )


@pytest.fixture
def saved(ordinary: Baseline, tmp_path: Path) -> Path:
    ordinary.save(tmp_path / "baseline")
    return tmp_path / "baseline"


def test_what_is_loaded_is_what_was_saved(ordinary: Baseline, saved: Path) -> None:
    loaded = Baseline.load(saved)
    for name in TABLES:
        ours: pl.DataFrame = getattr(ordinary, name)
        assert not ours.is_empty(), name
        assert getattr(loaded, name).equals(ours), name
        assert getattr(loaded, name).schema == ours.schema
    assert loaded.description() == ordinary.description()


def test_a_baseline_of_nothing_can_be_kept_too(tmp_path: Path) -> None:
    Baseline.empty().save(tmp_path)
    assert Baseline.load(tmp_path).description() == Baseline.empty().description()


def test_the_manifest_tells_a_person_what_was_learnt(saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))
    assert manifest == {
        "format": 2,
        "flows": 6,
        "first": "2026-11-23T09:00:00+00:00",
        "last": "2026-11-23T09:00:01+00:00",
        "workloads": 1,
        "edges": 3,
        "domains": 1,
        "completeness": 6 / 9,
    }


def test_only_a_manifest_and_parquet_are_written(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {
        "manifest.json",
        *(f"{name}.parquet" for name in TABLES),
    }
    assert all(path.read_bytes()[:4] == b"PAR1" for path in saved.glob("*.parquet"))


def test_a_baseline_replaces_a_baseline(ordinary: Baseline, saved: Path) -> None:
    Baseline.empty().save(saved)
    ordinary.save(saved)
    assert Baseline.load(saved).description() == ordinary.description()


def test_a_directory_with_something_else_in_it_is_left_alone(
    ordinary: Baseline, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="exists and is not a baseline"):
        ordinary.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_directory_with_a_manifest_of_something_else_is_left_alone(
    ordinary: Baseline, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a browser extension"}')
    with pytest.raises(ConfigError, match="exists and is not a baseline"):
        ordinary.save(tmp_path)
    assert "extension" in (tmp_path / "manifest.json").read_text()


def test_a_file_in_its_place_is_left_alone(ordinary: Baseline, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("dear diary")
    with pytest.raises(ConfigError, match="exists and is not a baseline"):
        ordinary.save(tmp_path / "notes")


def test_an_absent_baseline_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no manifest") as raised:
        Baseline.load(tmp_path / "nowhere")
    assert "sidelong learn" in raised.value.hint


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1, "flows": 6, "completeness": 1.0}',
        '{"format": 2}',
        '{"format": 2, "flows": "many", "completeness": 1.0}',
        '{"format": 2, "flows": 6, "completeness": null}',
    ],
)
def test_a_damaged_manifest_or_one_of_another_format_is_refused(saved: Path, manifest: str) -> None:
    (saved / "manifest.json").write_text(manifest)
    with pytest.raises(ConfigError, match=r"baseline|manifest"):
        Baseline.load(saved)


def test_a_baseline_of_an_older_version_says_how_to_get_a_new_one(saved: Path) -> None:
    (saved / "manifest.json").write_text('{"format": 1, "flows": 6, "completeness": 1.0}')
    with pytest.raises(ConfigError, match="has baseline format 1, but this version reads 2") as one:
        Baseline.load(saved)
    assert "sidelong learn" in one.value.hint


def test_bytes_that_are_no_text_are_refused(saved: Path) -> None:
    (saved / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="manifest"):
        Baseline.load(saved)


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table_is_refused(saved: Path, table: str) -> None:
    (saved / f"{table}.parquet").unlink()
    with pytest.raises(ConfigError, match=table):
        Baseline.load(saved)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x80\x04\x95pickle", b"PAR1" + bytes(400)])
def test_a_damaged_table_is_refused(saved: Path, table: str, content: bytes) -> None:
    (saved / f"{table}.parquet").write_bytes(content)
    with pytest.raises(ConfigError, match=table):
        Baseline.load(saved)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_cut_short_is_refused(saved: Path, table: str) -> None:
    path = saved / f"{table}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=table):
        Baseline.load(saved)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_with_other_columns_is_refused(saved: Path, table: str) -> None:
    pl.DataFrame({"other": [1]}).write_parquet(saved / f"{table}.parquet")
    with pytest.raises(ConfigError, match=table):
        Baseline.load(saved)
