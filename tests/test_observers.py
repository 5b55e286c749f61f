"""One event, told by several observers, counts once, and each tells what only it can see."""

from typing import Any, Final

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import pieces

from sidelong.ingest.clock import Clock
from sidelong.ingest.observers import EVENT_KEY, Observers
from sidelong.ingest.schema import FLOW_SCHEMA, conform

MS: Final = 1_000_000
SYN: Final = {
    "src_ip": "10.0.0.1",
    "dst_ip": "10.0.0.2",
    "src_port": 40000,
    "dst_port": 80,
    "protocol": "TCP",
    "verdict": "FORWARDED",
    "tcp_flags": 2,
    "reply": False,
}
REQUEST: Final = SYN | {"tcp_flags": None, "l7": "http", "method": "GET", "path": "/cart"}
CLIENT: Final = "spiffe://cluster.local/ns/shop/sa/web"
HUBBLE: Final = {"origin": "hubble"}
OUTBOUND: Final = {"origin": "envoy:outbound", "bytes": 70, "src_principal": CLIENT}
INBOUND: Final = {"origin": "envoy:inbound", "bytes": 70, "src_principal": CLIENT}


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    timed = [{"time": number * MS, **row} for number, row in enumerate(rows)]
    names = dict.fromkeys(name for row in timed for name in row)
    columns = {name: [row.get(name) for row in timed] for name in names}
    return conform(pl.DataFrame(columns, strict=False))


def told(*rows: dict[str, Any], cut: tuple[int, ...] = ()) -> pl.DataFrame:
    observers, clock = Observers(), Clock()
    single = []
    for part in pieces(frame(*rows), list(cut)):
        for piece, tick in clock.cut(part):
            if tick is not None:
                observers.tidy(tick)
            single.append(observers.single(piece))
    return pl.concat(single)


def count(*rows: dict[str, Any]) -> int:
    return int(told(*rows)["count"].sum())


def test_a_connection_seen_by_hubble_and_by_both_proxies_is_one_flow() -> None:
    assert count(SYN | HUBBLE, SYN | OUTBOUND, SYN | INBOUND) == 1


def test_bytes_and_principals_come_from_whoever_has_them() -> None:
    seen = told(SYN | HUBBLE, SYN | OUTBOUND, SYN | INBOUND)
    assert seen["count"].to_list() == [1, 0]
    assert seen["bytes"].to_list() == [None, 70]
    assert seen["src_principal"].to_list() == [None, CLIENT]


def test_a_later_report_that_has_nothing_new_goes() -> None:
    assert told(SYN | OUTBOUND, SYN | INBOUND, SYN | HUBBLE).height == 1


def test_what_stays_of_a_later_report_says_nothing_of_the_event_again() -> None:
    again = told(REQUEST | HUBBLE, REQUEST | OUTBOUND)[1]
    assert again.select("method", "path", "l7", "tcp_flags").row(0) == (None,) * 4
    assert again["bytes"].item() == 70


def test_both_ends_report_of_one_request_counts_once() -> None:
    assert count(REQUEST | OUTBOUND, REQUEST | INBOUND) == 1


def test_alike_requests_count_as_often_as_one_observer_saw_them() -> None:
    sent = [REQUEST | OUTBOUND] * 3
    received = [REQUEST | INBOUND] * 3
    assert count(*sent, *received) == 3
    assert count(*(row for pair in zip(sent, received, strict=True) for row in pair)) == 3


def test_bytes_of_alike_requests_count_as_often_as_they_were_sent() -> None:
    seen = told(*[REQUEST | HUBBLE] * 3, *[REQUEST | OUTBOUND] * 3, *[REQUEST | INBOUND] * 3)
    assert (seen["count"].sum(), seen["bytes"].sum()) == (3, 210)


def test_what_one_observer_missed_the_other_counts() -> None:
    assert count(REQUEST | OUTBOUND, REQUEST | INBOUND, REQUEST | INBOUND) == 2


def test_a_denial_is_never_taken_for_what_others_let_through() -> None:
    denied = SYN | HUBBLE | {"verdict": "DROPPED"}
    assert told(SYN | OUTBOUND, denied)["verdict"].to_list() == ["FORWARDED", "DROPPED"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("src_port", 40001), ("dst_ip", "10.0.0.3"), ("reply", True), ("path", "/b"), ("status", 404)],
)
def test_events_that_differ_are_each_counted(column: str, value: object) -> None:
    assert count(REQUEST | HUBBLE, REQUEST | OUTBOUND | {column: value}) == 2


@pytest.mark.parametrize("row", [SYN | {"tcp_flags": 16}, {"lost": 3}])
def test_segments_and_losses_are_never_touched(row: dict[str, Any]) -> None:
    assert told(row | HUBBLE, row | {"origin": "envoy:outbound"}).height == 2


def test_the_key_names_columns_of_the_schema() -> None:
    assert set(EVENT_KEY) - {"denied"} <= set(FLOW_SCHEMA)


REPORTS = st.lists(
    st.tuples(st.sampled_from([HUBBLE, OUTBOUND, INBOUND]), st.integers(1, 3)),
    min_size=1,
    max_size=30,
)


@given(REPORTS)
def test_each_event_counts_as_often_as_whoever_saw_most_of_it(
    reports: list[tuple[dict[str, Any], int]],
) -> None:
    rows = [REQUEST | observer | {"src_port": port} for observer, port in reports]
    seen = [(observer["origin"], port) for observer, port in reports]
    ports = {port for _, port in reports}
    expected = sum(max(seen.count((o, port)) for o, _ in seen) for port in ports)
    assert count(*rows) == expected


@given(REPORTS, st.lists(st.integers(0, 30), max_size=4).map(sorted))
def test_where_the_stream_is_cut_changes_nothing(
    reports: list[tuple[dict[str, Any], int]], at: list[int]
) -> None:
    rows = [REQUEST | observer | {"src_port": port} for observer, port in reports]
    cut = tuple(min(place, len(rows)) for place in at)
    assert told(*rows, cut=cut).equals(told(*rows))


@given(REPORTS, st.integers(0, 30))
def test_observers_go_on_from_a_snapshot(
    reports: list[tuple[dict[str, Any], int]], cut: int
) -> None:
    rows = [REQUEST | observer | {"src_port": port} for observer, port in reports]
    [(piece, _)] = Clock().cut(frame(*rows))
    first, second, whole = Observers(), Observers(), Observers()
    begun = first.single(piece[:cut])
    second.restore(first.snapshot())
    ended = second.single(piece[cut:])
    assert pl.concat([begun, ended]).equals(whole.single(piece))


def test_an_event_is_forgotten_after_a_minute_of_silence() -> None:
    observers = Observers()
    [(piece, _)] = Clock().cut(frame(SYN | HUBBLE))
    observers.single(piece)
    assert len(observers.snapshot()["told"]["key"]) == 1
    observers.tidy(70_000 * MS)
    assert len(observers.snapshot()["told"]["key"]) == 0
