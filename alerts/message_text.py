"""What a message says of an incident, before any format escapes it: a title, a text, some facts."""

import functools
import importlib.metadata
import ipaddress
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, get_args

from sidelong.alerts.incident import Incident, Kind, Severity, Status, Target
from sidelong.alerts.techniques import technique

__all__ = [
    "KINDS",
    "SEVERITIES",
    "Fact",
    "address",
    "facts",
    "group_title",
    "moment",
    "place",
    "split",
    "title",
    "towards",
    "version",
    "worst",
]

Fact = tuple[str, str]
"""What it is, and the value."""

SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
"""From the least to the worst."""

KINDS: Final[Mapping[Kind, str]] = {
    "scan": "Scan",
    "dns_exfiltration": "DNS exfiltration",
    "lateral_movement": "Lateral movement",
    "anomaly": "Unusual traffic",
}

_STATUS: Final[Mapping[Status, str]] = {"open": "", "update": ", goes on", "closed": ", closed"}
_FEW: Final = 5


def title(incident: Incident) -> str:
    """One line: how severe, what, who, and whether it is new."""
    what = f"{KINDS[incident.kind]} by {incident.actor.workload}{_STATUS[incident.status]}"
    return f"[{incident.severity.upper()}] {what}"


def group_title(events: Sequence[Incident]) -> str:
    """One line for all of them: that of the only one, or how many and how severe."""
    if len(events) == 1:
        return title(events[0])
    return f"[{worst(events).severity.upper()}] {len({event.id for event in events})} incidents"


def worst(events: Sequence[Incident]) -> Incident:
    """The most severe one, the first of several."""
    return max(events, key=lambda event: SEVERITIES.index(event.severity))


def facts(incident: Incident) -> list[Fact]:
    """What a person asks next: who, towards what, when, what it is called, what was not seen."""
    actor = incident.actor
    told: list[Fact] = [("Actor", actor.workload)]
    if actor.pod or actor.ip:
        told.append(("Pod", " ".join(part for part in (actor.pod, actor.ip) if part)))
    if incident.objects:
        told.append(("Towards", towards(incident.objects)))
    told.append(("Seen", f"{moment(incident.first_seen)} to {moment(incident.last_seen)}"))
    if incident.techniques:
        told.append(("ATT&CK", ", ".join(technique(id_).shown for id_ in incident.techniques)))
    if incident.completeness < 1:
        told.append(("Seen of all traffic", f"{incident.completeness:.1%}"))
    story = "" if incident.story in ("", incident.id) else f", story {incident.story}"
    told.append(("Incident", f"{incident.id}{story}"))
    return told


def towards(targets: Sequence[Target], most: int = _FEW) -> str:
    """Where it went, the ports of one place together; at most so many places, and ports of each.

    >>> towards([Target("db", port=22), Target("db", port=80), Target(domain="a.example")])
    'db:22, 80; a.example'
    """
    ports: dict[str, list[str]] = {}
    for target in targets:
        name = place(Target(target.workload, target.ip, None, target.domain))
        numbers = ports.setdefault(f"[{name}]" if name.count(":") > 1 else name, [])
        if target.port is not None:
            numbers.append(str(target.port))
    told = [
        f"{name}:{_listed(numbers, most, ', ')}" if numbers else name
        for name, numbers in ports.items()
    ]
    return _listed(told, most, "; ")


def _listed(names: Sequence[str], most: int, between: str) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def place(target: Target) -> str:
    """Where it went: the workload, domain or address, with its port.

    >>> place(Target(workload="shop/db", ip="10.0.0.1", port=5432))
    'shop/db:5432'
    """
    name = target.workload or target.domain or target.ip or "?"
    if target.port is None:
        return name
    return f"[{name}]:{target.port}" if name.count(":") > 1 else f"{name}:{target.port}"


def address(text: str | None) -> str | None:
    """`text` if it is an IP address: what types an address refuses a whole document for another.

    >>> address("10.0.0.1"), address("10.0.0.1 or so")
    ('10.0.0.1', None)
    """
    try:
        return None if text is None or "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return None


def split(workload: str) -> tuple[str | None, str]:
    """Namespace and name of a workload; no namespace for what has none, such as a domain.

    >>> split("shop/frontend"), split("ip:10.0.0.1")
    (('shop', 'frontend'), (None, 'ip:10.0.0.1'))
    """
    namespace, slash, name = workload.partition("/")
    if not slash or not namespace or ":" in namespace:
        return None, workload
    return namespace, name


def moment(time: datetime) -> str:
    """To the second, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


@functools.cache
def version() -> str:
    """That of sidelong, which receivers note as the product's."""
    return importlib.metadata.version("sidelong")
