"""Whether a process is alive and ready, told over HTTP to whoever asks, and to nobody else more."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from scraping import asked, raw

from sidelong.errors import ConfigError
from sidelong.health import HealthServer
from sidelong.role import Labelled, Measures
from sidelong.vitals import FINE, Vitals


class Working:
    """A role that is as ready, and as far behind, as it is told."""

    def __init__(self, name: str = "detect") -> None:
        self.name = name
        self.ready = True
        self.now: dict[str | Labelled, float] = {}

    def step(self, timeout: float) -> bool:
        return False

    def drain(self, deadline: float) -> None: ...
    def close(self) -> None: ...
    def counters(self) -> Measures:
        return {}

    def gauges(self) -> Measures:
        return self.now


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def vitals(*roles: str, clock: Clock | None = None) -> Vitals:
    ticks = clock or Clock()
    return Vitals(roles or ("detect",), stuck_seconds=60, ready_seconds=30, ticks=ticks)


def test_a_role_that_is_being_built_is_alive_and_not_ready() -> None:
    clock = Clock()
    watched = vitals(clock=clock)
    clock.now += 3_600  # a broker that is down for an hour
    assert watched.alive() == {"detect": FINE}
    assert watched.ready() == {"detect": "is being set up"}


def test_a_role_that_steps_is_alive_and_ready() -> None:
    clock = Clock()
    watched = vitals(clock=clock)
    watched.up(Working())
    clock.now += 50
    watched.beat("detect")
    clock.now += 50
    assert watched.alive() == watched.ready() == {"detect": FINE}


def test_a_role_that_does_not_step_is_neither() -> None:
    clock = Clock()
    watched = vitals("detect", "deliver", clock=clock)
    watched.up(Working())
    watched.up(Working("deliver"))
    clock.now += 61
    watched.beat("deliver")
    assert watched.alive() == {"detect": "has not moved for 61 s", "deliver": FINE}
    assert watched.ready() == {"detect": "has not moved for 61 s", "deliver": FINE}


def test_a_role_that_failed_is_alive_for_it_will_be_built_anew() -> None:
    clock = Clock()
    watched = vitals(clock=clock)
    watched.up(Working())
    watched.down("detect", "no broker answers")
    clock.now += 3_600
    assert watched.alive() == {"detect": FINE}
    assert watched.ready() == {"detect": "is down: no broker answers"}


def test_a_role_whose_thread_has_ended_is_not_alive_unless_the_process_takes_leave() -> None:
    watched = vitals()
    watched.ended("detect")
    assert watched.alive() == {"detect": "has ended"}
    watched.drain()
    assert watched.alive() == {"detect": FINE}
    assert watched.ready() == {"detect": "takes leave"}


def test_a_role_says_itself_whether_it_is_ready() -> None:
    watched, role = vitals(), Working()
    role.ready = False
    watched.up(role)
    assert watched.ready() == {"detect": "has not reached what it reads, or not restored its state"}


def test_a_role_is_not_ready_while_one_of_its_partitions_is_far_behind() -> None:
    watched, role = vitals(), Working()
    watched.up(role)
    role.now |= {("lag_seconds", "partition", "0"): 1, ("lag_seconds", "partition", "1"): 75}
    assert watched.ready() == {"detect": "is 75 s behind"}
    role.now["active"] = 0  # somebody else reads it
    assert watched.ready() == {"detect": FINE}


def test_metrics_say_which_roles_are_up() -> None:
    watched = vitals("detect", "deliver")
    watched.up(Working())
    gauges = watched.gauges()
    assert gauges["ready"] == 0
    assert gauges["up", "role", "detect"] == 1
    assert gauges["up", "role", "deliver"] == 0
    assert abs(gauges["stepped", "role", "detect"] - time.time()) < 5


class Told:
    """What a server is to tell."""

    def __init__(self) -> None:
        self.alive: Mapping[str, str] = {"detect": FINE}
        self.ready: Mapping[str, str] = {"detect": FINE}
        self.scraped = b"sidelong_flows_total 1.0\n"
        self.hang = threading.Event()
        self.hang.set()

    def scrape(self) -> bytes:
        assert self.hang.wait(10)
        if not self.scraped:
            raise RuntimeError("password hunter2")
        return self.scraped


@contextmanager
def served(told: Told, listen: str = "127.0.0.1:0", seconds: float = 5.0) -> Iterator[int]:
    server = HealthServer(
        listen,
        scrape=told.scrape,
        alive=lambda: told.alive,
        ready=lambda: told.ready,
        request_seconds=seconds,
    )
    port = server.start()
    try:
        yield port
    finally:
        told.hang.set()
        server.stop()
        server.stop()


def test_each_path_tells_its_own() -> None:
    with served(Told()) as port:
        assert asked(port, "/metrics?x=1").body == "sidelong_flows_total 1.0\n"
        assert json.loads(asked(port, "/healthz").body) == {
            "alive": True,
            "roles": {"detect": FINE},
        }
        assert json.loads(asked(port, "/readyz").body) == {"ready": True, "roles": {"detect": FINE}}
        assert "/readyz" in asked(port, "/").body
        assert asked(port, "/etc/passwd").status == 404


def test_metrics_come_in_the_type_that_prometheus_asks_for() -> None:
    with served(Told()) as port:
        kind = asked(port, "/metrics").headers["content-type"]
    assert kind == "text/plain; version=0.0.4; charset=utf-8"


def test_what_is_wrong_is_503_and_says_what_each_role_lacks() -> None:
    told = Told()
    told.alive = told.ready = {"detect": "is 75 s behind", "deliver": FINE}
    with served(told) as port:
        for path in ("/healthz", "/readyz"):
            answered = asked(port, path)
            assert answered.status == 503
            assert json.loads(answered.body)["roles"] == told.ready


def test_head_is_answered_without_a_body() -> None:
    with served(Told()) as port:
        answered = asked(port, "/metrics", "HEAD")
    assert (answered.status, answered.body) == (200, "")
    assert answered.headers["content-length"] == "25"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_but_get_and_head_is_answered(method: str) -> None:
    with served(Told()) as port:
        answered = asked(port, "/metrics", method)
    assert (answered.status, answered.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", b"413"),
        (b"GET /metrics HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", b"413"),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET /\r\nx HTTP/1.1\r\n\r\n", b"400"),
    ],
)
def test_a_request_that_is_none_is_refused(sent: bytes, status: bytes) -> None:
    with served(Told()) as port:
        assert raw(port, sent).startswith(b"HTTP/1.1 " + status)
        assert asked(port, "/healthz").status == 200


def test_who_sends_slowly_is_not_waited_for() -> None:
    with served(Told(), seconds=0.3) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
            began = time.monotonic()
            slow.sendall(b"GET / HTTP/1.1\r\n")
            assert slow.recv(1) == b""
        assert time.monotonic() - began < 3


def test_silent_connections_do_not_keep_a_probe_out() -> None:
    with served(Told(), seconds=30) as port:
        silent = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(100)]
        try:
            assert asked(port, "/healthz").status == 200
        finally:
            for connection in silent:
                connection.close()


def test_whether_it_is_alive_is_told_even_while_metrics_hang() -> None:
    told = Told()
    told.hang.clear()
    with served(told) as port:
        scrapers = [threading.Thread(target=asked, args=(port, "/metrics")) for _ in range(4)]
        for scraper in scrapers:
            scraper.start()
        assert asked(port, "/healthz").status == 200
        told.hang.set()
        for scraper in scrapers:
            scraper.join()


def test_a_failure_is_answered_without_its_cause() -> None:
    told = Told()
    told.scraped = b""
    with served(told) as port:
        answered = asked(port, "/metrics")
        assert (answered.status, answered.body) == (500, "see the log\n")
        assert asked(port, "/healthz").status == 200


def test_a_port_that_is_taken_is_a_mistake_in_the_configuration() -> None:
    with (
        served(Told()) as port,
        pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be listened at"),
        served(Told(), f"127.0.0.1:{port}"),
    ):
        pass


@pytest.mark.parametrize("listen", ["", "9464", "localhost", "127.0.0.1:port", "127.0.0.1:9464/x"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="is no address to listen at"):
        HealthServer(listen, scrape=bytes, alive=dict, ready=dict)
