"""Forests of a baseline: who gets one, what may teach them, how they are kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from forest_builders import windows

from sidelong.errors import ConfigError
from sidelong.features.windows import NOTHING_CLOSED
from sidelong.models.evidence import INFO, NO_EVIDENCE, as_evidence
from sidelong.models.forests import Forests
from sidelong.models.forests_file import read_forests, write_forests
from sidelong.models.forests_learning import learn_scope
from sidelong.models.habits import TROUBLE_SCHEMA
from sidelong.models.window_habits import WindowHabits
from sidelong.models.window_sample import PER_ACTOR, WindowSample

NOBODY = pl.Series("actor", [], dtype=pl.String)
NO_TROUBLE = TROUBLE_SCHEMA.to_frame()


@pytest.fixture(scope="module")
def forests() -> Forests:
    sample = WindowSample()
    sample.add("workload", windows("workload", ["shop/web", "shop/api", "data/db"], 1_100))
    sample.add("workload", windows("workload", ["jobs/nightly"], 60))
    return Forests({"workload": learn_scope("workload", sample.windows("workload"), 4_000.0)})


def test_whoever_was_watched_long_enough_has_a_forest_of_its_own(forests: Forests) -> None:
    groups = forests.scopes["workload"].groups
    mine = {f"workload:{name}" for name in ("shop/web", "shop/api", "data/db")}
    assert groups.keys() == mine | {"cluster", "namespace:shop"}


@pytest.mark.parametrize("busy", ["monitoring/prometheus", "monitoring/agent", "a/b"])
def test_many_windows_of_one_actor_within_minutes_train_and_calibrate(busy: str) -> None:
    """All of them lie in one block, whichever half that goes to."""
    sample = WindowSample()
    others = [f"team{number % 7}/web{number}" for number in range(400)]
    sample.add("edge", windows("edge", [busy] * 1_100 + others, 1))
    found = learn_scope("edge", sample.windows("edge"), 1.0)
    assert f"workload:{busy}" in found.groups


def test_whoever_was_not_is_held_against_the_others(forests: Forests) -> None:
    nightly = forests.scopes["workload"].habit("jobs/nightly")
    assert (nightly.forest, nightly.own) == (0, False)


def test_what_is_read_is_what_was_written(forests: Forests, tmp_path: Path) -> None:
    write_forests(forests, tmp_path)
    again = read_forests(tmp_path)
    rows = windows("workload", ["shop/web", "jobs/nightly", "new/one"], 100, seed=5)
    ours, theirs = (one.scopes["workload"].judge(rows) for one in (forests, again))
    for name in ours._fields:
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert again.description() == forests.description()


def test_no_forest_leaves_no_file(forests: Forests, tmp_path: Path) -> None:
    write_forests(forests, tmp_path)
    write_forests(Forests(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert read_forests(tmp_path) == Forests()


def test_forests_of_other_features_are_refused(forests: Forests, tmp_path: Path) -> None:
    write_forests(forests, tmp_path)
    path = tmp_path / "forests.json"
    document = json.loads(path.read_text())
    ours = document["scopes"]["workload"]["schema"]
    document["scopes"]["workload"]["schema"] = "0123456789abcdef"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=f"features 0123456789abcdef.*computes {ours}"):
        read_forests(tmp_path)


def _out_of_bounds(arrays: dict[str, Any]) -> None:
    arrays["workload/0/feature"] = np.full_like(arrays["workload/0/feature"], 250)


def _unequal(arrays: dict[str, Any]) -> None:
    arrays["workload/0/leaf"] = arrays["workload/0/leaf"][:, :-1]


def _missing(arrays: dict[str, Any]) -> None:
    del arrays["workload/pooled_p"]


def _objects(arrays: dict[str, Any]) -> None:
    arrays["workload/medians"] = np.array([print], dtype=object)


@pytest.mark.parametrize("damage", [_out_of_bounds, _unequal, _missing, _objects])
def test_damaged_forests_are_refused_and_nothing_in_them_is_run(
    forests: Forests, tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    write_forests(forests, tmp_path)
    with np.load(tmp_path / "forests.npz") as file:
        arrays = dict(file)
    damage(arrays)
    np.savez(tmp_path / "forests.npz", **arrays)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_forests(tmp_path)


def test_a_truncated_file_is_refused(forests: Forests, tmp_path: Path) -> None:
    write_forests(forests, tmp_path)
    whole = (tmp_path / "forests.npz").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "forests.npz").write_bytes(whole[:size])
        with pytest.raises(ConfigError, match="cannot be read"):
            read_forests(tmp_path)


def habits(minutes: int, evidence: pl.DataFrame = NO_EVIDENCE) -> WindowHabits:
    gathered = WindowHabits()
    closed = windows("workload", ["shop/web", "shop/api"], minutes)
    gathered.observe(NOTHING_CLOSED._replace(workload=closed), evidence)
    gathered.tidy()
    return gathered


def taught(gathered: WindowHabits, trouble: pl.DataFrame = NO_TROUBLE) -> dict[str, list[int]]:
    """By actor, the minutes that teach."""
    known = pl.Series(["shop/web", "shop/api"])
    rows = gathered.lessons(trouble, known)["workload"]
    start = windows("workload", ["shop/web"], 1)["window"][0]
    minutes = rows.with_columns(minute=(pl.col("window") - start).dt.total_minutes())
    found = minutes.group_by("actor").agg(pl.col("minute").sort())
    return dict(found.iter_rows())


def test_the_first_tenth_of_a_new_actor_does_not_teach() -> None:
    rows = habits(100).lessons(NO_TROUBLE, pl.Series(["shop/api"]))["workload"]
    counts = dict(rows.group_by("actor").len().iter_rows())
    assert counts == {"shop/web": 90, "shop/api": 100}


def test_a_minute_in_which_a_sum_stood_high_does_not_teach_nor_does_what_is_near() -> None:
    at = windows("workload", ["shop/web"], 30)["last"][13:14]
    rows = pl.DataFrame({"actor": ["shop/web"], "level": [INFO], "time": at})
    minutes = taught(habits(30, as_evidence(rows)))
    assert minutes == {"shop/web": [0, 1, 2, *range(24, 30)], "shop/api": list(range(30))}


def test_an_incident_teaches_nothing_of_its_actor() -> None:
    at = windows("workload", ["shop/web"], 10)["last"]
    trouble = pl.DataFrame([("shop/web", at[2], at[5], None)], TROUBLE_SCHEMA, orient="row")
    assert taught(habits(10), trouble) == {
        "shop/web": [0, 1, 6, 7, 8, 9],
        "shop/api": list(range(10)),
    }


def test_windows_that_lost_events_do_not_teach_but_count() -> None:
    sample = WindowSample()
    sample.add("workload", windows("workload", ["shop/web"], 10).with_columns(completeness=0.5))
    assert sample.windows("workload").is_empty()
    assert sample.counted["workload"] == 10


def test_a_sample_is_bounded_and_the_same_however_it_was_fed() -> None:
    rows = windows("workload", ["shop/web", "shop/api"], 3_000)
    once, twice = WindowSample(), WindowSample()
    once.add("workload", rows)
    for at in range(0, rows.height, 700):
        twice.add("workload", rows[at : at + 700])
        twice.tidy()
    kept = once.windows("workload")
    assert kept.equals(twice.windows("workload"))
    assert kept["actor"].value_counts()["count"].to_list() == [PER_ACTOR] * 2
    late = (kept["window"] > rows["window"].median()).mean()
    assert 0.45 < late < 0.55  # type: ignore[operator]
