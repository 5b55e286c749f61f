"""What an incident teaches a baseline once a person has judged it."""

from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec
import polars as pl

from sidelong.alerts.incident import Incident, Target
from sidelong.features.names import name_parts
from sidelong.models.feedback import Allowance, Edge, Feedback, Scanner

__all__ = ["Lesson", "benign", "confirmed"]

_One = TypeVar("_One", bound=Edge | Allowance | Scanner)


class Lesson(NamedTuple):
    """What is said from now on, and what of it is new, in words."""

    feedback: Feedback
    taught: tuple[str, ...]


def benign(incident: Incident, before: Feedback, *, until: datetime) -> Lesson:
    """The incident is ordinary: its edges, its domains, or until a moment its actor's scanning.

    Only what the incident names is taught, the first twenty targets at most. To a domain twice what
    the incident carried may be said at once from now on, and more at about its rate.
    """
    actor, id = incident.actor.workload, incident.id
    if incident.kind == "scan":
        declared = Scanner(actor=actor, until=until, incident=id)
        rest = [one for one in before.scanners if one.actor != actor]
        feedback = msgspec.structs.replace(before, scanners=_sorted([*rest, declared]))
        return Lesson(feedback, (f"{actor} may scan until {until:%Y-%m-%d %H:%M %Z}",))
    edges, domains = _edges(incident), _domains(incident)
    feedback = msgspec.structs.replace(
        before,
        known_edges=_with(before.known_edges, edges),
        forbidden_edges=_without(before.forbidden_edges, edges),
        allowed_domains=_with(before.allowed_domains, domains),
        forbidden_domains=_without(before.forbidden_domains, domains),
    )
    taught = [f"{edge.actor} -> {edge.peer}:{edge.port} is known" for edge in edges]
    taught += [f"{one.actor} may say {one.bytes:,} bytes to {one.domain}" for one in domains]
    return Lesson(feedback, tuple(taught))


def confirmed(incident: Incident, before: Feedback) -> Lesson:
    """The incident is an attack: its edges and domains are forbidden, its actor is no scanner."""
    actor = incident.actor.workload
    if incident.kind == "scan":
        # What a scan touches may be what others, and its actor, use every day.
        rest = [one for one in before.scanners if one.actor != actor]
        taught = () if len(rest) == len(before.scanners) else (f"{actor} is no scanner any more",)
        return Lesson(msgspec.structs.replace(before, scanners=_sorted(rest)), taught)
    edges, domains = _edges(incident), _domains(incident)
    feedback = msgspec.structs.replace(
        before,
        known_edges=_without(before.known_edges, edges),
        forbidden_edges=_with(before.forbidden_edges, edges),
        allowed_domains=_without(before.allowed_domains, domains),
        forbidden_domains=_with(before.forbidden_domains, domains),
    )
    taught_edges = [f"{edge.actor} -> {edge.peer}:{edge.port} is forbidden" for edge in edges]
    taught_domains = [f"{one.actor} may ask nothing new of {one.domain}" for one in domains]
    return Lesson(feedback, (*taught_edges, *taught_domains))


def _edges(incident: Incident) -> list[Edge]:
    """The edges that an incident names; a resolver that was bypassed is the end of one too."""
    return [
        Edge(
            actor=incident.actor.workload,
            peer=peer,
            port=target.port,
            ip=target.ip,
            incident=incident.id,
        )
        for target in incident.objects
        if target.domain is None and target.port and (peer := _peer(target))
    ]


def _peer(target: Target) -> str | None:
    return target.workload or (f"ip:{target.ip}" if target.ip else None)


def _domains(incident: Incident) -> list[Allowance]:
    """The registered domains that an incident names, with all the bytes it carried."""
    zones = [target.domain for target in incident.objects if target.domain]
    parts = name_parts(pl.Series(zones, dtype=pl.String))["domain"].to_list()
    registered = dict.fromkeys(domain or zone for domain, zone in zip(parts, zones, strict=True))
    carried = incident.counts.get("bytes", 0)
    lasted = int((incident.last_seen - incident.first_seen).total_seconds())
    return [
        Allowance(
            actor=incident.actor.workload,
            domain=domain,
            bytes=carried,
            seconds=lasted,
            incident=incident.id,
        )
        for domain in registered
    ]


def _key(one: Edge | Allowance | Scanner) -> tuple[object, ...]:
    if isinstance(one, Edge):
        return one.actor, one.peer, one.port, one.ip
    return (one.actor, one.domain) if isinstance(one, Allowance) else (one.actor,)


def _with(before: tuple[_One, ...], more: list[_One]) -> tuple[_One, ...]:
    return _sorted([*_without(before, more), *more])


def _without(before: tuple[_One, ...], less: list[_One]) -> tuple[_One, ...]:
    keys = {_key(one) for one in less}
    return tuple(one for one in before if _key(one) not in keys)


def _sorted(entries: list[_One]) -> tuple[_One, ...]:
    return tuple(sorted(entries, key=lambda one: tuple(map(str, _key(one)))))
