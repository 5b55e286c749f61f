"""The watermark: in which order evidence counts that needs other actors."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import START_NS, cuts, pieces

from sidelong.alerts.watermark import Watermark
from sidelong.ingest.clock import Clock
from sidelong.ingest.pulse import Pulse
from sidelong.ingest.schema import conform
from sidelong.models.evidence import EVIDENCE_SCHEMA


def stream(*seconds: float) -> pl.DataFrame:
    """One row at each of these moments, with its clock."""
    times = [START_NS + round(second * 1e9) for second in seconds]
    frame = pl.DataFrame({"time": times}).with_columns(
        pl.col("time").cast(pl.Datetime("ns", "UTC"))
    )
    return pl.concat([piece for piece, _ in Clock().cut(conform(frame))])


def passed(watermark: Watermark, rows: pl.DataFrame) -> list[tuple[int, int]]:
    """Which rows' evidence comes out, and at which row; each row brings one piece."""
    evidence = rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in EVIDENCE_SCHEMA.items()
    ).with_columns(sub=pl.lit(1, pl.UInt32))
    released = watermark.pass_on(evidence, Pulse().of(rows))
    return released.select("row", "place").rows()


def test_evidence_comes_out_once_the_clock_is_two_seconds_past_it() -> None:
    assert passed(Watermark(99), stream(0, 1.9)) == []
    assert passed(Watermark(99), stream(0, 1.9, 2)) == [(0, 2)]


def test_it_comes_out_in_the_order_of_event_time() -> None:
    late_by_half_a_second = stream(0, 1, 0.5, 9)
    assert passed(Watermark(99), late_by_half_a_second) == [(0, 3), (2, 3), (1, 3)]


def test_what_comes_later_than_two_seconds_counts_at_the_watermark() -> None:
    # Row 3 speaks of second 1, but the watermark stood at 8 when it came: after row 1, before 2.
    assert passed(Watermark(99), stream(0, 7, 10, 1, 8.5, 20)) == [
        (0, 1),
        (1, 2),
        (3, 5),
        (4, 5),
        (2, 5),
    ]


def test_beyond_its_capacity_the_oldest_go_at_a_tick_and_are_counted() -> None:
    watermark = Watermark(2)
    passed(watermark, stream(0, 0.1, 0.2, 0.3))
    watermark.tidy(0)
    assert watermark.snapshot()["waiting"]["row"].to_list() == [2, 3]
    assert watermark.evicted == 2


moments = st.lists(st.integers(0, 120), min_size=1, max_size=40).map(
    lambda tenths: [tenth / 10 for tenth in tenths]
)


@settings(deadline=None)
@given(st.data())
def test_neither_the_order_nor_the_places_depend_on_the_cuts(data: st.DataObject) -> None:
    rows = stream(*data.draw(moments))
    at = data.draw(cuts(rows.height))
    whole = passed(Watermark(99), rows)
    watermark = Watermark(99)
    cut = [passed(watermark, piece) for piece in pieces(rows, at) if piece.height]
    assert [one for part in cut for one in part] == whole


@settings(deadline=None)
@given(moments)
def test_nothing_is_lost_and_nothing_comes_out_before_its_row(seconds: list[float]) -> None:
    rows = stream(*seconds, 99, 200)
    out = passed(Watermark(99), rows)
    assert sorted(row for row, _ in out) == list(range(len(seconds) + 1))
    assert all(place >= row for row, place in out)
