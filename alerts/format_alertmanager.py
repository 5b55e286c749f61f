"""Incidents as alerts of Prometheus Alertmanager, which groups, silences and routes them.

Source: Alertmanager's API v2 (openapi.yaml): POST /api/v2/alerts takes a list of alerts. Labels are
what an alert is told apart by, so they hold nothing that changes with each incident: two updates
of one incident are one alert, and closing it resolves that alert.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sidelong.alerts.incident import Incident, Severity
from sidelong.alerts.message_text import KINDS, split, towards
from sidelong.alerts.plain_text import fitted, harmless, label_names
from sidelong.alerts.techniques import technique

__all__ = ["alertmanager_alerts"]

_OURS: Final = ("alertname", "kind", "severity", "namespace", "workload")
_TEXT: Final = 2_000


def alertmanager_alerts(
    events: Sequence[Incident],
    labels: Mapping[str, str],
    *,
    now: datetime,
    lasts: timedelta = timedelta(hours=24),
    before: Mapping[str, Severity] | None = None,
    headline: str | None = None,
    text: str | None = None,
) -> list[dict[str, Any]]:
    """One alert for each event, and one more to resolve it as it was when its severity has changed.

    An open incident fires until `now` + `lasts`, unless it is told of again or closed before: by
    itself Alertmanager would resolve it after five minutes. before: the severity that each incident
    (by id) was last told with. headline, text: annotations instead of our summary and description.
    """
    alerts = []
    for event in events:
        shown = harmless(event)
        notes = _annotations(shown, headline, text)
        closed = min(event.last_seen, now)
        ends = closed if event.status == "closed" else max(event.last_seen, now) + lasts
        alerts.append(_alert(shown, shown.severity, labels, notes, ends))
        earlier = (before or {}).get(event.id, event.severity)
        if earlier != event.severity:
            alerts.append(_alert(shown, earlier, labels, notes, closed))
    return alerts


def _alert(
    event: Incident,
    severity: Severity,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    ends: datetime,
) -> dict[str, Any]:
    namespace, workload = split(event.actor.workload)
    named = {
        "alertname": "Sidelong" + KINDS[event.kind].title().replace(" ", ""),
        "kind": event.kind,
        "severity": severity,
        "namespace": namespace or "",
        "workload": workload,
        **label_names(labels, taken=_OURS),
    }
    starts = event.detected_at
    return {
        "labels": {name: value for name, value in named.items() if value},
        "annotations": dict(annotations),
        "startsAt": _rfc3339(starts),
        "endsAt": _rfc3339(max(ends, starts)),
    }


def _annotations(event: Incident, headline: str | None, text: str | None) -> dict[str, str]:
    places = towards(event.objects)
    notes = {
        "summary": headline or event.summary,
        "description": text or f"Towards {places}" if places or text else "",
        "techniques": ", ".join(technique(id_).shown for id_ in event.techniques),
        "pod": event.actor.pod or "",
        "incident": event.id,
        "story": event.story,
        "score": f"{event.score:.2f}",
        "completeness": f"{event.completeness:.3f}",
    }
    return {name: fitted(value, _TEXT) for name, value in notes.items() if value}


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
