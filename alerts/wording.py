"""The words for an incident: its sentence, its evidence as observed against expected, its rank.

Names that come from traffic are quoted as they are; every output escapes for its own format.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sidelong.alerts.incident import Observation, Severity
from sidelong.models.dns_exfiltration import ALERT_BYTES
from sidelong.models.evidence import MICRO

if TYPE_CHECKING:
    from sidelong.alerts.open_incident import OpenIncident

__all__ = ["observations", "severity", "summary", "techniques"]

_FEW: Final = 5  # distinct peers or ports up to this are a list, beyond it a sweep

_REMOTE_SERVICES: Final = {
    22: "T1021.004",
    135: "T1021.003",
    139: "T1021.002",
    445: "T1021.002",
    3389: "T1021.001",
    5900: "T1021.005",
    5985: "T1021.006",
    5986: "T1021.006",
}


def severity(incident: "OpenIncident") -> Severity:
    """How soon a person should look."""
    if incident.kind == "scan":
        found = incident.counts().get("answered", 0) > 0
        return "high" if found or incident.reasons.get("DENIED", 0) > 0 else "medium"
    if incident.kind == "anomaly":
        return "info"
    return "high"


def techniques(incident: "OpenIncident") -> tuple[str, ...]:
    """MITRE ATT&CK techniques that the evidence supports."""
    if incident.kind == "scan":
        return ("T1046",)
    if incident.kind == "dns_exfiltration":
        return ("T1048.003", "T1071.004")
    named = {_REMOTE_SERVICES[port] for port in incident.ports if port in _REMOTE_SERVICES}
    return tuple(sorted(named)) or ("T1021",)


def summary(incident: "OpenIncident") -> str:
    """One sentence that a person understands."""
    if incident.kind == "scan":
        return _scan(incident)
    if incident.kind == "dns_exfiltration":
        return _dns(incident)
    return _lateral(incident)


def observations(incident: "OpenIncident") -> tuple[Observation, ...]:
    """What was observed, and what an ordinary workload would have shown."""
    if incident.parts:
        return tuple(
            Observation(
                part["feature"],
                part["observed"],
                part["expected"],
                round(part["log_evidence"] / MICRO, 2),
            )
            for part in incident.parts
        )
    counts = incident.counts()
    if incident.kind == "dns_exfiltration":
        return (
            Observation(
                "new_name_bytes",
                f"{counts['bytes']} in {counts['queries']} queries",
                f"below {ALERT_BYTES}, leaking 4096 a day",
                round(incident.nats, 2),
            ),
            *(
                Observation("name", sample, "never asked before", 0.0)
                for sample in incident.samples
            ),
        )
    failed = sum(counts.get(name, 0) for name in _FAILURES)
    return (
        Observation(
            f"{incident.statistic}_first_contacts",
            f"{failed} of {counts['contacts']} failed",
            "about 1 in 20 fails",
            round(incident.nats, 2),
        ),
        *(Observation("sample", sample, "never asked before", 0.0) for sample in incident.samples),
    )


_FAILURES: Final = ("refused", "unanswered", "denied", "unused_addresses")


def _scan(incident: "OpenIncident") -> str:
    counts = incident.counts()
    who = _who(incident)
    if incident.statistic == "paths":
        return (
            f"{who} guessed {counts['contacts']} paths of {_listed(list(incident.peers))} "
            f"{_within(incident)}: {_reasons(incident)}."
        )
    if incident.statistic == "services":
        return (
            f"{who} asked DNS for {counts['contacts']} services {_within(incident)}, "
            f"{incident.reasons.get('NXDOMAIN', 0)} of which do not exist."
        )
    if incident.statistic == "spread":
        return (
            f"{who} opened {counts['contacts']} new connections to {_listed(list(incident.peers))} "
            f"{_within(incident)}, far faster than it ever took up new peers."
        )
    ports = f"{counts['ports']:,} ports" if counts["ports"] > _FEW else f"port {_ports(incident)}"
    ended = ", ".join(
        f"{counts[name]:,} {name.replace('_', ' ')}"
        for name in (*_FAILURES, "answered")
        if name in counts
    )
    return f"{who} tried {ports} of {_peers(incident)} {_within(incident)}: {ended}."


def _dns(incident: "OpenIncident") -> str:
    if incident.statistic == "bypass":
        return (
            f"{_who(incident)} asked DNS servers that nobody here uses: "
            f"{_listed([f'{target.ip}:{target.port}' for target in incident.targets])}."
        )
    counts = incident.counts()
    types = ", ".join(list(incident.reasons)[:3])
    return (
        f"{_who(incident)} carried {counts['bytes']:,} bytes out in {counts['queries']:,} never-seen "
        f"names ({types}) under {_listed([str(target.domain) for target in incident.objects()])} "
        f"{_within(incident)}."
    )


def _lateral(incident: "OpenIncident") -> str:
    what = {part["feature"]: part for part in incident.parts}
    target = next(iter(incident.targets))
    where = f"{target.workload}:{target.port}" if target.port else f"{target.workload}"
    if "chain" in what:
        return (
            f"{_who(incident)} connected to {where} for the first time, within half an hour of being "
            f"reached for the first time itself: {what['chain']['observed']}."
        )
    reasons = []
    if "sensitive_service" in what:
        reasons.append(f"{what['sensitive_service']['observed']}")
    if "other_namespace" in what:
        reasons.append("in another namespace")
    if "policy_denied" in what:
        reasons.append("denied by policy")
    told = f" ({' '.join(reasons)})" if reasons else ""
    known = what["new_edge"]["expected"] if "new_edge" in what else "its habits are not known"
    more = f", then to {len(incident.targets) - 1} more" if len(incident.targets) > 1 else ""
    return f"{_who(incident)} connected to {where}{told} for the first time{more}; {known}."


def _who(incident: "OpenIncident") -> str:
    instance = (incident.pod or incident.ip or "").rpartition("/")[2]
    if not instance or instance in incident.actor:
        return incident.actor
    return f"{incident.actor} ({instance})"


def _peers(incident: "OpenIncident") -> str:
    peers = list(incident.peers)
    return _listed(peers) if len(peers) <= _FEW else f"{len(peers):,} peers"


def _ports(incident: "OpenIncident") -> str:
    return ", ".join(str(port) for port in sorted(incident.ports))


def _listed(names: list[str]) -> str:
    told = ", ".join(names[:3])
    return told if len(names) <= 3 else f"{told} and {len(names) - 3:,} more"


def _reasons(incident: "OpenIncident") -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in incident.reasons.items())


def _within(incident: "OpenIncident") -> str:
    span = timedelta(microseconds=(incident.last_ns - incident.first_ns) // 1_000)
    seconds = span.total_seconds()
    if seconds < 1:
        return f"within {max(1, round(seconds * 1_000))} ms"
    if seconds < 120:
        return f"within {seconds:.1f} s"
    if seconds < 7_200:
        return f"within {seconds / 60:.0f} min"
    return f"within {seconds / 3_600:.1f} h"
