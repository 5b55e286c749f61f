"""Whether a process of the service is alive, whether it is ready, and if not, what each role lacks.

Alive means that it moves: restarting it would not help otherwise. Ready means that it does what it
is there for: a broker that is down makes it unready, and never dead.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final, Literal

from sidelong.role import Labelled, Measures, Role

__all__ = ["FINE", "Vitals"]

FINE: Final = "fine"
"""What is said of a role that lacks nothing."""


@dataclass(slots=True)
class _State:
    phase: Literal["building", "up", "down", "ended"]
    since: float
    moved_at: float
    why: str = ""
    role: Role | None = None


class Vitals:
    """What the threads of a service tell about their roles, and what follows from it.

    roles: those that are to run. stuck_seconds: after so long without a step a role is not alive.
    ready_seconds: how far behind a role may be that is ready. away: why Kafka is not there, "" when
    it is. May be used by any thread.
    """

    name = ""  # for metrics: of the process

    def __init__(
        self,
        roles: Iterable[str],
        *,
        stuck_seconds: float,
        ready_seconds: float,
        away: Callable[[], str] = lambda: "",
        ticks: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stuck_seconds = stuck_seconds
        self._ready_seconds = ready_seconds
        self._away = away
        self._ticks = ticks
        self._clock = clock
        self._lock = Lock()
        self._draining = False
        now = ticks()
        self._states = {name: _State("building", now, clock()) for name in roles}

    def building(self, name: str) -> None:
        """It is being built, which takes as long as a broker is down."""
        self._set(name, "building")

    def up(self, role: Role) -> None:
        """It was built, and is stepped from now on."""
        self._set(role.name, "up", role=role)

    def beat(self, name: str) -> None:
        """It has made a step, if only an empty one."""
        state = self._states[name]  # two stores that need no lock: this is called all the time
        state.since = self._ticks()
        state.moved_at = self._clock()

    def down(self, name: str, why: str) -> None:
        """It failed, and will be built anew."""
        self._set(name, "down", why)

    def ended(self, name: str, why: str = "has ended") -> None:
        """Its thread is no more; unless the service drains, nothing will bring it back."""
        self._set(name, "ended", why)

    def drain(self) -> None:
        """From now on the process is not ready: it takes leave."""
        self._draining = True

    def alive(self) -> dict[str, str]:
        """Of each role what is wrong with it that a restart of the process would cure, or FINE."""
        now = self._ticks()
        found = {}
        for name, state in self._copies().items():
            silent = now - state.since
            if state.phase == "ended" and not self._draining:
                found[name] = state.why
            elif state.phase == "up" and silent > self._stuck_seconds:
                found[name] = f"has not moved for {silent:.0f} s"
            else:
                found[name] = FINE
        return found

    def ready(self) -> dict[str, str]:
        """Of each role what it lacks to do its work, or FINE; and of Kafka, while it is away."""
        found = {name: self._lacks(state) for name, state in self._copies().items()}
        if why := self._away():
            found["kafka"] = f"is away: {why}"
        return found

    def _lacks(self, state: _State) -> str:
        if self._draining:
            return "takes leave"
        if state.phase == "building":
            return "is being set up"
        if state.role is None or state.phase != "up":
            return f"is down: {state.why}" if state.phase == "down" else state.why
        silent = self._ticks() - state.since
        if silent > self._stuck_seconds:
            return f"has not moved for {silent:.0f} s"
        try:
            if not state.role.ready:
                return "has not reached what it reads, or not restored its state"
            behind = _behind(state.role.gauges())
        except Exception:  # of a role that is being closed
            return "cannot be asked"
        if behind > self._ready_seconds:
            return f"is {behind:.0f} s behind"
        return FINE

    def counters(self) -> Measures:
        """None; for metrics."""
        return {}

    def gauges(self) -> Measures:
        """Which roles are up, when they last moved, and whether all are ready; for metrics."""
        states = self._copies()
        lacking = any(told != FINE for told in self.ready().values())
        gauges: dict[str | Labelled, float] = {"ready": float(not lacking)}
        for name, state in states.items():
            gauges["up", "role", name] = float(state.phase == "up")
            gauges["stepped", "role", name] = state.moved_at
        return gauges

    def _copies(self) -> Mapping[str, _State]:
        with self._lock:
            return dict(self._states)

    def _set(
        self,
        name: str,
        phase: Literal["building", "up", "down", "ended"],
        why: str = "",
        role: Role | None = None,
    ) -> None:
        with self._lock:  # a new one each time, so that what was copied does not change
            self._states[name] = _State(phase, self._ticks(), self._clock(), why, role)


def _behind(gauges: Measures) -> float:
    """Seconds that the worst partition is behind; a role that stands by is not."""
    if not gauges.get("active", 1):
        return 0.0
    lags = [
        seconds
        for key, seconds in gauges.items()
        if (key if isinstance(key, str) else key[0]) == "lag_seconds"
    ]
    return max(lags, default=0.0)
