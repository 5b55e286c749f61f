"""Running totals and extremes within groups, against the loops they replace."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidelong.features.segments import Integers, Segments

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(-50, 50)), min_size=1, max_size=40)
"""Rows of a group and a value."""


def split(rows: list[tuple[int, int]]) -> tuple[Segments, Integers]:
    """The segments of the rows, and their values in sorted order."""
    segments = Segments.of(np.array([group for group, _ in rows], np.uint64))
    return segments, np.array([value for _, value in rows], np.int64)[segments.order]


def test_rows_keep_their_order_within_a_group() -> None:
    assert Segments.of(np.array([7, 3, 7, 3], np.uint64)).order.tolist() == [1, 3, 0, 2]


def test_the_largest_group_there_can_be_comes_last() -> None:
    assert Segments.of(np.array([2**64 - 1, 0, 1], np.uint64)).order.tolist() == [1, 2, 0]


def test_starts_and_ends_are_the_places_of_first_and_last_rows() -> None:
    segments = Segments.of(np.array([7, 3, 7, 3, 9], np.uint64))
    assert segments.starts.tolist() == [0, 2, 4]
    assert segments.ends.tolist() == [1, 3, 4]
    assert segments.segment.tolist() == [0, 0, 1, 1, 2]


@settings(deadline=None)
@given(ROWS)
def test_a_total_is_that_of_the_rows_of_the_group_so_far(rows: list[tuple[int, int]]) -> None:
    segments, values = split(rows)
    total: dict[int, int] = {}
    expected = []
    for group, value in rows:
        total[group] = total.get(group, 0) + value
        expected.append(total[group])
    assert segments.unsorted(segments.total(values)).tolist() == expected


@pytest.mark.parametrize(("extreme", "choose"), [(np.minimum, min), (np.maximum, max)])
@settings(deadline=None)
@given(rows=ROWS)
def test_an_extreme_is_that_of_the_rows_of_the_group_so_far(
    extreme: np.ufunc, choose: Callable[[int, int], int], rows: list[tuple[int, int]]
) -> None:
    segments, values = split(rows)
    reached: dict[int, int] = {}
    expected = []
    for group, value in rows:
        reached[group] = choose(reached.get(group, value), value)
        expected.append(reached[group])
    assert segments.unsorted(segments.running(extreme, values)).tolist() == expected


def test_an_extreme_reaches_the_end_of_a_long_group() -> None:
    segments = Segments.of(np.zeros(1_000, np.uint64))
    values = np.arange(1_000)
    assert segments.running(np.minimum, values).tolist() == [0] * 1_000


def test_an_extreme_leaves_its_values_as_they_were() -> None:
    segments, values = split([(0, 3), (0, 1), (0, 2)])
    segments.running(np.minimum, values)
    assert values.tolist() == [3, 1, 2]


@settings(deadline=None)
@given(ROWS)
def test_the_previous_value_is_that_of_the_row_before_in_the_group(
    rows: list[tuple[int, int]],
) -> None:
    segments, values = split(rows)
    first = -1_000 - np.arange(len(segments.starts))  # one per group, groups ascending
    last = dict(zip(sorted({group for group, _ in rows}), first.tolist(), strict=True))
    expected = []
    for group, value in rows:
        expected.append(last[group])
        last[group] = value
    assert segments.unsorted(segments.previous(values, first)).tolist() == expected
