"""One event reported twice counts once."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidelong.ingest.clock import Clock
from sidelong.ingest.schema import FLOW_SCHEMA, conform
from sidelong.ingest.twins import TWIN_KEY, Twins

MS = 1_000_000
EVENT = {
    "origin": "hubble",
    "src_ip": "10.0.0.1",
    "dst_ip": "10.0.0.2",
    "src_port": 40000,
    "dst_port": 80,
    "protocol": "TCP",
    "verdict": "FORWARDED",
    "tcp_flags": 2,
    "reply": False,
}


def kept(*rows: tuple[float | None, dict[str, Any]]) -> list[float | None]:
    """The times of the rows that stay, in milliseconds."""
    columns = ["time", *{name: None for _, r in rows for name in r}]
    timed = [{**r, "time": None if ms is None else round(ms * MS)} for ms, r in rows]
    frame = conform(
        pl.DataFrame([{c: r.get(c) for c in columns} for r in timed], infer_schema_length=None)
    )
    twins, found = Twins(), list[float | None]()
    for piece, tick in Clock().cut(frame):
        if tick is not None:
            twins.tidy(tick)
        found += [None if t is None else t / MS for t in twins.drop(piece)["time"].to_physical()]
    return found


def test_a_second_report_within_100_ms_goes() -> None:
    assert kept((0, EVENT), (100, EVENT), (100.001, EVENT)) == [0, 100.001]


def test_a_report_that_bears_an_earlier_time_goes_too() -> None:
    assert kept((500, EVENT), (460, EVENT), (399, EVENT)) == [500, 399]


def test_the_distance_is_from_the_last_row_kept_not_from_the_last_row() -> None:
    assert kept(*((ms, EVENT) for ms in range(0, 400, 60))) == [0, 120, 240, 360]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("src_ip", "10.0.0.3"),
        ("dst_port", 81),
        ("protocol", "UDP"),
        ("verdict", "DROPPED"),
        ("tcp_flags", 16),
        ("reply", True),
        ("dns_name", "a.example"),
        ("dns_type", "AAAA"),
        ("dns_rcode", 3),
        ("method", "GET"),
        ("path", "/b"),
        ("status", 404),
    ],
)
def test_events_that_differ_in_what_is_counted_are_no_twins(column: str, value: object) -> None:
    assert kept((0, EVENT), (1, {**EVENT, column: value})) == [0, 1]


def test_a_policy_verdict_and_its_drop_count_once() -> None:
    denied = {**EVENT, "verdict": "DROPPED"}
    rows = (0, {**denied, "policy": "deny-all"}), (1, {**denied, "drop_reason": "POLICY_DENIED"})
    assert kept(*rows) == [0]


def test_reports_of_two_nodes_count_once() -> None:
    assert kept((0, {**EVENT, "node": "a"}), (3, {**EVENT, "node": "b"})) == [0]


@pytest.mark.parametrize("other", [{"origin": "pcap"}, {"origin": None}, {"lost": 3}])
def test_packets_and_reports_of_loss_are_never_touched(other: dict[str, Any]) -> None:
    row = {**EVENT, **other}
    assert kept((0, row), (0, row)) == [0, 0]


def test_rows_without_a_time_are_never_touched() -> None:
    assert kept((None, EVENT), (None, EVENT)) == [None, None]


def test_the_key_names_columns_of_the_schema() -> None:
    assert set(TWIN_KEY) <= set(FLOW_SCHEMA)


def by_hand(rows: list[tuple[int, int]]) -> list[int]:
    last, found = dict[int, int](), []
    for port, ms in rows:
        if port not in last or abs(ms - last[port]) > 100:
            last[port] = ms
            found.append(ms)
    return found


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 900)), min_size=1, max_size=40))
def test_the_rule_holds_for_any_order_of_times(rows: list[tuple[int, int]]) -> None:
    assert kept(*((ms, {**EVENT, "dst_port": port}) for port, ms in rows)) == by_hand(rows)


def test_an_event_is_forgotten_after_a_minute() -> None:
    twins = Twins()
    frame = conform(pl.DataFrame([EVENT]).with_columns(time=pl.lit(0)))
    [(piece, _)] = Clock().cut(frame)
    twins.drop(piece)
    assert len(twins.snapshot()["key"]) == 1
    twins.tidy(70 * 1000 * MS)
    assert len(twins.snapshot()["key"]) == 0
