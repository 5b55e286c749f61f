"""The isolation forest as arrays: scikit-learn's scores, at a price that a stream can pay."""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidelong.models.forest import DEPTH_SCALE, Rows, mean_depth
from sidelong.models.forest_training import as_forest, grown, medians, train


def tables() -> dict[str, Rows]:
    chance = np.random.default_rng(1)
    counts = chance.poisson(1.0, size=(2_000, 10))
    sizes = chance.lognormal(9, 4, size=(2_000, 1))
    told = {
        "normal": chance.normal(size=(3_000, 24)),
        "duplicates": np.repeat(chance.integers(0, 3, size=(20, 6)), 50, axis=0),
        "constant": np.ones((300, 4)),
        "few": chance.exponential(size=(7, 3)),
        "two": chance.normal(size=(2, 3)),
        "one": chance.normal(size=(1, 3)),
        "counts and sizes": np.hstack([counts, np.zeros((2_000, 1)), sizes]),
    }
    return {name: rows.astype(np.float32) for name, rows in told.items()}


@pytest.mark.parametrize("name", list(tables()))
@pytest.mark.parametrize("trees", [100, 200])
def test_the_scores_are_those_of_scikit_learn(name: str, trees: int) -> None:
    rows = tables()[name]
    theirs = grown(rows, trees=trees, seed=3)
    chance = np.random.default_rng(2)
    others = chance.normal(size=(500, rows.shape[1])).astype(np.float32)
    asked = np.concatenate([rows, rows * 3, others])
    ours = as_forest(theirs).scores(asked)
    np.testing.assert_allclose(ours, -theirs.score_samples(asked), rtol=0, atol=1e-12)


def test_columns_cut_by_their_logarithm_score_as_their_logarithms_would() -> None:
    chance = np.random.default_rng(4)
    rows = chance.lognormal(8, 3, size=(2_000, 6)).round().astype(np.float32)
    skewed = np.array([True, False, True, False, True, False])
    logs = np.where(skewed, np.log1p(rows.astype(np.float64)), rows)
    theirs = grown(logs, trees=100, seed=5)
    ours = train(rows, skewed, seed=5).scores(rows)
    np.testing.assert_allclose(ours, -theirs.score_samples(logs), rtol=0, atol=1e-12)


def test_training_twice_gives_the_same_forest() -> None:
    rows = np.random.default_rng(6).normal(size=(1_000, 8)).astype(np.float32)
    one, other = train(rows), train(rows)
    assert one.feature.tobytes() == other.feature.tobytes()
    assert one.threshold.tobytes() == other.threshold.tobytes()
    assert one.leaf.tobytes() == other.leaf.tobytes()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 999), max_size=5))
def test_a_row_has_the_same_depth_alone_and_among_others(cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(ROWS)]
    pieces = [FOREST.depths(ROWS[low:high]) for low, high in pairwise(at)]
    assert np.concatenate(pieces).tobytes() == WHOLE.tobytes()


ROWS = np.random.default_rng(7).normal(size=(1_000, 8)).astype(np.float32)
FOREST = train(ROWS)
WHOLE = FOREST.depths(ROWS)


def test_scores_spread_more_over_rows_than_over_seeds() -> None:
    chance = np.random.default_rng(8)
    rows = np.concatenate(
        [chance.normal(size=(4_000, 24)), chance.normal(2, 2, size=(200, 24))]
    ).astype(np.float32)
    scores = np.array([train(rows, seed=seed).scores(rows) for seed in range(5)])
    over_rows, over_seeds = scores.mean(axis=0).std(), scores.std(axis=0).mean()
    assert over_rows > 2 * over_seeds  # 0.0247 and 0.0087 where this was written


def test_what_stands_apart_scores_above_all_others() -> None:
    apart = np.full((1, 8), 9, np.float32)
    assert FOREST.scores(apart)[0] > FOREST.scores(ROWS).max()


def test_the_median_of_a_column_is_of_what_is_known() -> None:
    nan = np.nan
    rows = np.array([[1, nan, nan], [3, 7, nan], [nan, 9, nan]], np.float32)
    assert medians(rows).tolist() == [2, 8, 0]


def test_mean_depth_is_that_of_a_search_among_so_many() -> None:
    n = np.arange(10, 200)
    harmonic = np.array([np.sum(1 / np.arange(1, one)) for one in n])
    exact = 2 * harmonic - 2 * (n - 1) / n
    assert abs(mean_depth(n) - exact).max() < 0.12  # Euler's constant for the rest of the series
    assert mean_depth(np.array([0, 1, 2])).tolist() == [0, 0, 1]
    assert DEPTH_SCALE * 200 * 20 < 2**63


def test_one_row_takes_less_than_a_tenth_of_a_millisecond_and_a_second_holds_100_000() -> None:
    rows = np.random.default_rng(9).normal(size=(20_000, 24)).astype(np.float32)
    forest = train(rows)
    alone, batch = rows[:1], rows[:10_000]
    forest.depths(alone)
    assert min(_seconds(lambda: forest.depths(alone), 200) for _ in range(5)) < 100e-6
    assert 10_000 / min(_seconds(lambda: forest.depths(batch), 1) for _ in range(5)) > 100_000


def _seconds(act: Callable[[], object], times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - begun) / times
