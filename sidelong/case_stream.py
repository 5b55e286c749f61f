"""A stream that can be replayed: which inputs, how they are named, by what they are judged."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.case_progress import progress
from sidelong.config import Config
from sidelong.doctor import examine
from sidelong.errors import SourceError
from sidelong.ingest.files import STANDARD_INPUT
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import Batch, Source
from sidelong.ingest.topic_address import is_topic, topic_address
from sidelong.models.baseline import Baseline
from sidelong.naming import named_by
from sidelong.recording import Recorder, Recording
from sidelong.replaying import events_of, pipeline_of
from sidelong.sight import Finding, Sample
from sidelong.tally import Tally
from sidelong.terminal import Terminal, plural

__all__ = ["CaseStream", "Replayed"]

_LEAD: Final = timedelta(minutes=10)
_LOOKED_AT: Final = 20_000  # flows by which it is judged what a source can show


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What one replay gave: its recording, every event in order, and what its flows can show."""

    recording: Recording
    events: tuple[Incident, ...]
    findings: tuple[Finding, ...]


@dataclass
class _Looking(Tally):
    """A tally that keeps the first flows."""

    head: pl.DataFrame = field(default_factory=empty_flows)

    def add(self, batch: Batch) -> None:
        super().add(batch)
        room = _LOOKED_AT - self.head.height
        if room > 0:
            self.head = pl.concat([self.head, batch.flows.head(room)])


@dataclass(frozen=True, kw_only=True)
class CaseStream:
    """Inputs as they are named on the command line, and who is who in them."""

    inputs: tuple[str, ...]
    settings: Config
    format: str | None = None
    pods: str | None = None
    kubernetes: bool = False

    @property
    def is_read_once(self) -> bool:
        """Whether it cannot be read again."""
        return STANDARD_INPUT in self.inputs

    def opened(self) -> list[Source]:
        """The sources, from their beginning. Errors: as `open_inputs`."""
        return open_inputs(self.inputs, self.format, self.settings)

    def opened_for(self, moment: datetime) -> list[Source]:
        """The sources from so long before a moment that everybody is known by name by then.

        Only topics can be read from the midst. Errors: as `open_inputs`.
        """
        topics = [one for one in self.inputs if is_topic(one)]
        if not topics:
            return self.opened()
        from sidelong.ingest.topic_source import partitions_of  # Kafka's client: for topics alone

        others = [one for one in self.inputs if one not in topics]
        sources = open_inputs(others, self.format, self.settings) if others else []
        since_ms = int((moment - _LEAD).timestamp() * 1_000)
        for url in topics:
            address = topic_address(url, self.settings.kafka)
            sources += partitions_of(address, self.settings, follow=False, since_ms=since_ms)
        return sources

    def names(self) -> AbstractContextManager[PodMaps | None]:
        """Who gives addresses their names. Errors: as `named_by`."""
        return named_by(self.pods, self.kubernetes, self.settings.kubernetes, Terminal())

    def replayed(self, settings: Config, model: Baseline | None) -> Replayed:
        """Detect in the stream and record what it shows.

        Errors: ConfigError, SourceError, as `sidelong replay`.
        """
        sources = self.opened()
        tally = _Looking()
        recorder = Recorder()
        events: list[Incident] = []
        with self.names() as names, progress("replaying", sources, tally) as shown:
            pipeline = pipeline_of(settings, model, names)
            for found in events_of(sources, pipeline, tally, recorder):
                events += found
                shown(None)
            if not tally.flows and tally.bad.count:
                raise SourceError(
                    f"none of {plural(tally.bad.count, 'row')} could be read",
                    hint="say what the input is with format",
                )
            findings = examine(Sample(flows=tally.head, pods=names, bad=tally.bad))
        recording = recorder.finish(tally=tally, sources=sources)
        return Replayed(recording=recording, events=tuple(events), findings=tuple(findings))

    @contextmanager
    def shown(self, sources: Sequence[Source]) -> Iterator[Callable[[Batch], None]]:
        """What shows how far the flows of an incident were looked for."""
        with progress("looking for flows", sources, Tally()) as update:
            yield update

    @property
    def typed(self) -> tuple[str, ...]:
        """The inputs and options as they are typed behind a command, each a word of its own."""
        pods = ("--pods", self.pods) if self.pods else ()
        format = ("--format", self.format) if self.format else ()
        return (*self.inputs, *pods, *format, *(("--kubernetes",) if self.kubernetes else ()))
