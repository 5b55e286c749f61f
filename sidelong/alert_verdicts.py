"""The work of `sidelong alerts ack`, `benign` and `confirm`: a person judges an incident."""

import getpass
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sidelong.alerts.audit import Entry, Verdict, append
from sidelong.alerts.incident import Incident
from sidelong.alerts.lessons import Lesson, benign, confirmed
from sidelong.baseline_places import feedback_on, load_baseline, save_feedback, shown
from sidelong.config import Config, read_config
from sidelong.errors import ConfigError
from sidelong.incident_finding import chosen, held, last_states
from sidelong.ingest.durations import length
from sidelong.listing import headline
from sidelong.policy import read_incidents
from sidelong.terminal import Terminal

__all__ = ["judge"]

_LICENCE: Final = timedelta(days=30)


def judge(
    id: str,
    verdict: Verdict,
    *,
    terminal: Terminal,
    config: str | None = None,
    incidents: str | None = None,
    baseline: str | None = None,
    by: str | None = None,
    why: str = "",
    lasts: str | None = None,
) -> int:
    """Write down what somebody says of an incident, and teach the baseline what follows; returns 0.

    id: of the incident, or how it begins. lasts: how long a benign scanner may scan.

    Errors: ConfigError for an incident that is not to be found, for a baseline or an audit trail
    that cannot be used.
    """
    settings = read_config(config)
    incident = _found(id, settings, incidents)
    now = datetime.now(UTC)
    lesson: Lesson | None = None
    if verdict != "ack":
        if baseline is None:
            raise ConfigError(
                f"{verdict} teaches a baseline, and none is given", hint="name it with --baseline"
            )
        load_baseline(baseline)  # which says what is wrong with it
        before = feedback_on(baseline)
        if verdict == "benign":
            until = now + (length(lasts, "--for") if lasts else _LICENCE)
            lesson = benign(incident, before, until=until.replace(microsecond=0))
        else:
            lesson = confirmed(incident, before)
    entry = Entry.on(
        incident,
        verdict,
        at=now,
        by=by or _user(),
        why=why,
        taught=lesson.taught if lesson else (),
    )
    # The trail first: a lesson without a teacher could not be traced.
    append(Path(settings.alerts.audit), entry)
    if lesson and baseline:
        save_feedback(lesson.feedback, baseline)
    terminal.say(f"{verdict}  {incident.id}  {headline(incident).plain}")
    for line in lesson.taught if lesson else ():
        terminal.say(f"  {line}")
    if lesson and not lesson.taught:
        terminal.say("  there is nothing that the baseline could learn from it")
    told = f"written to {settings.alerts.audit} as {entry.by}"
    if lesson and lesson.taught and baseline:
        told += f", and to {shown(baseline)}/feedback.json, which counts from the next start on"
    terminal.say(told)
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without such a user
        return f"uid {os.getuid()}"


def _found(id: str, settings: Config, incidents: str | None) -> Incident:
    """The last state of the incident in a file of incidents, or of those that alerts hold."""
    known = read_incidents(incidents) if incidents else last_states(held(settings))
    where = incidents or f"what waits beside or in the outbox {settings.delivery.outbox}"
    hint = "give --incidents FILE, as made by: sidelong replay INPUT --output json"
    return chosen(id, known, where, hint)
