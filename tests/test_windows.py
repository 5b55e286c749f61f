"""What windows hold, by hand, and when they close."""

from typing import Any, Final

import polars as pl
import pytest
from builders import START, flows, normal

from sidelong.features.catalogue import (
    CATALOGUE,
    DOMAIN_WINDOW,
    EDGE_WINDOW,
    SCOPES,
    WORKLOAD_WINDOW,
    names_of,
)
from sidelong.features.observed import window_features
from sidelong.features.window_frames import fan_in
from sidelong.features.windows import Closed
from sidelong.ingest.clock import Clock
from sidelong.ingest.pulse import Pulse

WEB: Final = "shop/web"
DB: Final = f"{WEB} -> data/db:5432"
BACK: Final = f"{WEB} <- data/db:5432"
DNS: Final = f"{WEB} -> kube-system/coredns:53"
TOLD: Final = f"{WEB} <- kube-system/coredns:53"


def windows(*told: str, **columns: list[Any]) -> Closed:
    """The windows of some flows; columns: values of further columns, flow by flow."""
    frame = flows(*told)
    return window_features(
        normal(
            frame.with_columns(
                pl.Series(name, values, dtype=frame.schema[name])
                for name, values in columns.items()
            )
        )
    )


def lone(frame: pl.DataFrame) -> dict[str, Any]:
    """The features of the only window."""
    assert frame.height == 1, frame
    return frame.row(0, named=True)


# What happens within a minute, the scope of the only window to look at, and its features.
EXAMPLES: Final[dict[str, tuple[str, list[str], dict[str, Any]]]] = {
    "fan-out counts peers, outside ones and ports apart": (
        "workload",
        [
            "0s shop/web -> data/db:5432",
            "1s shop/web -> data/db:6432",
            "2s shop/web -> data/cache:6379",
            "3s shop/web -> world:203.0.0.0/16:443",
        ],
        {"peers": 3, "external_peers": 1, "ports": 4, "events": 4, "attempts": 4},
    ),
    "ports that clients are given are one": (
        "workload",
        ["0s shop/web -> data/db:40000", "1s shop/web -> data/db:40001"],
        {"peers": 1, "ports": 1},
    ),
    "every edge is new to a stream that begins": (
        "workload",
        [f"0s {DB} SYN", f"0.1s {BACK} SYN-ACK", f"0.2s {DNS} QUERY a.example.org"],
        {"new_edges": 1, "new_edge_share": 0.5},
    ),
    "first contacts by how they end": (
        "workload",
        [
            "0s shop/web -> a/answers:80",
            "0.1s shop/web <- a/answers:80 SYN-ACK",
            "0.2s shop/web -> a/refuses:80",
            "0.3s shop/web <- a/refuses:80 RST",
            "0.4s shop/web -> a/denied:80 DENIED",
            "0.5s shop/web -> a/silent:80",
            "5s shop/web -> a/answers:80",
        ],
        {
            "first_contacts": 4,
            "first_answered_share": 0.25,
            "first_refused": 1,
            "first_denied": 1,
            "first_unanswered": 1,
            "refusals": 1,
            "denials": 1,
            "refused_share": 0.2,  # four attempts and a denial
            "denied_share": 0.2,
        },
    ),
    "without a first contact there is no share of them": (
        "edge",
        ["0s data/db <- shop/web:80 DATA"],
        {"first_contacts": 1, "first_answered_share": 1, "refused_share": None},
    ),
    "HTTP answers by their class": (
        "edge",
        [
            *(f"{n}s shop/api -> shop/web:80 ACK" for n in range(2)),
            "2s shop/api <- shop/web:80 200 /",
            "3s shop/api <- shop/web:80 301 /old",
            "4s shop/api <- shop/web:80 403 /admin",
            "5s shop/api <- shop/web:80 404 /users/17",
            "6s shop/api <- shop/web:80 404 /users/18",
            "7s shop/api <- shop/web:80 500 /",
        ],
        {
            "http_responses": 6,
            "http_redirect_share": 1 / 6,
            "http_client_error_share": 3 / 6,
            "http_forbidden_share": 1 / 6,
            "http_server_error_share": 1 / 6,
            "new_paths": 4,  # users are one path
        },
    ),
    "lookups are the questions or the answers, whichever are more": (
        "workload",
        [
            f"0s {DNS} QUERY a.example.org",
            f"0.1s {TOLD} NOERROR a.example.org",
            f"1s {DNS} QUERY b.example.org",
            f"1.1s {TOLD} NXDOMAIN b.example.org",
            f"2s {TOLD} NOERROR www.example.net",
        ],
        {"lookups": 3, "lookup_domains": 2, "lookup_names": 3, "nxdomain_share": 1 / 3},
    ),
    "what search paths make of a name is no lookup": (
        "workload",
        [
            f"0s {TOLD} NXDOMAIN example.org.shop.svc.cluster.local",
            f"1s {TOLD} NXDOMAIN example.org.svc.cluster.local",
            f"2s {TOLD} NOERROR example.org",
        ],
        {"lookups": 1, "nxdomain_share": 0},
    ),
    "services that do not exist": (
        "workload",
        [
            f"0s {TOLD} NXDOMAIN vault.data.svc.cluster.local",
            f"1s {TOLD} NOERROR db.data.svc.cluster.local",
        ],
        {"lookups": 2, "lookup_domains": 0, "lookup_names": 0, "unknown_services": 1},
    ),
    "the looks of names": (
        "domain",
        [
            f"0s {DNS} QUERY ab12.x.example.org",  # 6 bytes, 2 labels, 2 digits, 5 characters
            f"1s {DNS} QUERY aa.example.org",
            f"2s {DNS} QUERY aa.example.org",
        ],
        {
            "lookups": 3,
            "names": 2,
            "distinct_share": 2 / 3,
            "name_length": (6 + 2 + 2) / 3,
            "name_length_max": 6,
            "label_length": 10 / 4,
            "digit_share": 2 / 10,
            "entropy": pytest.approx(2.321928 / 3),  # of five different characters: log2 5
            "rare_type_share": 0,
            "nxdomain_share": None,
            "answer_bytes": None,
        },
    ),
    "seconds in which something happened, and from first to last": (
        "edge",
        [f"{at}s {DB} DATA" for at in (3.0, 3.9, 4.0, 30.5)],
        {"active_seconds": 3, "span": 27.5},
    ),
    "a clock that beats every four seconds": (
        "edge",
        [f"{4 * n}s {DB} SYN" for n in range(12)],
        {"interval": 4, "interval_spread": 0, "periodicity": 1},
    ),
    "a clock that sometimes stops for a while is one nevertheless": (
        "edge",
        [f"{4 * n}s {DB} SYN" for n in range(14) if n not in (3, 4, 9)],
        {"interval": 4, "periodicity": 1},
    ),
    "a page that opens many connections at once begins once": (
        "edge",
        [f"{6 * n + k / 1000}s {DB} SYN" for n in range(8) for k in (0, 3, 5)],
        {"attempts": 24, "interval": 6, "periodicity": 1},
    ),
    "seven beginnings have no rhythm": (
        "edge",
        [f"{4 * n}s {DB} SYN" for n in range(7)],
        {"interval": None, "interval_spread": None, "periodicity": None},
    ),
    "beginnings without a rhythm": (
        "edge",
        [f"{at}s {DB} SYN" for at in (0, 1, 3, 7, 8, 16, 21, 23, 24, 35, 36, 51)],
        # 1 1 1 1 2 2 4 5 8 11 15 between them; five at even seconds, seven at odd ones.
        {"interval": 2, "interval_spread": 2, "periodicity": pytest.approx(2 / 12, abs=1e-6)},
    ),
    "lookups have a rhythm too": (
        "domain",
        [f"{5 * n}s {DNS} QUERY c2.example.org" for n in range(9)],
        {"interval": 5, "periodicity": 1},
    ),
}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_a_window_holds(example: tuple[str, list[str], dict[str, Any]]) -> None:
    scope, told, expected = example
    found = lone(getattr(windows(*told), scope))
    assert {name: found[name] for name in expected} == expected


def test_bytes_and_packets_both_ways() -> None:
    told = (f"0s {DB} DATA", f"1s {BACK} DATA", f"2s {BACK} DATA")
    found = lone(windows(*told, bytes=[100, 300, None], packets=[2, 3, None]).edge)
    assert {name: found[name] for name in names_of("edge")[2:9]} == {
        "bytes_out": 100,
        "bytes_in": 300,
        "bytes_out_share": 0.25,
        "packets_out": 2,
        "packets_in": 3,
        "packet_bytes_out": 50,
        "packet_bytes_in": 100,
    }


def test_what_a_source_cannot_see_is_not_nothing() -> None:
    found = lone(windows(f"0s {DB} DATA").edge)
    assert {found["bytes_out"], found["packets_in"], found["bytes_out_share"]} == {None}


def test_a_row_counts_for_as_many_events_as_it_stands_for() -> None:
    found = lone(windows(f"0s {DB} SYN", f"0s {DB} SYN", count=[5, 0]).edge)
    assert (found["events"], found["attempts"]) == (5, 5)


def test_what_another_observer_adds_is_its_bytes() -> None:
    told = (f"0s {DB} DATA", f"0s {DB} DATA")
    assert lone(windows(*told, count=[1, 0], bytes=[None, 70]).edge)["bytes_out"] == 70


def test_answers_have_a_mean_size() -> None:
    told = (f"0s {TOLD} NOERROR a.example.org", f"1s {TOLD} NOERROR a.example.org")
    found = lone(windows(*told, dns_answer_bytes=[4, 16], dns_type=["A", "TXT"]).domain)
    assert (found["answer_bytes"], found["rare_type_share"]) == (10, 0.5)


def test_a_pod_has_lookups_of_its_own() -> None:
    told = (f"0s {DNS} QUERY a.example.org", f"1s {DNS} QUERY b.example.org")
    closed = windows(*told, src_pod=["web-1", "web-2"])
    assert closed.domain["actor_pod"].sort().to_list() == ["web-1", "web-2"]
    assert lone(closed.workload)["lookup_names"] == 2


def test_what_a_resolver_passes_on_is_not_its_own() -> None:
    rows = normal(flows(f"0s {DNS} QUERY a.example.org")).with_columns(forwarded=True)
    closed = window_features(rows)
    assert closed.domain.is_empty()
    assert lone(closed.workload)["lookups"] == 0


def test_a_window_says_whose_it_is_and_where_it_stood() -> None:
    found = lone(windows(f"0s {DB} SYN", f"1s {DB} SYN", "65s ops/x -> ops/y:1 SYN").edge[:1])
    assert found["window"] == START
    assert (found["actor"], found["peer"], found["edge_port"]) == ("shop/web", "data/db", 5432)
    assert (found["last_row"], found["row"]) == (1, 2)


def test_hours_of_the_week_begin_on_monday() -> None:
    assert START.isoformat() == "2026-11-23T09:00:00+00:00", "a Monday"
    assert lone(windows(f"0s {DB} SYN").workload)["hour_of_week"] == 9


def test_fan_in_counts_who_calls() -> None:
    told = (
        "0s shop/web -> data/db:5432 SYN",
        "0.1s shop/web <- data/db:5432 SYN-ACK",
        "1s shop/api -> data/db:5432 SYN",
        "2s shop/api -> data/db:6432 SYN",
        "2.1s shop/api <- data/db:6432 RST",
        "3s shop/api -> data/db:5432 DENIED",
    )
    found = lone(fan_in(windows(*told).edge))
    expected = {
        "callers": 2,
        "new_callers": 2,
        "events": 6,
        "attempts": 3,
        "refused_share": 0.25,
        "denied_share": 0.25,
        "hour_of_week": 9,
        "completeness": 1,
    }
    assert {name: found[name] for name in expected} == expected


def test_a_window_closes_two_seconds_after_its_end() -> None:
    told = [f"0s {DB} SYN", "61.9s ops/x -> ops/y:1 SYN", "62s ops/x -> ops/y:1 SYN"]
    assert windows(*told).edge["row"].to_list()[0] == 2


def test_what_comes_before_a_window_closes_is_in_it() -> None:
    told = (f"0s {DB} SYN", "61.9s ops/x -> ops/y:1 SYN", f"59s {DB} SYN")
    assert windows(*told).edge.filter(actor=WEB)["events"].to_list() == [2]


def test_what_comes_after_it_closed_is_nowhere() -> None:
    told = (f"0s {DB} SYN", "62s ops/x -> ops/y:1 SYN", f"59s {DB} SYN")
    assert windows(*told).edge.filter(actor=WEB)["events"].to_list() == [1]


def test_silence_that_is_noticed_when_a_window_closes_is_in_it() -> None:
    told = (f"58s {DB} SYN", "70s ops/x -> ops/y:1 SYN")
    found = windows(*told).workload.filter(actor=WEB)
    assert found["first_unanswered"].to_list() == [1]


def test_a_time_that_nobody_believes_is_that_of_the_clock() -> None:
    found = lone(windows(f"0s {DB} SYN", f"90000s {DB} SYN").edge)
    assert (found["window"], found["events"]) == (START, 2)


def test_rhythm_goes_back_over_earlier_windows() -> None:
    found = windows(*(f"{20 * n}s {DB} SYN" for n in range(12))).edge
    assert found["periodicity"].to_list() == [None, None, 1, 1]


def test_rhythm_goes_back_an_hour_at_most() -> None:
    early = (f"{20 * n}s {DB} SYN" for n in range(8))
    steps = (f"{minutes * 60}s ops/x -> ops/y:1 SYN" for minutes in range(3, 70))
    found = windows(*early, *steps, f"4200s {DB} SYN").edge.filter(actor=WEB)
    assert found["interval"].to_list()[-1] is None


def test_completeness_is_that_of_the_minute() -> None:
    told = [
        *(f"{second}s {DB} SYN" for second in range(30)),
        "30s LOST 60",
        *(f"{second}s {DB} SYN" for second in range(31, 70)),
    ]
    rows = normal(flows(*told))
    pieces = [piece for piece, _ in Clock().cut(flows(*told))]
    closed = window_features(rows, Pulse().of(pl.concat(pieces)))
    assert closed.workload["completeness"].to_list() == [pytest.approx(59 / 119, abs=0.01), 1]


def test_every_feature_has_its_column() -> None:
    schemas = {"workload": WORKLOAD_WINDOW, "edge": EDGE_WINDOW, "domain": DOMAIN_WINDOW}
    for scope, schema in schemas.items():
        assert schema.names()[-len(CATALOGUE[scope]) :] == names_of(scope)
        assert getattr(windows(f"0s {DB} SYN"), scope).schema == schema
    assert set(schemas) < set(SCOPES)
