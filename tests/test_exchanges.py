"""What becomes of a record that tells of a whole request or connection."""

from datetime import UTC, datetime, timedelta

import polars as pl

from sidelong.features.events import ANSWER, DENIAL, PROBE, REFUSAL, event_of
from sidelong.ingest.exchanges import exchange_flows
from sidelong.ingest.schema import FLOW_SCHEMA

BEGAN = datetime(2026, 11, 24, tzinfo=UTC)


def told(**columns: object) -> pl.DataFrame:
    record = {
        "time": BEGAN,
        "end": BEGAN + timedelta(seconds=3),
        "client_ip": "10.0.0.1",
        "client_port": 40_000,
        "server_ip": "10.0.0.2",
        "server_port": 5432,
        "protocol": "TCP",
        "origin": "test",
    }
    return exchange_flows(pl.DataFrame([record | columns]))


def events(flows: pl.DataFrame) -> list[int]:
    return event_of(flows).to_list()


def test_a_connection_is_an_attempt_and_an_answer() -> None:
    flows = told(bytes_sent=10, bytes_received=20)
    assert flows.schema == FLOW_SCHEMA
    assert flows["src_ip"].to_list() == ["10.0.0.1", "10.0.0.2"]
    assert flows["reply"].to_list() == [False, True]
    assert flows["bytes"].to_list() == [10, 20]
    assert events(flows) == [PROBE, ANSWER]


def test_a_long_connection_was_answered_soon() -> None:
    assert told()["time"].to_list() == [BEGAN, BEGAN + timedelta(milliseconds=100)]


def test_a_request_was_answered_when_it_ended() -> None:
    flows = told(l7="http", method="GET", path="/", status=404)
    assert flows["time"].to_list() == [BEGAN, BEGAN + timedelta(seconds=3)]
    assert flows["status"].to_list() == [None, 404]
    assert flows["path"].to_list() == ["/", "/"]


def test_a_request_reached_its_server_over_a_connection_that_stands() -> None:
    flows = told(l7="http", status=200)
    assert flows["tcp_flags"].to_list() == [None, None]
    assert events(flows) == [ANSWER, ANSWER]


def test_a_refused_connection_was_reset() -> None:
    assert events(told(outcome="REFUSED")) == [PROBE, REFUSAL]


def test_an_unanswered_connection_has_no_answer() -> None:
    assert events(told(outcome="UNANSWERED")) == [PROBE]


def test_a_denied_connection_is_a_denial_and_nothing_else() -> None:
    flows = told(outcome="DENIED", policy="shop/only-carts")
    assert events(flows) == [DENIAL]
    assert flows["policy"].to_list() == ["shop/only-carts"]


def test_a_denied_request_is_answered_by_whoever_denies_it() -> None:
    flows = told(outcome="DENIED", l7="http", status=403)
    assert events(flows) == [DENIAL, ANSWER]
    assert flows["status"].to_list() == [None, 403]


def test_flags_that_were_seen_stand() -> None:
    assert told(flags_sent=1, outcome="UNANSWERED")["tcp_flags"].to_list() == [1]


def test_records_keep_their_order() -> None:
    record = {"client_ip": "10.0.0.1", "server_ip": "10.0.0.2", "protocol": "UDP"}
    later = BEGAN + timedelta(seconds=1)
    flows = exchange_flows(pl.DataFrame([record | {"time": later}, record | {"time": BEGAN}]))
    assert flows["time"].to_list() == [later, later, BEGAN, BEGAN]


def test_no_record_is_no_flow() -> None:
    assert exchange_flows(pl.DataFrame({"time": []})).is_empty()
