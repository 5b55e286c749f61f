"""The Hubble source against Cilium's own server, Relay and `hubble` command, through real sockets.

What is expected of flows is what our reader of Hubble's JSON makes of the lines that were fed.
"""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlencode

import polars as pl
import pytest
from peers.fixtures_hubble import HubbleTls, issue_hubble_tls
from peers.hubble_lines import hubble_lines, uuid_of
from peers.hubble_peer import Agent, Relay, hubble
from peers.proxy import Proxy
from polars.testing import assert_frame_equal

from sidelong.errors import SourceError
from sidelong.ingest.hubble_channel import Target
from sidelong.ingest.hubble_json import HubbleLines
from sidelong.ingest.hubble_live import HubbleLive, open_hubble
from sidelong.ingest.hubble_settings import HubbleSettings
from sidelong.ingest.hubble_status import hubble_nodes, hubble_status
from sidelong.ingest.line_files import LineFile
from sidelong.ingest.schema import FLOW_SCHEMA, conform, empty_flows

pytestmark = pytest.mark.usefixtures("hubble_program")

LONG_AGO: Final = "2026-01-01T00:00:00Z"
SECONDS: Final = 120.0


def until(done: Callable[[], bool], state: Callable[[], object] = str) -> None:
    """Wait for something that another process or thread does; fail, telling `state`, if long."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, state()
        time.sleep(0.01)


class Reading:
    """A source being read in a thread of its own, until the end of the `with` or its own end."""

    def __init__(self, source: HubbleLive) -> None:
        self.source = source
        self._flows: list[pl.DataFrame] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for batch in self.source.batches():
                assert batch.bad.count == 0, batch.bad.samples
                self._flows.append(batch.flows)
        except BaseException as error:
            self._error = error

    @property
    def batches(self) -> int:
        return len(self._flows)

    @property
    def rows(self) -> int:
        return sum(flows.height for flows in list(self._flows))

    def flows(self) -> pl.DataFrame:
        return pl.concat([empty_flows(), *self._flows])

    def wait(self, done: Callable[[], bool]) -> None:
        """Until `done`, or fail."""

        def ended_or_done() -> bool:
            if self._error:
                raise self._error
            return done()

        until(ended_or_done, lambda: f"{self.rows} rows, {self.source.counters()}")

    def finish(self) -> pl.DataFrame:
        """The flows of a source that ends by itself."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), f"{self.rows} rows, {self.source.counters()}"
        if self._error:
            raise self._error
        return self.flows()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.source.close()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


def read(url: str, **settings: Any) -> pl.DataFrame:
    """What there is now, to its end."""
    with Reading(open_hubble(url, HubbleSettings(follow=False, **settings))) as reading:
        return reading.finish()


def decoded(lines: Sequence[bytes]) -> pl.DataFrame:
    """What our reader of JSON makes of lines."""
    content = b"\n".join(lines)
    source = LineFile("lines", lambda: io.BytesIO(content), None, HubbleLines)
    batches = list(source.batches())
    assert sum(batch.bad.count for batch in batches) == 0, batches
    return pl.concat([empty_flows(), *(batch.flows for batch in batches)])


def in_order(flows: pl.DataFrame) -> pl.DataFrame:
    """The same rows, each as often, in an order that depends on nothing but them."""
    return flows.with_columns(pl.col("dns_answers").list.join(" ")).sort(FLOW_SCHEMA.names())


def assert_same_flows(one: pl.DataFrame, other: pl.DataFrame) -> None:
    assert_frame_equal(in_order(one), in_order(other))


def tls(files: HubbleTls, **changes: Any) -> dict[str, Any]:
    """Settings of a client with a certificate."""
    given = {"ca": str(files.client.ca), "server_name": files.server_name}
    given |= {"cert": str(files.client.cert), "key": str(files.client.key)}
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


LINES: Final = hubble_lines(3_000)


@pytest.fixture(scope="module")
def agent(hubble_program: Path) -> Iterator[Agent]:
    with Agent(ring=4095) as started:
        started.feed(LINES)
        yield started


def test_a_stream_outlasts_five_cuts_and_a_restart_of_the_server(hubble_tls: HubbleTls) -> None:
    lines = hubble_lines(30_000)
    with Agent(tls=hubble_tls.server) as agent, Proxy(agent.address) as proxy:
        proxy.cut_after(*[700_000] * 5)
        settings = HubbleSettings(since=LONG_AGO, **tls(hubble_tls))
        with Reading(open_hubble(f"hubble+tls://{proxy.address}", settings)) as reading:
            agent.feed(lines[:20_000])
            reading.wait(lambda: reading.rows >= 20_000)
            assert proxy.cuts == 5
            agent.kill()
            with Agent(tls=hubble_tls.server) as restarted:
                restarted.feed(lines[15_000:25_000])  # its ring is not empty when it is found
                proxy.target = restarted.address
                restarted.feed(lines[25_000:])
                reading.wait(lambda: reading.rows >= len(lines))
        flows = reading.flows()
    assert flows["lost"].is_null().all()
    assert_same_flows(flows, decoded(lines))


def collecting(url: str, to: Path) -> subprocess.Popen[bytes]:
    command = (
        sys.executable,
        "-m",
        "sidelong",
        "collect",
        url,
        "--to",
        to,
        "--rotate-seconds",
        "1",
    )
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_collect_stores_every_flow_once_through_cuts_and_deaths_on_both_sides(
    hubble_tls: HubbleTls, tmp_path: Path
) -> None:
    lines = hubble_lines(100_000)

    def files() -> list[Path]:
        return sorted(tmp_path.rglob("*.parquet"))

    def rows() -> int:
        return sum(pl.scan_parquet(file).select(pl.len()).collect().item() for file in files())

    def stored(count: int) -> None:
        until(lambda: rows() >= count, lambda: f"{rows()} of {count}, {collect.poll()}")

    with Agent(tls=hubble_tls.server) as agent, Proxy(agent.address) as proxy:
        query = urlencode({"since": LONG_AGO, **tls(hubble_tls)})
        url = f"hubble+tls://{proxy.address}?{query}"
        proxy.cut_after(*[2_000_000] * 5)
        collect = collecting(url, tmp_path)
        try:
            agent.feed(lines[:60_000])
            stored(60_000)
            assert proxy.cuts == 5
            agent.kill()
            with Agent(tls=hubble_tls.server) as restarted:
                restarted.feed(lines[50_000:60_000])
                proxy.target = restarted.address
                restarted.feed(lines[60_000:80_000])
                stored(60_001)
                collect.kill()
                collect.communicate()
                restarted.feed(lines[80_000:])
                collect = collecting(url, tmp_path)
                stored(100_000)
            collect.terminate()
            told, _ = collect.communicate(timeout=SECONDS)
        finally:
            collect.kill()
            collect.communicate()
    assert collect.returncode == 0, told.decode()
    flows = pl.concat(pl.read_parquet(file, hive_partitioning=False) for file in files())
    assert_same_flows(conform(flows), decoded(lines))


def test_what_follow_alone_sees_begins_with_the_newest_flow_there_is() -> None:
    with Agent() as quiet:
        quiet.feed(LINES[:1_000])
        source = open_hubble(f"hubble://{quiet.address}", HubbleSettings())
        with Reading(source) as reading:
            later = iter(LINES[1_000:])
            fed: list[bytes] = []

            def seen() -> bool:
                fed.append(next(later))
                quiet.feed(fed[-1:])
                return reading.rows > 0

            reading.wait(seen)
            rest = list(later)
            quiet.feed(rest)
            reading.wait(lambda: reading.rows > len(rest))
    assert_same_flows(reading.flows(), decoded([*LINES[:1_000], *fed, *rest][-reading.rows :]))


def test_a_server_that_has_just_started_is_heard_from_its_first_flows_on() -> None:
    """Hubble lets those who follow an empty ring wait until all of it was filled."""
    with Agent(ring=4095) as agent:
        source = open_hubble(f"hubble://{agent.address}", HubbleSettings(since=LONG_AGO))
        with Reading(source) as reading:
            reading.wait(lambda: reading.batches > 2)
            agent.feed(LINES[:100])
            reading.wait(lambda: reading.rows == 100)
            agent.feed(LINES[100:200])
            reading.wait(lambda: reading.rows == 200)
    assert_same_flows(reading.flows(), decoded(LINES[:200]))


FILTERS: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "namespace": ({"allow": ({"namespace": "shop"},)}, ["--namespace", "shop"]),
    "pod": ({"allow": ({"source_pod": "shop/web"},)}, ["--from-pod", "shop/web"]),
    "verdict": ({"allow": ({"verdict": "DROPPED"},)}, ["--verdict", "DROPPED"]),
    "protocol": ({"allow": ({"protocol": "dns"},)}, ["--protocol", "dns"]),
    "port": ({"allow": ({"port": 5432},)}, ["--port", "5432"]),
    "network": ({"allow": ({"ip": "10.42.1.0/24"},)}, ["--ip", "10.42.1.0/24"]),
    "dns query": (
        {"allow": ({"dns_query": r"partner\.example"},)},
        ["--allowlist", r'{"dns_query": ["partner\\.example"]}'],
    ),
    "http path": ({"allow": ({"http_path": "^/v1/"},)}, ["--http-path", "^/v1/"]),
    "http status": ({"allow": ({"http_status": "5+"},)}, ["--http-status", "5+"]),
    "node": ({"allow": ({"node_name": "prod/worker-b"},)}, ["--node-name", "prod/worker-b"]),
    "label": ({"allow": ({"label": "k8s:app=ledger"},)}, ["--label", "k8s:app=ledger"]),
    "identity": ({"allow": ({"source_identity": 40_002},)}, ["--from-identity", "40002"]),
    "workload": ({"allow": ({"workload": "ledger"},)}, ["--workload", "ledger"]),
    "name": (
        {"allow": ({"destination_fqdn": "*.partner.example"},)},
        ["--to-fqdn", "*.partner.example"],
    ),
    "direction": ({"allow": ({"direction": "ingress"},)}, ["--traffic-direction", "ingress"]),
    "reply": ({"allow": ({"reply": True},)}, ["--allowlist", '{"reply": [true]}']),
    "both of two": (
        {"allow": ({"verdict": "DROPPED", "destination_namespace": "data"},)},
        ["--verdict", "DROPPED", "--to-namespace", "data"],
    ),
    "either of two": (
        {"allow": ({"verdict": "DROPPED"}, {"protocol": "icmpv4"})},
        ["--allowlist", '{"verdict": ["DROPPED"]}', "--allowlist", '{"protocol": ["icmpv4"]}'],
    ),
    "all but": (
        {"deny": ({"label": "k8s:app=web"}, {"verdict": "DROPPED"})},
        ["--not", "--label", "k8s:app=web", "--denylist", '{"verdict": ["DROPPED"]}'],
    ),
    "a time": (
        {"since": "2026-11-23T09:14:02.5Z", "until": "2026-11-23T09:14:03.75Z"},
        ["--since", "2026-11-23T09:14:02.5Z", "--until", "2026-11-23T09:14:03.75Z"],
    ),
    "last": ({"last": 100}, ["--last", "100"]),
    "last of some": (
        {"last": 7, "allow": ({"verdict": "DROPPED"},)},
        ["--last", "7", "--verdict", "DROPPED"],
    ),
    "first": ({"first": 100}, ["--first", "100"]),
}


def asked(arguments: Sequence[str], *place: str, input: bytes | None = None) -> list[bytes]:
    """Lines that the `hubble` command prints."""
    some = {"--since", "--last", "--first"} & set(arguments)
    everything = [] if some else ["--all"]
    printed = hubble("observe", *place, "-o", "jsonpb", *everything, *arguments, input=input)
    return printed.splitlines()


@pytest.mark.parametrize(("ours", "theirs"), FILTERS.values(), ids=FILTERS)
def test_a_filter_gives_what_the_hubble_command_gives(
    agent: Agent, ours: dict[str, Any], theirs: list[str]
) -> None:
    flows = read(f"hubble://{agent.address}", **ours)
    assert 0 < flows.height < len(LINES)
    assert_same_flows(flows, decoded(asked(theirs, "--server", agent.address)))


@pytest.mark.parametrize("name", ["namespace", "dns query", "all but", "a time", "last of some"])
def test_of_a_file_the_hubble_command_gives_the_same(agent: Agent, name: str) -> None:
    ours, theirs = FILTERS[name]
    given = asked(theirs, "--input-file", "-", input=b"\n".join(LINES) + b"\n")
    assert_same_flows(read(f"hubble://{agent.address}", **ours), decoded(given))


def test_lines_that_tests_make_up_are_lines_of_hubble(agent: Agent) -> None:
    printed = asked([], "--server", agent.address)
    assert [uuid_of(line) for line in printed] == [uuid_of(line) for line in LINES]
    assert printed == asked([], "--input-file", "-", input=b"\n".join(LINES) + b"\n")
    assert_same_flows(decoded(printed), decoded(LINES))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("mask", [None, ()], ids=["what is read", "all there is"])
def test_from_the_wire_and_from_json_come_the_same_flows(
    agent: Agent, fast: bool, mask: tuple[str, ...] | None
) -> None:
    flows = read(f"hubble://{agent.address}", fast=fast, field_mask=mask)
    assert_frame_equal(flows, decoded(LINES))


def test_a_socket_of_an_agent_serves_without_tls(hubble_tls: HubbleTls, tmp_path: Path) -> None:
    socket = f"unix://{tmp_path}/hubble.sock"
    with Agent("127.0.0.1:0", socket, tls=hubble_tls.server) as agent:
        agent.feed(LINES[:100])
        flows = read(f"hubble+{socket}")
        assert_same_flows(flows, read(f"hubble+tls://{agent.address}", **tls(hubble_tls)))
    assert_same_flows(flows, decoded(LINES[:100]))


def test_a_reader_that_is_overtaken_counts_what_it_missed() -> None:
    """Nothing is settled before the end: the event that this takes might get lost, and count."""
    lines = hubble_lines(20_000)
    with Agent(ring=15, lost_interval="50ms", node="worker-c") as agent:
        url = f"hubble://{agent.address}"
        agent.feed(lines[:10], settle=False)
        until(lambda: hubble_status(Target.parse(url)).kept == 10)
        source = open_hubble(url, HubbleSettings(since=LONG_AGO))
        with Reading(source) as reading:
            reading.wait(lambda: reading.rows == 9)
            agent.feed(lines[10:-1], settle=False)
            # The server tells of a loss when it comes to the next event after the interval.
            time.sleep(0.2)
            agent.feed(lines[-1:])
            reading.wait(lambda: reading.flows()["time"].max() >= decoded(lines[-1:])["time"][0])
        flows = reading.flows()
    reports = flows.filter(pl.col("lost").is_not_null())
    assert reports["lost"].sum() > 0
    assert reports["lost"].sum() == source.counters()["lost"]
    assert reports["lost"].sum() + flows.height - reports.height == len(lines)
    assert reports["node"].unique().to_list() == ["worker-c"]


def of_node(name: str, count: int) -> list[bytes]:
    return hubble_lines(count, seed=ord(name[-1]), nodes=(f"prod/{name}",))


def test_relay_tells_of_its_nodes_and_of_one_that_dies(hubble_tls: HubbleTls) -> None:
    one, other = of_node("worker-a", 200), of_node("worker-b", 200)
    with Agent(tls=hubble_tls.server) as first, Agent(tls=hubble_tls.server) as second:
        first.feed(one)
        second.feed(other)
        agents = {"worker-a": first.address, "worker-b": second.address}
        with Relay(agents, tls=hubble_tls.server) as relay:
            url = f"hubble+tls://{relay.address}"
            settings = HubbleSettings(since=LONG_AGO, **tls(hubble_tls))
            target = Target.parse(url, settings)
            source = open_hubble(url, settings)
            with Reading(source) as reading:
                reading.wait(lambda: reading.rows == len(one) + len(other))
                assert source.counters()["nodes_connected"] == 2
                second.kill()
                reading.wait(lambda: source.counters()["node_errors"] > 0)
                more = hubble_lines(300, seed=ord("a"), nodes=("prod/worker-a",))[200:]
                first.feed(more)
                reading.wait(lambda: reading.rows == len(one) + len(other) + len(more))
                states = {node.name: node.state for node in hubble_nodes(target) or ()}
                status = hubble_status(target)
    assert states["worker-a"] == "connected"
    assert states["worker-b"] in ("unavailable", "error")
    assert (status.connected, status.unavailable, status.missing) == (1, 1, ("worker-b",))
    assert status.seen == len(one) + len(more)
    assert_same_flows(reading.flows(), decoded([*one, *more, *other]))


def test_what_relay_sends_again_after_it_lost_a_node_is_not_counted_twice() -> None:
    """It asks the node as it was asked itself: for all since then."""
    lines = of_node("worker-a", 600)
    with Agent() as agent, Proxy(agent.address) as between:
        agent.feed(lines[:500])
        with Relay({"worker-a": between.address}) as relay:
            source = open_hubble(f"hubble://{relay.address}", HubbleSettings(since=LONG_AGO))
            with Reading(source) as reading:
                reading.wait(lambda: reading.rows == 500)
                between.cut()
                agent.feed(lines[500:])
                reading.wait(lambda: reading.rows >= 600)
                assert source.counters()["duplicates"] >= 500
    assert_same_flows(reading.flows(), decoded(lines))


def test_relay_is_asked_at_growing_intervals_while_it_reaches_no_node() -> None:
    """It ends the stream at once then, and without an error."""
    with Agent() as gone:
        address = gone.address
    with Relay({"worker-a": address}) as relay:
        source = open_hubble(f"hubble://{relay.address}", HubbleSettings(since=LONG_AGO))
        with Reading(source) as reading:
            reading.wait(lambda: source.counters()["reconnects"] >= 3)
            assert source.counters()["nodes_unavailable"] == 1
            with Agent(address) as agent:
                agent.feed(LINES[:10])
                reading.wait(lambda: reading.rows == 10)
            assert source.counters()["reconnects"] < 15


def test_what_a_server_is_and_holds_can_be_asked(agent: Agent) -> None:
    target = Target.parse(f"hubble://{agent.address}")
    status = hubble_status(target)
    assert (status.capacity, status.seen, status.connected) == (4095, len(LINES), None)
    assert hubble_nodes(target) is None


def test_losses_before_the_ring_are_told_apart_from_flows() -> None:
    loss = (
        b'{"lost_events":{"source":"PERF_EVENT_RING_BUFFER","num_events_lost":"348","cpu":3},'
        b'"node_name":"prod/worker-a","time":"2026-11-23T09:14:08.200114902Z"}'
    )
    with Agent(node="worker-a") as agent:
        agent.feed([*LINES[:10], loss, *LINES[10:20]])
        flows = read(f"hubble://{agent.address}")
    assert flows.height == 21
    assert flows["lost"].drop_nulls().to_list() == [348]


REFUSED: Final[dict[str, dict[str, Any]]] = {
    "missing closing": {"allow": ({"http_path": "(v1"},)},
    "prefix length": {"allow": ({"ip": "10.0.0.0/99"},)},
    "unknown protocol": {"deny": ({"protocol": "xyz"},)},
    "invalid fieldmask": {"field_mask": ("time", "node_name", "no_such_field")},
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_hubble_refuses_is_said(agent: Agent, why: str) -> None:
    with pytest.raises(SourceError, match=f"refuses what it is asked: .*{why}"):
        read(f"hubble://{agent.address}", **REFUSED[why])


def test_a_client_is_let_in_by_its_certificate(hubble_tls: HubbleTls) -> None:
    with Agent(tls=hubble_tls.server) as agent:
        agent.feed(LINES[:10])
        assert read(f"hubble+tls://{agent.address}", **tls(hubble_tls)).height == 10


def test_new_certificates_on_both_sides_do_not_end_a_stream(tmp_path: Path) -> None:
    files = issue_hubble_tls(tmp_path)
    with Agent(tls=files.server) as agent, Proxy(agent.address) as proxy:
        agent.feed(LINES[:100])
        settings = HubbleSettings(since=LONG_AGO, **tls(files))
        source = open_hubble(f"hubble+tls://{proxy.address}", settings)
        with Reading(source) as reading:
            reading.wait(lambda: reading.rows == 100)
            issue_hubble_tls(tmp_path)
            proxy.cut()
            agent.feed(LINES[100:200])
            reading.wait(lambda: reading.rows == 200)
    assert_same_flows(reading.flows(), decoded(LINES[:200]))


STRANGERS: Final[dict[str, Callable[[HubbleTls], dict[str, Any]]]] = {
    "without a certificate": lambda files: tls(files, cert=None, key=None),
    r"may not accept .*stranger\.crt": lambda files: tls(
        files, cert=str(files.stranger.cert), key=str(files.stranger.key)
    ),
    "for another name than 127": lambda files: tls(files, server_name=None),
    "without TLS": lambda files: {},
}


@pytest.mark.parametrize("why", STRANGERS)
def test_a_client_that_is_not_let_in_is_told_why(hubble_tls: HubbleTls, why: str) -> None:
    settings = STRANGERS[why](hubble_tls)
    scheme = "hubble+tls" if settings else "hubble"
    with Agent(tls=hubble_tls.server) as agent, pytest.raises(SourceError, match=why):
        read(f"{scheme}://{agent.address}", connect_seconds=1.0, **settings)
