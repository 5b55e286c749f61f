"""Learning a baseline from traffic that somebody vouches for.

The detectors run along, with the baseline that is to be brought up to date if there is one: what
they hold against an actor is not learnt from it.
"""

from datetime import timedelta
from typing import Any

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.features.names import name_parts
from sidelong.ingest.podmap import PodMaps
from sidelong.models.baseline import Baseline
from sidelong.models.evidence import SILENCE_NS
from sidelong.models.feedback import Feedback
from sidelong.models.forests_learning import trained
from sidelong.models.habits import TROUBLE_SCHEMA, Habits
from sidelong.models.learning_speeds import Updated, updated
from sidelong.pipeline import Pipeline

__all__ = ["Learning"]


class Learning:
    """Flows in, a baseline out. `incidents` are those found on the way, latest state of each.

    before: a baseline as it was learnt (`Baseline.read`), which `update` then adds to. feedback:
    what people said of it, heeded in judging and not learnt.
    """

    def __init__(
        self,
        pods: PodMaps | None = None,
        before: Baseline | None = None,
        feedback: Feedback = Feedback(),  # noqa: B008, a frozen value
    ) -> None:
        self._before = before or Baseline.empty()
        self._pipeline = Pipeline(self._before.heeding(feedback), pods=pods, windows=True)
        self._habits = Habits()
        self.incidents: dict[str, Incident] = {}

    def observe(self, flows: pl.DataFrame) -> None:
        """Learn from flows in `FLOW_SCHEMA`, in the order of the source."""
        for step in self._pipeline.steps(flows):
            if step.tick_ns is not None:
                self._habits.tidy(step.tick_ns)
            self._habits.observe(step.flows, step.evidence, step.closed)
            self._note(step.incidents)

    def adopt(self, habits: dict[str, Any], incidents: list[Incident]) -> None:
        """Take over what was gathered elsewhere, of all flows there are: the state of `Habits`, and
        the incidents found on the way."""
        self._habits.restore(habits)
        self._note(incidents)

    def finish(self) -> Baseline:
        """What was learnt, once there are no more flows."""
        return trained(self._learnt())

    def update(self) -> Updated:
        """The baseline before with what was seen since, once there are no more flows."""
        since = self._learnt()
        troubled = self._trouble().filter(pl.col("domain").is_null())["actor"].unique()
        found = updated(self._before, since, troubled)
        return found._replace(baseline=trained(found.baseline))

    def _learnt(self) -> Baseline:
        self._note(self._pipeline.finish())
        return self._habits.baseline(self._trouble(), self._before.workloads["actor"])

    def _note(self, incidents: list[Incident]) -> None:
        self.incidents.update((incident.id, incident) for incident in incidents)

    def _trouble(self) -> pl.DataFrame:
        rows = []
        for incident in self.incidents.values():
            if incident.kind == "anomaly":
                continue  # strange, and no more: what is new would never be learnt
            since, until = incident.first_seen, incident.last_seen
            until += timedelta(microseconds=SILENCE_NS // 1_000)
            zones = pl.Series([target.domain for target in incident.objects], dtype=pl.String)
            # Habits go by the registered domain, of which an incident tells the part it was about.
            domains = pl.select(pl.coalesce(name_parts(zones)["domain"], zones)).to_series()
            for domain in domains.unique(maintain_order=True):
                rows.append((incident.actor.workload, since, until, domain))
        return pl.DataFrame(rows, schema=TROUBLE_SCHEMA, orient="row")
