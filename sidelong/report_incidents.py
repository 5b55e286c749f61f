"""An incident as a report shows it: sentence, evidence, flows, policy, what could not be seen."""

from collections.abc import Mapping
from datetime import timedelta
from math import floor
from typing import Any, Final

import polars as pl
from markupsafe import Markup, escape

from sidelong.alerts.incident import Incident, Kind, Target
from sidelong.alerts.plain_text import harmless, plain
from sidelong.alerts.techniques import technique
from sidelong.ingest.schema import TCP_FLAGS
from sidelong.terminal import duration, moment

__all__ = ["KINDS", "MARKS", "incident_view", "lasting", "percent", "row_view", "targets_told"]

KINDS: Final[Mapping[Kind, str]] = {
    "scan": "Scan",
    "dns_exfiltration": "DNS exfiltration",
    "lateral_movement": "Lateral movement",
    "anomaly": "Anomaly",
}
MARKS: Final[Mapping[str, str]] = {
    "critical": "◆",
    "high": "▲",
    "medium": "●",
    "low": "○",
    "info": "·",
}
"""A shape for each severity, for those who cannot tell its colour."""

_FLOWS: Final = 20
_NAMED: Final = 3
_REFERENCE: Final = "https://attack.mitre.org/techniques/"


def incident_view(incident: Incident, flows: pl.DataFrame | None, anchor: str) -> dict[str, Any]:
    """Everything of an incident, ready for a template. flows: its sample (`SAMPLE_SCHEMA`)."""
    one = harmless(incident)
    shown = flows.head(_FLOWS) if flows is not None else None
    return {
        **row_view(one, anchor),
        "pod": one.actor.pod,
        "ip": one.actor.ip,
        "first": moment(one.first_seen),
        "last": moment(one.last_seen),
        "lasted": lasting(one.last_seen - one.first_seen),
        "score": f"{one.score:.2f}",
        "counts": [(_counted(name, count), f"{count:,}") for name, count in one.counts.items()],
        "techniques": [
            {"shown": technique(name).shown, "address": _REFERENCE + name.replace(".", "/")}
            for name in one.techniques
        ],
        "evidence": [
            {
                "feature": part.feature.replace("_", " "),
                "observed": part.observed,
                "expected": part.expected,
                "weight": f"{part.log_evidence:,.1f}" if part.log_evidence else "",
            }
            for part in one.evidence
        ],
        "completeness": percent(one.completeness),
        "complete": one.completeness >= 1,
        "flows": [_flow(row) for row in shown.iter_rows(named=True)] if shown is not None else [],
        "more_flows": max(0, flows.height - _FLOWS) if flows is not None else 0,
        "policy": _lines(one.policy) if one.policy else None,
    }


def row_view(incident: Incident, anchor: str) -> dict[str, Any]:
    """What of an incident fits into a row of a table."""
    return {
        "anchor": anchor,
        "id": incident.id,
        "kind": KINDS[incident.kind],
        "severity": incident.severity,
        "mark": MARKS[incident.severity],
        "status": "closed" if incident.status == "closed" else "still open at the end",
        "at": moment(incident.detected_at),
        "time": f"{incident.detected_at:%H:%M:%S}",
        "actor": incident.actor.workload,
        "targets": targets_told(incident),
        "summary": incident.summary,
    }


def targets_told(incident: Incident) -> str:
    """Towards what, the first few by name, each once."""
    names = list(dict.fromkeys(_target(target) for target in incident.objects))
    more = max(incident.counts.get("peers", 0), len(names)) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def percent(share: float) -> str:
    """A share as percent, never rounded up to all.

    >>> percent(1.0), percent(0.99999)
    ('100 %', '99.99 %')
    """
    return "100 %" if share >= 1 else f"{floor(share * 10_000) / 100:.2f} %"


def lasting(length: timedelta) -> str:
    """A length of time, also of what is over in less than a second.

    >>> lasting(timedelta(milliseconds=42)), lasting(timedelta(seconds=74))
    ('42 ms', '1 min 14 s')
    """
    if length >= timedelta(seconds=1):
        return duration(length)
    return f"{max(1, round(length.total_seconds() * 1_000))} ms" if length else "a moment"


def _counted(name: str, count: int) -> str:
    words = name.replace("_", " ")
    if count != 1 or not words.endswith("s"):
        return words
    return f"{words[:-3]}y" if words.endswith("ies") else words.removesuffix("s")


def _target(target: Target) -> str:
    return target.domain or target.workload or target.ip or "?"


def _lines(text: str) -> Markup:
    """Text of several lines, each made harmless by itself."""
    return Markup("\n").join(escape(plain(line, 2_000)) for line in text.split("\n"))


def _flow(row: Mapping[str, Any]) -> dict[str, Any]:
    port = "" if row["dst_port"] is None else f":{row['dst_port']}"
    source = "" if row["src_port"] is None else f":{row['src_port']}"
    return {
        "time": f"{row['time']:%H:%M:%S.%f}" if row["time"] else "",
        "src": f"{row['src'] or row['src_ip']}{source if row['reply'] else ''}",
        "dst": f"{row['dst'] or row['dst_ip']}{'' if row['reply'] else port}",
        "reply": bool(row["reply"]),
        "protocol": row["protocol"] or "",
        "verdict": (row["verdict"] or "").lower(),
        "what": _what(row),
        "said": (row["reason"] or "").replace("_", " ").lower(),
        "decisive": bool(row["decisive"]),
    }


def _what(row: Mapping[str, Any]) -> str:
    if row["dns_name"]:
        return f"{row['dns_type'] or 'DNS'} {row['dns_name']}"
    if row["method"] or row["path"]:
        status = "" if row["status"] is None else f" {row['status']}"
        return f"{row['method'] or ''} {row['path'] or ''}{status}".strip()
    if row["drop_reason"]:
        return str(row["drop_reason"])
    flags = row["tcp_flags"] or 0
    return " ".join(name for name, bit in TCP_FLAGS.items() if flags & bit)
