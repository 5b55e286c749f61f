"""Incidents as CloudEvents 1.0 in structured mode, which brokers and functions route by type.

Source: CloudEvents 1.0.2, core specification and JSON event format.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import harmless
from sidelong.alerts.receiver import event_key

__all__ = ["BATCH_TYPE", "EVENT_TYPE", "cloudevents"]

EVENT_TYPE: Final = "application/cloudevents+json"
BATCH_TYPE: Final = "application/cloudevents-batch+json"


def cloudevents(
    events: Sequence[Incident],
    labels: Mapping[str, str],
    *,
    source: str = "/sidelong",
    occasion: str = "",
) -> list[dict[str, Any]]:
    """One CloudEvent for each event.

    Its `id` is that of the incident, its status and a hash of the content, so that two updates of
    one incident differ and a repetition does not. `source` is the URI reference that names this
    sidelong. `data` is the incident, with the labels beside it.
    """
    return [_cloudevent(event, labels, source, occasion) for event in events]


def _cloudevent(
    event: Incident, labels: Mapping[str, str], source: str, occasion: str
) -> dict[str, Any]:
    shown = harmless(event)
    plain = shown.to_dict()
    return {
        "specversion": "1.0",
        "id": f"{shown.id}-{shown.status}-{event_key(event, occasion)[:16]}",
        "source": source,
        "type": f"dev.sidelong.incident.{shown.status}",
        "subject": shown.actor.workload,
        "time": plain["last_seen"],
        "datacontenttype": "application/json",
        "severity": shown.severity,  # extensions, to filter by
        "kind": shown.kind,
        "story": shown.story,
        "data": {**plain, "labels": plain_labels(labels)},
    }
