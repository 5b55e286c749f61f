"""The bounded table of state."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidelong.errors import ConfigError
from sidelong.ingest.keys import Keys
from sidelong.ingest.table import Table


def keys(*values: int) -> Keys:
    return np.array(values, np.uint64)


def table(capacity: int = 100, ttl_ns: int | None = None) -> Table:
    return Table({"port": np.uint16}, capacity=capacity, ttl_ns=ttl_ns)


def ports(of: Table, *wanted: int) -> list[int]:
    found: list[int] = of.get("port", of.find(keys(*wanted)), default=0).tolist()
    return found


def test_an_absent_key_is_found_nowhere_and_reads_as_the_default() -> None:
    empty = table()
    assert empty.find(keys(1, 2)).tolist() == [-1, -1]
    assert ports(empty, 1) == [0]


def test_a_key_put_twice_keeps_the_second_values() -> None:
    held = table()
    held.put(keys(9, 3), port=[1, 2], seen=[0, 0])
    held.put(keys(3, 4), port=[5, 6], seen=[1, 1])
    assert len(held) == 3
    assert ports(held, 9, 3, 4, 5) == [1, 5, 6, 0]


def test_a_row_lives_through_its_ttl_and_not_longer() -> None:
    held = table(ttl_ns=10)
    held.put(keys(1, 2), port=[1, 2], seen=[99, 100])
    held.tidy(110)
    assert ports(held, 1, 2) == [0, 2]
    assert held.evicted == 0


def test_beyond_capacity_the_longest_unseen_leave_and_are_counted() -> None:
    held = table(capacity=2)
    held.put(keys(1, 2, 3, 4), port=[1, 2, 3, 4], seen=[8, 5, 5, 9])
    held.tidy(10)
    assert ports(held, 1, 2, 3, 4) == [1, 0, 0, 4]
    assert held.evicted == 2


def test_of_rows_equally_old_the_smaller_key_leaves() -> None:
    held = table(capacity=1)
    held.put(keys(8, 7), port=[8, 7], seen=[5, 5])
    held.tidy(10)
    assert ports(held, 7, 8) == [0, 8]


def test_putting_a_column_the_table_does_not_have_is_an_error() -> None:
    with pytest.raises(TypeError, match="proto"):
        table().put(keys(1), port=[1], seen=[1], proto=[6])


def test_state_of_other_columns_is_refused_with_a_hint() -> None:
    state = Table({"name": np.uint64}, capacity=1, ttl_ns=None).snapshot()
    with pytest.raises(ConfigError, match="start without the saved state"):
        table().restore(state)


def test_a_snapshot_does_not_follow_the_table() -> None:
    held = table()
    held.put(keys(1), port=[1], seen=[1])
    state = held.snapshot()
    held.put(keys(1, 2), port=[7, 7], seen=[2, 2])
    other = table()
    other.restore(state)
    other.put(keys(1), port=[9], seen=[3])
    assert (ports(held, 1, 2), ports(other, 1, 2)) == ([7, 7], [9, 0])
    assert state["port"].tolist() == [1]


row = st.tuples(st.integers(0, 40), st.integers(0, 9999), st.integers(0, 30))


@given(st.lists(st.lists(row, max_size=30, unique_by=lambda r: r[0]), max_size=12))
def test_a_table_answers_as_a_dictionary_does(rounds: list[list[tuple[int, int, int]]]) -> None:
    held, mirror = table(capacity=12, ttl_ns=15), dict[int, tuple[int, int]]()
    for now, rows in enumerate(rounds):
        if rows:
            key, port, seen = zip(*rows, strict=True)
            held.put(keys(*key), port=port, seen=seen)
        mirror |= {key: (port, seen) for key, port, seen in rows}
        if now % 3 == 2:
            held.tidy(now + 20)
            alive = {k: v for k, v in mirror.items() if v[1] >= now + 5}
            newest = sorted(alive, key=lambda k: (alive[k][1], k))[-12:]
            mirror = {k: alive[k] for k in newest}
        if now % 4 == 3:
            state: dict[str, Any] = held.snapshot()
            held = table(capacity=12, ttl_ns=15)
            held.restore(state)
        assert len(held) == len(mirror)
        assert ports(held, *range(41)) == [mirror.get(k, (0, 0))[0] for k in range(41)]


def test_many_small_puts_all_stay_findable() -> None:
    held = table(capacity=10**6)
    order = np.random.default_rng(5).permutation(30_000).astype(np.uint64)
    for part in np.array_split(order, 60):
        held.put(part, port=part.astype(np.uint16), seen=part.astype(np.int64))
    assert len(held) == 30_000
    assert ports(held, *range(30_000)) == list(range(30_000))


def test_what_left_is_not_found_and_may_come_again() -> None:
    held = table(capacity=10_000, ttl_ns=10)
    old, young = np.arange(5_000, dtype=np.uint64), np.arange(5_000, 9_000, dtype=np.uint64)
    held.put(old, port=np.full(5_000, 1), seen=np.full(5_000, 0))
    held.put(young, port=np.full(4_000, 2), seen=np.full(4_000, 20))
    held.tidy(20)
    assert len(held) == 4_000
    assert (held.find(old) < 0).all()
    held.put(old[:10], port=np.full(10, 3), seen=np.full(10, 20))
    assert ports(held, 0, 10, 5_000) == [3, 0, 2]
    assert len(held.snapshot()["key"]) == 4_010
