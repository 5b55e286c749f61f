"""The words for an incident: its sentence, its evidence as observed against expected, its rank.

Names that come from traffic are quoted as they are; every output escapes for its own format.
"""

from datetime import timedelta
from typing import Final

from sidelong.alerts.incident import Kind, Observation, Severity
from sidelong.alerts.totals import Totals
from sidelong.models.allowances import ALERT_BYTES, LEAK_BYTES_PER_DAY
from sidelong.models.dns_exfiltration import TUNNEL_TYPES
from sidelong.models.evidence import MICRO
from sidelong.models.expectation import EXPECTED
from sidelong.models.guessing import REFUSALS
from sidelong.models.joint import JOINT
from sidelong.models.search_paths import TAKEN_BACK

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


def severity(totals: Totals, before: frozenset[Kind] = frozenset()) -> Severity:
    """How soon a person should look; one step sooner when an intrusion goes on.

    before: the kinds of incident that its story held when it opened.
    """
    if totals.kind == "anomaly":
        return "info"
    alone = totals.kind == "scan" and not (
        totals.counts().get("answered", 0) or totals.reasons.get("DENIED", 0)
    )
    goes_on = bool(before - {totals.kind, "anomaly"})
    return ("medium", "high", "critical")[(not alone) + goes_on]


def techniques(totals: Totals) -> tuple[str, ...]:
    """MITRE ATT&CK techniques that the evidence supports."""
    if totals.kind == "scan":
        return ("T1046",)
    if totals.kind == "dns_exfiltration":
        return ("T1048.003", "T1071.004")
    if totals.kind == "anomaly":
        return ()  # strange is all that is known
    named = {_REMOTE_SERVICES[port] for port in totals.ports if port in _REMOTE_SERVICES}
    if len(named) < len(totals.ports):
        named.add("T1210")  # nobody logs in there: what is reached is the service itself
    hops = any(part["feature"] == "chain" for part in totals.parts)
    if hops and not named.isdisjoint(_REMOTE_SERVICES.values()):
        named.add("T1570")  # tools travel with whoever logs in from hop to hop
    return tuple(sorted(named))


def summary(totals: Totals) -> str:
    """One sentence that a person understands."""
    if totals.kind == "scan":
        return _scan(totals)
    if totals.kind == "dns_exfiltration":
        return _dns(totals)
    if totals.kind == "anomaly":
        return _anomaly(totals)
    return _lateral(totals)


def observations(totals: Totals) -> tuple[Observation, ...]:
    """What was observed, and what an ordinary workload would have shown."""
    parts = tuple(
        Observation(
            part["feature"],
            part["observed"],
            part["expected"],
            round(part["log_evidence"] / MICRO, 2),
        )
        for part in totals.parts
        if part["feature"] != EXPECTED
    )
    if totals.kind in ("lateral_movement", "anomaly") or totals.statistic == "bypass":
        return parts
    if totals.kind == "dns_exfiltration":
        return _said(totals, supported=bool(parts)) + parts
    return _tried_first(totals) + parts  # of a strange window that supported it


def _said(totals: Totals, *, supported: bool) -> tuple[Observation, ...]:
    """The bytes of never-seen names, against what the bucket holds and leaks."""
    counts = totals.counts()
    said = f"{counts['bytes']} in {counts['queries']} queries"
    if totals.doubled:
        types = ", ".join(reason for reason in totals.reasons if reason in TUNNEL_TYPES)
        said += f", {counts['bytes'] + totals.doubled} with {types} counted twice"
    allowed = _expected(totals, f"below {ALERT_BYTES}, leaking {LEAK_BYTES_PER_DAY} a day")
    if totals.accomplices:  # all workloads together have four times as much
        allowed = f"below {4 * ALERT_BYTES}, leaking {4 * LEAK_BYTES_PER_DAY} a day"
    elif supported:
        allowed += ", or half as much beside strange minutes"
    return (
        Observation("new_name_bytes", said, allowed, round(totals.nats, 2)),
        *(Observation("name", sample, "never asked before", 0.0) for sample in totals.samples),
    )


def _tried_first(totals: Totals) -> tuple[Observation, ...]:
    """How many of what was tried for the first time failed, against how many do."""
    counts = totals.counts()
    if totals.statistic == "paths":
        failed = sum(totals.reasons.get(f"HTTP_{status}", 0) for status in REFUSALS)
        seen = f"{failed} of {counts['contacts']} refused or not found"
        expected = "about 1 in 10"
    elif totals.statistic == "services":
        seen = f"{totals.reasons.get('NXDOMAIN', 0)} of {counts['contacts']} do not exist"
        expected = "about 1 in 5"
    elif totals.statistic == "spread":
        seen = f"{totals.reasons.get('NEW_EDGE', 0)} new peers {_within(totals)}"
        expected = "no more than 20 an hour"
    else:
        failed = sum(counts.get(name, 0) for name in _FAILURES)
        seen = f"{failed} of {counts['contacts']} failed"
        expected = _expected(totals, "about 1 in 20 fails")
    return (
        Observation(f"{totals.statistic}_first_contacts", seen, expected, round(totals.nats, 2)),
        *(Observation("sample", sample, "never asked before", 0.0) for sample in totals.samples),
    )


def _expected(totals: Totals, otherwise: str) -> str:
    told = (part["expected"] for part in totals.parts if part["feature"] == EXPECTED)
    return str(next(told, otherwise))


_FAILURES: Final = ("refused", "unanswered", "denied", "unused_addresses")
_NO_TYPES: Final = (JOINT, TAKEN_BACK)


def _scan(totals: Totals) -> str:
    counts = totals.counts()
    who = _who(totals)
    if totals.statistic == "paths":
        return (
            f"{who} guessed {counts['contacts']} paths of {_listed(list(totals.peers))} "
            f"{_within(totals)}: {_reasons(totals)}."
        )
    if totals.statistic == "services":
        return (
            f"{who} asked DNS for {counts['contacts']} services {_within(totals)}, "
            f"{totals.reasons.get('NXDOMAIN', 0)} of which do not exist."
        )
    if totals.statistic == "spread":
        return (
            f"{who} opened {counts['contacts']} new connections to {_listed(list(totals.peers))} "
            f"{_within(totals)}, far faster than it ever took up new peers."
        )
    ended = ", ".join(
        f"{counts[name]:,} {name.replace('_', ' ')}"
        for name in (*_FAILURES, "answered")
        if name in counts
    )
    return f"{who} {_tried(totals)} {_peers(totals)} {_within(totals)}: {ended}."


def _dns(totals: Totals) -> str:
    if totals.statistic == "bypass":
        return (
            f"{_who(totals)} asked DNS servers that nobody here uses: "
            f"{_listed([f'{target.ip}:{target.port}' for target in totals.targets])}."
        )
    counts = totals.counts()
    zones = _listed([str(target.domain) for target in totals.objects()])
    if totals.accomplices:
        others = [name for name in totals.accomplices if name != totals.actor]
        return (
            f"{_who(totals)} and {_listed(others)} together carried over 4,096 bytes out in "
            f"never-seen names under {zones}."
        )
    types = ", ".join([reason for reason in totals.reasons if reason not in _NO_TYPES][:3])
    return (
        f"{_who(totals)} carried {counts['bytes']:,} bytes out in {counts['queries']:,} never-seen "
        f"names ({types}) under {zones} "
        f"{_within(totals)}."
    )


def _lateral(totals: Totals) -> str:
    what = {part["feature"]: part for part in totals.parts}
    target = next(iter(totals.targets))
    where = f"{target.workload}:{target.port}" if target.port else f"{target.workload}"
    if "mesh_bypass" in what:
        habit = what["mesh_bypass"]["expected"]
        return f"{_who(totals)} talked to {where} in plain text, past the mesh: it was {habit}."
    if "chain" in what:
        return (
            f"{_who(totals)} connected to {where} for the first time, within half an hour of being "
            f"reached for the first time itself: {what['chain']['observed']}."
        )
    denied = "policy_denied" in what
    place = [what["sensitive_service"]["observed"]] if "sensitive_service" in what else []
    place += ["in another namespace"] if "other_namespace" in what else []
    reasons = [" ".join(place)] if place else []
    reasons += ["denied by policy"] if denied else []
    reasons += ["which declared policies deny"] if "policy_ignored" in what else []
    told = f" ({', '.join(reasons)})" if reasons else ""
    did = "tried to connect" if denied else "connected"
    known = what["new_edge"]["expected"] if "new_edge" in what else "its habits are not known"
    more = f", then to {len(totals.targets) - 1} more" if len(totals.targets) > 1 else ""
    when = "again, a day later" if "STILL_USED" in totals.reasons else "for the first time"
    return f"{_who(totals)} {did} to {where}{told} {when}{more}; {known}."


def _anomaly(totals: Totals) -> str:
    if totals.statistic == "changed_dependencies":
        count = f"{totals.rows} new dependenc{'y' if totals.rows == 1 else 'ies'}"
        return (
            f"{_who(totals)} took up {count} within ten minutes of a rollout: "
            f"{_listed([f'{target.workload}:{target.port}' for target in totals.targets])}."
        )
    place = {
        "workload": "",
        "edge": f" towards {_listed(list(totals.peers))}",
        "domain": f" in its lookups below {_listed(list(totals.peers))}",
    }[totals.statistic]
    usual = ", ".join(
        f"{_number(part['expected'])} instead of {_number(part['observed'])} "
        f"{part['feature'].replace('_', ' ')}"
        for part in totals.parts
    )
    seldom = f"; it would be ordinary with {usual}" if usual else ""
    minutes = "a minute" if totals.rows == 1 else f"{totals.rows:,} minutes"
    return f"{_who(totals)} was unlike itself{place} in {minutes}{seldom}."


def _number(told: str) -> str:
    """`46 peers` without its unit; a share keeps its sign."""
    return told if told.endswith("%") else told.partition(" ")[0]


def _who(totals: Totals) -> str:
    instance = (totals.pod or totals.ip or "").rpartition("/")[2]
    if not instance or instance in totals.actor:
        return totals.actor
    return f"{totals.actor} ({instance})"


def _peers(totals: Totals) -> str:
    peers = list(totals.peers)
    return _listed(peers) if len(peers) <= _FEW else f"{len(peers):,} peers"


def _tried(totals: Totals) -> str:
    ports = sorted(totals.ports)
    if ports == [0]:  # ICMP has none
        return "pinged"
    if len(ports) > _FEW:
        return f"tried {len(ports):,} ports of"
    return f"tried port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports))} of"


def _listed(names: list[str]) -> str:
    told = ", ".join(names[:3])
    return told if len(names) <= 3 else f"{told} and {len(names) - 3:,} more"


def _reasons(totals: Totals) -> str:
    return ", ".join(
        f"{count:,} {reason}" for reason, count in totals.reasons.items() if reason != JOINT
    )


def _within(totals: Totals) -> str:
    span = timedelta(microseconds=(totals.last_ns - totals.first_ns) // 1_000)
    seconds = span.total_seconds()
    if seconds < 1:
        return f"within {max(1, round(seconds * 1_000))} ms"
    if seconds < 120:
        return f"within {seconds:.1f} s"
    if seconds < 7_200:
        return f"within {seconds / 60:.0f} min"
    return f"within {seconds / 3_600:.1f} h"
