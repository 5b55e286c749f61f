"""What a run says it has looked at."""

from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from sidelong.ingest.schema import conform
from sidelong.ingest.source import BadRows, Batch
from sidelong.tally import Tally

START: Final = datetime(2026, 11, 23, 2, 18, 7, tzinfo=UTC)


def batch(rows: list[dict[str, object]], bad: BadRows | None = None, read: int = 0) -> Batch:
    schema = pl.Schema(
        {"time": pl.Datetime("us", "UTC"), "src_ip": pl.String(), "lost": pl.UInt64()}
    )
    flows = conform(pl.DataFrame(rows, schema=schema))
    return Batch(flows, position=len(rows), read_bytes=read, bad=bad or BadRows())


def seen(second: int) -> dict[str, object]:
    return {"time": START + timedelta(seconds=second), "src_ip": "10.0.0.1", "lost": None}


def test_flows_and_their_span_are_counted_over_batches() -> None:
    tally = Tally()
    tally.add(batch([seen(60), seen(61)]))
    tally.add(batch([seen(0)]))
    assert str(tally) == "3 flows over 1 min 1 s (2026-11-23 02:18:07Z to 2026-11-23 02:19:08Z)"


def test_a_row_that_reports_a_loss_is_no_flow_and_lowers_completeness() -> None:
    tally = Tally()
    tally.add(batch([seen(0), {"time": START, "src_ip": None, "lost": 3}]))
    assert (tally.flows, tally.lost, tally.completeness) == (1, 3, 0.25)


def test_rows_that_could_not_be_read_lower_completeness() -> None:
    tally = Tally()
    tally.add(batch([seen(0)], BadRows(1, ("line 2: no JSON",))))
    assert (tally.completeness, tally.bad.samples) == (0.5, ("line 2: no JSON",))


def test_a_run_that_read_nothing_is_complete_and_empty() -> None:
    tally = Tally()
    tally.add(batch([]))
    assert (str(tally), tally.completeness) == ("0 flows", 1.0)


def test_how_far_a_source_is_read_never_goes_back() -> None:
    tally = Tally()
    handed_on = list(tally.counted([batch([], read=900), batch([], read=400)]))
    assert (tally.read_bytes, len(handed_on)) == (900, 2)
