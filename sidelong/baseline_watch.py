"""The baseline that a service judges by: loaded at its start, and again whenever it has changed.

A newer one that cannot be read changes nothing: the one from before stays, and it is said why.
"""

import time
from collections.abc import Callable
from threading import Lock
from typing import Final, NamedTuple

from sidelong.baseline_places import load_baseline, shown, signature
from sidelong.errors import SidelongError
from sidelong.models.baseline import Baseline
from sidelong.role import Measures

__all__ = ["BaselineWatch", "Judge"]

_LOOK_SECONDS: Final = 5.0


class Judge(NamedTuple):
    """A baseline, and how many there were before it: what was built by another number is old."""

    number: int
    baseline: Baseline


class BaselineWatch:
    """The newest baseline in a folder or a model store; without a place, the empty one.

    Used by any thread. say: tells a person that the baseline has changed, or why it could not be
    used. ticks: seconds.

    Errors: ConfigError for a baseline that cannot be loaded at the start.
    """

    def __init__(
        self,
        place: str | None,
        say: Callable[[str], None],
        *,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._say = say
        self._ticks = ticks
        self._lock = Lock()
        self._failed = ""
        self._seen: object = signature(place) if place else None
        self._looked = ticks()
        self._judge = Judge(0, load_baseline(place) if place else Baseline.empty())

    name = ""  # for metrics: of the process

    def counters(self) -> Measures:
        """None; for metrics."""
        return {}

    def gauges(self) -> Measures:
        """Up to when the baseline was learnt, in seconds of Unix time; for metrics."""
        span = self._judge.baseline.span
        return {} if span is None else {"baseline_timestamp_seconds": span[1].timestamp()}

    def newest(self) -> Judge:
        """The newest baseline; looks whether there is one every few seconds."""
        with self._lock:
            if self._place is not None and self._ticks() - self._looked >= _LOOK_SECONDS:
                self._looked = self._ticks()
                self._look(self._place)
            return self._judge

    def _look(self, place: str) -> None:
        try:
            seen = signature(place)
            if seen == self._seen:
                return
            baseline = load_baseline(place)
            if signature(place) != seen:
                return  # it is being written: next time
        except SidelongError as error:
            # Asked again every time, for a store may be out of reach for a while; told once.
            if error.problem != self._failed:
                self._say(f"no new baseline is used, the one before stays: {error.problem}")
            self._failed = error.problem
            return
        self._seen, self._failed = seen, ""
        self._judge = Judge(self._judge.number + 1, baseline)
        self._say(f"judging by the new baseline in {shown(place)} from now on")
