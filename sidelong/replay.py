"""Recorded or piped traffic through the pipeline, incidents to the screen as they are found."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace as with_changes
from math import floor

from sidelong.alerts.incident import Incident
from sidelong.alerts.suppressions import Suppressions
from sidelong.baseline_places import load_baseline, shown
from sidelong.config import Config, read_config
from sidelong.errors import SourceError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.source import Source
from sidelong.listing import JsonLines, Listing, Table, headline
from sidelong.map_strangeness import RANKS
from sidelong.naming import named_by
from sidelong.pipeline import Pipeline
from sidelong.progress import Reading, total_bytes
from sidelong.recording import Recorder
from sidelong.replaying import events_of, pipeline_of
from sidelong.report import reported
from sidelong.tally import Tally
from sidelong.terminal import Terminal, plural

__all__ = ["FOUND", "NOTHING_FOUND", "Known", "replay", "watch"]

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
    notify: bool = False,
    report: str | None = None,
) -> int:
    """Detect in `inputs` and print what is found; returns the exit status, 0 or 1.

    What the configuration suppresses is detected and counted, and not listed in a table that does
    not list every change. notify: tell the receivers of the configuration too. report: where to
    write a page about the run, also of one that is interrupted.

    Everything that can be wrong with the options is found before the first flow is read. Errors:
    ConfigError for a baseline, pod map or cluster that cannot be used, SourceError for an input
    that cannot be read, or in which nothing could be.
    """
    settings = read_config(config)
    model = load_baseline(baseline) if baseline else None
    sources = open_inputs(inputs, format, settings)
    as_table = output == "table" or (output is None and terminal.out.is_terminal)
    listing = Table(terminal, every_change=every_change) if as_table else JsonLines(terminal)
    known = Known(Suppressions.read(settings.alerts.suppressions), as_table, every_change)
    with (
        reported(report, terminal) as written,
        named_by(pods, kubernetes, settings.kubernetes, terminal) as names,
        _told(settings, terminal, notify) as tell,
    ):
        # A table shows no policy.
        advised = notify or not as_table or report is not None
        pipeline = pipeline_of(settings, model, names, advised=advised)
        tally = Tally()

        def write(interrupted: bool) -> None:
            if written:
                place = shown(baseline) if baseline else None
                hidden = frozenset(known.suppressed)
                written.write(
                    tally, sources, model, place, suppressed=hidden, interrupted=interrupted
                )

        try:
            found = watch(
                sources,
                pipeline,
                listing,
                terminal,
                known=known,
                tell=tell,
                recorder=written.recorder if written else None,
                tally=tally,
            )
        except KeyboardInterrupt:
            write(interrupted=True)
            raise
        write(interrupted=False)
    return FOUND if found else NOTHING_FOUND


class Known:
    """What is suppressed: kept out of a table, marked in one of every change, whole as JSON."""

    def __init__(self, suppressions: Suppressions, as_table: bool, every_change: bool) -> None:
        self._suppressions = suppressions
        self._marked = as_table and every_change
        self._hidden = as_table and not every_change
        self.ids: set[str] = set()
        self._heard: set[str] = set()

    @property
    def suppressed(self) -> set[str]:
        """The ids of incidents that were never told of."""
        return self.ids - self._heard

    def judge(self, events: Sequence[Incident], found: set[str]) -> Sequence[Incident]:
        """The events as they are to be listed; notes in `found` which are not suppressed."""
        if not self._suppressions.rules:
            found.update(event.id for event in events)
            return events
        now = time.time()
        listed = []
        for event in events:
            rule = self._suppressions.of(event, now)
            if rule is None:
                found.add(event.id)
                self._heard.add(event.id)
                listed.append(event)
                continue
            self.ids.add(event.id)
            if self._marked:
                listed.append(
                    with_changes(event, summary=f"(suppressed: {rule.id}) {event.summary}")
                )
            elif not self._hidden:
                listed.append(event)
        return listed


@contextmanager
def _told(
    settings: Config, terminal: Terminal, notify: bool
) -> Iterator[Callable[[Sequence[Incident]], object]]:
    """What tells receivers of events, until all are told; what tells nobody without `notify`."""
    if not notify:
        yield lambda _: None
        return
    from sidelong.notify import Notifier  # not for those who tell nobody

    def say(text: str) -> None:
        terminal.say(f"sidelong: {text}")

    notifier = Notifier(settings, lasting=False, say=say)
    notifier.start()
    try:
        yield notifier.emit
    finally:
        waiting = notifier.drain(final=True)
        told = notifier.counters()["receivers"].values()
        notifier.close()
        terminal.say(f"{plural(sum(int(one.get('delivered', 0)) for one in told), 'message')} sent")
        if waiting:
            terminal.say(
                f"sidelong: {plural(waiting, 'message')} could not be delivered yet; they are in "
                "the outbox: sidelong alerts list"
            )


def watch(
    sources: Sequence[Source],
    pipeline: Pipeline,
    listing: Listing,
    terminal: Terminal,
    *,
    known: Known | None = None,
    tell: Callable[[Sequence[Incident]], object] = lambda _: None,
    recorder: Recorder | None = None,
    tally: Tally | None = None,
) -> int:
    """Run the sources through the pipeline and show every event; returns how many incidents.

    known: what is suppressed, which does not count. tell: is called with every event. recorder:
    observes every step. tally: where what is read is counted. An interrupt ends the run early: what
    is known by then is still shown.
    """
    tally = tally or Tally()
    found: set[str] = set()
    reading = Reading(terminal, tally, "replaying", total_bytes(sources))

    known = known or Known(Suppressions(), False, False)

    latest: dict[str, Incident] = {}

    def show(events: Sequence[Incident]) -> None:
        if not events:
            return
        latest.update((event.id, event) for event in events)
        tell(events)
        if listed := known.judge(events, found):
            with reading.aside():
                listing.show(listed)

    try:
        with reading:
            for events in events_of(sources, pipeline, tally, recorder):
                show(events)
                reading.update([headline(incident) for incident in listing.open])
    finally:
        listing.end()
        terminal.bad_rows(tally.bad.count, tally.bad.samples)
        if tally.flows:
            _summary(terminal, [one for one in latest.values() if one.id in found])
            _report(terminal, tally, len(found), reading.rate)
        if pipeline.evicted:
            terminal.say(
                f"{plural(pipeline.evicted, 'entry', 'entries')} of what was remembered were let "
                "go: there was more than fits, and sight is narrower for it"
            )
        if suppressed := known.ids - found:
            terminal.say(f"{plural(len(suppressed), 'more incident')} suppressed; --all lists them")
    if not tally.flows and tally.bad.count:
        raise SourceError(
            f"none of {plural(tally.bad.count, 'row')} could be read",
            hint="say what the input is with --format",
        )
    if not tally.flows:
        terminal.say("sidelong: there was no flow to look at")
    return len(found)


def _summary(terminal: Terminal, incidents: Sequence[Incident]) -> None:
    """How bad, and how many stories it comes to; of one incident its entry has told all."""
    if len(incidents) < 2:
        return
    counted = Counter(one.severity for one in incidents)
    ranked = ", ".join(f"{counted[rank]:,} {rank}" for rank in RANKS if counted[rank])
    stories = len({one.story for one in incidents})
    terminal.say(f"{ranked}, in {plural(stories, 'story', 'stories')}")


def _report(terminal: Terminal, tally: Tally, found: int, rate: float) -> None:
    terminal.say(f"{plural(found, 'incident')} in {tally}, {rate:,.0f} flows/s")
    if tally.completeness < 1:
        percent = floor(tally.completeness * 10_000) / 100  # never up to 100
        missing = f"{plural(tally.lost, 'event')} lost, {plural(tally.bad.count, 'row')} unreadable"
        terminal.say(f"completeness {percent} %: {missing}")
