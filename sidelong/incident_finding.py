"""An incident by its id, or by how that begins: in text, in files, in what alerts hold."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from sidelong.alerts.incident import Incident
from sidelong.alerts.outbox_file import OutboxFile
from sidelong.alerts.receiver import Message
from sidelong.config import Config
from sidelong.errors import ConfigError

__all__ = ["SHORTEST", "chosen", "held", "holds_incidents", "in_text", "is_incident", "last_states"]

SHORTEST: Final = 4
"""So many characters of an id are needed at least."""

_PEEK: Final = 1 << 20
_MOST: Final = 1_000_000  # incidents of one topic or text
_SOME: Final = 3
_NESTED: Final = ("incident", "data", "event", "alert", "payload")


def chosen(id: str, known: Mapping[str, Incident], where: str, hint: str) -> Incident:
    """The incident with that id, or the only one whose id begins so.

    Errors: ConfigError when there is none or more than one; where: what was looked in.
    """
    if id in known:
        return known[id]
    alike = [one for one in known if len(id) >= SHORTEST and one.startswith(id)]
    if len(alike) == 1:
        return known[alike[0]]
    if alike:
        raise ConfigError(
            f"{len(alike)} incidents begin with {id!r}", hint=f"write one in full: {alike[0]}"
        )
    if id and len(id) < SHORTEST and any(one.startswith(id) for one in known):
        hint = f"write at least {SHORTEST} characters of the id"
    elif known:
        some = ", ".join(list(known)[:_SOME])
        more = len(known) - _SOME
        hint = f"there are {some}{f' and {more:,} more' if more > 0 else ''}"
    raise ConfigError(f"there is no incident {id!r} in {where}", hint=hint)


def last_states(events: Iterable[Incident]) -> dict[str, Incident]:
    """The last state of each incident, in the order of first appearance."""
    return {event.id: event for event in events}


def holds_incidents(path: Path) -> bool:
    """Whether a file begins with an incident, a line of JSON."""
    try:
        with path.open("rb") as file:
            first = file.read(_PEEK).lstrip().partition(b"\n")[0]
    except OSError:
        return False
    return is_incident(first)


def is_incident(text: bytes) -> bool:
    """Whether that is the JSON of an incident, as far as its keys tell."""
    try:
        plain = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(plain, dict) and {"id", "status", "kind", "story"} <= plain.keys()


def in_text(text: str, name: str) -> list[Incident]:
    """The incidents in JSON: one, lines of them, or what a webhook was sent around them.

    Errors: ConfigError, naming the line that is none.
    """
    try:
        return list(_within(msgspec.json.decode(text)))
    except (msgspec.MsgspecError, RecursionError):
        pass  # several lines of it, then
    found: list[Incident] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found += _within(msgspec.json.decode(line))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ConfigError(
                f"line {number} of {name} is no incident: {error}",
                hint="give what sidelong replay INPUT --output json prints, or an alert's JSON",
            ) from error
        if len(found) > _MOST:
            raise ConfigError(f"{name} holds more than {_MOST:,} events", hint="give a part of it")
    return found


def held(settings: Config) -> Iterator[Incident]:
    """Incidents that are open, wait, or could not be delivered, the latest state last."""
    outbox = Path(settings.delivery.outbox)
    if outbox.exists():
        file = OutboxFile(outbox)
        try:
            rows = file.read("SELECT body FROM messages WHERE body <> '' ORDER BY seq")
        finally:
            file.close()
        for (body,) in rows:
            yield from _events(body)
    try:
        state = json.loads(Path(f"{outbox}.groups.json").read_bytes())
        groups: list[dict[str, Any]] = state["groups"]["groups"]
        for group in groups:
            for plain in (*group["open"], *(one for events in group["pending"] for one in events)):
                yield Incident.of(plain)
    except (OSError, ValueError, KeyError, TypeError):
        return


def _events(body: str) -> tuple[Incident, ...]:
    try:
        return Message.of(body).events
    except ValueError:
        return ()


def _within(plain: object) -> Iterator[Incident]:
    """Incidents at the top, in a list, or where webhooks and CloudEvents put them."""
    if isinstance(plain, list):
        for one in plain:
            yield from _within(one)
        return
    if isinstance(plain, dict):
        if {"kind", "status", "story"} <= plain.keys():
            yield msgspec.convert(plain, Incident)
            return
        for name in (*_NESTED, *(f"{name}s" for name in _NESTED)):
            if isinstance(plain.get(name), dict | list):
                yield from _within(plain[name])
                return
    raise msgspec.ValidationError("it has no id, kind, status and story")
