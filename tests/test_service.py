"""The service around its roles: begun anew when they fail, drained when it ends."""

import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from sidelong.config import Config
from sidelong.errors import ConfigError, SidelongError, SourceError
from sidelong.metrics import Metrics
from sidelong.role import Measures, Surroundings, Unrecoverable
from sidelong.service import Service
from sidelong.service_settings import ServiceSettings
from sidelong.vitals import Vitals

DRAIN = 0.3


class Scripted:
    """A role that does what it is told, step by step, and notes what was done to it."""

    ready = True

    def __init__(self, name: str, step: Callable[[], bool] = lambda: True) -> None:
        self.name = name
        self._step = step
        self.steps = 0
        self.drained: float | None = None
        self.closed = 0
        self.reloads = 0

    def step(self, timeout: float) -> bool:
        self.steps += 1
        time.sleep(0.001)
        return self._step()

    def drain(self, deadline: float) -> None:
        self.drained = deadline

    def close(self) -> None:
        self.closed += 1

    def reload(self) -> None:
        self.reloads += 1

    def counters(self) -> Measures:
        return {"records": self.steps}

    def gauges(self) -> Measures:
        return {}


class Running:
    """A service in a thread of its own."""

    def __init__(self, **builders: Callable[[Surroundings], Scripted]) -> None:
        settings = ServiceSettings(drain_seconds=DRAIN)
        self.stop = threading.Event()
        self.vitals = Vitals(builders, stuck_seconds=60, ready_seconds=30)
        self.metrics = Metrics()
        self.service = Service(
            builders,
            Config(service=settings),
            stop=self.stop,
            vitals=self.vitals,
            metrics=self.metrics,
            first_pause=0.01,
        )
        self.error: SidelongError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.service.run()
        except SidelongError as error:
            self.error = error

    def end(self) -> None:
        self.stop.set()
        self.join()

    def join(self) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()


def until(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.005)


def test_roles_are_stepped_until_the_end_then_drained_and_closed() -> None:
    one, other = Scripted("detect"), Scripted("deliver")
    running = Running(detect=lambda _: one, deliver=lambda _: other)
    until(lambda: one.steps > 3 and other.steps > 3)
    assert set(running.vitals.ready().values()) == {"fine"}
    before = time.monotonic()
    running.end()
    for role in (one, other):
        assert role.drained is not None
        assert before < role.drained <= time.monotonic() + DRAIN
        assert role.closed == 1
    assert running.error is None


def test_a_role_that_fails_is_closed_and_begun_anew(caplog: pytest.LogCaptureFixture) -> None:
    built: list[Scripted] = []

    def fail() -> bool:
        raise SourceError("no broker answers at kafka:9092", hint="start it")

    def build(_: Surroundings) -> Scripted:
        built.append(Scripted("detect", fail if len(built) < 2 else lambda: True))
        return built[-1]

    running = Running(detect=build)
    until(lambda: len(built) == 3 and built[2].steps > 2)
    assert [role.closed for role in built] == [1, 1, 0]
    assert [role.drained for role in built] == [None, None, None]
    running.end()
    assert "failed: no broker answers at kafka:9092; begins anew in 0 s" in caplog.text
    assert b'sidelong_role_restarts_total{role="detect"} 2.0' in running.metrics.scrape()
    assert b'sidelong_records_total{role="detect"}' in running.metrics.scrape()


def test_a_role_that_can_never_work_ends_the_service_once_the_rest_has_drained() -> None:
    other = Scripted("deliver")

    def never() -> bool:
        until(lambda: other.steps)
        raise Unrecoverable("flows.batches has 4 partitions, and had 8", hint="make it anew")

    running = Running(detect=lambda _: Scripted("detect", never), deliver=lambda _: other)
    running.join()
    assert isinstance(running.error, Unrecoverable)
    assert other.drained is not None
    assert other.closed == 1


def test_settings_that_cannot_work_end_the_service_at_its_start() -> None:
    def build(_: Surroundings) -> Scripted:
        raise ConfigError("baseline is no baseline", hint="learn one")

    running = Running(detect=build)
    running.join()
    assert isinstance(running.error, ConfigError)


def test_settings_that_fail_later_are_tried_again() -> None:
    attempts: list[Scripted | None] = []

    def fail() -> bool:
        raise OSError("the disk is full")

    def build(_: Surroundings) -> Scripted:
        if len(attempts) == 1:
            attempts.append(None)
            raise ConfigError("a secret is in the file key, which cannot be read", hint="wait")
        role = Scripted("detect", fail if not attempts else lambda: True)
        attempts.append(role)
        return role

    running = Running(detect=build)
    until(lambda: len(attempts) == 3)
    running.end()
    assert running.error is None


def test_a_role_that_does_not_end_in_time_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()
    role = Scripted("detect", lambda: released.wait(30))
    running = Running(detect=lambda _: role)
    until(lambda: role.steps)
    running.end()
    assert "did not end within drain_seconds" in caplog.text
    released.set()
    until(lambda: role.closed)


def test_a_reload_reaches_the_roles_that_have_something_to_read() -> None:
    role = Scripted("deliver")
    running = Running(deliver=lambda _: role)
    until(lambda: role.steps)
    running.service.reload()
    running.end()
    assert role.reloads == 1


def test_an_end_while_a_role_is_being_built_is_an_end() -> None:
    waits = threading.Event()

    def build(surroundings: Surroundings) -> Scripted:
        waits.set()
        surroundings.stop.wait(10)
        raise SourceError("no broker answers at kafka:9092", hint="start it")

    running = Running(detect=build)
    assert waits.wait(5)
    running.end()
    assert running.error is None


def test_the_settings_reach_every_role() -> None:
    got: list[Surroundings] = []

    def build(surroundings: Surroundings) -> Scripted:
        got.append(surroundings)
        return Scripted("detect")

    running = Running(detect=build)
    until(lambda: got)
    running.end()
    assert msgspec.structs.asdict(got[0].config.service)["drain_seconds"] == DRAIN
