"""Calibration: p-values that keep what they promise, levels that notice when they do not."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidelong.models.adaptive_level import FINE, REFERENCE, AdaptiveLevels
from sidelong.models.budgeted_sums import BudgetedSums
from sidelong.models.calibration import ONE, Calibration, Integers, budget_threshold, pareto_tail
from sidelong.models.evidence import INFO, MICRO

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)


def depths(chance: np.random.Generator, count: int) -> Integers:
    """Depths as forests have them: a bulk, and a tail towards the root."""
    return (2e15 - chance.gamma(3, 1, count) * 1e13).astype(np.int64)


def test_a_p_value_is_one_and_how_many_are_as_strange_over_one_and_how_many_there_are() -> None:
    calibration = Calibration.of(np.array([10, 20, 20, 40]))
    asked = np.array([9, 10, 19, 20, 39, 40, 99])
    p = calibration.p[calibration.steps(asked)]
    assert (p / ONE * 5).round(6).tolist() == [1, 2, 2, 4, 4, 5, 5]


@PROPERTY
@given(
    st.lists(st.integers(0, 10**15), min_size=1, max_size=3_000),
    st.lists(st.integers(-(10**15), 2 * 10**15), min_size=2, max_size=20),
)
def test_a_stranger_window_never_has_the_larger_p_value(known: list[int], asked: list[int]) -> None:
    calibration = Calibration.of(np.array(known))
    steps = calibration.steps(np.sort(asked))
    assert (np.diff(calibration.p[steps]) >= 0).all()
    assert (np.diff(calibration.evidence[steps]) <= 0).all()
    assert (np.diff(calibration.limits) >= 0).all()
    assert 0 < calibration.p[0] <= calibration.p[-1] <= ONE


@pytest.mark.parametrize("count", [120, 1_000, 10_000])
def test_p_values_hold_and_the_exponential_of_evidence_has_mean_one(count: int) -> None:
    chance = np.random.default_rng(count)
    rates, means = [], []
    for _ in range(40):
        calibration = Calibration.of(depths(chance, count))
        steps = calibration.steps(depths(chance, 20_000))
        rates.append([(calibration.p[steps] <= ONE * share).mean() for share in (0.1, 0.01)])
        means.append(np.exp(calibration.evidence[steps] / MICRO).mean())
    tenth, hundredth = np.mean(rates, axis=0)
    assert 0.085 < tenth < 0.105
    assert 0.004 < hundredth < 0.0115
    assert np.mean(means) < 1.02


def test_no_tail_is_trusted_below_a_thousand_windows_and_a_decade_above() -> None:
    chance = np.random.default_rng(3)
    assert Calibration.of(depths(chance, 999)).p[0] == ONE // 1_000
    assert Calibration.of(depths(chance, 4_999)).p[0] == pytest.approx(ONE / 50_000, rel=1e-6)


def test_the_tail_goes_on_as_the_distribution_does() -> None:
    chance = np.random.default_rng(5)
    found = []
    for _ in range(50):
        calibration = Calibration.of(depths(chance, 5_000))
        steps = calibration.steps(depths(chance, 200_000))
        found.append((calibration.p[steps] <= ONE / 25_000).mean())
    assert 0.3 < np.mean(found) * 25_000 < 3


def test_windows_all_alike_have_no_tail() -> None:
    limits, p = pareto_tail(np.full(5_000, 7))
    assert not len(limits)
    assert not len(p)


def widened(p: Integers, cuts: list[int] | None = None) -> Integers:
    """The factor of each of one actor's windows, one after the other."""
    levels = AdaptiveLevels(10)
    rows, time_ns = np.arange(len(p), dtype=np.uint64), np.arange(len(p))
    at = [0, *(cuts or []), len(p)]
    return np.concatenate(
        [
            levels.widen(
                np.full(high - low, 3, np.uint64), rows[low:high], p[low:high], time_ns[low:high]
            )
            for low, high in pairwise(at)
        ]
    )


def test_where_p_values_are_right_hardly_anything_is_widened() -> None:
    p = np.random.default_rng(1).integers(1, ONE, 20_000)
    factors = widened(p)
    assert np.median(factors) < 1.2 * FINE
    assert factors.mean() < 1.5 * FINE


def test_where_one_window_in_ten_is_below_1_percent_widening_brings_it_back_to_one() -> None:
    p = np.random.default_rng(2).integers(1, ONE, 40_000) // 10
    factors = widened(p)
    share = (np.minimum(p // FINE * factors, ONE) <= REFERENCE)[10_000:].mean()
    assert share < 0.013  # nominally a hundredth, and 10 of them without the adaptive level


@PROPERTY
@given(st.lists(st.integers(1, ONE // 20), min_size=3, max_size=60), st.data())
def test_where_windows_are_cut_changes_no_level(p: list[int], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(1, len(p) - 1), max_size=4)))
    assert widened(np.array(p), cuts).tolist() == widened(np.array(p)).tolist()


def test_windows_that_close_together_are_judged_by_the_same_level() -> None:
    levels = AdaptiveLevels(10)
    p = np.array([1, 1, 1, 1])
    rows = np.array([5, 5, 5, 6], np.uint64)
    factors = levels.widen(np.full(4, 3, np.uint64), rows, p, np.zeros(4, np.int64))
    assert factors[:3].tolist() == [FINE] * 3
    assert factors[3] > 2 * FINE


def alarms(evidence: list[int], threshold: int, cuts: list[int] | None = None) -> list[bool]:
    sums = BudgetedSums(10)
    found: list[bool] = []
    at = [0, *(cuts or []), len(evidence)]
    for low, high in pairwise(at):
        count = high - low
        moved = sums.add(
            np.full(count, 9, np.uint64),
            np.array(evidence[low:high], np.int64),
            np.full(count, threshold, np.int64),
            np.zeros(count, np.bool_),
            np.arange(low, high),
        )
        found += moved.alarm.tolist()
    return found


@PROPERTY
@given(
    st.lists(st.integers(-700_000, 5_000_000), max_size=200),
    st.floats(0.01, 100),
    st.floats(1, 1_000),
    st.floats(1, 10**7),
)
def test_a_looser_budget_never_gives_fewer_alarms_at_any_time(
    evidence: list[int], budget: float, looser: float, windows_per_day: float
) -> None:
    strict = budget_threshold(windows_per_day, budget)
    loose = budget_threshold(windows_per_day, budget * looser)
    assert INFO <= loose <= strict
    fewer, more = (np.cumsum(alarms(evidence, threshold)) for threshold in (strict, loose))
    assert (more >= fewer).all()


@PROPERTY
@given(st.lists(st.integers(-700_000, 5_000_000), min_size=2, max_size=60), st.data())
def test_where_a_stream_is_cut_changes_no_alarm(evidence: list[int], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(1, len(evidence) - 1), max_size=4)))
    assert alarms(evidence, INFO, cuts) == alarms(evidence, INFO)


@pytest.mark.parametrize("budget", [5.0, 50.0])
def test_the_budget_of_alarms_a_day_is_kept(budget: float) -> None:
    """Twenty workloads for five days, each calibrated by two days of its own windows."""
    chance = np.random.default_rng(11)
    workloads, per_day, days = 20, 1_440, 5
    p, evidence = np.empty((2, per_day * days, workloads), np.int64)
    for number in range(workloads):
        calibration = Calibration.of(depths(chance, 2 * per_day))
        steps = calibration.steps(depths(chance, per_day * days))
        p[:, number], evidence[:, number] = calibration.p[steps], calibration.evidence[steps]
    rows, keys = np.indices(p.shape, np.uint64).reshape(2, -1)
    time_ns = rows.astype(np.int64)
    factors = AdaptiveLevels(workloads).widen(keys, rows, p.ravel(), time_ns)
    moved = BudgetedSums(workloads).add(
        keys,
        evidence.ravel() - AdaptiveLevels.cost(factors),
        np.full(p.size, budget_threshold(workloads * per_day, budget)),
        np.zeros(p.size, np.bool_),
        time_ns,
    )
    assert moved.alarm.sum() <= budget * days
