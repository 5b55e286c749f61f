"""The service: roles in threads, begun anew when they fail, drained when it is to end.

Nothing here knows what a role does. What has to survive lies in Kafka, in snapshots and in the
outbox; a role that fails is thrown away whole, and its successor goes on from there.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from sidelong.config import Config
from sidelong.errors import ConfigError, SidelongError
from sidelong.memory_cap import MemoryCap
from sidelong.metrics import Metrics
from sidelong.role import Reloads, Role, RoleBuilder, Surroundings, Unrecoverable
from sidelong.vitals import Vitals

__all__ = ["Service"]

_log: Final = logging.getLogger(__name__)

_STEP_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.25
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0  # a role that ran for so long begins its pauses anew
_GRACE_SECONDS: Final = 2.0  # for what cannot be interrupted


class Service:
    """Runs roles until `stop` is set, or one of them cannot go on.

    builders: how to build each role. path: the file of `config`. stop: ends it. first_pause:
    seconds before a role that failed is built anew; each time twice as long, up to half a minute.
    """

    def __init__(
        self,
        builders: Mapping[str, RoleBuilder],
        config: Config,
        *,
        stop: threading.Event,
        vitals: Vitals,
        metrics: Metrics,
        path: str | None = None,
        memory: MemoryCap | None = None,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        self._stop = stop
        self._vitals = vitals
        self._drain_seconds = config.service.drain_seconds
        self._keepers = [
            _Keeper(
                name,
                build,
                Surroundings(config, _teller(name), path, stop, metrics.observer(name), memory),
                vitals,
                metrics,
                first_pause,
            )
            for name, build in builders.items()
        ]

    def reload(self) -> None:
        """Let every role that has something to read again do so."""
        for keeper in self._keepers:
            keeper.reload()

    def run(self, changed: threading.Event | None = None) -> None:
        """Run until the end. Errors: what made a role unable to go on, once the rest has drained.

        changed: asks for a reload when it is set. A role that does not end in time is left behind,
        and that is said.
        """
        for keeper in self._keepers:
            keeper.start()
        try:
            while not self._stop.wait(_LOOK_SECONDS):
                if changed is not None and changed.is_set():
                    changed.clear()
                    self.reload()
        finally:
            self._stop.set()  # also after an interrupt
            self._vitals.drain()
            deadline = time.monotonic() + self._drain_seconds
            for keeper in self._keepers:
                keeper.deadline = deadline
                keeper.ending.set()
            for keeper in self._keepers:
                keeper.join(max(0.0, deadline + _GRACE_SECONDS - time.monotonic()))
        for keeper in self._keepers:
            if keeper.is_alive():
                _log.warning(
                    "did not end within drain_seconds; it goes on where it last saved",
                    extra={"role": keeper.name},
                )
        for keeper in self._keepers:
            if keeper.failure is not None:
                raise keeper.failure


class _Keeper(threading.Thread):
    """One role: builds it, steps it, and what else can happen to it."""

    def __init__(
        self,
        name: str,
        build: RoleBuilder,
        surroundings: Surroundings,
        vitals: Vitals,
        metrics: Metrics,
        first_pause: float,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._build = build
        self._surroundings = surroundings
        self._stop_all = surroundings.stop
        self._vitals = vitals
        self._metrics = metrics
        self._first_pause = first_pause
        self._role: Role | None = None
        self._begun = False  # whether the role was ever built
        self.ending = threading.Event()  # set once `deadline` is
        self.deadline = 0.0
        self.failure: SidelongError | None = None

    def reload(self) -> None:
        role = self._role
        if isinstance(role, Reloads):
            role.reload()

    def run(self) -> None:
        pause = self._first_pause
        while not self._stop_all.is_set():
            began = time.monotonic()
            try:
                self._live()
            except Exception as error:
                if self._is_hopeless(error):
                    self._give_up(error)
                    return
                if time.monotonic() - began > _HEALTHY_SECONDS:
                    pause = self._first_pause
                self._fail(error, pause)
                self._stop_all.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        self._vitals.ended(self.name)

    def _live(self) -> None:
        """One life of the role, from building to draining. Errors: what it died of."""
        self._vitals.building(self.name)
        role = self._build(self._surroundings)
        try:
            self._begun = True
            self._role = role
            self._metrics.attach(role)
            self._vitals.up(role)
            while not self._stop_all.is_set():
                role.step(_STEP_SECONDS)
                self._vitals.beat(self.name)
            self.ending.wait()
            role.drain(self.deadline)
        finally:
            self._role = None
            self._metrics.detach(role)
            role.close()

    def _is_hopeless(self, error: Exception) -> bool:
        """Whether a person must act; at the start that is so of everything that is set wrongly."""
        return isinstance(error, Unrecoverable if self._begun else ConfigError)

    def _fail(self, error: Exception, pause: float) -> None:
        why = error.problem if isinstance(error, SidelongError) else repr(error)
        if self._stop_all.is_set():
            self._surroundings.say(f"could not end cleanly: {why}")
            return
        self._vitals.down(self.name, why)
        self._metrics.count("restarts", self.name)
        _log.warning(
            "failed: %s; begins anew in %.0f s",
            why,
            pause,
            extra={"role": self.name, "same": why},
            # What nobody foresaw is to be found; what was foreseen is said in its own words.
            exc_info=None if isinstance(error, SidelongError) else error,
        )

    def _give_up(self, error: Exception) -> None:
        assert isinstance(error, SidelongError)
        self.failure = error
        _log.error("cannot go on: %s", self.failure.problem, extra={"role": self.name})
        self._vitals.ended(self.name, self.failure.problem)
        self._stop_all.set()


def _teller(name: str) -> Callable[[str], None]:
    return lambda text: _log.info("%s", text, extra={"role": name})
