"""Recorded or piped traffic through the pipeline, incidents to the screen as they are found."""

from collections.abc import Sequence
from math import floor
from pathlib import Path

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_advice import Advice
from sidelong.alerts.policy_settings import PolicySettings
from sidelong.config import read_config
from sidelong.errors import SourceError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.source import Source
from sidelong.listing import JsonLines, Listing, Table, headline
from sidelong.models.baseline import Baseline
from sidelong.naming import named_by
from sidelong.pipeline import Pipeline
from sidelong.progress import Reading, total_bytes
from sidelong.tally import Tally
from sidelong.terminal import Terminal, plural

__all__ = ["FOUND", "NOTHING_FOUND", "replay", "watch"]

NOTHING_FOUND = 0
FOUND = 1


def replay(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    format: str | None = None,
    baseline: str | None = None,
    pods: str | None = None,
    kubernetes: bool = False,
    config: str | None = None,
    output: str | None = None,
    every_change: bool = False,
) -> int:
    """Detect in `inputs` and print what is found; returns the exit status, 0 or 1.

    Everything that can be wrong with the options is found before the first flow is read. Errors:
    ConfigError for a baseline, pod map or cluster that cannot be used, SourceError for an input
    that cannot be read, or in which nothing could be.
    """
    settings = read_config(config)
    model = Baseline.load(Path(baseline)) if baseline else None
    sources = open_inputs(inputs, format, settings)
    as_table = output == "table" or (output is None and terminal.out.is_terminal)
    advice = None if as_table else _advice(model, settings.policy)  # the table shows none
    listing = Table(terminal, every_change=every_change) if as_table else JsonLines(terminal)
    with named_by(pods, kubernetes, settings.kubernetes, terminal) as names:
        pipeline = Pipeline(baseline=model, pods=names, advice=advice)
        found = watch(sources, pipeline, listing, terminal)
    return FOUND if found else NOTHING_FOUND


def watch(
    sources: Sequence[Source], pipeline: Pipeline, listing: Listing, terminal: Terminal
) -> int:
    """Run the sources through the pipeline and show every event; returns how many incidents.

    An interrupt ends the run early: what is known by then is still shown.
    """
    tally = Tally()
    found: set[str] = set()
    reading = Reading(terminal, tally, "replaying", total_bytes(sources))

    def show(events: Sequence[Incident]) -> None:
        found.update(event.id for event in events)
        if events:
            with reading.aside():
                listing.show(events)

    try:
        with reading:
            for batch in tally.counted(merged(sources)):
                show(pipeline.process(batch.flows))
                reading.update([headline(incident) for incident in listing.open])
            show(pipeline.finish())
    finally:
        listing.end()
        terminal.bad_rows(tally.bad.count, tally.bad.samples)
        if tally.flows:
            _report(terminal, tally, len(found), reading.rate)
    if not tally.flows and tally.bad.count:
        raise SourceError(
            f"none of {plural(tally.bad.count, 'row')} could be read",
            hint="say what the input is with --format",
        )
    if not tally.flows:
        terminal.say("sidelong: there was no flow to look at")
    return len(found)


def _advice(model: Baseline | None, settings: PolicySettings) -> Advice:
    return Advice(model or Baseline.empty(), settings.selectors(), settings.kind)


def _report(terminal: Terminal, tally: Tally, found: int, rate: float) -> None:
    terminal.say(f"{plural(found, 'incident')} in {tally}, {rate:,.0f} flows/s")
    if tally.completeness < 1:
        percent = floor(tally.completeness * 10_000) / 100  # never up to 100
        missing = f"{plural(tally.lost, 'event')} lost, {plural(tally.bad.count, 'row')} unreadable"
        terminal.say(f"completeness {percent} %: {missing}")
