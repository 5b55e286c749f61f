"""What alerts would have been, under a configuration, of incidents that have been.

Time is that of the events: an incident opens when it was detected, grows when it was last seen, and
closes ten minutes later. Nothing is sent, and no outbox is touched.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

import msgspec

from sidelong.alerts.grouping import Groups
from sidelong.alerts.incident import Incident
from sidelong.alerts.plan import Plan
from sidelong.alerts.receiver import Message
from sidelong.baseline_places import load_baseline
from sidelong.config import read_config
from sidelong.errors import ConfigError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.listing import headline
from sidelong.models.evidence import SILENCE_NS
from sidelong.naming import named_by
from sidelong.pipeline import Pipeline
from sidelong.progress import Reading, total_bytes
from sidelong.tally import Tally
from sidelong.terminal import Terminal, plural, printable, printable_json

__all__ = ["ALIKE", "DIFFERENT", "Foreseen", "foresee", "preview"]

ALIKE: Final = 0
DIFFERENT: Final = 1

_PEEK: Final = 1 << 20


@dataclass(slots=True)
class Foreseen:
    """What would have been told: of (incident, receiver) the events, in their order; by which route
    it went, what kept an incident back, and how many messages it would have been."""

    told: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    routes: dict[tuple[str, str], str] = field(default_factory=dict)
    suppressed: dict[str, str] = field(default_factory=dict)
    messages: int = 0
    muted: int = 0


def preview(
    inputs: Sequence[str],
    *,
    terminal: Terminal,
    config: str,
    against: str | None = None,
    baseline: str | None = None,
    pods: str | None = None,
    format: str | None = None,
    output: str | None = None,
) -> int:
    """Print where incidents would have gone, or with `against` what would be different; returns 1
    if something would have been sent, or be different, else 0.

    Errors: ConfigError for a configuration that cannot work; SourceError for an input that cannot
    be read.
    """
    new = _plan(config)
    old = _plan(against) if against else None
    events = list(_events(inputs, terminal, config, baseline, pods, format))
    after = foresee(new, events)
    before = foresee(old, events) if old else Foreseen()
    last = {event.id: event for event in events}
    as_json = output == "json" or (output is None and not terminal.out.is_terminal)
    rows = list(_rows(before, after, last, compared=old is not None))
    if as_json:
        for row in rows:
            terminal.out.file.write(printable_json(json.dumps(row)) + "\n")
        terminal.out.file.flush()
    else:
        _show(rows, last, terminal)
    _summary(before, after, last, terminal, compared=old is not None)
    return DIFFERENT if any(row["change"] != "kept" for row in rows) else ALIKE


def foresee(plan: Plan, events: Iterable[Incident]) -> Foreseen:
    """What a plan makes of events, in the order of the stream."""
    foreseen = Foreseen()
    now = 0.0
    suppressions = plan.suppressions
    groups = Groups(
        plan.mute, hushed=lambda event: suppressions.of(event, now) is not None, labels=plan.labels
    )
    for event in events:
        at = max(now, _moment(event))
        while (due := groups.next_due(now)) is not None and due <= at:
            now = max(now, due)
            _note(foreseen, groups.due(now))
        now = at
        routes, rule = plan.of(event, now)
        if rule is not None:
            foreseen.suppressed[event.id] = rule.id
            suppressions.note(rule, event)
        _note(foreseen, groups.offer(event, routes, now))
    _note(foreseen, groups.end(now))
    foreseen.muted = groups.counters["muted"]
    return foreseen


def _note(foreseen: Foreseen, messages: Sequence[Message]) -> None:
    for message in messages:
        foreseen.messages += 1
        for event in message.events:
            key = (event.id, message.receiver)
            foreseen.told.setdefault(key, []).append(message.occasion or event.status)
            foreseen.routes.setdefault(key, str(message.context["route"]))


def _moment(event: Incident) -> float:
    moment = event.detected_at if event.status == "open" else event.last_seen
    return moment.timestamp() + (SILENCE_NS / 1e9 if event.status == "closed" else 0.0)


def _plan(path: str) -> Plan:
    config = read_config(path)
    names = [receiver.name for receiver in config.receivers]
    return Plan.read(config.alerts, names)


def _events(
    inputs: Sequence[str],
    terminal: Terminal,
    config: str,
    baseline: str | None,
    pods: str | None,
    format: str | None,
) -> Iterator[Incident]:
    """Incidents from files that hold some, and from replaying all others."""
    captures = []
    for name in inputs:
        path = Path(name)
        if format is None and path.is_file() and _holds_incidents(path):
            with path.open(encoding="utf-8") as file:
                yield from _read(name, file)
        else:
            captures.append(name)
    if not captures:
        return
    settings = read_config(config)
    model = load_baseline(baseline) if baseline else None
    sources = open_inputs(captures, format, settings)
    tally = Tally()
    with (
        named_by(pods, False, settings.kubernetes, terminal) as names,
        Reading(terminal, tally, "replaying", total_bytes(sources)) as reading,
    ):
        pipeline = Pipeline(baseline=model, pods=names)
        for batch in tally.counted(merged(sources)):
            yield from pipeline.process(batch.flows)
            reading.update()
        yield from pipeline.finish()
    terminal.bad_rows(tally.bad.count, tally.bad.samples)


def _holds_incidents(path: Path) -> bool:
    """Whether the first line is an incident."""
    with path.open("rb") as file:
        first = file.read(_PEEK).lstrip().partition(b"\n")[0]
    try:
        plain = msgspec.json.decode(first)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return isinstance(plain, dict) and {"id", "status", "kind", "story"} <= plain.keys()


def _read(name: str, lines: TextIO) -> Iterator[Incident]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line, type=Incident)
        except msgspec.MsgspecError as error:
            raise ConfigError(
                f"line {number} of {name} is no incident: {error}",
                hint="make the file with: sidelong replay INPUT --output json",
            ) from error


def _rows(
    before: Foreseen, after: Foreseen, last: Mapping[str, Incident], *, compared: bool
) -> Iterator[dict[str, str | int | None]]:
    """One row for each incident and receiver that is told of it, in the order of the incidents."""
    places = {id: number for number, id in enumerate(last)}
    keys = sorted({*before.told, *after.told}, key=lambda key: (places[key[0]], key[1]))
    for id, receiver in keys:
        was, will = before.told.get((id, receiver)), after.told.get((id, receiver))
        change = "added" if was is None else "removed" if will is None else "kept"
        yield {
            "change": change if compared else "sent",
            "incident": id,
            "receiver": receiver,
            "route": (after if will else before).routes[id, receiver],
            "told": ", ".join(will or was or []),
            "suppressed": after.suppressed.get(id) if will is None else None,
        }
    told = {id for id, _ in (*before.told, *after.told)}
    for id, rule in after.suppressed.items():
        if id not in told and not compared:
            yield {
                "change": "kept",
                "incident": id,
                "receiver": None,
                "route": None,
                "told": "",
                "suppressed": rule,
            }


_MARKS: Final = {"added": "+", "removed": "-", "kept": " ", "sent": " "}


def _show(
    rows: Sequence[Mapping[str, str | int | None]], last: Mapping[str, Incident], terminal: Terminal
) -> None:
    for row in rows:
        incident = last[str(row["incident"])]
        told = f"  ({row['told']})" if row["told"] else ""
        why = f"  suppressed by {row['suppressed']}" if row["suppressed"] else ""
        terminal.tell(
            f"{_MARKS[str(row['change'])]} {printable(str(row['receiver'] or 'nobody')):<16}  "
            f"{incident.id}  {headline(incident).plain}{told}{why}"
        )


def _summary(
    before: Foreseen,
    after: Foreseen,
    last: Mapping[str, Incident],
    terminal: Terminal,
    *,
    compared: bool,
) -> None:
    nobody = len(last) - len({id for id, _ in after.told})
    terminal.say(
        f"{plural(len(last), 'incident')}: {plural(after.messages, 'message')}, "
        f"{nobody} told nobody, {len(after.suppressed)} suppressed, "
        f"{plural(after.muted, 'event')} muted"
    )
    if compared:
        added, removed = after.told.keys() - before.told.keys(), before.told.keys() - after.told
        terminal.say(
            f"{plural(len(added), 'alert')} added, {len(removed)} removed; "
            f"{plural(before.messages, 'message')} before"
        )
    for rule, count in sorted(_hits(after).items()):
        terminal.say(f"  the suppression {rule} keeps back {plural(count, 'incident')}")


def _hits(foreseen: Foreseen) -> dict[str, int]:
    ids = list(foreseen.suppressed.values())
    return {id: ids.count(id) for id in ids}
