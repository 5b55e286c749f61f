"""Incidents and messages for tests, a line each."""

from datetime import UTC, datetime, timedelta
from typing import Final

from sidelong.alerts.incident import Actor, Incident, Status
from sidelong.alerts.receiver import Message

__all__ = ["incident", "message"]

_NOON: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)


def incident(name: str = "a", status: Status = "open", ports: int = 1) -> Incident:
    """An incident by its id; `ports` is what differs between its updates."""
    return Incident(
        id=name,
        status=status,
        kind="scan",
        severity="high",
        score=0.75,
        detected_at=_NOON,
        first_seen=_NOON - timedelta(seconds=5),
        last_seen=_NOON,
        actor=Actor("shop/frontend", pod="frontend-1", ip="10.0.0.1"),
        objects=(),
        counts={"ports": ports},
        story=name,
        summary=f"shop/frontend scans {ports} ports",
    )


def message(
    *events: Incident, to: str = "pager", occasion: str = "", created_at: float = 0.0
) -> Message:
    """A message to `to`; without events, of one new incident."""
    return Message(
        receiver=to, events=events or (incident(),), occasion=occasion, created_at=created_at
    )
