"""The clock of a stream and its ticks."""

from datetime import timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sidelong.ingest.clock import LEAP_NS, QUIET_TICK_NS, TICK_NS, TICK_ROWS, Clock
from sidelong.ingest.schema import conform

START = 1_700_000_000  # seconds, at a tick
HOUR = 3600


def at(*seconds: float | None) -> pl.DataFrame:
    """One flow at each of these seconds after the start."""
    times = [None if s is None else round((START + s) * 1e9) for s in seconds]
    return conform(pl.DataFrame({"time": pl.Series(times, dtype=pl.Int64)}))


def clocks(pieces: list[tuple[pl.DataFrame, int | None]]) -> list[float]:
    """The clock at each row, in seconds after the start."""
    return [
        ns / 1e9 - START for piece, _ in pieces for ns in piece["clock"].to_physical().to_list()
    ]


def test_rows_are_numbered_through_the_stream() -> None:
    clock = Clock()
    pieces = clock.cut(at(0, 1)) + clock.cut(at(2, 15))
    assert [n for piece, _ in pieces for n in piece["row"]] == [0, 1, 2, 3]


def test_the_clock_never_turns_back() -> None:
    assert clocks(Clock().cut(at(5, 3, 6))) == [5, 5, 6]


def test_clock_before_is_the_clock_of_the_row_before() -> None:
    [(piece, _)] = Clock().cut(at(5, 3, 6))
    assert (piece["clock"] - piece["clock_before"]).to_list() == [
        timedelta(0),
        timedelta(0),
        timedelta(seconds=1),
    ]


def test_a_row_without_a_time_takes_the_clock_as_it_stands() -> None:
    assert clocks(Clock().cut(at(5, None, 6))) == [5, 5, 6]


def test_before_any_time_the_clock_stands_at_the_epoch() -> None:
    clock = Clock()
    assert clocks(clock.cut(at(None))) == [-START]
    assert clocks(clock.cut(at(2))) == [2]


def test_the_frame_is_cut_where_a_tick_passes() -> None:
    pieces = Clock().cut(at(1, 9, 10, 11, 45, 310, 311))
    assert [(len(piece), tick) for piece, tick in pieces] == [
        (2, None),
        (3, (START + 10) * 10**9),
        (2, (START + 310) * 10**9),
    ]


def test_a_busy_stream_ticks_at_the_next_ten_seconds() -> None:
    seconds = [1, 11, *([12] * TICK_ROWS), 19, 20, 21]
    ticks = [(piece["row"][0], tick) for piece, tick in Clock().cut(at(*seconds))]
    assert ticks == [
        (0, None),
        (1, (START + 10) * 10**9),
        (TICK_ROWS + 3, (START + 20) * 10**9),
    ]


def test_a_flood_ticks_though_its_clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidelong.ingest.clock.CROWDED_TICK_ROWS", 4)
    clock = Clock()
    ticks = [
        piece["row"][0] for seconds in (3, 8) for piece, t in clock.cut(at(*[1] * seconds)) if t
    ]
    assert ticks == [4, 8]


def test_a_tick_between_two_batches_comes_before_the_second() -> None:
    clock = Clock()
    clock.cut(at(9))
    assert [tick for _, tick in clock.cut(at(10))] == [(START + 10) * 10**9]


def test_one_absurd_time_does_not_move_the_clock() -> None:
    assert clocks(Clock().cut(at(1, 9e8, 2, 3, 9e8, 4))) == [1, 1, 2, 3, 3, 4]


def test_a_real_gap_is_crossed_at_its_second_row() -> None:
    assert clocks(Clock().cut(at(1, 9 * HOUR, 9 * HOUR + 1))) == [1, 1, 9 * HOUR + 1]


def test_an_absurd_time_after_a_gap_counts_only_as_far_as_the_gap() -> None:
    assert clocks(Clock().cut(at(1, 9 * HOUR, 9e8, 9 * HOUR + 1))) == [
        1,
        1,
        9 * HOUR,
        9 * HOUR + 1,
    ]


def test_a_stream_with_hours_between_rows_moves_on_one_row_late() -> None:
    assert clocks(Clock().cut(at(0, 2 * HOUR, 4 * HOUR, 6 * HOUR))) == [0, 0, 2 * HOUR, 4 * HOUR]


def test_late_rows_between_do_not_hold_the_clock_back() -> None:
    late = -5 * HOUR
    assert clocks(Clock().cut(at(0, late, 1, late, HOUR, late, HOUR + 9))) == [
        0, 0, 1, 1, HOUR, HOUR, HOUR + 9,
    ]  # fmt: skip


@pytest.mark.parametrize("time", [2**63 - 1, -(2**63)])
def test_times_at_the_edge_of_the_type_are_survived(time: int) -> None:
    clock = Clock()
    clock.cut(at(0))
    extreme = conform(pl.DataFrame({"time": pl.Series([time], dtype=pl.Int64)}))
    assert clocks(clock.cut(extreme) + clock.cut(at(1))) == [0, 1]


second = st.one_of(
    st.none(),
    st.integers(0, 60),
    st.integers(0, 8).map(lambda n: n * HOUR // 2),
    st.sampled_from([-HOUR * 9, 10**8]),
)


def by_hand(seconds: list[int | None]) -> list[int]:
    """The rule of `Clock`, one row at a time."""
    clock, previous, found = 0, None, []
    for s in seconds:
        if s is not None:
            time = (START + s) * 10**9
            if previous is None or time <= max(clock, previous) + LEAP_NS:
                clock = max(clock, time)
            else:
                clock = max(clock, previous)
            previous = time
        found.append(clock)
    return found


@given(st.lists(second, min_size=1, max_size=30))
def test_the_clock_follows_its_rule_row_by_row(seconds: list[int | None]) -> None:
    pieces = Clock().cut(at(*seconds))
    frame = pl.concat([piece for piece, _ in pieces])
    assert frame["clock"].to_physical().to_list() == by_hand(seconds)
    for piece, tick in pieces:
        spanned = piece["clock"].to_physical() // TICK_NS * TICK_NS
        assert spanned[-1] - spanned[0] < QUIET_TICK_NS
        assert tick is None or tick == piece["clock"].to_physical()[0] // TICK_NS * TICK_NS


@given(st.lists(second, min_size=1, max_size=30), st.sets(st.integers(1, 29)), st.booleans())
def test_cutting_a_stream_changes_neither_clock_nor_ticks(
    seconds: list[int | None], cuts: set[int], resume: bool
) -> None:
    flows = at(*seconds)
    whole = Clock().cut(flows)
    clock = Clock()
    parts: list[tuple[pl.DataFrame, int | None]] = []
    bounds = [0, *sorted(c for c in cuts if c < len(flows)), len(flows)]
    for low, high in pairwise(bounds):
        if resume:
            state = clock.snapshot()
            clock = Clock()
            clock.restore(state)
        parts += clock.cut(flows[low:high])
    assert_frame_equal(pl.concat([p for p, _ in parts]), pl.concat([p for p, _ in whole]))
    assert [(p["row"][0], t) for p, t in parts if t] == [(p["row"][0], t) for p, t in whole if t]
