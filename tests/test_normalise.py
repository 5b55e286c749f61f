"""The normalise stage as a whole: the order of its steps, its state, its indifference to cuts."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sidelong.ingest.clock import Clock
from sidelong.ingest.normalise import NORMAL_SCHEMA, Normaliser
from sidelong.ingest.podmap import POD_SCHEMA, PodMap
from sidelong.ingest.schema import FLOW_SCHEMA, conform, empty_flows

START = 1_700_000_000_000_000_000
MS = 1_000_000


def flows(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of `FLOW_SCHEMA`; `ms` is the time after the start."""
    timed = [
        {**row, "time": None if row.get("ms") is None else START + row["ms"] * MS} for row in rows
    ]
    physical = {k: pl.Int64() if v.is_temporal() else v for k, v in FLOW_SCHEMA.items()}
    whole = [{k: row.get(k) for k in FLOW_SCHEMA} for row in timed]
    return conform(pl.DataFrame(whole, schema=physical))


def run(
    frame: pl.DataFrame,
    cuts: Iterable[int] = (),
    resume: bool = False,
    pods: PodMap | None = None,
) -> pl.DataFrame:
    """What the engine does with a stream that arrives cut at these rows."""
    clock, normaliser = Clock(), Normaliser(pods)
    found = []
    for low, high in pairwise([0, *sorted(c for c in cuts if c < len(frame)), len(frame)]):
        if resume:
            clock_state, state = clock.snapshot(), normaliser.snapshot()
            clock, normaliser = Clock(), Normaliser(pods)
            clock.restore(clock_state)
            normaliser.restore(state)
        for piece, tick in clock.cut(frame[low:high]):
            if tick is not None:
                normaliser.tidy(tick)
            found.append(normaliser.normalise(piece))
    return pl.concat(found) if found else NORMAL_SCHEMA.to_frame()


def test_the_frame_has_exactly_the_columns_of_its_schema() -> None:
    row = {"ms": 0, "src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "protocol": "TCP"}
    assert run(flows(row)).schema == NORMAL_SCHEMA


def test_no_flows_give_no_flows() -> None:
    assert Clock().cut(empty_flows()) == []
    empty = empty_flows().with_columns(
        pl.lit(None).cast(NORMAL_SCHEMA[c]).alias(c) for c in ("row", "clock", "clock_before")
    )
    assert Normaliser().normalise(empty).schema == NORMAL_SCHEMA


def test_a_dropped_twin_still_tells_who_its_ends_are() -> None:
    event = {"src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "protocol": "TCP", "origin": "hubble"}
    found = run(
        flows({"ms": 0, **event}, {"ms": 1, "src": "shop/a", **event}, {"ms": 500, **event})
    )
    assert found["src"].to_list() == ["ip:10.0.0.1", "shop/a"]


def test_a_report_of_loss_passes_untouched() -> None:
    found = run(
        flows({"ms": 0, "lost": 7, "origin": "hubble"}, {"ms": 1, "lost": 7, "origin": "hubble"})
    )
    assert found["lost"].to_list() == [7, 7]
    assert found.select("src", "dst", "reply").null_count().row(0) == (2, 2, 2)


DNS = {"protocol": "UDP", "dst_port": 53, "dns_name": "a1.evil.example"}


def ask(ms: int, client: str, server: str, **more: Any) -> dict[str, Any]:
    return {"ms": ms, "src_ip": client, "dst_ip": server, "src_port": 40000, **DNS, **more}


def forwarded(*rows: dict[str, Any]) -> list[bool]:
    return run(flows(*rows))["forwarded"].to_list()


def test_a_resolver_that_passes_a_question_on_only_forwards() -> None:
    assert forwarded(ask(0, "10.0.0.1", "10.0.0.53"), ask(1, "10.0.0.53", "8.8.8.8")) == [
        False,
        True,
    ]


def test_an_answer_to_a_resolver_is_forwarded_traffic_too() -> None:
    back = {"ms": 9, "src_ip": "8.8.8.8", "dst_ip": "10.0.0.53", "src_port": 53, "dst_port": 40000}
    rows = (ask(0, "10.0.0.1", "10.0.0.53"), ask(1, "10.0.0.53", "8.8.8.8"), {**DNS, **back})
    assert forwarded(*rows) == [False, True, True]


def test_a_question_asked_of_a_resolver_too_long_ago_is_its_own() -> None:
    rows = [ask(0, "10.0.0.1", "10.0.0.53"), ask(30_000, "10.0.0.53", "8.8.8.8")]
    assert forwarded(*rows) == [False, True]
    rows[1]["ms"] = 30_001
    assert forwarded(*rows) == [False, False]


def test_another_name_is_the_resolvers_own() -> None:
    own = ask(1, "10.0.0.53", "8.8.8.8") | {"dns_name": "b.evil.example"}
    assert forwarded(ask(0, "10.0.0.1", "10.0.0.53"), own) == [False, False]


def test_a_resolver_with_two_addresses_is_one_resolver() -> None:
    dns = "kube-system/coredns"
    assert forwarded(
        ask(0, "10.0.0.1", "10.0.0.53", dst=dns), ask(1, "10.0.9.9", "8.8.8.8", src=dns)
    ) == [False, True]


def test_two_outside_hosts_of_one_network_are_not_one_resolver() -> None:
    assert forwarded(ask(0, "10.0.0.1", "8.8.8.8"), ask(1, "8.8.4.4", "1.1.1.1")) == [False, False]


def test_asking_oneself_excuses_nobody() -> None:
    assert forwarded(ask(0, "10.0.0.1", "10.0.0.1"), ask(1, "10.0.0.1", "8.8.8.8")) == [
        False,
        False,
    ]


def test_a_state_of_another_version_is_refused() -> None:
    state = Normaliser().snapshot()
    del state["twins"]["time"]
    with pytest.raises(Exception, match="this version keeps"):
        Normaliser().restore(state)


def test_a_snapshot_does_not_follow_the_stage() -> None:
    normaliser = Normaliser()
    [(piece, _)] = Clock().cut(flows(ask(0, "10.0.0.1", "10.0.0.53", src="a/b", origin="hubble")))
    before = normaliser.snapshot()
    normaliser.normalise(piece)
    assert before["identities"]["addresses"]["facts"].is_empty()
    assert not len(before["orientation"]["key"])


def test_the_shop_is_named_by_its_map(data: Any) -> None:
    pods = PodMap.read(data / "cluster-lab" / "pods.json")
    found = run(flows(ask(0, "10.244.1.10", "10.244.0.53")), pods=pods)
    assert found.select("src", "src_pod", "dst", "dst_pod").row(0) == (
        "shop/frontend",
        "shop/frontend-a",
        "kube-system/coredns",
        "kube-system/kube-dns",
    )


HOLDERS = PodMap(
    pl.DataFrame(
        {
            "ip": ["10.0.0.3", "10.0.0.3"],
            "name": ["m/old", "m/new"],
            "namespace": ["m", "m"],
            "workload": ["old", "new"],
            "pod": ["m/old-1", "m/new-1"],
            "since": [None, START + 25_000 * MS],
            "until": [START + 15_000 * MS, None],
        },
        schema={**POD_SCHEMA, "since": pl.Int64(), "until": pl.Int64()},
    )
)


def rarely(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([None] * 3 + list(values))


ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "203.0.113.7", "2001:db8::9", "127.0.0.1"]
NAMES = ["shop/a", "shop/b", "reserved:host", "reserved:world", "ip:10.0.0.1"]
PODS = ["shop/a-7d9f8c6b5-x2x4z", "shop/db-0", "m/new-1"]
PRINCIPALS = ["spiffe://td/ns/shop/sa/cart", "spiffe://td/vm"]
STEP = st.sampled_from([0, 1, 60, 99, 101, 4_000, 9_999, 31_000, -70, -5_000, 3_700_000, 10**10])

event: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "step": st.one_of(st.none(), STEP, STEP),
        "src_ip": st.sampled_from(ADDRESSES),
        "dst_ip": st.sampled_from(ADDRESSES),
        "src_port": st.sampled_from([53, 8080, 40000, None]),
        "dst_port": st.sampled_from([53, 8080, 40000]),
        "protocol": st.sampled_from(["TCP", "TCP", "UDP", "ICMP", None]),
        "src": rarely(*NAMES),
        "dst": rarely(*NAMES),
        "src_pod": rarely(*PODS),
        "dst_pod": rarely(*PODS),
        "src_principal": rarely(*PRINCIPALS),
        "reply": rarely(True, False),
        "verdict": rarely("DROPPED"),
        "tcp_flags": st.sampled_from([None, 0, 1, 2, 4, 16, 18, 41]),
        "dns_name": rarely("x.example", "y.example"),
        "dns_answers": rarely(["203.0.113.7", "10.0.0.2"], []),
        "origin": st.sampled_from(["hubble", "pcap"]),
        "lost": st.sampled_from([None] * 9 + [1]),
    }
)


@st.composite
def streams(draw: st.DrawFn) -> pl.DataFrame:
    """A stream of few actors, now and then repeating an event exactly, as twins do."""
    rows: list[dict[str, Any]] = []
    now = 0
    for row in draw(st.lists(event, min_size=1, max_size=16)):
        chosen = rows[-1] if rows and draw(st.integers(0, 3)) == 0 else row
        step = row["step"]
        if step is not None and step < 10**9:
            now += step
        ms = None if step is None else now + (step if step >= 10**9 else 0)
        if chosen["lost"]:
            chosen = {"lost": 1, "origin": "hubble"}
        rows.append({"lost": None, **chosen, "ms": ms})
    return flows(*rows)


EVERYWHERE = frozenset(range(1, 16))


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(streams(), st.sets(st.integers(1, 15)) | st.just(EVERYWHERE), st.booleans(), st.booleans())
def test_cutting_and_resuming_a_stream_anywhere_changes_nothing(
    frame: pl.DataFrame, cuts: Iterable[int], resume: bool, mapped: bool
) -> None:
    pods = HOLDERS if mapped else None
    whole = run(frame, pods=pods)
    assert_frame_equal(run(frame, cuts, resume, pods), whole)


@settings(max_examples=50, deadline=None)
@given(streams())
def test_every_row_with_addresses_ends_with_names_and_a_direction(frame: pl.DataFrame) -> None:
    found = run(frame).filter(pl.col("src_ip").is_not_null())
    assert found.select("src", "dst", "reply", "forwarded").null_count().row(0) == (0, 0, 0, 0)
