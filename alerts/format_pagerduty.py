"""Incidents as events of PagerDuty, which pages with the first and closes with the last.

Source: PagerDuty, Events API v2: POST https://events.pagerduty.com/v2/enqueue, one event a request.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.incident import Incident, Severity
from sidelong.alerts.message_text import place, split, title
from sidelong.alerts.plain_text import fitted, harmless, unmentioning
from sidelong.alerts.techniques import technique

__all__ = ["LARGEST", "pagerduty_events"]

LARGEST: Final = 512 * 1024
"""Bytes of one event, beyond which PagerDuty refuses it."""

_SUMMARY: Final = 1_024
_SEVERITIES: Final[Mapping[Severity, str]] = {
    "info": "info",
    "low": "info",
    "medium": "warning",
    "high": "error",
    "critical": "critical",
}


def pagerduty_events(
    events: Sequence[Incident],
    labels: Mapping[str, str],
    *,
    routing_key: str,
    acknowledged: bool = False,
    headline: str | None = None,
) -> list[dict[str, Any]]:
    """One event of PagerDuty for each: trigger, or resolve for one that is closed.

    All events of one incident bear its id as their dedup_key, so that they meet in one alert of
    PagerDuty, however often they are sent. acknowledged: whether somebody has taken it on.
    headline: the summary instead of ours.
    """
    return [
        _event(harmless(event), labels, routing_key, acknowledged, headline) for event in events
    ]


def _event(
    event: Incident,
    labels: Mapping[str, str],
    routing_key: str,
    acknowledged: bool,
    headline: str | None,
) -> dict[str, Any]:
    opened = "acknowledge" if acknowledged else "trigger"
    namespace, _ = split(event.actor.workload)
    plain = event.to_dict()
    payload: dict[str, Any] = {
        "summary": fitted(headline or f"{title(event)}: {event.summary}", _SUMMARY, unmentioning),
        "source": event.actor.workload or "sidelong",
        "severity": _SEVERITIES[event.severity],
        "timestamp": plain["detected_at"],
        "component": event.actor.pod or event.actor.workload,
        "class": event.kind,
        "custom_details": {
            "status": event.status,
            "severity": event.severity,
            "score": event.score,
            "story": event.story,
            "first_seen": plain["first_seen"],
            "last_seen": plain["last_seen"],
            "towards": [place(target) for target in event.objects],
            "counts": event.counts,
            "techniques": [technique(id_).shown for id_ in event.techniques],
            "completeness": event.completeness,
            "labels": plain_labels(labels),
            "evidence": plain["evidence"],
            "policy": event.policy,
        },
    }
    if namespace:
        payload["group"] = namespace
    told = {
        "routing_key": routing_key,
        "event_action": "resolve" if event.status == "closed" else opened,
        "dedup_key": event.id,
        "client": "sidelong",
        "payload": payload,
    }
    details = payload["custom_details"]
    for part in ("evidence", "labels", "policy", "towards"):
        if len(json.dumps(told)) <= LARGEST:
            break
        del details[part]
    return told
