"""The stream of a cluster: flows numbered, timed and made comparable, in stretches between ticks.

This much is done once for a whole cluster, in one place, because it needs to see every flow in
order. What comes after it can be split by actor: a `Stretch` holds all that a part needs.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import polars as pl

from sidelong.ingest.clock import Clock, ClockState
from sidelong.ingest.normalise import Normaliser, NormaliserState
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.pulse import Pulse, PulseState

__all__ = ["Stream", "StreamState", "Stretch"]


class Stretch(NamedTuple):
    """Rows `low` up to but not including `high` of a stream, without a tick between them.

    tick_ns: the tick that passes just before them, if any. pulse: `PULSE_SCHEMA`. flows:
    `NORMAL_SCHEMA`; fewer than `high - low`, since what is told twice goes.
    """

    low: int
    high: int
    tick_ns: int | None
    pulse: pl.DataFrame
    flows: pl.DataFrame


class StreamState(TypedDict):
    """The state of each step."""

    clock: ClockState
    pulse: PulseState
    normaliser: NormaliserState


class Stream:
    """Turns flows, in the order of the source, into stretches of the stream.

    pods: who holds which address: a `PodMap`, or a watch that always has the newest.
    """

    def __init__(self, pods: PodMaps | None = None) -> None:
        self._clock = Clock()
        self._pulse = Pulse()
        self._normaliser = Normaliser(pods)

    @property
    def rows(self) -> int:
        """How many rows there were, and so the number of the next."""
        return self._clock.snapshot()["rows"]

    @property
    def clock_ns(self) -> int:
        """Where the clock stands, in nanoseconds of the epoch; 0 before the first row."""
        return self._clock.snapshot()["clock"]

    @property
    def evicted(self) -> int:
        """What was forgotten before its time because a table was full."""
        return self._normaliser.evicted

    def stretches(self, flows: pl.DataFrame) -> Iterator[Stretch]:
        """The stretches that these flows (`FLOW_SCHEMA`) make, in order; all are to be taken."""
        for piece, tick_ns in self._clock.cut(flows):
            if tick_ns is not None:
                self.tidy(tick_ns)
            low = int(piece["row"][0])
            pulse = self._pulse.of(piece)
            normal = self._normaliser.normalise(piece)
            yield Stretch(low, low + piece.height, tick_ns, pulse, normal)

    def end(self, silence_ns: int) -> pl.DataFrame:
        """The pulse after a stream that has ended and so stays silent for that long.

        `PULSE_SCHEMA`, of the row after the last; empty when there was no row.
        """
        after = self._pulse.at(self.rows, self.clock_ns + silence_ns)
        return after if self.rows else after.clear()

    def tidy(self, now_ns: int) -> None:
        """Let state expire, and evict what is beyond capacity, at an event-time tick."""
        self._normaliser.tidy(now_ns)

    def snapshot(self) -> StreamState:
        """All state as a value."""
        return {
            "clock": self._clock.snapshot(),
            "pulse": self._pulse.snapshot(),
            "normaliser": self._normaliser.snapshot(),
        }

    def restore(self, state: StreamState) -> None:
        """Go on from a snapshot of a stream with the same pod map."""
        self._clock.restore(state["clock"])
        self._pulse.restore(state["pulse"])
        self._normaliser.restore(state["normaliser"])
