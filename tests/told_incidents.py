"""Incidents for tests of what becomes of them."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from sidelong.alerts.incident import Actor, Incident, Severity, Status, Target
from sidelong.alerts.receiver import Message

__all__ = ["NOW", "closed", "opened", "told", "updated"]

NOW: Final = 1_795_000_000.0
"""2026-11-18, a Wednesday, 11:06:40 UTC."""

_MOMENT: Final = datetime.fromtimestamp(NOW, UTC)


def opened(id: str = "a1", **changes: Any) -> Incident:
    """A scan of the shop by its frontend, with `changes`."""
    plain: dict[str, Any] = {
        "id": id,
        "status": "open",
        "kind": "scan",
        "severity": "medium",
        "score": 0.6,
        "detected_at": _MOMENT,
        "first_seen": _MOMENT,
        "last_seen": _MOMENT,
        "actor": Actor("shop/frontend", "shop/frontend-7d", "10.244.1.7"),
        "objects": (Target("shop/cart", "10.244.1.8", 80),),
        "counts": {"contacts": 5},
        "techniques": ("T1046",),
        "story": f"story of {id}",
        "summary": f"{id} happened.",
    }
    return Incident(**(plain | changes))


def updated(before: Incident, severity: Severity | None = None) -> Incident:
    """The incident, grown."""
    return _later(before, "update", severity or before.severity)


def closed(before: Incident) -> Incident:
    """The incident, over."""
    return _later(before, "closed", before.severity)


def _later(before: Incident, status: Status, severity: Severity) -> Incident:
    plain = before.to_dict() | {"status": status, "severity": severity}
    plain["counts"] = {"contacts": before.counts["contacts"] * 4}
    plain["last_seen"] = (before.last_seen + timedelta(seconds=1)).isoformat()
    return msgspec.convert(plain, Incident)


def told(messages: list[Message]) -> list[tuple[str, str]]:
    """What messages say, in short: ("pager", "open a1"), or with the occasion of a reminder."""
    return [
        (one.receiver, f"{one.occasion or event.status} {event.id}")
        for one in messages
        for event in one.events
    ]
