"""The work of `sidelong explain`: from an id to an explanation, and to a bundle of its evidence."""

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from sidelong.alerts.incident import Incident
from sidelong.baseline_places import load_baseline
from sidelong.case import Case
from sidelong.case_opening import open_case, told_case
from sidelong.case_stream import CaseStream
from sidelong.config import read_config
from sidelong.errors import ConfigError
from sidelong.explanation_view import show
from sidelong.incident_finding import held, in_text, last_states
from sidelong.ingest.files import STANDARD_INPUT
from sidelong.listing import headline
from sidelong.terminal import Terminal, plural, printable_json

__all__ = ["explain"]

_LISTED: Final = 20
_LARGEST: Final = 64 << 20
_WHERE: Final = "give the traffic of its time, a bundle, or kafka://HOST:PORT/alerts as INPUT"


def explain(
    id: str,
    inputs: Sequence[str] = (),
    *,
    terminal: Terminal,
    baseline: str | None = None,
    format: str | None = None,
    pods: str | None = None,
    kubernetes: bool = False,
    config: str | None = None,
    bundle: str | None = None,
    output: str | None = None,
) -> int:
    """Print the explanation of an incident, and write its bundle; returns 0.

    id: of the incident, or how it begins; "-" for an alert in JSON on standard input. inputs: where
    to look; without any, what the service of `config` has told. Errors: ConfigError for an id that
    is not to be found, or of which there are several; SourceError for an input that cannot be read.
    """
    given: list[Incident] = []
    wanted: str | None = id
    if id == STANDARD_INPUT:
        if STANDARD_INPUT in inputs:
            raise ConfigError(
                "standard input is the alert, and cannot be the traffic too",
                hint="give the traffic as a file",
            )
        given = _alert()
        wanted = None
    elif not inputs and Path(id).exists():
        inputs, wanted = (id,), None

    def opened() -> Case:
        return open_case(
            inputs,
            baseline=baseline,
            pods=pods,
            config=config,
            format=format,
            kubernetes=kubernetes,
        )

    if given:
        case = opened() if inputs else _told(given, "standard input", baseline, config)
        incident = _only(last_states(given).values())
        if incident.id not in {one.id for one in case.incidents}:
            # It was found in other traffic, or by another baseline: what it says of itself holds.
            settings = read_config(config)
            stream = CaseStream(
                inputs=tuple(inputs),
                settings=settings,
                format=format,
                pods=pods,
                kubernetes=kubernetes,
            )
            model = load_baseline(baseline) if baseline else None
            terminal.say(f"sidelong: {incident.id} is not found in {', '.join(inputs)} again")
            case = told_case(given, "standard input", stream, model, baseline)
    else:
        case = opened() if inputs else _of_service(id, baseline, pods, config)
        incident = _only(case.incidents) if wanted is None else case.incident(wanted)
    _show(case, incident, terminal, output)
    if bundle:
        _bundle(case, incident, Path(bundle), terminal)
    return 0


def _show(case: Case, incident: Incident, terminal: Terminal, output: str | None) -> None:
    explanation = case.explain(incident)
    if output == "json":
        told = json.dumps(explanation.to_dict(), ensure_ascii=False)
        terminal.out.file.write(printable_json(told) + "\n")
        terminal.out.file.flush()
    else:
        show(explanation, terminal.out)


def _bundle(case: Case, incident: Incident, path: Path, terminal: Terminal) -> None:
    """The incident and those of its story, with their flows if there are any."""
    story = [one for one in case.incidents if one.story == incident.story]
    case.bundle(path, story)
    kept = case.all_flows(story) if case.parts.flows is not None else {}
    flows = sum(one.frame.height for one in kept.values())
    size = path.stat().st_size
    again = shlex.join(("sidelong", "explain", incident.id, str(path)))
    terminal.say(
        f"kept in {path}: {plural(len(story), 'incident')} and {plural(flows, 'flow')}, "
        f"{size:,} bytes; open it with: {again}"
    )


def _alert() -> list[Incident]:
    text = sys.stdin.read(_LARGEST)
    given = in_text(text, "standard input")
    if not given:
        raise ConfigError(
            "there is no incident on standard input",
            hint="pipe the JSON of an alert, or what sidelong replay --output json prints",
        )
    return given


def _told(events: Sequence[Incident], name: str, baseline: str | None, config: str | None) -> Case:
    stream = CaseStream(inputs=(), settings=read_config(config))
    return told_case(events, name, stream, load_baseline(baseline) if baseline else None, baseline)


def _of_service(id: str, baseline: str | None, pods: str | None, config: str | None) -> Case:
    """Where nothing is named: what the service has told, or what waits in its outbox."""
    if config is not None:
        return open_case(config, baseline=baseline, pods=pods)
    settings = read_config(None)
    events = list(held(settings))
    if not events:
        raise ConfigError(
            f"there is nothing to find {id!r} in: no input is named, and no outbox is at "
            f"{settings.delivery.outbox}",
            hint=f"{_WHERE}, or name the service's configuration with --config",
        )
    return _told(events, f"the outbox {settings.delivery.outbox}", baseline, None)


def _only(incidents: Iterable[Incident]) -> Incident:
    """The only incident there is. Errors: ConfigError, listing those there are."""
    found = list(incidents)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError("there is no incident in it", hint=_WHERE)
    listed = "\n".join(f"  {one.id}  {headline(one).plain}" for one in found[:_LISTED])
    more = f"\n  and {len(found) - _LISTED:,} more" if len(found) > _LISTED else ""
    raise ConfigError(
        f"there are {len(found):,} incidents, say which:\n{listed}{more}",
        hint="sidelong explain ID INPUT",
    )
