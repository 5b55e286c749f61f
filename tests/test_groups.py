"""Rows of a batch by key."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sidelong.ingest.groups import Groups, latest
from sidelong.ingest.keys import Keys

FEW = st.lists(st.integers(0, 9), max_size=60)


def keys(*values: int) -> Keys:
    return np.array(values, np.uint64)


@given(FEW)
def test_rows_of_one_key_are_one_group_in_the_order_of_their_first_rows(values: list[int]) -> None:
    groups = Groups(keys(*values))
    distinct = list(dict.fromkeys(values))
    assert groups.of.tolist() == [distinct.index(value) for value in values]
    assert groups.first.tolist() == [values.index(value) for value in distinct]
    assert [values[row] for row in groups.last] == distinct
    assert all(
        value not in values[row + 1 :] for value, row in zip(distinct, groups.last, strict=True)
    )


@given(FEW)
def test_the_order_puts_groups_together_and_keeps_that_of_their_rows(values: list[int]) -> None:
    groups = Groups(keys(*values))
    assert groups.order.tolist() == sorted(range(len(values)), key=lambda row: groups.of[row])


def test_a_million_rows_of_as_many_keys_are_as_many_groups() -> None:
    many = np.random.default_rng(3).permutation(1_000_000).astype(np.uint64) << np.uint64(40)
    groups = Groups(np.concatenate([many, many]))
    assert len(groups) == 1_000_000
    assert (groups.of[1_000_000:] == groups.of[:1_000_000]).all()


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=40))
def test_latest_is_the_last_marked_row_of_the_key(rows: list[tuple[int, bool]]) -> None:
    key = keys(*(k for k, _ in rows))
    marked = np.array([m for _, m in rows], np.bool_)
    expected = [
        max((j for j in range(i + 1) if rows[j] == (rows[i][0], True)), default=-1)
        for i in range(len(rows))
    ]
    assert latest(Groups(key), marked).tolist() == expected
