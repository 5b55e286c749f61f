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
from sidelong.features.bounds import Bounds
from sidelong.features.windows import NOTHING_CLOSED, Closed
from sidelong.ingest.normalise import NORMAL_SCHEMA
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.stream import Stream
from sidelong.models.anomaly import ALARMS_PER_DAY
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import NO_EVIDENCE

__all__ = ["Pipeline", "Step"]

_NO_FLOWS: Final = NORMAL_SCHEMA.to_frame()
_IDLE_NS: Final = 3_600_000_000_000  # an ended stream is one that stays silent


class Step(NamedTuple):
    """A stretch of the stream and what came of it; `tick_ns` passed just before, if any."""

    tick_ns: int | None
    flows: pl.DataFrame
    evidence: pl.DataFrame
    closed: Closed
    incidents: list[Incident]


class Pipeline:
    """Flows in, incidents out, judged against a frozen baseline.

    pods: who holds which address: a `PodMap`, or a watch that always has the newest. Which networks
    hold workloads is asked once, at the start. advice: what suggests policies, if anything shall.
    windows: whether steps tell of those that close. budget: of anomalies a day, by chance.
    """

    def __init__(
        self,
        baseline: Baseline | None = None,
        pods: PodMaps | None = None,
        bounds: Bounds = Bounds(),  # noqa: B008, a frozen value
        advice: Advice | None = None,
        *,
        windows: bool = False,
        budget: float = ALARMS_PER_DAY,
    ) -> None:
        baseline = baseline or Baseline.empty()
        self._stream = Stream(pods)
        networks = pods.current().networks if pods else frozenset()
        self._detectors = Detectors(baseline, networks, bounds, windows=windows, budget=budget)
        self._correlator = Correlator(bounds)
        self._advice = advice

    @property
    def evicted(self) -> int:
        """State dropped for want of room; above zero, sight is narrowed."""
        return self._stream.evicted + self._detectors.evicted + self._correlator.evicted

    @property
    def clock_ns(self) -> int:
        """Where event time stands, in nanoseconds of the epoch; 0 before the first row."""
        return self._stream.clock_ns

    @property
    def open_incidents(self) -> int:
        """How many are open."""
        return self._correlator.open_incidents

    def process(self, flows: pl.DataFrame) -> list[Incident]:
        """The incidents that these flows open, grow or close, in order.

        Takes `FLOW_SCHEMA`, in the order of the source.
        """
        return [incident for step in self.steps(flows) for incident in step.incidents]

    def steps(self, flows: pl.DataFrame) -> Iterator[Step]:
        """The same, with what lies between: one step per stretch between event-time ticks."""
        for _, _, tick_ns, pulse, normal in self._stream.stretches(flows):
            closed = [] if tick_ns is None else self._tick(tick_ns)
            evidence = self._detectors.observe(normal, pulse)
            found = closed + self._advised(self._correlator.consume(evidence, pulse))
            yield Step(tick_ns, normal, evidence, self._detectors.closed, found)

    def finish(self) -> list[Incident]:
        """The incidents that remain when the stream has ended."""
        return self.end().incidents

    def end(self) -> Step:
        """The same, with what lies between: the last step, of no flows."""
        after = self._stream.end(_IDLE_NS)
        if after.is_empty():
            return Step(None, _NO_FLOWS, NO_EVIDENCE, NOTHING_CLOSED, [])
        evidence = self._detectors.finish(self._stream.rows)
        incidents = self._advised(self._correlator.finish(evidence, after))
        return Step(None, _NO_FLOWS, evidence, self._detectors.closed, incidents)

    def snapshot(self) -> dict[str, Any]:
        """The state of every stage as a value, from which `restore` goes on exactly."""
        return {
            "stream": self._stream.snapshot(),
            "detectors": self._detectors.snapshot(),
            "correlator": self._correlator.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot of a pipeline with the same baseline and pod map."""
        self._stream.restore(state["stream"])
        self._detectors.restore(state["detectors"])
        self._correlator.restore(state["correlator"])

    def tick(self, now_ns: int) -> list[Incident]:
        """Tidy every stage at an event-time tick; the incidents that close then."""
        self._stream.tidy(now_ns)
        return self._tick(now_ns)

    def _tick(self, now_ns: int) -> list[Incident]:
        """What the stages after the stream do at a tick."""
        self._detectors.tidy(now_ns)
        return self._advised(self._correlator.tick(now_ns))

    def _advised(self, incidents: list[Incident]) -> list[Incident]:
        if self._advice is None:
            return incidents
        return [self._advice.on(incident) for incident in incidents]
