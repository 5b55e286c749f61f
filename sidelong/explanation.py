"""An incident explained: who did what, why it is strange, what was not seen, what to do next."""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.techniques import technique
from sidelong.case_incidents import target_text
from sidelong.evidence_arithmetic import THRESHOLD, arithmetic, nats_of
from sidelong.evidence_meanings import limits_of, meaning_of
from sidelong.models.baseline import Baseline
from sidelong.recording import Sight
from sidelong.sight import Finding
from sidelong.terminal import plural, printable

__all__ = ["Explanation", "Next", "Number", "explained"]

_ATTACK: Final = "https://attack.mitre.org/techniques/"
_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?\Z")
_FLOWS: Final = 8
_SAID: Final = 72  # characters of a name or a path in one of them
_OBJECTS: Final = 20


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of evidence: observed against expected, its weight in nats, what it means."""

    feature: str
    observed: str
    expected: str
    nats: float
    meaning: str


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do; command: to be typed, if there is one."""

    what: str
    command: str | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All there is to say of an incident, as plain values. Shown by `explanation_view`.

    nats, threshold: what is held against the actor, and from where on it is an incident. numbers:
    observed against expected. arithmetic: the sums, to be done by hand. techniques: MITRE ATT&CK.
    story: the other incidents of its story, a line each. flows: some that brought the evidence.
    unseen: what could not be seen. next: what to do.
    """

    version: int = 1
    id: str
    kind: str
    severity: str
    status: str
    sentence: str
    actor: dict[str, str | None]
    objects: list[str]
    detected_at: str
    first_seen: str
    last_seen: str
    nats: float
    threshold: float
    score: float
    numbers: list[Number]
    arithmetic: list[str]
    techniques: list[dict[str, str | None]]
    story: list[str]
    flows: list[str]
    unseen: list[str]
    next: list[Next]
    policy: str | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told

    def __str__(self) -> str:
        from sidelong.explanation_view import as_text

        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from sidelong.explanation_view import as_html

        return as_html(self)


def explained(
    incident: Incident,
    *,
    others: Sequence[Incident] = (),
    samples: pl.DataFrame | None = None,
    baseline: Baseline | None = None,
    sight: Sight | None = None,
    findings: Sequence[Finding] = (),
    where: Sequence[str] = (),
    judged_by: str | None = None,
) -> Explanation:
    """The explanation of an incident.

    others: the incidents of the same case. samples: `SAMPLE_SCHEMA`. sight, findings: what its
    flows could show; None where only the incident itself is at hand. where: the inputs and options,
    as they are typed. judged_by: the name of the baseline.
    """
    plain = incident.to_dict()
    return Explanation(
        id=incident.id,
        kind=incident.kind,
        severity=incident.severity,
        status=incident.status,
        sentence=incident.summary,
        actor=plain["actor"],
        objects=[target_text(one) for one in incident.objects[:_OBJECTS]],
        detected_at=plain["detected_at"],
        first_seen=plain["first_seen"],
        last_seen=plain["last_seen"],
        nats=round(nats_of(incident), 2),
        threshold=round(THRESHOLD, 2),
        score=incident.score,
        numbers=[
            Number(
                feature=one.feature,
                observed=one.observed,
                expected=one.expected,
                nats=one.log_evidence,
                meaning=meaning_of(one.feature),
            )
            for one in incident.evidence
        ],
        arithmetic=list(arithmetic(incident, samples, baseline)),
        techniques=[_technique(one) for one in incident.techniques],
        story=[_line(one) for one in others if one.story == incident.story and one != incident],
        flows=list(_flow_lines(samples)),
        unseen=list(_unseen(incident, baseline, sight, findings, samples)),
        next=list(_next(incident, others, where, judged_by)),
        policy=incident.policy,
    )


def _technique(id: str) -> dict[str, str | None]:
    known = technique(id)
    return {
        "id": id,
        "name": known.shown,
        "tactic": known.tactic,
        "url": _ATTACK + id.replace(".", "/") + "/"
        if re.fullmatch(r"T\d{4}(\.\d{3})?", id)
        else None,
    }


def _line(incident: Incident) -> str:
    moment = incident.to_dict()["detected_at"]
    return f"{incident.id}  {moment}  {incident.severity} {incident.kind}: {incident.summary}"


def _flow_lines(samples: pl.DataFrame | None) -> Iterator[str]:
    if samples is None:
        return
    best = samples.sort("decisive", "row", descending=[True, False]).head(_FLOWS).sort("row")
    first = samples.filter("decisive").head(1)["row"].to_list()
    for row in best.iter_rows(named=True):
        said = row["dns_name"] or " ".join(
            str(row[name]) for name in ("method", "path", "status") if row[name] is not None
        )
        flags = [row["verdict"], row["drop_reason"], row["reason"]]
        told = [
            f"{row['time']:%H:%M:%S.%f}"[:-3] if row["time"] else "",
            f"{_end(row['src'], row['src_ip'], row['src_port'])} -> "
            f"{_end(row['dst'], row['dst_ip'], row['dst_port'])}/{row['protocol']}",
            ", ".join(dict.fromkeys(str(one) for one in flags if one)),
            *([printable(said, _SAID)] if said else []),
            f"{row['log_evidence']:+.2f} nats",
        ]
        yield "  ".join(told) + ("  <- decided" if row["row"] in first else "")
    if samples.height > _FLOWS:
        yield f"and {plural(samples.height - _FLOWS, 'flow')} more in the case"


def _end(name: str | None, ip: str | None, port: int | None) -> str:
    end = name or ip or "?"
    return end if port is None else f"{end}:{port}"


def _unseen(
    incident: Incident,
    baseline: Baseline | None,
    sight: Sight | None,
    findings: Iterable[Finding],
    samples: pl.DataFrame | None,
) -> Iterator[str]:
    if incident.completeness < 1:
        missing = 100 * (1 - incident.completeness)
        yield f"{missing:.2g} % of the events did not reach sidelong by then."
    if sight is None:
        yield "Only the incident is at hand, no flows: give the traffic of its time as INPUT."
    elif sight.bad:
        yield f"{plural(sight.bad, 'row')} could not be read."
    if sight is not None and baseline is None:
        yield "No baseline was given: nobody's habits were known."
    for finding in findings:
        if incident.kind in finding.effects:
            yield f"{finding.observed.rstrip('.')}. Cure: {finding.cure.rstrip('.')}."
    if samples is not None and incident.kind != "scan" and 0 < _unsized(samples) == samples.height:
        yield "The source tells no bytes: how much was carried is not known."
    yield from limits_of(incident.kind)


def _unsized(samples: pl.DataFrame) -> int:
    return samples["bytes"].null_count()


def _next(
    incident: Incident, others: Sequence[Incident], where: Sequence[str], judged_by: str | None
) -> Iterator[Next]:
    pod = _kubectl(incident)
    if pod:
        yield Next(what="See what runs there, since when, and from which image.", command=pod)
    yield from _by_kind(incident)
    later = [
        one
        for one in others
        if one.story == incident.story and one.detected_at > incident.detected_at
    ]
    if later:
        yield Next(what=f"Go on with what came after it in the same story: {later[0].id}.")
    given = f" --baseline {shlex.quote(judged_by)}" if judged_by else " --baseline DIR"
    found = "--incidents found.jsonl"
    id = shlex.quote(incident.id)  # which may be anybody's, as all of an alert
    if where:
        yield Next(
            what="Keep the incidents as a file, for the commands below.",
            command=f"sidelong replay {shlex.join(where)}{given if judged_by else ''} --output json"
            " > found.jsonl",
        )
    yield Next(
        what="Stop it: read the smallest policy that would have, and what it was tried on.",
        command=f"sidelong policy --incident {id} {found}{given}",
    )
    yield Next(
        what="If it is an attack, say so: what it used is never learnt.",
        command=f"sidelong alerts confirm {id} {found}{given}",
    )
    yield Next(
        what="If it is ordinary here, say why: it is not told again.",
        command=f'sidelong alerts benign {id} {found}{given} --why "..."',
    )


def _by_kind(incident: Incident) -> Iterator[Next]:
    if incident.kind == "scan":
        answered = incident.counts.get("answered", 0)
        if answered:
            yield Next(what=f"Look at the {answered:,} contacts that answered: it knows them now.")
        else:
            yield Next(what="Nothing answered, so that it found nothing yet: see what comes next.")
    elif incident.kind == "dns_exfiltration":
        yield Next(what="Ask who owns the domain, and refuse it in the resolver meanwhile.")
        yield Next(what="Renew what the workload could read: secrets, tokens, keys.")
    elif incident.kind == "lateral_movement":
        yield Next(what="Look into the target's own log at that time: who logged in, what for.")
        yield Next(what="Renew the credentials by which the workload may log in there.")
    else:
        yield Next(what="Compare it with a deployment or a job of that minute.")


def _kubectl(incident: Incident) -> str | None:
    """How to look at the pod; only of a name that Kubernetes could have given."""
    namespace, slash, name = incident.actor.workload.partition("/")
    pod = (incident.actor.pod or "").rpartition("/")[2]
    if not slash or not _NAME.match(namespace) or not _NAME.match(pod or name):
        return None
    if pod:
        return f"kubectl describe pod -n {namespace} {pod}"
    return f"kubectl get pods -n {namespace} -o wide"
