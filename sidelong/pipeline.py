"""The way of a flow in one process: normalise, detect, correlate.

Replay, the service and the notebooks all run this; the stages cannot tell which. The pipeline cuts
whatever batches it gets at event-time ticks, where alone state expires, so that its output does not
depend on how the stream was cut before.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import polars as pl

from sidelong.alerts.correlator import Correlator
from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_advice import Advice
from sidelong.alerts.watermark import PULSE_SCHEMA
from sidelong.features.bounds import Bounds
from sidelong.ingest.clock import Clock
from sidelong.ingest.normalise import Normaliser
from sidelong.ingest.podmap import PodMaps
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors

__all__ = ["Pipeline", "Step"]

_IDLE_NS: Final = 3_600_000_000_000  # an ended stream is one that stays silent


class Step(NamedTuple):
    """A stretch of the stream and what came of it; `tick_ns` passed just before, if any."""

    tick_ns: int | None
    flows: pl.DataFrame
    evidence: pl.DataFrame
    incidents: list[Incident]


class Pipeline:
    """Flows in, incidents out, judged against a frozen baseline.

    pods: who holds which address: a `PodMap`, or a watch that always has the newest. Which networks
    hold workloads is asked once, at the start. advice: what suggests policies, if anything shall.
    """

    def __init__(
        self,
        baseline: Baseline | None = None,
        pods: PodMaps | None = None,
        bounds: Bounds = Bounds(),  # noqa: B008, a frozen value
        advice: Advice | None = None,
    ) -> None:
        baseline = baseline or Baseline.empty()
        span = baseline.span
        span_ns = int((span[1] - span[0]).total_seconds() * 1e9) if span else 0
        self._clock = Clock()
        self._normaliser = Normaliser(pods)
        networks = pods.current().networks if pods else frozenset()
        self._detectors = Detectors(baseline, networks, bounds)
        self._correlator = Correlator(span_ns, bounds)
        self._advice = advice
        self._lost = 0
        self._pulse = PULSE_SCHEMA.to_frame()  # of the last row only

    @property
    def evicted(self) -> int:
        """State dropped for want of room; above zero, sight is narrowed."""
        return self._normaliser.evicted + self._detectors.evicted + self._correlator.evicted

    def process(self, flows: pl.DataFrame) -> list[Incident]:
        """The incidents that these flows open, grow or close, in order.

        Takes `FLOW_SCHEMA`, in the order of the source.
        """
        return [incident for step in self.steps(flows) for incident in step.incidents]

    def steps(self, flows: pl.DataFrame) -> Iterator[Step]:
        """The same, with what lies between: one step per stretch between event-time ticks."""
        for piece, tick_ns in self._clock.cut(flows):
            closed = [] if tick_ns is None else self.tick(tick_ns)
            pulse = self._beat(piece)
            normal = self._normaliser.normalise(piece)
            evidence = self._detectors.observe(normal)
            found = closed + self._advised(self._correlator.consume(evidence, pulse))
            yield Step(tick_ns, normal, evidence, found)

    def finish(self) -> list[Incident]:
        """The incidents that remain when the stream has ended."""
        if self._pulse.is_empty():
            return []
        after = self._pulse.with_columns(
            row=pl.col("row") + 1,
            clock_before=pl.col("clock"),
            clock=pl.col("clock") + pl.duration(nanoseconds=_IDLE_NS),
        )
        evidence = self._detectors.finish(after["row"].item())
        return self._advised(self._correlator.finish(evidence, after))

    def snapshot(self) -> dict[str, Any]:
        """The state of every stage as a value, from which `restore` goes on exactly."""
        return {
            "clock": self._clock.snapshot(),
            "normaliser": self._normaliser.snapshot(),
            "detectors": self._detectors.snapshot(),
            "correlator": self._correlator.snapshot(),
            "lost": self._lost,
            "pulse": self._pulse,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot of a pipeline with the same baseline and pod map."""
        self._clock.restore(state["clock"])
        self._normaliser.restore(state["normaliser"])
        self._detectors.restore(state["detectors"])
        self._correlator.restore(state["correlator"])
        self._lost = state["lost"]
        self._pulse = state["pulse"]

    def tick(self, now_ns: int) -> list[Incident]:
        """Tidy every stage at an event-time tick; the incidents that close then."""
        self._normaliser.tidy(now_ns)
        self._detectors.tidy(now_ns)
        return self._advised(self._correlator.tick(now_ns))

    def _advised(self, incidents: list[Incident]) -> list[Incident]:
        if self._advice is None:
            return incidents
        return [self._advice.on(incident) for incident in incidents]

    def _beat(self, piece: pl.DataFrame) -> pl.DataFrame:
        pulse = piece.select(
            "row",
            "clock",
            "clock_before",
            lost=self._lost + pl.col("lost").fill_null(0).cum_sum().cast(pl.UInt64),
        ).match_to_schema(PULSE_SCHEMA, integer_cast="upcast")
        self._lost = int(pulse["lost"][-1])
        self._pulse = pulse.tail(1)
        return pulse
