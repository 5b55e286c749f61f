"""An incident that the service found, in its counters, its log and its latency."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import printable
from sidelong.role import Labelled

__all__ = ["note"]


_SUMMARY: Final = 1_000  # characters of it in the log


def note(
    incident: Incident,
    role: str,
    log: logging.Logger,
    counters: Counter[str | Labelled],
    observe: Callable[[str, float], None],
) -> None:
    """Count an event of an incident; one that opens is logged, and how late it is measured."""
    labels = ("kind", incident.kind, "severity", incident.severity)
    counters["incidents", *labels, "status", incident.status] += 1
    if incident.status == "open":
        summary = printable(incident.summary, _SUMMARY)
        log.info(
            "%s incident %s: %s", incident.severity, incident.id, summary, extra={"role": role}
        )
        observe("source_to_incident_seconds", time.time() - incident.detected_at.timestamp())
