"""Incidents as OCSF Detection Findings, the form in which security lakes and SIEMs exchange them.

Source: OCSF 1.5.0, class detection_finding (2004) of category findings (2).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.incident import Incident, Severity, Status, Target
from sidelong.alerts.message_text import KINDS, address, split, title, version
from sidelong.alerts.plain_text import harmless
from sidelong.alerts.receiver import event_key
from sidelong.alerts.techniques import ATTACK_VERSION, technique

__all__ = ["CLASS_UID", "OCSF_VERSION", "ocsf_findings"]

OCSF_VERSION: Final = "1.5.0"
CLASS_UID: Final = 2004

_ACTIVITY: Final[Mapping[Status, tuple[int, str]]] = {
    "open": (1, "Create"),
    "update": (2, "Update"),
    "closed": (3, "Close"),
}
_STATUS: Final[Mapping[Status, tuple[int, str]]] = {
    "open": (1, "New"),
    "update": (2, "In Progress"),
    "closed": (4, "Resolved"),
}
_SEVERITY: Final[Mapping[Severity, tuple[int, str]]] = {
    "info": (1, "Informational"),
    "low": (2, "Low"),
    "medium": (3, "Medium"),
    "high": (4, "High"),
    "critical": (5, "Critical"),
}
_STATISTICAL: Final = 3  # type of an analytic


def ocsf_findings(events: Sequence[Incident], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """One finding for each event: created, updated or closed under the incident's id."""
    return [_finding(event, labels) for event in events]


def _finding(incident: Incident, labels: Mapping[str, str]) -> dict[str, Any]:
    event = harmless(incident)
    activity, activity_name = _ACTIVITY[event.status]
    status_id, status = _STATUS[event.status]
    severity_id, severity = _SEVERITY[event.severity]
    plain = event.to_dict()
    finding: dict[str, Any] = {
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": CLASS_UID * 100 + activity,
        "type_name": f"Detection Finding: {activity_name}",
        "time": _ms(event.last_seen),
        "start_time": _ms(event.first_seen),
        "end_time": _ms(event.last_seen),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "is_alert": event.status != "closed",
        "risk_score": round(event.score * 100),
        "message": event.summary,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": event_key(incident),
            "correlation_uid": event.story,
            "product": {"name": "sidelong", "vendor_name": "sidelong", "version": version()},
            "labels": [f"{name}:{value}" for name, value in plain_labels(labels).items()],
        },
        "finding_info": {
            "uid": event.id,
            "title": title(event),
            "desc": event.summary,
            "types": [KINDS[event.kind]],
            "created_time": _ms(event.detected_at),
            "first_seen_time": _ms(event.first_seen),
            "last_seen_time": _ms(event.last_seen),
            "analytic": {"uid": event.kind, "name": KINDS[event.kind], "type_id": _STATISTICAL},
            "attacks": [_attack(id_) for id_ in event.techniques],
        },
        "evidences": [
            *(_evidence(event, target) for target in event.objects or (Target(),)),
            {"name": "observations", "data": {"observations": plain["evidence"]}},
        ],
        "resources": _resources(event.objects),
        "unmapped": {"counts": event.counts, "completeness": event.completeness},
    }
    if event.policy:
        finding["remediation"] = {"desc": event.policy}
    return finding


def _attack(id_: str) -> dict[str, Any]:
    known = technique(id_)
    above = technique(known.parent)
    attack: dict[str, Any] = {
        "version": ATTACK_VERSION,
        "technique": {"uid": above.id, "name": above.name or above.id},
    }
    if known.parent != id_:
        attack["sub_technique"] = {"uid": id_, "name": known.name or id_}
    if known.tactic:
        attack["tactic"] = {"uid": known.tactic_id, "name": known.tactic}
    return attack


def _evidence(event: Incident, target: Target) -> dict[str, Any]:
    actor = event.actor
    evidence: dict[str, Any] = {
        "src_endpoint": _endpoint(actor.workload, actor.ip, instance=actor.pod)
    }
    if target.workload or target.ip or target.domain:
        evidence["dst_endpoint"] = _endpoint(
            target.workload or target.domain or target.ip or "",
            target.ip,
            port=target.port,
            hostname=target.domain,
        )
    if event.kind == "dns_exfiltration" and target.domain:
        evidence["query"] = {"hostname": target.domain}
    return evidence


def _endpoint(
    name: str,
    ip: str | None,
    *,
    instance: str | None = None,
    port: int | None = None,
    hostname: str | None = None,
) -> dict[str, Any]:
    told = {
        "name": name,
        "ip": address(ip),
        "instance_uid": instance,
        "port": port,
        "hostname": hostname,
    }
    return {key: value for key, value in told.items() if value is not None}


def _resources(targets: Sequence[Target]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for target in targets:
        if not target.workload:
            continue
        namespace, name = split(target.workload)
        resource = {"uid": target.workload, "name": name, "type": "workload"}
        found[target.workload] = resource | ({"namespace": namespace} if namespace else {})
    return list(found.values())


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
