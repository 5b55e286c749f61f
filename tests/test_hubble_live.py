"""Flows from a Hubble server: what is cut, late, huge or slow costs no flow and doubles none."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import polars as pl
import pytest
from hubble_server import START_NS, HubbleServer, Ring, event, lost, node_status

from sidelong.errors import SourceError
from sidelong.ingest.hubble_channel import HubbleSettings, Target
from sidelong.ingest.hubble_live import HubbleLive, open_hubble
from sidelong.ingest.hubble_pb2 import GetFlowsRequest
from sidelong.ingest.hubble_status import hubble_nodes, hubble_status
from sidelong.ingest.schema import FLOW_SCHEMA, empty_flows
from sidelong.ingest.source import Batch

SECONDS: Final = 20.0
QUICK: Final[dict[str, Any]] = {"batch_milliseconds": 20, "connect_seconds": 1.0}


def settings(**changes: Any) -> HubbleSettings:
    return HubbleSettings(**{**QUICK, **changes})


def finite(url: str, **changes: Any) -> list[Batch]:
    return list(open_hubble(url, settings(follow=False, **changes)).batches())


def ports(batches: list[Batch]) -> list[int]:
    """The numbers of the events, one more than given; null for losses."""
    return pl.concat([empty_flows(), *(batch.flows for batch in batches)])["src_port"].to_list()


def quick(source_url: str, **changes: Any) -> HubbleLive:
    """A source that does not wait before it tries again."""
    target = Target.parse(source_url, settings(**changes))
    return HubbleLive(target, pause=lambda seconds: None)


def follow(source: HubbleLive, until: Callable[[list[Batch]], bool], since: int = 0) -> list[Batch]:
    """Batches until there are enough."""
    deadline = time.monotonic() + SECONDS
    batches: list[Batch] = []
    for batch in source.batches(since):
        batches.append(batch)
        if until(batches):
            break
        assert time.monotonic() < deadline, (ports(batches)[-3:], source.counters())
    return batches


def count(number: int) -> Callable[[list[Batch]], bool]:
    return lambda batches: sum(batch.flows.height for batch in batches) >= number


def test_all_that_is_there_comes_in_order_and_then_it_ends() -> None:
    with HubbleServer(Ring(*map(event, range(300)))) as server:
        batches = finite(server.url, batch_rows=100)
    assert ports(batches) == list(range(1, 301))
    assert all(batch.flows.schema == FLOW_SCHEMA for batch in batches)
    assert batches[-1].position == START_NS + 299 * 1_000_000
    assert max(batch.flows.height for batch in batches) <= 100


def test_what_is_asked_for_is_what_is_set() -> None:
    with HubbleServer(Ring(event(0))) as server:
        url = f"{server.url}?since=2026-11-23T09:00:00Z&last=7"
        finite(url, allow=({"namespace": "shop"},), deny=({"source_port": 53},))
    (request,) = server.requests
    assert (request.follow, request.number, request.first) == (False, 7, False)
    assert request.since.seconds == 1_795_424_400
    assert [list(each.source_pod) for each in request.whitelist] == [["shop/"], []]
    assert [list(each.destination_pod) for each in request.whitelist] == [[], ["shop/"]]
    assert [list(each.source_port) for each in request.blacklist] == [["53"]]
    assert {"time", "node_name", "uuid"} <= set(request.field_mask.paths)


def test_the_first_so_many_are_asked_for_by_number() -> None:
    with HubbleServer(Ring(*map(event, range(30)))) as server:
        assert ports(finite(f"{server.url}?first=7")) == list(range(1, 8))


def cutting(ring: Ring, *after: int) -> Callable[..., Iterator[bytes]]:
    """Serves a ring, and hangs up after so many messages of each call in turn."""
    waiting = list(after)

    def answer(request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        left = waiting.pop(0) if waiting else None
        for content in ring(request, context):
            if left == 0:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            yield content
            left = None if left is None else left - 1

    return answer


@pytest.mark.parametrize("uuid", [True, False], ids=["uuid", "no uuid"])
@pytest.mark.parametrize("after", [(1, 1, 1), (0, 7, 150), (299,), (300,), (50, 50, 50, 50, 50)])
def test_a_cut_stream_is_taken_up_without_loss_or_doubling(
    after: tuple[int, ...], uuid: bool
) -> None:
    ring = Ring(*(event(number, uuid=uuid) for number in range(300)))
    with HubbleServer(cutting(ring, *after)) as server:
        source = quick(server.url, since="2026-01-01T00:00:00Z")
        batches = follow(source, count(300))
        assert ports(batches) == list(range(1, 301))
        assert len(server.requests) == len([each for each in after if each < 300]) + 1
        assert source.counters()["reconnects"] == len(server.requests) - 1


def test_nodes_whose_clocks_differ_lose_nothing_at_a_cut() -> None:
    """One is five minutes behind, one an hour ahead; each in its own order, all interleaved."""
    skew = {"now": 0, "behind": -300, "ahead": 3_600}
    events = [
        event(
            3 * step + turn, at=START_NS + (step * 10 + skew[node] * 1_000) * 1_000_000, node=node
        )
        for step in range(100)
        for turn, node in enumerate(skew)
    ]
    ring = Ring(*events)
    with HubbleServer(cutting(ring, 100, 130)) as server:
        target = Target.parse(server.url, settings(since="2026-01-01T00:00:00Z"))
        source = HubbleLive(target, pause=lambda seconds: None, clock=lambda: START_NS + 10**9)
        batches = follow(source, count(300))
    assert sorted(ports(batches)) == list(range(1, 301))
    assert all(batch.position <= START_NS + 10**9 for batch in batches)


def test_a_late_flow_that_comes_after_a_cut_is_not_taken_for_a_double() -> None:
    first = [event(number) for number in range(100)]
    late = event(500, at=START_NS + 50_500_000)
    ring = Ring(*first, late)
    with HubbleServer(cutting(ring, 100)) as server:
        batches = follow(quick(server.url, since="2026-01-01T00:00:00Z"), count(101))
    assert ports(batches) == [*range(1, 101), 501]


def test_relay_that_asks_a_node_again_by_itself_doubles_nothing() -> None:
    ring = Ring(*map(event, range(50)), *map(event, range(100)))
    with HubbleServer(ring) as server:
        source = quick(server.url, since="2026-01-01T00:00:00Z")
        assert ports(follow(source, count(100))) == list(range(1, 101))
        assert source.counters()["duplicates"] == 50


def test_a_restarted_server_is_found_again() -> None:
    ring = Ring(*map(event, range(100)))
    with HubbleServer(ring) as server:
        port = server.port
        source = quick(server.url, since="2026-01-01T00:00:00Z")
        stream = source.batches()
        seen = [next(stream)]
        while not count(100)(seen):
            seen.append(next(stream))
    ring.add(*map(event, range(100, 200)))
    with HubbleServer(ring, address=f"127.0.0.1:{port}"):
        while not count(200)(seen):
            seen.append(next(stream))
        stream.close()
    assert ports(seen) == list(range(1, 201))


def test_a_source_goes_on_from_its_own_position_and_another_begins_after_it() -> None:
    ring = Ring(*map(event, range(100)))
    with HubbleServer(ring) as server:
        source = quick(server.url, since="2026-01-01T00:00:00Z")
        batches = follow(source, count(100))
        position = batches[-1].position
        late = event(300, at=START_NS + 98_500_000)
        ring.add(late, event(100))
        assert ports(follow(source, count(2), since=position)) == [301, 101]
        assert ports(follow(quick(server.url), count(1), since=position)) == [101]


def test_lost_events_are_rows_and_are_counted() -> None:
    at = START_NS + 5_000_000
    with HubbleServer(Ring(event(0), lost(348, at), event(6), lost(2, at + 1))) as server:
        source = open_hubble(server.url, settings(follow=False))
        flows = pl.concat(batch.flows for batch in source.batches())
    assert flows["lost"].to_list() == [None, 348, None, 2]
    assert source.counters()["lost"] == 350


def test_what_relay_says_of_its_nodes_is_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield node_status("NODE_CONNECTED", "n1", "n2", "n3")
        yield node_status("NODE_UNAVAILABLE", "n4")
        yield node_status("NODE_GONE", "n3")
        yield node_status("NODE_ERROR", "n2", message="no\nroute")
        yield event(0)[1]

    with HubbleServer(answer) as server, caplog.at_level(logging.INFO, "sidelong"):
        source = open_hubble(server.url, settings(follow=False))
        assert ports(list(source.batches())) == [1]
    counters = source.counters()
    assert {name: counters[name] for name in counters if "node" in name} == {
        "nodes_connected": 1,
        "nodes_unavailable": 1,
        "nodes_gone": 1,
        "node_errors": 1,
    }
    assert "nodes error: n2: no?route" in caplog.text
    assert counters["bad"] == 0


def test_messages_that_cannot_be_read_are_counted_and_the_rest_comes() -> None:
    def answer(request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from (event(0)[1], b"\xff\xff", event(1)[1])

    with HubbleServer(answer) as server:
        batches = finite(server.url)
    assert ports(batches) == [1, 2]
    assert [batch.bad.count for batch in batches] == [1]
    assert batches[0].bad.samples == (f"{server.url} at message 1: not protobuf of Hubble",)


def test_the_pause_grows_with_every_failure_and_begins_anew_after_a_success() -> None:
    pauses: list[float] = []
    ring = Ring(event(0))
    with HubbleServer(ring) as server:
        target = Target.parse(
            server.url, settings(since="2026-01-01T00:00:00Z", reconnect_seconds=3.0)
        )
        source = HubbleLive(target, pause=pauses.append, chance=lambda: 1.0)
        stream = source.batches()
        assert next(stream).flows.height == 1
    while len(pauses) < 12:
        next(stream)
    stream.close()
    in_pieces_of_half_a_second = [0.25, 0.5, 0.5, 0.5, *[0.5] * 4, *[0.5] * 4]
    assert pauses[:12] == in_pieces_of_half_a_second
    assert source.counters()["reconnects"] >= 4


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 0.125), (0.5, 0.1875), (1.0, 0.25)])
def test_half_of_the_pause_is_left_to_chance(chance: float, seconds: float) -> None:
    pauses: list[float] = []
    target = Target.parse("hubble://127.0.0.1:1", settings())
    source = HubbleLive(target, pause=pauses.append, chance=lambda: chance)
    next(source.batches())
    assert pauses == [seconds]


def test_an_idle_stream_yields_an_empty_batch_at_least_once_a_second() -> None:
    with HubbleServer(Ring(event(0))) as server:
        stream = open_hubble(server.url, settings()).batches()
        for _ in range(3):
            began = time.monotonic()
            batch = next(stream)
            assert time.monotonic() - began < 1.0
            assert batch.flows.equals(empty_flows())
        stream.close()


def test_a_source_can_be_closed_from_another_thread() -> None:
    with HubbleServer(Ring(event(0))) as server:
        source = open_hubble(server.url, settings(batch_milliseconds=5_000))
        reading = threading.Thread(target=lambda: list(source.batches()))
        reading.start()
        while not server.requests:
            time.sleep(0.01)
        began = time.monotonic()
        source.close()
        source.close()
        reading.join(SECONDS)
        assert time.monotonic() - began < 1.0
    assert not reading.is_alive()


def test_a_source_that_waits_for_its_server_can_be_closed() -> None:
    with HubbleServer(Ring(event(0))) as server:
        source = open_hubble(server.url, settings(last=1, reconnect_seconds=60.0))
        stream = source.batches()
        next(stream)
    reading = threading.Thread(target=lambda: list(stream))
    reading.start()
    while not source.counters()["reconnects"]:
        time.sleep(0.01)
    source.close()
    reading.join(2.0)
    assert not reading.is_alive()


def test_a_reader_that_is_slow_holds_the_server_back() -> None:
    content = event(0, Summary="x" * 20_000)[1]
    sent = 0

    def answer(request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        nonlocal sent
        while sent < 3_000:
            sent += 1
            yield content

    with HubbleServer(answer) as server:
        few = settings(follow=False, batch_rows=10, queue_rows=50, queue_bytes=1 << 20)
        source = open_hubble(server.url, few)
        stream = source.batches()
        next(stream)
        held = -1
        while held != sent:
            held = sent
            time.sleep(0.5)
        assert sent < 2_000
        for _ in stream:
            pass
        assert sent == 3_000
    assert source.counters()["received"] == 3_000


def test_a_message_larger_than_allowed_is_an_error_where_there_is_an_end() -> None:
    with HubbleServer(Ring(event(0, Summary="x" * 100_000))) as server:
        with pytest.raises(SourceError, match="more in one message") as raised:
            finite(server.url, max_message_bytes=50_000)
        assert "max_message_bytes" in raised.value.hint
        assert ports(finite(server.url)) == [1]


def test_a_message_larger_than_allowed_is_passed_by_where_there_is_none() -> None:
    ring = Ring(event(0), event(1, Summary="x" * 100_000), event(2))
    with HubbleServer(ring) as server:
        target = Target.parse(server.url, settings(max_message_bytes=50_000, last=3))
        after = START_NS + 1_500_000
        source = HubbleLive(target, pause=lambda seconds: None, clock=lambda: after)
        assert ports(follow(source, count(2))) == [1, 3]


def refusing(code: grpc.StatusCode, words: str) -> Callable[..., Iterator[bytes]]:
    def answer(request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.abort(code, words)
        yield b""

    return answer


@pytest.mark.parametrize(
    ("code", "words", "told"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "bad \x1b[1mregex", r"refuses .*: bad \?\[1mregex"),
        (grpc.StatusCode.UNKNOWN, "no such filter", "refuses what it is asked: no such filter"),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown service", "is no Hubble: unknown service"),
        (grpc.StatusCode.PERMISSION_DENIED, "not you", "does not let this client in: not you"),
    ],
)
def test_a_server_that_refuses_is_quoted(code: grpc.StatusCode, words: str, told: str) -> None:
    with HubbleServer(refusing(code, words)) as server, pytest.raises(SourceError, match=told):
        follow(quick(server.url), count(1))
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_an_error_after_a_while() -> None:
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"hubble://127\.0\.0\.1:1 cannot be reached") as raised:
        follow(open_hubble("hubble://127.0.0.1:1", settings()), count(1))
    assert time.monotonic() - began < 2.0
    assert raised.value.exit_status == 3


def test_a_socket_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        follow(open_hubble(f"hubble+unix://{tmp_path}/none.sock", settings()), count(1))


def test_an_agent_is_reached_by_its_socket(tmp_path: Path) -> None:
    with HubbleServer(Ring(event(0)), address=f"unix:{tmp_path}/hubble.sock"):
        assert ports(finite(f"hubble+unix://{tmp_path}/hubble.sock")) == [1]


def masked(words: str) -> Callable[..., Iterator[bytes]]:
    """An older server, or Relay before older agents: it knows not all fields of the mask."""

    def answer(request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        if not request.field_mask.paths:
            yield event(0)[1]
        elif words == "relay":
            yield node_status("NODE_ERROR", "n1", message="invalid fieldmask")
            while context.is_active():
                time.sleep(0.01)
        else:
            context.abort(grpc.StatusCode.UNKNOWN, words)

    return answer


@pytest.mark.parametrize("words", ["invalid fieldmask", "relay"])
def test_a_server_that_does_not_know_a_field_is_asked_for_whole_flows(words: str) -> None:
    with HubbleServer(masked(words)) as server:
        assert ports(follow(quick(server.url), count(1))) == [1]


def test_a_mask_of_the_user_is_not_changed() -> None:
    words = "invalid fieldmask: nope"
    with HubbleServer(masked(words)) as server, pytest.raises(SourceError, match=words):
        finite(server.url, field_mask=("time", "nope"))


def test_a_mask_of_the_user_always_asks_for_time_and_node() -> None:
    with HubbleServer(Ring(event(0))) as server:
        finite(server.url, field_mask=("IP",))
        finite(server.url, field_mask=())
    assert [list(each.field_mask.paths) for each in server.requests] == [
        ["IP", "time", "node_name"],
        [],
    ]


def test_a_node_that_failed_is_asked_again_by_a_new_request() -> None:
    now = 0.0

    def answer(request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        if len(server.requests) == 1:
            yield event(0)[1]
            yield node_status("NODE_ERROR", "n2")
            while context.is_active():
                time.sleep(0.01)
        yield event(1)[1]

    with HubbleServer(answer) as server:
        source = HubbleLive(Target.parse(server.url, settings()), monotonic=lambda: now)
        stream = source.batches()
        batches = [next(stream)]
        while not source.counters()["node_errors"]:
            batches.append(next(stream))
        assert len(server.requests) == 1
        now = 16.0
        while not count(2)(batches):
            now += 0.5
            batches.append(next(stream))
        stream.close()
    assert ports(batches) == [1, 2]
    assert server.requests[1].since.seconds < START_NS // 10**9


def test_the_server_says_how_it_is_and_relay_which_nodes_there_are() -> None:
    with HubbleServer(Ring()) as server:
        status = hubble_status(Target.parse(server.url))
        assert (status.version, status.kept, status.seen) == ("cilium v1.19.4", 4_095, 9_000)
        assert (status.connected, status.unavailable, status.missing) == (2, 1, ("n3",))
        nodes = hubble_nodes(Target.parse(server.url))
        assert nodes is not None
        assert [(node.name, node.state) for node in nodes] == [
            ("n1", "connected"),
            ("n3", "unavailable"),
        ]
    with HubbleServer(Ring(), relay=False) as agent:
        assert hubble_nodes(Target.parse(agent.url)) is None
    with pytest.raises(SourceError, match="cannot be reached"):
        hubble_status(Target.parse(agent.url))
