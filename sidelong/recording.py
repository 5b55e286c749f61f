"""A recording: what a run showed, small enough to draw, print and keep.

One pass over the stream, in columns. Everything is given out and dropped at event-time ticks, so
that a recording, as the incidents, does not depend on where the stream was cut into batches: what
is made from it (reports, notebooks, bundles) is the same each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.features.sides import sides
from sidelong.ingest.source import Source
from sidelong.pipeline import Step
from sidelong.recorded_contacts import RecordedContacts
from sidelong.recorded_names import RecordedNames, lookups_of
from sidelong.recorded_samples import RecordedSamples
from sidelong.recorded_timeline import RecordedTimeline
from sidelong.recording_bounds import RecordingBounds
from sidelong.tally import Tally

__all__ = ["Recorder", "Recording", "RecordingBounds", "Sight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the run could see. first, last: event times; None without a flow.

    completeness: the share, in [0, 1], of events that reached sidelong. bad, bad_samples: rows that
    could not be read. dropped: what the recording left out for want of room, by what it was.
    """

    flows: int = 0
    completeness: float = 1.0
    lost: int = 0
    bad: int = 0
    bad_samples: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    first: datetime | None = None
    last: datetime | None = None
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a run showed.

    incidents: the last state of each, in order of first appearance. contacts: `CONTACT_SCHEMA`,
    one row per edge. names: `NAME_SCHEMA`, one row per workload and domain. samples: by incident
    `SAMPLE_SCHEMA`, flows that brought its evidence. timeline: `TIMELINE_SCHEMA`, what happened
    when, of each incident and of the run. sight: what could be seen, and what was left out.
    """

    incidents: tuple[Incident, ...]
    contacts: pl.DataFrame
    names: pl.DataFrame
    samples: Mapping[str, pl.DataFrame]
    timeline: pl.DataFrame
    sight: Sight


class Recorder:
    """Records the steps of one pipeline, from the first to the last.

    Bounded by `bounds` after every tick; what is left out is counted in `Sight.dropped`.
    """

    def __init__(
        self,
        bounds: RecordingBounds = RecordingBounds(),  # noqa: B008, a frozen value
    ) -> None:
        self._bounds = bounds
        self._contacts = RecordedContacts(bounds.contacts)
        self._names = RecordedNames(bounds.names)
        self._samples = RecordedSamples(bounds)
        self._timeline = RecordedTimeline(bounds)
        self._incidents: dict[str, Incident] = {}
        self._live: dict[str, Incident] = {}
        self._origins: set[str] = set()
        self._clock_ns = 0
        self._left_out = 0

    def observe(self, step: Step) -> None:
        """Record a step of `Pipeline.steps`, or its last one, `Pipeline.end`; all, in order."""
        if step.tick_ns is not None:
            self._clock_ns = step.tick_ns
            self._tidy()
        rows = sides(step.flows)
        lookups = lookups_of(rows)
        zones = lookups.select("row", "zone")
        self._contacts.add(rows)
        self._names.add(lookups)
        named = rows.join(zones, on="row", how="left", maintain_order="left")
        self._samples.add(named, step.evidence)
        self._timeline.add(rows, step.evidence)
        if len(self._origins) < 64:
            self._origins.update(step.flows["origin"].drop_nulls().unique())
        self._tell(step.incidents)

    def finish(
        self,
        incidents: Sequence[Incident] = (),
        *,
        tally: Tally | None = None,
        sources: Sequence[Source] = (),
    ) -> Recording:
        """The recording of a stream that has ended.

        incidents: those of `Pipeline.finish`, if its step was not observed. tally, sources: what
        was read, and from where.
        """
        self._tell(incidents)
        self._tidy()
        return Recording(
            incidents=tuple(self._incidents.values()),
            contacts=self._contacts.frame(),
            names=self._names.frame(),
            samples=self._samples.frames(),
            timeline=self._timeline.frame(self._incidents.values()),
            sight=self._sight(tally or Tally(), sources),
        )

    def _tell(self, incidents: Sequence[Incident]) -> None:
        for incident in incidents:
            known = incident.id in self._incidents
            if not known and len(self._incidents) >= self._bounds.incidents:
                self._left_out += incident.status == "open"
                continue
            self._incidents[incident.id] = incident
            self._live[incident.id] = incident

    def _tidy(self) -> None:
        live = list(self._live.values())
        self._contacts.tidy()
        self._names.tidy()
        self._samples.tidy(self._clock_ns, live)
        self._timeline.tidy(self._clock_ns, live)
        self._live = {one.id: one for one in live if one.status != "closed"}

    def _sight(self, tally: Tally, sources: Sequence[Source]) -> Sight:
        dropped = {
            "incidents": self._left_out,
            "contacts": self._contacts.dropped,
            "names": self._names.dropped,
            "samples": self._samples.dropped,
            "activity": self._timeline.dropped,
        }
        return Sight(
            flows=tally.flows,
            completeness=tally.completeness,
            lost=tally.lost,
            bad=tally.bad.count,
            bad_samples=tally.bad.samples,
            sources=tuple(source.name for source in sources),
            origins=tuple(sorted(self._origins)),
            first=tally.first,
            last=tally.last,
            dropped={name: count for name, count in dropped.items() if count},
        )
