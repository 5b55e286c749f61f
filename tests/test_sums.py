"""One-sided sums: the recursion they stand for, time that leaks away, and how they end."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import cuts

from sidelong.features.segments import Integers, Segments
from sidelong.features.sums import OneSidedSums, one_sided

SECOND = 1_000_000_000
DAY = 86_400 * SECOND


class Charge(NamedTuple):
    """What one row does to the sum of its group."""

    group: int
    charge: int
    leak: int
    gap_ms: int = 0


CHARGES = st.lists(
    st.builds(
        Charge,
        group=st.integers(0, 3),
        charge=st.integers(0, 20),
        leak=st.integers(0, 20),
        gap_ms=st.sampled_from([-500_000, 0, 1, 400_000, 3_600_000, 200_000_000]),
    ),
    min_size=1,
    max_size=40,
)


def sums(
    *, threshold: int = 100, leak_per_day: int = 0, capacity: int = 100, ttl_ns: int = DAY
) -> OneSidedSums:
    return OneSidedSums(
        threshold=threshold,
        silence_ns=600 * SECOND,
        leak_per_day=leak_per_day,
        capacity=capacity,
        ttl_ns=ttl_ns,
    )


def integers(values: Sequence[int]) -> Integers:
    return np.array(values, np.int64)


def times(rows: list[Charge]) -> Integers:
    return 1_000 * DAY + np.cumsum(integers([row.gap_ms for row in rows])) * 1_000_000


def added(to: OneSidedSums, rows: list[Charge], at_ns: Integers) -> list[int]:
    """The level after each row."""
    levels: list[int] = to.add(
        np.array([row.group for row in rows], np.uint64),
        integers([row.charge for row in rows]),
        integers([row.leak for row in rows]),
        at_ns,
    ).tolist()
    return levels


def charged(to: OneSidedSums, group: int, charge: int, *, second: float = 0, leak: int = 0) -> int:
    """The level of a group after one more row."""
    return added(to, [Charge(group, charge, leak)], integers([round(second * SECOND)]))[0]


def level(of: OneSidedSums, group: int) -> int:
    return int(of.levels(np.array([group], np.uint64))[0])


@settings(deadline=None)
@given(CHARGES, st.lists(st.integers(0, 30), min_size=4, max_size=4))
def test_a_sum_is_its_recursion(rows: list[Charge], carried: list[int]) -> None:
    levels = dict(enumerate(carried))
    expected = []
    for row in rows:
        levels[row.group] = max(0, levels[row.group] - row.leak) + row.charge
        expected.append(levels[row.group])

    segments = Segments.of(np.array([row.group for row in rows], np.uint64))
    found = one_sided(
        segments,
        integers([row.charge for row in rows])[segments.order],
        integers([row.leak for row in rows])[segments.order],
        integers([carried[row.group] for row in rows])[segments.order],
    )
    assert segments.unsorted(found).tolist() == expected


@settings(deadline=None)
@given(CHARGES)
def test_a_bucket_loses_what_its_group_leaked_since_the_latest_row(rows: list[Charge]) -> None:
    a_day, per_day = 86_400_000, 240
    levels: dict[int, int] = {}
    latest: dict[int, int] = {}
    expected = []
    for row, time_ns in zip(rows, times(rows).tolist(), strict=True):
        now: int = time_ns // 1_000_000
        before = latest.get(row.group, now)
        latest[row.group] = max(before, now)
        leak = row.leak + min(latest[row.group] - before, a_day) * per_day // a_day
        levels[row.group] = max(0, levels.get(row.group, 0) - leak) + row.charge
        expected.append(levels[row.group])
    assert added(sums(leak_per_day=per_day), rows, times(rows)) == expected


@settings(deadline=None)
@given(st.data())
def test_a_bucket_does_not_depend_on_where_its_rows_are_cut(data: st.DataObject) -> None:
    rows = data.draw(CHARGES)
    at = [0, *data.draw(cuts(len(rows))), len(rows)]
    at_ns = times(rows)
    whole = added(sums(leak_per_day=240), rows, at_ns)
    bucket = sums(leak_per_day=240)
    found = []
    for low, high in pairwise(at):
        found += added(bucket, rows[low:high], at_ns[low:high])
    assert found == whole


def test_a_bucket_leaks_from_the_last_row_of_the_batch_before() -> None:
    bucket = sums(leak_per_day=86_400)
    added(bucket, [Charge(1, 50, 0), Charge(1, 50, 0)], integers([0, 10 * SECOND]))
    assert charged(bucket, 1, 0, second=20) == 80


def test_a_day_takes_a_days_leak_from_a_bucket() -> None:
    bucket = sums(leak_per_day=40)
    charged(bucket, 1, 100)
    assert charged(bucket, 1, 0, second=43_200) == 80
    assert charged(bucket, 1, 0, second=86_400) == 60


def test_a_bucket_leaks_no_more_than_it_holds() -> None:
    bucket = sums(leak_per_day=1_000)
    charged(bucket, 1, 5)
    assert charged(bucket, 1, 3, second=86_400) == 3


def test_a_silence_takes_no_more_than_a_day_does() -> None:
    bucket = sums(leak_per_day=40)
    charged(bucket, 1, 100)
    assert charged(bucket, 1, 0, second=3 * 86_400) == 60


def test_time_that_runs_backwards_leaks_nothing() -> None:
    bucket = sums(leak_per_day=86_400)
    charged(bucket, 1, 50, second=100)
    assert charged(bucket, 1, 0, second=90) == 50
    assert charged(bucket, 1, 0, second=101) == 49


def test_the_greatest_leak_for_a_day_fits_its_integers() -> None:
    bucket = sums(leak_per_day=99_999_999_999)
    charged(bucket, 1, 100_000_000_000)
    assert charged(bucket, 1, 0, second=86_400) == 1


def test_no_rows_have_no_levels() -> None:
    assert added(sums(), [], integers([])) == []


def test_a_group_without_a_sum_stands_at_zero() -> None:
    assert level(sums(), 1) == 0


def test_an_alarm_starts_again_at_zero_once_it_was_silent() -> None:
    held = sums(threshold=100)
    charged(held, 1, 100)
    held.tidy(600 * SECOND)
    assert level(held, 1) == 0


def test_an_alarm_keeps_its_level_until_the_silence_is_over() -> None:
    held = sums(threshold=100)
    charged(held, 1, 100)
    held.tidy(600 * SECOND - 1)
    assert level(held, 1) == 100


def test_a_sum_below_the_threshold_outlives_the_silence() -> None:
    held = sums(threshold=100)
    charged(held, 1, 99)
    held.tidy(600 * SECOND)
    assert level(held, 1) == 99


def test_evidence_against_does_not_put_off_the_end_of_an_alarm() -> None:
    held = sums(threshold=100)
    charged(held, 1, 150)
    charged(held, 1, 0, leak=10, second=599)
    held.tidy(600 * SECOND)
    assert level(held, 1) == 0


def test_a_charge_puts_off_the_end_of_an_alarm() -> None:
    held = sums(threshold=100)
    charged(held, 1, 150)
    charged(held, 1, 1, second=599)
    held.tidy(600 * SECOND)
    assert level(held, 1) == 151


def test_a_sum_is_forgotten_when_its_last_charge_is_older_than_its_ttl() -> None:
    held = sums(ttl_ns=3_600 * SECOND)
    charged(held, 1, 50)
    charged(held, 1, 0, second=3_000)
    held.tidy(3_600 * SECOND)
    assert level(held, 1) == 50
    held.tidy(3_600 * SECOND + 1)
    assert level(held, 1) == 0


def test_beyond_capacity_the_sum_longest_without_a_charge_is_evicted() -> None:
    held = sums(capacity=2)
    for group in (1, 2, 3):
        charged(held, group, 10, second=group)
    charged(held, 1, 10, second=4)
    held.tidy(5 * SECOND)
    assert [level(held, group) for group in (1, 2, 3)] == [20, 0, 10]
    assert held.evicted == 1


def test_a_restored_sum_goes_on_from_its_level_and_its_time() -> None:
    held = sums(leak_per_day=86_400)
    charged(held, 1, 50, second=10)
    restored = sums(leak_per_day=86_400)
    restored.restore(held.snapshot())
    assert charged(restored, 1, 5, second=30) == 35
