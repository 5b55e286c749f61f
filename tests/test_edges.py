"""When an edge of the communication graph is used for the first time."""

from typing import Final

import numpy as np
import polars as pl
import pytest
from builders import oriented

from sidelong.features.bounds import Bounds
from sidelong.features.edges import Edges, edge_keys, service_keys, with_edge_port
from sidelong.ingest.schema import PROTOCOLS

DAY: Final = 86_400


def edges(*, known: str | None = None, service: str | None = None, most: int = 100) -> Edges:
    """Edges beside a baseline that knows the edge, or only the service, of one row."""
    none = np.empty(0, np.uint64)
    return Edges(
        none if known is None else edge_keys(with_edge_port(oriented(known))),
        none if service is None else service_keys(with_edge_port(oriented(service))),
        Bounds(edges=most),
    )


def first_uses(of: Edges, *told: str) -> list[int]:
    """The rows, by number, that use an edge for the first time."""
    return of.observe(oriented(*told)).filter(~pl.col("again"))["row"].to_list()


def moment_ns(told: str) -> int:
    return int(oriented(told)["time"].to_physical()[0])


def test_an_unknown_service_makes_an_edge_when_it_answers() -> None:
    opened = ["0s a/x -> b/y:80 SYN", "0.1s a/x <- b/y:80 SYN-ACK"]
    assert first_uses(edges(), *opened[:1]) == []
    assert first_uses(edges(), *opened) == [1]


def test_a_known_service_makes_an_edge_on_the_first_record() -> None:
    known = edges(service="0s c/z -> b/y:80")
    assert first_uses(known, "0s a/x -> b/y:80 SYN", "0.1s a/x <- b/y:80 SYN-ACK") == [0]


def test_a_known_service_on_another_port_is_another_service() -> None:
    assert first_uses(edges(service="0s c/z -> b/y:80"), "0s a/x -> b/y:81 SYN") == []


def test_a_denied_attempt_makes_an_edge_at_once() -> None:
    assert first_uses(edges(), "0s a/x -> b/y:80 DENIED") == [0]


def test_a_refused_probe_makes_no_edge() -> None:
    assert first_uses(edges(), "0s a/x -> b/y:80 SYN", "0.1s a/x <- b/y:80 RST") == []


def test_an_icmp_error_makes_no_edge() -> None:
    error = "0.1s a/x <- b/y:53 UNREACHABLE"
    assert first_uses(edges(), "0s a/x -> b/y:53 UDP", error) == []
    assert first_uses(edges(service="0s c/z -> b/y:53"), error) == []


def test_an_http_answer_makes_an_edge() -> None:
    assert first_uses(edges(), "0s a/x <- b/y:80 200 /") == [0]


def test_a_second_use_is_not_new() -> None:
    answers = ["0s a/x <- b/y:80 SYN-ACK", "1s a/x <- b/y:80 SYN-ACK"]
    assert first_uses(edges(), *answers) == [0]


def test_a_second_use_is_not_new_in_a_later_batch_either() -> None:
    held = edges()
    assert first_uses(held, "0s a/x <- b/y:80 SYN-ACK") == [0]
    assert first_uses(held, "1s a/x <- b/y:80 SYN-ACK") == []


def test_an_edge_of_the_baseline_is_not_new() -> None:
    known = edges(known="0s a/x -> b/y:80")
    assert first_uses(known, "0s a/x <- b/y:80 SYN-ACK", "1s a/x -> b/y:80 DENIED") == []


@pytest.mark.parametrize("other", ["a/x <- b/y:81", "a/x <- c/z:80", "c/z <- b/y:80"])
def test_another_port_peer_or_actor_is_another_edge(other: str) -> None:
    known = edges(known="0s a/x -> b/y:80")
    assert first_uses(known, f"0s {other} SYN-ACK") == [0]


def test_the_same_port_over_udp_is_another_edge() -> None:
    known = edges(known="0s a/x -> b/y:53 SYN")
    assert first_uses(known, "0s a/x <- b/y:53 UDP") == [0]


def test_the_way_back_is_another_edge() -> None:
    known = edges(known="0s a/x -> b/y:80")
    assert first_uses(known, "0s b/y <- a/x:80 SYN-ACK") == [0]


def test_dynamic_ports_count_as_one() -> None:
    answers = [
        "0s a/x <- b/y:32767 SYN-ACK",
        "1s a/x <- b/y:32768 SYN-ACK",
        "2s a/x <- b/y:49152 SYN-ACK",
        "3s a/x <- b/y:65535 SYN-ACK",
    ]
    found = edges().observe(oriented(*answers))
    assert found.select("row", "edge_port").rows() == [(0, 32767), (1, 0)]


def test_first_uses_come_in_the_order_of_the_stream() -> None:
    answers = [f"{n}s a/x <- b/y:{port} SYN-ACK" for n, port in enumerate([90, 10, 90, 50, 10])]
    assert first_uses(edges(), *answers) == [0, 1, 3]


def test_an_edge_is_new_again_after_thirty_days_without_use() -> None:
    held = edges()
    first_uses(held, "0s a/x <- b/y:80 SYN-ACK")
    held.tidy(moment_ns(f"{30 * DAY}s a/x -> b/y:80"))
    assert first_uses(held, f"{30 * DAY}s a/x <- b/y:80 SYN-ACK") == []
    held.tidy(moment_ns(f"{60 * DAY}.1s a/x -> b/y:80"))
    assert first_uses(held, f"{60 * DAY + 1}s a/x <- b/y:80 SYN-ACK") == [0]


def test_every_use_prolongs_an_edge() -> None:
    held = edges()
    first_uses(held, "0s a/x <- b/y:80 SYN-ACK", f"{20 * DAY}s a/x <- b/y:80 SYN-ACK")
    held.tidy(moment_ns(f"{45 * DAY}s a/x -> b/y:80"))
    assert first_uses(held, f"{45 * DAY}s a/x <- b/y:80 SYN-ACK") == []


def test_beyond_the_bound_the_longest_unused_edge_is_evicted() -> None:
    held = edges(most=2)
    answers = [f"{n}s a/x <- b/y{n}:80 SYN-ACK" for n in range(3)]
    first_uses(held, *answers)
    held.tidy(moment_ns("10s a/x -> b/y:80"))
    assert held.evicted == 1
    assert first_uses(held, *answers) == [0]


def test_a_restored_memory_knows_its_edges() -> None:
    held = edges()
    first_uses(held, "0s a/x <- b/y:80 SYN-ACK")
    restored = edges()
    restored.restore(held.snapshot())
    assert first_uses(restored, "1s a/x <- b/y:80 SYN-ACK") == []


def test_ping_makes_an_edge_without_a_port() -> None:
    ping = oriented("0s a/x <- b/y UDP").with_columns(protocol=pl.lit("ICMP", PROTOCOLS))
    assert edges().observe(ping)["edge_port"].to_list() == [0]


def test_an_edge_that_stays_in_use_is_told_again_every_day() -> None:
    of = edges()
    rows = oriented(*(f"{n * 3_600}s a/x <- b/y:80 SYN-ACK" for n in range(50)))
    told = pl.concat([of.observe(rows[n : n + 1]) for n in range(50)])
    assert told.select("row", "again").rows() == [(0, False), (24, True), (48, True)]
