"""Holds what an incident says against a recount of the flows, number by number."""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import Final

import polars as pl
from publicsuffixlist import PublicSuffixList
from recount import Contact, Naming, Turned, contacts, edge_seconds, new_names, turned

from sidelong.alerts.incident import Incident

__all__ = ["Recount"]

_SILENCE_NS: Final = 600_000_000_000
_NOTICED_NS: Final = 300_000_000_000  # a quiet stream may notice the silence so much later
_NO_EXPERIENCE: Final = (67, 68, 123, 137, 138, 1900, 5353, 5355)
_FAILED: Final = ("refused", "unanswered", "denied")
_TWICE: Final = ("NULL", "KEY", "TYPE65399")


class Recount:
    """The flows of a capture, and those that were learnt from, for counting by hand."""

    def __init__(self, before: pl.DataFrame, flows: pl.DataFrame, who: Naming) -> None:
        self._flows = before, flows
        self._who = who

    @cached_property
    def _before(self) -> list[Turned]:
        return list(turned(self._flows[0], self._who))

    @cached_property
    def _seen(self) -> list[Turned]:
        return list(turned(self._flows[1], self._who))

    def disagreements(self, incident: Incident) -> list[str]:
        """What an incident says that the flows do not, in words; none for an honest one."""
        first = incident.evidence[0] if incident.evidence else None
        if first is None:
            return ["it has no evidence"]
        if first.feature in ("vertical_first_contacts", "horizontal_first_contacts"):
            return list(_differing(incident, self._scan(incident)))
        if first.feature == "new_name_bytes":
            return list(_differing(incident, self._names(incident)))
        if first.feature in ("new_edge", "chain") and incident.kind == "lateral_movement":
            return list(self._edge(incident))
        return []

    def _scan(self, incident: Incident) -> dict[str, object]:
        actor = incident.actor.workload
        known = {
            (one.peer_ip if one.peer.startswith(("ip:", "world:")) else one.peer, *one.service)
            for one in self._before
            if one.actor == actor
        }
        low, high = _ns(incident.first_seen), _ns(incident.last_seen) + _SILENCE_NS
        ended = sorted(contacts(self._seen, actor, frozenset(known)), key=lambda one: one.ended)
        ours = [one for one in ended if low - 1_000 <= one.ended <= high]
        after = [one for one in ended if high < one.ended <= high + _NOTICED_NS]
        ours += after[: max(0, incident.counts["contacts"] - len(ours))]
        found = {end: sum(one.ends == end for one in ours) for end in ("answered", *_FAILED)}
        told = incident.counts
        # An address that belongs to nobody is a way not to be there: told instead of what happened.
        for name in ("unanswered", "refused", "denied"):
            instead = min(found[name], told.get("unused_addresses", 0) - found.get("unused", 0))
            if told.get(name, 0) < found[name]:
                found[name] -= instead
                found["unused"] = found.get("unused", 0) + instead
        found = _settled(found, told, ours)
        failed = sum(one.ends in _FAILED for one in ours)
        last = max(one.ended for one in ours if one.ends in _FAILED)
        return {
            "contacts": len(ours),
            "peers": len({one.peer for one in ours}),
            "ports": len({one.port for one in ours}),
            "unused_addresses": found.pop("unused", 0),
            **found,
            "observed": f"{failed} of {len(ours)} failed",
            "first_seen": min(one.ended for one in ours),
            "last_seen": last,
        }

    def _names(self, incident: Incident) -> dict[str, object]:
        actor = incident.actor.workload
        zone = incident.objects[0].domain or ""
        domain = PublicSuffixList().privatesuffix(zone) or zone
        asked = {one.row["dns_name"] for one in self._before if one.actor == actor}
        low, high = _ns(incident.first_seen), _ns(incident.last_seen)
        names = [
            (name, kind)
            for time, name, kind in new_names(self._seen, actor, domain)
            if name not in asked and low - 1_000 <= time <= high + 1_000
        ]
        said = {name: len(name.encode()) - len(domain) - 1 for name, _ in names}
        total = sum(said.values())
        observed = f"{total} in {len(names)} queries"
        if twice := sum(said[name] for name, kind in names if kind in _TWICE):
            types = ", ".join(dict.fromkeys(kind for _, kind in names if kind in _TWICE))
            observed += f", {total + twice} with {types} counted twice"
        return {
            "queries": len(names),
            "bytes": total,
            "observed": observed,
            "zone": all(name == zone or name.endswith(f".{zone}") for name, _ in names),
            "samples": [name for name, _ in names[:5]],
        }

    def _edge(self, incident: Incident) -> Iterator[str]:
        actor = incident.actor.workload
        told = {one.feature: one for one in incident.evidence}
        used = edge_seconds(self._before, actor)
        seconds = sum(len(of) for edge, of in used.items() if edge[1] not in _NO_EXPERIENCE)
        if "new_edge" in told:
            found = re.findall(r"\d+", told["new_edge"].expected)
            if [int(one) for one in found] != [seconds, len(used)]:
                yield f"{told['new_edge'].expected}, not {seconds} seconds and {len(used)} edges"
        for target in incident.objects:
            port = target.port or 0
            edge = (target.workload or "", port if port < 32_768 else 0, "TCP")
            if edge in used:
                yield f"{edge} was used before"
            times = [one.time for one in self._seen if (one.actor, *one.edge) == (actor, *edge)]
            if not times or min(times) > _ns(incident.last_seen) + 1_000:
                yield f"{edge} was not used by then"


def _settled(found: dict[str, int], told: dict[str, int], ours: list[Contact]) -> dict[str, int]:
    """The counts as told, where they differ by answers that came just as a second was over."""
    spare = sum(one.borderline for one in ours)
    differing = sum(abs(found[name] - told.get(name, 0)) for name in ("answered", *_FAILED))
    if differing and differing <= 2 * spare:
        return found | {name: told.get(name, 0) for name in ("answered", *_FAILED)}
    return found


def _differing(incident: Incident, counted: dict[str, object]) -> Iterator[str]:
    told: dict[str, object] = {
        **dict.fromkeys(("answered", *_FAILED, "unused_addresses"), 0),
        **incident.counts,
        "observed": incident.evidence[0].observed,
        "first_seen": _ns(incident.first_seen),
        "last_seen": _ns(incident.last_seen),
        "zone": True,
        "samples": [one.observed for one in incident.evidence if one.feature == "name"],
    }
    for name, value in counted.items():
        said = told[name]
        same = said == value
        if name in ("first_seen", "last_seen"):
            same = abs(int(str(said)) - int(str(value))) <= 1_000  # told in microseconds
        if not same:
            yield f"{name}: told {said}, counted {value}"


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1_000
