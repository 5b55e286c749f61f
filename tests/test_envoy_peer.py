"""A real Envoy pair: whatever way its access logs come, they tell the same, each request once."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from listening import Reading, until
from peers.envoy_config import CART, JSON_KEYS, LEDGER, TEXT_FORMAT
from peers.envoy_peer import EnvoyPair, Request

from sidelong.ingest.als_live import open_als
from sidelong.ingest.envoy_logs import EnvoySettings
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.listening import ServerSettings
from sidelong.ingest.otlp_live import open_otlp, open_otlp_http
from sidelong.ingest.settings import InputSettings

REQUESTS: Final = 5_000
WAYS: Final = ("text", "json", "als", "otlp", "otlp+http")
ENVOY: Final = EnvoySettings(
    format=TEXT_FORMAT, json={operator: key for key, operator in JSON_KEYS.items()}
)
SERVER: Final = ServerSettings(drain_seconds=1.5)
FORGED: Final = 'x" "10.9.9.9" 200 "10.9.9.9:1" outbound|80||gone 10.9.9.9:2'

BYTES: Final = "caf\udce9 \udcff\udcfe"  # sent as bytes that are no UTF-8

ADMIN, GONE, NOWHERE = "/admin/keys", "/gone/1", "/nowhere/1"
QUOTED, ODD = "/v1/quoted", "/v1/odd"


def ordinary(number: int) -> Request:
    """The requests differ in method, size and answer."""
    method = ("GET", "POST", "PUT")[number % 3]
    body = b"x" * (number % 50) if method != "GET" else b""
    kind = "missing" if number % 10 == 7 else "items"
    return Request(method, f"/v1/{kind}/{number}?token=secret", f"id-{number}", body=body)


def status(number: int) -> int:
    return 404 if number % 10 == 7 else 200


@dataclass(frozen=True)
class Run:
    """What was logged of one run, by the way it came; and what Envoy counted."""

    flows: dict[str, pl.DataFrame]
    bad: dict[str, int]
    stats: dict[str, int]
    statuses: list[int]

    def attempts(self, way: str, origin: str) -> pl.DataFrame:
        found: pl.DataFrame = self.flows[way].filter(~pl.col("reply"), origin=f"envoy:{origin}")
        return found

    def answers(self, way: str, origin: str) -> pl.DataFrame:
        found: pl.DataFrame = self.flows[way].filter("reply", origin=f"envoy:{origin}")
        return found

    def one(self, way: str, origin: str, path: str) -> dict[str, Any]:
        """The attempt at `path`, with the status of its answer."""
        attempt = self.attempts(way, origin).row(by_predicate=pl.col("path") == path, named=True)
        answer = self.answers(way, origin).filter(path=path).to_dicts()
        return attempt | {"status": answer[0]["status"] if answer else None}


def stored(folder: Path, name: str) -> tuple[pl.DataFrame, int]:
    """Flows and bad rows of both sidecars' files."""
    paths = [str(folder / sidecar / name) for sidecar in ("cart", "ledger")]
    sources = open_inputs(paths, settings=InputSettings(envoy=ENVOY))
    batches = [batch for source in sources for batch in source.batches()]
    return pl.concat([batch.flows for batch in batches]), sum(b.bad.count for b in batches)


def logged(pair: EnvoyPair) -> int:
    """How many entries both have handed over, to the last: once through each sink."""
    stats = pair.stats("access_logs")
    als, otlp = "access_logs.grpc_access_log", "access_logs.open_telemetry_access_log"
    return min(
        stats.get(f"{als}.grpc_entries_flushed", 0),
        stats.get(f"{otlp}.logs_written", 0) + stats.get(f"{otlp}.logs_dropped", 0),
    )


def written(pair: EnvoyPair, name: str) -> int:
    files = [pair.folder / sidecar / name for sidecar in ("cart", "ledger")]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


@pytest.fixture(scope="module")
def run(envoy_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("envoy")
    with ExitStack() as stack:
        als = stack.enter_context(Reading(open_als("als://localhost:0", SERVER)))
        otlp = stack.enter_context(Reading(open_otlp("otlp://localhost:0", SERVER, ENVOY)))
        over_http = stack.enter_context(
            Reading(open_otlp_http("otlp+http://localhost:0", SERVER, ENVOY))
        )
        live = {"als": als, "otlp": otlp, "otlp+http": over_http}
        pair = stack.enter_context(
            EnvoyPair(folder, als=als.port, otlp=otlp.port, otlp_http=over_http.port)
        )
        statuses = pair.requests([ordinary(number) for number in range(REQUESTS)])
        statuses += pair.requests(
            [
                *(Request("GET", path, path) for path in (ADMIN, GONE, NOWHERE)),
                Request("GET", QUOTED, "quoted", user_agent=FORGED),
                Request("GET", ODD, "odd", user_agent=BYTES),
            ],
            connections=1,
        )
        ports = pair.ports
        for port in (ports.tcp, ports.tcp_denied, ports.tcp_plain, ports.tcp_refused):
            pair.connect(port, b"hello" * 10)
        entries = 2 * REQUESTS + 8 + 6  # of both, of cart alone for /gone, /nowhere, plain, refused
        until(lambda: written(pair, "access.log") == entries)
        until(lambda: written(pair, "access.json") == entries)
        for reading in live.values():
            until(lambda one=reading: one.source.counters()["received"] >= entries)  # type: ignore[misc]
        stats = pair.stats("access_logs")
        for reading in live.values():
            reading.end()
        text, bad_text = stored(folder, "access.log")
        as_json, bad_json = stored(folder, "access.json")
        yield Run(
            {"text": text, "json": as_json, **{way: one.flows for way, one in live.items()}},
            {"text": bad_text, "json": bad_json, **{way: o.bad.count for way, o in live.items()}},
            stats,
            statuses,
        )


def items(flows: pl.DataFrame) -> pl.DataFrame:
    number = pl.col("path").str.extract(r"^/v1/(?:items|missing)/(\d+)$").cast(pl.Int64)
    return flows.with_columns(number=number).drop_nulls("number").sort("number")


@pytest.mark.parametrize("origin", ["inbound", "outbound"])
@pytest.mark.parametrize("way", WAYS)
def test_each_request_comes_once_with_all_that_it_was(run: Run, way: str, origin: str) -> None:
    attempts, answers = items(run.attempts(way, origin)), items(run.answers(way, origin))
    wanted = [ordinary(number) for number in range(REQUESTS)]
    assert attempts["number"].to_list() == list(range(REQUESTS))
    assert attempts["method"].to_list() == [request.method for request in wanted]
    assert attempts["path"].to_list() == [request.path.partition("?")[0] for request in wanted]
    assert attempts["bytes"].to_list() == [len(request.body) for request in wanted]
    assert answers["number"].to_list() == list(range(REQUESTS))
    assert answers["status"].to_list() == [status(number) for number in range(REQUESTS)]
    assert set(answers["bytes"]) == {12}


@pytest.mark.parametrize("way", WAYS)
def test_the_servers_proxy_tells_both_principals(run: Run, way: str) -> None:
    attempts = items(run.attempts(way, "inbound"))
    assert set(attempts["src_principal"]) == {CART}
    assert set(attempts["dst_principal"]) == {LEDGER}
    assert set(attempts["encrypted"]) == {True}


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way != "als"]
)  # ALS tells none of upstream TLS
def test_the_clients_proxy_tells_both_principals(run: Run, way: str) -> None:
    attempts = items(run.attempts(way, "outbound"))
    assert set(attempts["src_principal"]) == {CART}
    assert set(attempts["dst_principal"]) == {LEDGER}


@pytest.mark.parametrize("way", WAYS)
def test_both_proxies_tell_of_the_same_connection(run: Run, way: str) -> None:
    ends = ["number", "src_ip", "src_port", "dst_ip", "dst_port", "reply"]
    sides = [items(run.attempts(way, origin)).select(ends) for origin in ("inbound", "outbound")]
    assert sides[0].equals(sides[1])


@pytest.mark.parametrize("way", WAYS[1:])
def test_all_ways_tell_the_same(run: Run, way: str) -> None:
    kept = ["reply", "verdict", "drop_reason", "policy", "tcp_flags", "bytes", "method", "path"]
    kept += ["status", "l7", "origin", "src_ip", "src_port", "dst_ip", "dst_port", "protocol"]
    text, other = (run.flows[name].select(kept).sort(kept) for name in ("text", way))
    assert text.equals(other)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_bad(run: Run, way: str) -> None:
    assert run.bad[way] == 0


def test_what_came_is_what_envoy_counts(run: Run) -> None:
    assert run.stats["access_logs.open_telemetry_access_log.logs_dropped"] == 0
    assert run.stats["access_logs.grpc_access_log.logs_dropped"] == 0
    assert run.stats["access_logs.grpc_access_log.grpc_entries_flush_failed"] == 0


@pytest.mark.parametrize("way", ["als"])
def test_each_proxy_names_its_pod_and_its_own_end(run: Run, way: str) -> None:
    inbound, outbound = (items(run.attempts(way, side)) for side in ("inbound", "outbound"))
    assert set(inbound["node"]) == {"pay/ledger-7c4d8b9f6d-q9w2z"}
    assert set(inbound["dst"]) == {"pay/ledger"}
    assert set(outbound["node"]) == {"shop/cart-6d9f7c5b4-x2x4k"}
    assert set(outbound["src"]) == {"shop/cart"}


@pytest.mark.parametrize("way", WAYS)
def test_a_denied_request_is_a_drop_that_names_its_policy(run: Run, way: str) -> None:
    assert run.statuses[REQUESTS] == 403
    denied = run.one(way, "inbound", ADMIN)
    assert (denied["verdict"], denied["policy"], denied["status"]) == (
        "DROPPED",
        "pay/no-admin",
        403,
    )
    assert run.one(way, "outbound", ADMIN)["verdict"] == "FORWARDED"


@pytest.mark.parametrize("way", WAYS)
def test_a_denied_connection_is_a_drop_that_names_its_policy(run: Run, way: str) -> None:
    drops = run.attempts(way, "inbound").filter(pl.col("l7").is_null(), verdict="DROPPED")
    assert drops["policy"].to_list() == ["data/no-cart"]
    assert drops["src_principal"].to_list() == [CART]


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_connection_is_a_reset(run: Run, way: str) -> None:
    assert run.statuses[REQUESTS + 1] == 503
    resets = run.answers(way, "outbound").filter(tcp_flags=0x14)
    assert resets.height == 2  # of /gone, and of a plain connection


@pytest.mark.parametrize("way", WAYS)
def test_a_forged_user_agent_moves_nothing(run: Run, way: str) -> None:
    assert "10.9.9.9" not in {*run.flows[way]["src_ip"], *run.flows[way]["dst_ip"]}
    attempt = run.one(way, "inbound", QUOTED)
    assert (attempt["src_principal"], attempt["dst_principal"]) == (CART, LEDGER)
    assert attempt["verdict"] == "FORWARDED"


@pytest.mark.parametrize("way", WAYS)
def test_bytes_that_are_no_utf8_hide_nothing(run: Run, way: str) -> None:
    assert run.one(way, "inbound", ODD)["status"] == 200
    assert run.one(way, "outbound", ODD)["status"] == 200


# A sink that is ended and started again while Envoy sends


def test_a_sink_that_is_restarted_loses_nothing_that_was_delivered(
    envoy_installed: None, tmp_path: Path
) -> None:
    """ALS: what an Envoy wrote to a connection. OTLP: what it counts as written, and no more."""
    with ExitStack() as stack:

        def listen(als: int = 0, otlp: int = 0) -> tuple[Reading, Reading]:
            sources = (
                open_als(f"als://localhost:{als}", SERVER),
                open_otlp(f"otlp://localhost:{otlp}", SERVER, ENVOY),
            )
            one, other = (stack.enter_context(Reading(source)) for source in sources)
            return one, other

        first = listen()
        ports = first[0].port, first[1].port
        pair = stack.enter_context(EnvoyPair(tmp_path, als=ports[0], otlp=ports[1]))
        stopped = threading.Event()
        sent: list[int] = []
        load = threading.Thread(target=steady, args=(pair, stopped, sent))
        load.start()
        until(lambda: len(sent) > REQUESTS // 3)
        began = datetime.now(UTC)
        endings = [threading.Thread(target=reading.end) for reading in first]
        for ending in endings:
            ending.start()
        for ending in endings:
            ending.join()
        second = listen(*ports)
        ended = datetime.now(UTC)
        enough = max(REQUESTS, len(sent) + REQUESTS // 3)
        until(lambda: len(sent) >= enough)
        stopped.set()
        load.join()
        entries = 2 * len(sent)
        until(lambda: written(pair, "access.log") == entries)
        until(lambda: logged(pair) == entries)
        stats = pair.stats("access_logs")
        for reading in second:
            reading.end()
        text, _ = stored(tmp_path, "access.log")
    key = ["origin", "path"]
    all_of_them = text.filter(~pl.col("reply")).select(*key, "end")
    assert all_of_them.height == entries
    als, otlp = (
        pl.concat([one.attempts, other.attempts]).select(key)
        for one, other in zip(first, second, strict=True)
    )
    assert not als.is_duplicated().any()
    assert not otlp.is_duplicated().any()
    acknowledged = stats["access_logs.open_telemetry_access_log.logs_written"]
    assert otlp.height == acknowledged
    assert acknowledged + stats["access_logs.open_telemetry_access_log.logs_dropped"] == entries
    lost = all_of_them.join(als, on=key, how="anti")
    flush, soon = timedelta(seconds=0.2), timedelta(seconds=0.3)
    assert lost.filter(~pl.col("end").is_between(began - flush - soon, ended + soon)).is_empty()
    assert all(reading.attempts.height > REQUESTS // 5 for reading in (*first, *second))


def steady(pair: EnvoyPair, stopped: threading.Event, sent: list[int]) -> None:
    """Requests, some at a time, until it is told to stop."""
    while not stopped.is_set():
        numbers = range(len(sent), len(sent) + 100)
        pair.requests([ordinary(number) for number in numbers], connections=4)
        sent.extend(numbers)
        time.sleep(0.01)
