"""Cut streams put together again: whatever comes twice is dropped, whatever comes once is not."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidelong.ingest.hubble_overlap import Overlap
from sidelong.ingest.schema import schema_of

SECOND = 1_000_000_000
START = 1_795_425_242 * SECOND

SCHEMA = schema_of(
    {
        "time": pl.Datetime("ns", "UTC"),
        "node": pl.String,
        "uuid": pl.String,
        "src_ip": pl.String,
        "dst_ip": pl.String,
        "src_port": pl.UInt16,
        "dst_port": pl.UInt16,
        "protocol": pl.String,
        "event_type": pl.Int32,
        "sub_type": pl.Int32,
        "tcp_flags": pl.UInt8,
        "lost": pl.UInt64,
    }
)


def rows(*events: tuple[int, int, str], uuid: bool = True) -> pl.DataFrame:
    """Number, time in ns after START, node; as `Decoded.rows` has them."""
    return pl.DataFrame(
        [
            {
                "time": START + at,
                "node": node,
                "uuid": f"{node}-{number}" if uuid else None,
                "src_port": number,
            }
            for number, at, node in events
        ],
        schema=SCHEMA,
    )


def numbers(frame: pl.DataFrame) -> list[int]:
    return frame["src_port"].to_list()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[int, int, str]], list[int]]:
    """Events of some nodes, each node nearly in its order, and where the stream is cut.

    Each node is heard of before the first cut: of a clock nobody knows of nothing can be known.
    """
    skews = {"a": 0, "b": -400 * SECOND, "c": 3_600 * SECOND}
    events = []
    for number in range(draw(st.integers(3, 60))):
        node = draw(st.sampled_from(sorted(skews))) if number >= 3 else "abc"[number]
        late = draw(st.sampled_from([0, 0, 0, SECOND // 2, SECOND]))
        events.append((number, number * SECOND // 5 + skews[node] - late, node))
    return events, draw(st.lists(st.integers(3, len(events)), max_size=4))


@pytest.mark.parametrize("uuid", [True, False], ids=["uuid", "no uuid"])
@settings(max_examples=150, deadline=None)
@given(stream=streams())
def test_wherever_a_stream_is_cut_each_event_comes_once(
    uuid: bool, stream: tuple[list[tuple[int, int, str]], list[int]]
) -> None:
    """A server that has all of it is asked again after each cut, from when we say."""
    events, cuts = stream
    overlap = Overlap(Clock())
    seen: list[int] = []
    for cut in [*sorted(cuts), len(events)]:
        since = overlap.since(START + 60 * SECOND)
        asked = [each for each in events[:cut] if since is None or START + each[1] >= since]
        for half in (asked[: len(asked) // 2], asked[len(asked) // 2 :]):
            seen += numbers(overlap.take(rows(*half, uuid=uuid)))
    assert sorted(seen) == [number for number, _, _ in events]


def test_it_is_taken_up_two_seconds_before_the_end() -> None:
    overlap = Overlap(Clock())
    assert overlap.since(START) is None
    overlap.take(rows((1, 10 * SECOND, "a")))
    assert overlap.since(START + 11 * SECOND) == START + 8 * SECOND


def test_a_clock_that_is_ahead_does_not_move_the_start_beyond_now() -> None:
    overlap = Overlap(Clock())
    overlap.take(rows((1, 3_600 * SECOND, "ahead")))
    assert overlap.since(START) == START - 2 * SECOND


def test_a_node_that_is_behind_is_waited_for_while_it_is_heard_of() -> None:
    clock = Clock()
    overlap = Overlap(clock)
    overlap.take(rows((1, 0, "behind")))
    overlap.take(rows((2, 100 * SECOND, "a")))
    assert overlap.since(START + 100 * SECOND) == START - 2 * SECOND
    clock.now = 61.0
    overlap.take(rows((3, 161 * SECOND, "a")))
    assert overlap.since(START + 161 * SECOND) == START + 159 * SECOND


def test_what_is_older_than_memory_is_known_if_its_node_told_of_later() -> None:
    clock = Clock()
    overlap = Overlap(clock)
    overlap.take(rows((1, 0, "a"), (2, SECOND, "a")))
    clock.now = 20.0
    overlap.take(rows((3, 20 * SECOND, "a")))
    assert numbers(overlap.take(rows((1, 0, "a"), (4, 0, "b"), (5, 21 * SECOND, "a")))) == [4, 5]
    assert overlap.duplicates == 1


def test_a_clock_that_was_set_back_is_believed_after_half_a_minute() -> None:
    clock = Clock()
    overlap = Overlap(clock)
    overlap.take(rows((0, 3_600 * SECOND, "a")))
    heard = []
    for number in range(1, 80):
        clock.now += 1.0
        heard += numbers(overlap.take(rows((number, number * SECOND, "a"))))
    assert heard[0] < 60
    assert heard[-10:] == list(range(70, 80))


def test_an_earlier_process_has_had_all_up_to_its_position() -> None:
    overlap = Overlap(Clock(), START + 5 * SECOND)
    assert overlap.since(START) == START + 5 * SECOND
    events = rows((1, 4 * SECOND, "a"), (2, 5 * SECOND, "a"), (3, 5 * SECOND + 1, "a"))
    assert numbers(overlap.take(events)) == [3]


def test_memory_is_bounded() -> None:
    clock = Clock()
    overlap = Overlap(clock)
    many = pl.concat([rows((1, 0, "a"))] * 100_000).with_columns(
        uuid=pl.int_range(pl.len()).cast(pl.String)
    )
    for batch in range(15):
        overlap.take(many.with_columns(uuid=pl.format("{}-{}", pl.lit(batch), "uuid")))
    assert overlap._remembered <= 1_000_000
    for start in range(0, 12_000, 1_000):
        overlap.take(rows(*((number, 0, f"n{number}") for number in range(start, start + 1_000))))
    assert len(overlap._nodes) <= 10_000
