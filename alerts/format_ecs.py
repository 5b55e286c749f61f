"""Incidents as documents of the Elastic Common Schema, for Elasticsearch, OpenSearch and Logstash.

What ECS has no field for is under `sidelong.`. Source: ECS 8.17, field reference.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.incident import Incident, Kind, Severity, Status
from sidelong.alerts.message_text import KINDS, address, split, version
from sidelong.alerts.plain_text import fitted, harmless, label_names
from sidelong.alerts.receiver import event_key
from sidelong.alerts.techniques import technique

__all__ = ["ECS_VERSION", "ecs_bulk", "ecs_documents"]

ECS_VERSION: Final = "8.17.0"

_KEYWORD: Final = 1_024  # what is longer is not searched for
_SEVERITY: Final[Mapping[Severity, int]] = {
    "info": 10,
    "low": 21,
    "medium": 47,
    "high": 73,
    "critical": 99,
}
_ACTION: Final[Mapping[Status, str]] = {
    "open": "incident-opened",
    "update": "incident-updated",
    "closed": "incident-closed",
}
_NETWORK: Final[Mapping[Kind, str]] = {"dns_exfiltration": "dns"}


def ecs_documents(events: Sequence[Incident], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """One document for each event, its `event.id` the same at every repetition."""
    return [_document(event, labels) for event in events]


def ecs_bulk(events: Sequence[Incident], labels: Mapping[str, str]) -> bytes:
    """The body of a request to `_bulk`: each document created once, under its `event.id`."""
    lines = []
    for document in ecs_documents(events, labels):
        lines += [json.dumps({"create": {"_id": document["event"]["id"]}})]
        lines.append(json.dumps(document, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode()


def _document(incident: Incident, labels: Mapping[str, str]) -> dict[str, Any]:
    event = harmless(incident)
    plain = event.to_dict()
    namespace, workload = split(event.actor.workload)
    techniques = [technique(id_) for id_ in event.techniques]
    tactics = {known.tactic_id: known.tactic for known in techniques if known.tactic_id}
    addresses = [event.actor.ip, *(target.ip for target in event.objects)]
    hosts = [target.domain or target.workload for target in event.objects]
    document: dict[str, Any] = {
        "@timestamp": plain["last_seen"],
        "ecs": {"version": ECS_VERSION},
        "message": event.summary,
        "labels": label_names(plain_labels(labels)),
        "tags": ["sidelong", event.kind],
        "event": {
            "id": event_key(incident),
            "kind": "alert",
            "category": ["network", "intrusion_detection"],
            "type": ["info"],
            "action": _ACTION[event.status],
            "module": "sidelong",
            "dataset": "sidelong.incident",
            "provider": "sidelong",
            "created": plain["detected_at"],
            "start": plain["first_seen"],
            "end": plain["last_seen"],
            "severity": _SEVERITY[event.severity],
            "risk_score": round(event.score * 100, 2),
            "reason": fitted(event.summary, _KEYWORD),
        },
        "rule": {
            "id": event.kind,
            "name": KINDS[event.kind],
            "category": "sidelong",
            "version": version(),
        },
        "observer": {"vendor": "sidelong", "product": "sidelong", "version": version()},
        "orchestrator": _given(
            type="kubernetes",
            namespace=namespace,
            resource=_given(type="workload" if namespace else None, name=workload),
        ),
        "source": _given(address=event.actor.ip or workload, ip=address(event.actor.ip)),
        "network": _given(protocol=_NETWORK.get(event.kind)),
        "related": {
            "ip": sorted({ip for one in addresses if (ip := address(one))}),
            "hosts": sorted({one for one in (event.actor.pod, *hosts) if one}),
        },
        "sidelong": {
            "incident": event.id,
            "story": event.story,
            "status": event.status,
            "severity": event.severity,
            "completeness": event.completeness,
            "actor": plain["actor"],
            "objects": list(plain["objects"]),
            "counts": event.counts,
            "evidence": list(plain["evidence"]),
            "policy": event.policy,
        },
    }
    if len(event.objects) == 1:
        target = event.objects[0]
        document["destination"] = _given(
            address=target.ip or target.domain or target.workload,
            ip=address(target.ip),
            port=target.port,
            domain=target.domain,
        )
    if techniques:
        above = {known.parent: technique(known.parent).name for known in techniques}
        below = {known.id: known.name for known in techniques if known.parent != known.id}
        document["threat"] = {
            "framework": "MITRE ATT&CK",
            "tactic": {"id": list(tactics), "name": list(tactics.values())},
            "technique": {
                "id": list(above),
                "name": [name or id_ for id_, name in above.items()],
                "subtechnique": {
                    "id": list(below),
                    "name": [name or id_ for id_, name in below.items()],
                },
            },
        }
    return document


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
