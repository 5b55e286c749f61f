"""On Spark the same is found as on one machine, byte for byte. The session is a real one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sidelong import spark_engine
from sidelong.cli import run
from sidelong.features.bounds import Bounds
from sidelong.features.window_frames import fan_in
from sidelong.features.windows import Closed
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.parquet import write_flows
from sidelong.ingest.stream import Stream
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors

SHOP = Path(__file__).parents[1] / "examples" / "shop-incident"
ROWS = "4000"  # of a chunk: the incident is then five of them


def kept(capture: Path, folder: Path, shards: int) -> Path:
    """The flows of a capture as files of several nodes, which overlap in time."""
    flows = pl.concat([batch.flows for batch in merged(open_inputs([str(capture)]))])
    of = pl.int_range(pl.len()) // 50 % shards
    for shard, rows in flows.with_columns(shard=of).group_by("shard"):
        place = folder / "date=2026-11-23" / f"hour={int(str(shard[0])) % 2:02d}"
        place.mkdir(parents=True, exist_ok=True)
        write_flows(
            [rows.drop("shard").sort("time", maintain_order=True)], place / f"{shard[0]}.parquet"
        )
    return folder


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's quiet minutes."""
    capture = SHOP / "train.hubble.jsonl.zst"
    return kept(capture, tmp_path_factory.mktemp("quiet"), 3)


@pytest.fixture(scope="session")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's incident."""
    capture = SHOP / "test.hubble.jsonl.zst"
    return kept(capture, tmp_path_factory.mktemp("incident"), 3)


@pytest.fixture(scope="session")
def baseline(quiet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learnt") / "shop.baseline"
    assert run(["learn", str(quiet), "--baseline", str(folder)]) == 0
    return folder


Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    """What a command prints, and its exit status."""

    def command(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        status = run([str(one) for one in arguments])
        return status, capfd.readouterr().out

    return command


def test_a_replay_on_spark_prints_what_a_replay_prints(
    spark: Any, incident: Path, baseline: Path, said: Said
) -> None:
    alone = said("replay", incident, "--baseline", baseline, "--output", "json")
    there = said(
        *("spark", "replay", incident, "--baseline", baseline, "--output", "json"),
        *("--rows", ROWS, "--partitions", 3),
    )
    assert alone[1].count("\n") > 4
    assert there == alone


def test_the_streams_of_clusters_are_told_apart(
    spark: Any, incident: Path, quiet: Path, tmp_path: Path, said: Said
) -> None:
    flows, to = tmp_path / "flows", tmp_path / "incidents"
    shutil.copytree(incident, flows / "cluster=shop")
    shutil.copytree(quiet, flows / "cluster=quiet")
    status, _ = said("spark", "replay", flows, "--to", to, "--rows", ROWS, "--partitions", 2)
    assert status == 1
    for cluster, folder in (("shop", incident), ("quiet", quiet)):
        _, alone = said("replay", folder, "--output", "json")
        assert (to / f"cluster={cluster}" / "incidents.jsonl").read_text() == alone


def test_where_tables_would_be_full_connections_are_one_part(
    spark: Any, incident: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    alone = said("replay", incident, "--output", "json")
    monkeypatch.setattr(spark_engine, "CONNECTION_CAPACITY", 10)
    steps = []
    monkeypatch.setattr(
        "sidelong.spark_progress.SparkProgress.step", lambda _, what: steps.append(what)
    )
    assert said("spark", "replay", incident, "--output", "json", "--rows", ROWS) == alone
    assert "normalising as one" in steps


def test_a_baseline_learnt_on_spark_is_the_baseline(
    spark: Any, quiet: Path, baseline: Path, tmp_path: Path, said: Said
) -> None:
    folder = tmp_path / "there.baseline"
    arguments = ("--baseline", folder, "--rows", ROWS, "--partitions", 3)
    status, _ = said("spark", "learn", quiet, *arguments)
    assert status == 0
    files = sorted(path.name for path in baseline.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == files
    for name in files:
        if name != "manifest.json":  # says when it was learnt
            assert (folder / name).read_bytes() == (baseline / name).read_bytes(), name


def test_windows_found_on_spark_are_those_of_one_machine(
    spark: Any, incident: Path, tmp_path: Path, said: Said
) -> None:
    status, _ = said("spark", "features", incident, "--to", tmp_path, "--rows", ROWS)
    assert status == 0
    stream, detectors = Stream(), Detectors(Baseline.empty(), bounds=Bounds(), windows=True)
    closed: list[Closed] = []
    for batch in merged(open_inputs([str(incident)])):
        for _, _, tick_ns, pulse, flows in stream.stretches(batch.flows):
            if tick_ns is not None:
                detectors.tidy(tick_ns)
            detectors.observe(flows, pulse)
            closed.append(detectors.closed)
    detectors.finish(stream.rows)
    closed.append(detectors.closed)
    expected = {
        scope: pl.concat([getattr(one, scope) for one in closed]) for scope in Closed._fields
    }
    expected["called"] = fan_in(expected["edge"])
    for scope, windows in expected.items():
        written = [pl.read_parquet(file) for file in (tmp_path / f"scope={scope}").glob("*")]
        found = pl.concat(written).sort("window", "group")
        assert windows.height > 5
        assert found.equals(windows.sort("window", "group")), scope


def test_a_path_that_is_not_there_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["spark", "replay", "/no/such/flows"]) == 3
    assert "/no/such/flows is not there" in capfd.readouterr().err


def test_parquet_of_something_else_is_said(
    spark: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"name": ["a"], "price": [1]}).write_parquet(tmp_path / "shop.parquet")
    assert run(["spark", "replay", str(tmp_path)]) == 3
    assert "holds no flows: its columns are name, price" in capfd.readouterr().err


def test_without_pyspark_the_extra_is_named(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyspark", None)
    assert run(["spark", "replay", str(quiet)]) == 2
    assert "pip install 'sidelong[spark]'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("java", "problem"),
    [
        (None, "Spark needs Java, and there is none"),
        ("echo 'openjdk version \"11.0.2\"' >&2", "Spark needs Java 17 or later, and"),
    ],
)
def test_java_that_will_not_do_is_said(
    java: str | None,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quiet: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if java is not None:
        program = tmp_path / "bin" / "java"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{java}\n")
        program.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr("pyspark.sql.SparkSession.getActiveSession", lambda: None)
    assert run(["spark", "replay", str(quiet)]) == 2
    assert problem in capfd.readouterr().err


def test_a_setting_that_is_none_is_said(quiet: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["spark", "replay", str(quiet), "--conf", "memory=8g"]) == 2
    assert "--conf memory=8g sets nothing of Spark's" in capfd.readouterr().err
