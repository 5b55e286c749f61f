"""A case: what a stretch of traffic shows, and what can be asked of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_names import Selectors
from sidelong.alerts.policy_needs import Acquaintances
from sidelong.alerts.policy_suggestions import PolicyKind
from sidelong.case_baseline import USUAL_SCHEMA, KnownWorkload, usual_of
from sidelong.case_flows import MOST_FLOWS, FlowReader, Flows, Found
from sidelong.case_frames import escaped, html_note
from sidelong.case_incidents import Incidents
from sidelong.case_policy import PolicySuggestion, suggested
from sidelong.case_timeline import Timeline
from sidelong.case_what_if import Comparison
from sidelong.errors import ConfigError
from sidelong.explanation import Explanation, explained
from sidelong.models.baseline import Baseline
from sidelong.recording import Recording
from sidelong.sight import Finding
from sidelong.terminal import duration, moment, plural, printable

if TYPE_CHECKING:
    from sidelong.service_map import Graph

__all__ = ["Case", "CaseParts"]

WhatIf = Callable[[str | None, Mapping[str, Any], "Baseline | str | None"], Comparison]


@dataclass(frozen=True, kw_only=True)
class CaseParts:
    """What a case is made of, wherever it comes from.

    name: what was opened. recorded: whether `recording` holds more than incidents. baseline: None
    where none was given; judged_by: where it lies. selectors, policy_kind: how policies are
    written. findings: what the flows cannot show. usual: what forests take for usual, where it is
    not asked of the baseline. flows: finds the flows of incidents. what_if: replays; None where
    there is nothing to replay. typed: the inputs as they are typed.
    """

    name: str
    recording: Recording
    recorded: bool = True
    baseline: Baseline | None = None
    judged_by: str | None = None
    selectors: Selectors = field(default_factory=Selectors)
    policy_kind: PolicyKind = "cilium"
    findings: tuple[Finding, ...] = ()
    usual: pl.DataFrame | None = None
    flows: FlowReader | None = None
    what_if: WhatIf | None = None
    typed: tuple[str, ...] = ()


class Case:
    """Incidents with everything that belongs to them; made by `sidelong.open`.

    Wherever an incident is asked for, its id does, or how it begins, from four characters on.
    Tables are polars frames, in objects that show themselves in a notebook and have `to_pandas`.
    """

    def __init__(self, parts: CaseParts) -> None:
        self._parts: Final = parts
        self.incidents: Final = Incidents(parts.recording.incidents, parts.name)
        self._found: dict[tuple[str, int | None], Found] = {}

    @property
    def name(self) -> str:
        """What was opened."""
        return self._parts.name

    @property
    def parts(self) -> CaseParts:
        """What the case is made of: its recording, its baseline, what its flows cannot show."""
        return self._parts

    @property
    def contacts(self) -> pl.DataFrame:
        """Who talked to whom: one row an edge, see `CONTACT_SCHEMA`."""
        return self._parts.recording.contacts

    @property
    def names(self) -> pl.DataFrame:
        """Who asked DNS for what: one row a workload and registered domain, see `NAME_SCHEMA`."""
        return self._parts.recording.names

    def incident(self, id: "str | Incident") -> Incident:
        """The incident with that id. Errors: ConfigError when there is none, or more than one."""
        return self.incidents.find(id.id if isinstance(id, Incident) else id)

    def flows(self, incident: "str | Incident", limit: int | None = MOST_FLOWS) -> Flows:
        """The flows of an incident: what its actor did from five seconds before to as long after.

        They are read once more from where they came. limit: so many at most, those with an object
        of the incident first; None for all. Errors: SourceError for a source that is gone.
        """
        one = self.incident(incident)
        found = self.all_flows([one], limit)[one.id]
        return Flows(one, found)

    def all_flows(
        self, incidents: "Sequence[str | Incident]", limit: int | None = MOST_FLOWS
    ) -> Mapping[str, Found]:
        """The flows of several incidents by id, in one pass over the source."""
        if limit is not None and limit < 0:
            raise ConfigError(f"limit is {limit}", hint="give a number of flows, or None for all")
        wanted = [self.incident(one) for one in incidents]
        missing = [one for one in wanted if (one.id, limit) not in self._found]
        if missing:
            reader = self._parts.flows
            if reader is None:
                raise ConfigError(
                    f"{self.name} holds incidents without their flows",
                    hint="give the traffic too: sidelong.open(INCIDENTS, flows=TRAFFIC)",
                )
            for id, found in reader.of(missing, limit).items():
                self._found[id, limit] = found
        return {one.id: self._found[one.id, limit] for one in wanted}

    def graph(self, incident: "str | Incident | None" = None, hops: int = 1) -> "Graph":
        """Who talks to whom, beside the baseline: all, or around the actor of an incident."""
        from sidelong.service_map import Graph  # draws, which is not for everybody

        whole = Graph.of_recording(self._parts.recording, self._parts.baseline)
        if incident is None:
            return whole
        return whole.around(self.incident(incident).actor.workload, hops=hops)

    def timeline(self, incident: "str | Incident | None" = None) -> Timeline:
        """What happened when: in the whole case, or of the actor of an incident."""
        one = None if incident is None else self.incident(incident)
        rows = self._parts.recording.timeline
        which = pl.col("incident").is_null() if one is None else pl.col("incident") == one.id
        return Timeline(rows.filter(which), self.incidents, one)

    def baseline(self, workload: str) -> KnownWorkload:
        """What the baseline knows of a workload: edges, domains, how well it is known, what is
        usual for it. Errors: ConfigError where the case has no baseline."""
        known = self._known()
        usual = self._parts.usual
        if usual is None:
            usual = usual_of(known.forests, pl.Series([workload], dtype=pl.String))
        return KnownWorkload(workload, known, usual)

    def explain(self, incident: "str | Incident") -> Explanation:
        """Why it is one: observed against expected, the sums, what could not be seen, what next."""
        one = self.incident(incident)
        parts = self._parts
        return explained(
            one,
            others=self.incidents,
            samples=parts.recording.samples.get(one.id),
            baseline=parts.baseline,
            sight=parts.recording.sight if parts.recorded else None,
            findings=parts.findings,
            where=parts.typed,
            judged_by=parts.judged_by,
        )

    def policy(
        self,
        incident: "str | Incident",
        *,
        kind: PolicyKind | None = None,
        audit: bool = False,
    ) -> PolicySuggestion:
        """The smallest network policy that would have stopped an incident, tried on the baseline.

        kind: cilium, kubernetes or istio, else that of the configuration. audit: one that denies
        nothing yet.
        """
        chosen = kind or self._parts.policy_kind
        if audit and chosen == "kubernetes":
            raise ConfigError(
                "a NetworkPolicy holds as soon as it is there, and has no audit",
                hint="try it as kind='cilium'",
            )
        one = self.incident(incident)
        return suggested(one, self._acquaintances, self._parts.selectors, chosen, audit=audit)

    def what_if(
        self,
        config: "str | PathLike[str] | Mapping[str, Any] | None" = None,
        *,
        baseline: "Baseline | str | PathLike[str] | None" = None,
        **sections: Mapping[str, Any],
    ) -> Comparison:
        """The same stream judged otherwise, beside what was found.

        config: another configuration file, or settings that differ, by section. sections: the same
        as keywords, such as `anomaly={"alarms_per_day": 5}`. baseline: another baseline. What is
        found is what `sidelong replay` finds with that configuration. Errors: ConfigError for
        settings that cannot be used, and where there is no stream to replay.
        """
        replay = self._parts.what_if
        if replay is None:
            raise ConfigError(
                f"{self.name} holds no stream that could be replayed",
                hint="open the traffic itself, as sidelong.open(INPUT, baseline=DIR)",
            )
        changes = {**(config if isinstance(config, Mapping) else {}), **sections}
        path = None if config is None or isinstance(config, Mapping) else fspath(config)
        other = fspath(baseline) if isinstance(baseline, PathLike) else baseline
        return replay(path, changes, other)

    def bundle(
        self,
        path: "str | PathLike[str]",
        incidents: "Sequence[str | Incident] | None" = None,
        *,
        limit: int | None = MOST_FLOWS,
    ) -> Path:
        """Write the case into one file that `sidelong.open` reads anywhere; returns its path.

        incidents: those that go in with their flows, all without. limit: flows of each. Errors:
        ConfigError when it cannot be written.
        """
        from sidelong.bundle import write_bundle

        chosen = list(self.incidents) if incidents is None else incidents
        return write_bundle(self, Path(path), [self.incident(one) for one in chosen], limit)

    @cached_property
    def _acquaintances(self) -> Acquaintances:
        return Acquaintances(self._parts.baseline or Baseline.empty())

    def _known(self) -> Baseline:
        if self._parts.baseline is None:
            raise ConfigError(
                f"{self.name} was opened without a baseline",
                hint="sidelong.open(INPUT, baseline=DIR), as saved by sidelong learn",
            )
        return self._parts.baseline

    def usual(self) -> pl.DataFrame:
        """What forests take for usual of every workload of the baseline, see `USUAL_SCHEMA`."""
        if self._parts.usual is not None:
            return self._parts.usual
        known = self._parts.baseline
        if known is None:
            return USUAL_SCHEMA.to_frame()
        return usual_of(known.forests, known.workloads["actor"])

    def __repr__(self) -> str:
        return "\n".join([printable(self._told(), 1_000), repr(self.incidents)])

    def _repr_html_(self) -> str:
        blind = [one.observed for one in self._parts.findings if one.effects]
        notes = "".join(html_note(one) for one in blind)
        told = f"<p><b>{escaped(self._told(), 1_000)}</b></p>"
        return f"<div class='sidelong'>{told}{self.incidents._repr_html_()}{notes}</div>"

    def _told(self) -> str:
        sight = self._parts.recording.sight
        told = f"{self.name}: {plural(len(self.incidents), 'incident')}"
        if sight.first is not None and sight.last is not None:
            span = duration(sight.last - sight.first)
            told += f" in {plural(sight.flows, 'flow')} over {span}, from {moment(sight.first)}"
        if sight.completeness < 1:
            told += f", {100 * sight.completeness:.2f} % complete"
        if sight.dropped:
            left = ", ".join(f"{count:,} {name}" for name, count in sight.dropped.items())
            told += f"; left out for want of room: {left}"
        return told
