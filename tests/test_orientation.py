"""Which way a row travels."""

from typing import Any

import polars as pl
import pytest

from sidelong.ingest.clock import Clock
from sidelong.ingest.orientation import Orientation
from sidelong.ingest.schema import TCP_FLAGS, conform

SYN, ACK, RST, FIN, PSH, URG = (TCP_FLAGS[f] for f in ("SYN", "ACK", "RST", "FIN", "PSH", "URG"))
CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 8080)


def row(src: tuple[str | None, int | None], dst: tuple[str | None, int | None], **more: Any) -> Any:
    """A TCP row between two ends, one second after the one before."""
    ends = {"src_ip": src[0], "src_port": src[1], "dst_ip": dst[0], "dst_port": dst[1]}
    return {"protocol": "TCP", **ends, **more}


def there(**more: Any) -> Any:
    return row(CLIENT, SERVER, **more)


def back(**more: Any) -> Any:
    return row(SERVER, CLIENT, **more)


def replies(*rows: dict[str, Any]) -> list[bool | None]:
    columns = {name for r in rows for name in r}
    frame = pl.DataFrame([{c: r.get(c) for c in columns} for r in rows], infer_schema_length=None)
    seconds = pl.Series(range(len(rows)), dtype=pl.Int64) * 10**9
    orientation, found = Orientation(), list[bool | None]()
    for piece, tick in Clock().cut(conform(frame.with_columns(time=seconds))):
        if tick is not None:
            orientation.tidy(tick)
        found += orientation.orient(piece)["reply"].to_list()
    return found


def test_a_syn_comes_from_the_client_whatever_the_source_says() -> None:
    assert replies(there(tcp_flags=SYN, reply=True)) == [False]


def test_a_syn_with_ack_is_a_reply_whatever_the_source_says() -> None:
    assert replies(back(tcp_flags=SYN | ACK, reply=False)) == [True]


def test_a_syn_settles_the_rows_after_it_against_the_ports() -> None:
    opened = row(SERVER, CLIENT, tcp_flags=SYN)
    assert replies(opened, there(tcp_flags=ACK), back(tcp_flags=ACK)) == [False, True, False]


def test_a_syn_with_ack_names_its_receiver_the_client() -> None:
    odd = row(CLIENT, SERVER, tcp_flags=SYN | ACK)
    assert replies(odd, back(tcp_flags=ACK)) == [True, False]


def test_a_new_syn_on_the_same_ports_turns_the_connection_round() -> None:
    assert replies(
        there(tcp_flags=SYN), back(tcp_flags=ACK), back(tcp_flags=SYN), there(tcp_flags=ACK)
    ) == [False, True, False, True]


def test_the_sources_word_holds_and_is_remembered() -> None:
    assert replies(there(reply=True), back(), there()) == [True, False, True]


def test_a_dropped_row_of_an_unknown_connection_comes_from_the_client() -> None:
    assert replies(back(verdict="DROPPED")) == [False]


def test_a_dropped_row_of_a_known_connection_goes_by_the_connection() -> None:
    assert replies(there(tcp_flags=SYN), back(verdict="DROPPED")) == [False, True]


@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_a_bare_reset_answers_something(flags: int) -> None:
    assert replies(row(CLIENT, ("10.0.0.1", 40001), tcp_flags=flags)) == [True]


@pytest.mark.parametrize("flags", [0, FIN, FIN | PSH | URG])
def test_a_stealth_probe_comes_from_the_client_even_from_a_low_port(flags: int) -> None:
    assert replies(row(("10.0.0.9", 53), CLIENT, tcp_flags=flags)) == [False]


@pytest.mark.parametrize(
    ("src", "dst", "reply"),
    [
        (443, 40000, True),
        (40000, 443, False),
        (443, 8080, True),
        (8080, 40000, True),
        (8080, 9090, False),
        (9090, 8080, False),
        (40000, 50000, False),
        (50000, 40000, False),
        (443, 443, False),
        (None, 443, False),
        (None, None, False),
    ],
)
def test_the_side_with_the_port_of_a_service_is_the_server(
    src: int | None, dst: int | None, reply: bool
) -> None:
    assert replies(row(("10.0.0.1", src), ("10.0.0.2", dst))) == [reply]


def test_the_first_row_decides_for_the_rows_after_it() -> None:
    first = row(("10.0.0.1", 9090), ("10.0.0.2", 8080))
    second = row(("10.0.0.2", 8080), ("10.0.0.1", 9090))
    assert replies(first, second, first) == [False, True, False]


def test_protocols_do_not_share_a_connection() -> None:
    udp = row(CLIENT, SERVER) | {"protocol": "UDP"}
    assert replies(there(reply=True), udp) == [True, False]


@pytest.mark.parametrize(("given", "decided"), [(None, False), (True, True), (False, False)])
def test_icmp_is_a_reply_only_when_the_source_says_so(given: bool | None, decided: bool) -> None:
    assert replies(there(reply=given) | {"protocol": "ICMP"}) == [decided]


@pytest.mark.parametrize("given", [None, True])
def test_a_row_without_an_address_keeps_what_it_has(given: bool | None) -> None:
    assert replies(row((None, None), SERVER, reply=given, tcp_flags=SYN)) == [given]


def test_flags_of_another_protocol_mean_nothing() -> None:
    assert replies(back(tcp_flags=SYN) | {"protocol": "UDP"}) == [True]


def test_a_connection_idle_for_more_than_five_minutes_is_forgotten() -> None:
    orientation = Orientation()
    frame = conform(pl.DataFrame([there(reply=True)]).with_columns(time=pl.lit(0)))
    [(piece, _)] = Clock().cut(frame)
    orientation.orient(piece)
    orientation.tidy(300 * 10**9)
    assert len(orientation.snapshot()["key"]) == 1
    orientation.tidy(310 * 10**9)
    assert len(orientation.snapshot()["key"]) == 0
    assert orientation.evicted == 0
