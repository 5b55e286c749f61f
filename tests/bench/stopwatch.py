"""Where the time of a pipeline goes: each step's own processor time, without what it calls."""

import functools
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["STEPS", "Stopwatch"]

STEPS: Final = {
    "clock and pulse": ("ingest.stream:Stream.stretches", "ingest.pulse:Pulse.of"),
    "identity": ("ingest.identity:Identities.attach",),
    "orientation": ("ingest.orientation:Orientation.orient",),
    "twins": ("ingest.twins:Twins.drop",),
    "observers": ("ingest.observers:Observers.single",),
    "resolvers": ("ingest.resolvers:Resolvers.mark",),
    "normalise, the rest": ("ingest.normalise:Normaliser.normalise",),
    "sides": ("features.observed:sides",),
    "first contacts": ("features.contacts:Contacts.observe",),
    "edges": ("features.edges:Edges.observe",),
    "rollouts": ("features.rollouts:Rollouts.observe",),
    "names": ("features.names:NameParts.of",),
    "paths, service names": ("features.tried:Tried.paths", "features.tried:Tried.services"),
    "windows": ("features.windows:Windows.observe",),
    "scan": ("models.scan:ScanDetector.judge",),
    "guessing": (
        "models.guessing:GuessingDetector.judge_paths",
        "models.guessing:GuessingDetector.judge_services",
    ),
    "spread": ("models.spread:SpreadDetector.judge",),
    "dns exfiltration": ("models.dns_exfiltration:DnsExfiltrationDetector.judge",),
    "resolver bypass": ("models.resolver_bypass:ResolverBypassDetector.judge",),
    "lateral movement": ("models.lateral_movement:LateralMovementDetector.judge",),
    "mesh bypass": ("models.mesh_bypass:MeshBypassDetector.judge",),
    "anomaly": ("models.anomaly:AnomalyDetector.judge", "models.joint:Joint.judge"),
    "detect, the rest": ("models.detectors:Detectors.observe",),
    "correlate": ("alerts.correlator:Correlator.consume",),
    "ticks": (
        "ingest.stream:Stream.tidy",
        "models.detectors:Detectors.tidy",
        "alerts.correlator:Correlator.tick",
    ),
}
"""Steps and the functions that do them, `module:name`. What is not there is passed over."""


class Stopwatch:
    """Adds up the time of each step. `calls` are what a step was called, `seconds` its own time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
        self.calls: dict[str, int] = dict.fromkeys(STEPS, 0)
        self._within: list[float] = []

    @contextmanager
    def running(self) -> Iterator["Stopwatch"]:
        """While this holds, the steps are timed."""
        undo: list[Callable[[], None]] = []
        try:
            for step, places in STEPS.items():
                for place in places:
                    undo += self._wrap(step, place)
            yield self
        finally:
            for back in undo:
                back()

    def _wrap(self, step: str, place: str) -> list[Callable[[], None]]:
        module, _, path = place.partition(":")
        owner: Any = importlib.import_module(f"sidelong.{module}")
        *classes, name = path.split(".")
        for part in classes:
            owner = getattr(owner, part, None)
        found = getattr(owner, name, None)
        if found is None:
            return []
        setattr(owner, name, self._timed(step, found))
        return [lambda: setattr(owner, name, found)]

    def _timed(self, step: str, act: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(act)
        def timed(*arguments: Any, **named: Any) -> Any:
            result = self._charged(step, lambda: act(*arguments, **named))
            if hasattr(result, "__next__"):  # a generator works only when it is asked
                return self._drained(step, result)
            return result

        return timed

    def _drained(self, step: str, items: Iterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._charged(step, lambda: next(items, end))) is not end:
            yield item

    def _charged(self, step: str, act: Callable[[], Any]) -> Any:
        began = time.process_time()
        self._within.append(0.0)
        try:
            return act()
        finally:
            took = time.process_time() - began
            self.seconds[step] += took - self._within.pop()
            self.calls[step] += 1
            if self._within:
                self._within[-1] += took
