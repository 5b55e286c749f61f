"""For an incident the smallest policy that would have stopped it.

Candidates are tried in order, the most telling first: one is suggested only if, evaluated, it
blocks every connection that the incident tells and lets through every one that the baseline holds
of the workloads it selects. Where none does, the reason is said instead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import polars as pl

from sidelong.alerts.incident import Incident, Target
from sidelong.alerts.policy_cilium import cilium_allow_list, cilium_deny, cilium_dns_names
from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_istio import istio_allow_list, istio_deny_paths
from sidelong.alerts.policy_kubernetes import kubernetes_allow_list
from sidelong.alerts.policy_names import Far, Selectors
from sidelong.alerts.policy_needs import (
    DNS_PORT,
    Acquaintances,
    Direction,
    Need,
    Needs,
    Ports,
)
from sidelong.alerts.policy_replay import asks_names, attempted, habitual, requests_told

__all__ = [
    "PolicyKind",
    "Suggestion",
    "allow_list",
    "on_trial",
    "suggestion",
]

PolicyKind = Literal["cilium", "kubernetes", "istio"]
_Policy = dict[str, Any]

_MOST_NEEDS: Final = 500  # a policy longer than this is nobody's suggestion

_NO_NAMES: Final = "no NetworkPolicy or AuthorizationPolicy knows DNS names"
_STRANGER: Final = "the baseline knows nothing of its actor, whom an allow-list would cut off"
_NONE_FITS: Final = "whatever stops it would break connections that the baseline holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """Policies against an incident, or none and why.

    subjects: the workloads that they select. on_trial: whether they deny nothing yet.
    """

    policies: tuple[_Policy, ...] = ()
    subjects: tuple[str, ...] = ()
    on_trial: bool = False
    why_none: str | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    policies: tuple[_Policy, ...]
    subjects: tuple[str, ...]


def suggestion(
    incident: Incident,
    known: Acquaintances,
    selectors: Selectors,
    kind: PolicyKind = "cilium",
    *,
    audit: bool = False,
) -> Suggestion:
    """The smallest policy of a kind that stops the incident and nothing of the baseline.

    Where requests to a service that the actor may use are the evidence, it is an
    AuthorizationPolicy even if "cilium" is asked for. audit: only candidates that can be tried
    without dropping anything.
    """
    tried = attempted(incident, known, selectors)
    if tried.is_empty():
        return Suggestion(why_none="it names no connection that a policy could stop")
    actor = incident.actor.workload
    for candidate in _candidates(incident, known, selectors, kind, audit):
        habits = pl.concat([habitual(known, one, selectors) for one in candidate.subjects])
        if passes(candidate.policies, tried, selectors).any():
            continue
        if passes(candidate.policies, habits, selectors).all():
            policies = map(on_trial, candidate.policies) if audit else candidate.policies
            return Suggestion(
                policies=tuple(policies),
                subjects=candidate.subjects,
                on_trial=audit,
            )
    if asks_names(incident) and kind != "cilium":
        return Suggestion(why_none=_NO_NAMES)
    stranger = known.needs(actor, selectors).is_empty
    return Suggestion(why_none=_STRANGER if stranger else _NONE_FITS)


def allow_list(
    needs: Needs,
    selectors: Selectors,
    kind: PolicyKind,
    directions: tuple[Direction, ...] = ("ingress", "egress"),
) -> _Policy:
    """The least privilege of a workload as a policy of a kind; AuthorizationPolicy is ingress."""
    if kind == "istio":
        return istio_allow_list(needs, selectors)
    if kind == "kubernetes":
        return kubernetes_allow_list(needs, selectors, directions)
    return cilium_allow_list(needs, selectors, directions)


def on_trial(policy: Mapping[str, Any]) -> _Policy:
    """The allow-list without its denial by default, so that it can be watched before it bites.

    Errors: ValueError for a NetworkPolicy, which has no such form.
    """
    if policy["kind"] == "AuthorizationPolicy":
        metadata = {**policy["metadata"], "annotations": {"istio.io/dry-run": "true"}}
        return {**policy, "metadata": metadata}
    if policy["kind"] != "CiliumNetworkPolicy":
        raise ValueError("a NetworkPolicy holds as soon as it is there")
    harmless = {"enableDefaultDeny": {"ingress": False, "egress": False}}
    spec = dict(policy["spec"])
    return {
        **policy,
        "spec": {"endpointSelector": spec.pop("endpointSelector"), **harmless, **spec},
    }


def _candidates(
    incident: Incident, known: Acquaintances, selectors: Selectors, kind: PolicyKind, audit: bool
) -> Iterator[_Candidate]:
    actor = incident.actor.workload
    needs = known.needs(actor, selectors)
    if asks_names(incident):
        if (
            kind == "cilium"
            and not audit
            and not needs.is_empty
            and _is_selectable(needs, selectors)
        ):
            yield _Candidate((cilium_dns_names(needs, selectors),), (actor,))
        return
    scanning = incident.kind == "scan" and not requests_told(incident)
    if scanning:
        yield from _allowed(needs, selectors, kind, "egress")
    if kind == "cilium" and not audit:
        yield from _denied(incident, selectors)
    targets = list(dict.fromkeys(one.workload for one in incident.objects if one.workload))
    if len(targets) == 1 and incident.counts.get("peers", 1) <= 1:
        target = known.needs(targets[0], selectors)
        if requests_told(incident) or kind == "istio":
            yield from _refused(incident, targets[0], selectors)
        yield from _allowed(target, selectors, kind, "ingress")
    if not scanning:
        yield from _allowed(needs, selectors, kind, "egress")


def _allowed(
    needs: Needs, selectors: Selectors, kind: PolicyKind, direction: Direction
) -> Iterator[_Candidate]:
    """The allow-list of a workload in one direction, if there is anything to allow."""
    if kind == "istio" and direction == "egress":
        return
    known = getattr(needs, direction)
    if not known or len(known) > _MOST_NEEDS or not _is_selectable(needs, selectors):
        return
    policy = allow_list(needs, selectors, kind, (direction,))
    yield _Candidate((policy,), (needs.workload,))


def _denied(incident: Incident, selectors: Selectors) -> Iterator[_Candidate]:
    """Rules that drop what the incident did and nothing else, wide before narrow."""
    actor = selectors.far(incident.actor.workload)
    fars: dict[Far, set[Ports]] = {}
    for target in incident.objects:
        far = _far(target, selectors)
        if far.kind not in ("unknown", "domain") and target.port:
            fars.setdefault(far, set()).add(Ports("ANY", target.port, target.port))
    everything = [Need(far, ()) for far in fars]
    exactly = [Need(far, tuple(sorted(ports))) for far, ports in fars.items()]
    if incident.counts.get("peers", len(fars)) > len(fars) or not fars:
        return
    wide = incident.kind == "scan" and not requests_told(incident)
    if "resolvers" in incident.counts and actor.kind == "pods":
        world = [Need(Far("entity", "world"), (Ports("ANY", DNS_PORT, DNS_PORT),))]
        yield _deny(actor.name, "egress", world, selectors)
    if len(fars) == 1 and exactly[0].far.kind == "pods" and actor.kind not in ("unknown", "domain"):
        (target_far,) = fars
        for one in [*(everything if wide else ()), *exactly]:
            yield _deny(target_far.name, "ingress", [Need(actor, one.ports)], selectors)
    if actor.kind == "pods":
        for needs in [*([everything] if wide else ()), exactly]:
            yield _deny(actor.name, "egress", needs, selectors)


def _deny(
    subject: str, direction: Direction, needs: list[Need], selectors: Selectors
) -> _Candidate:
    return _Candidate((cilium_deny(subject, direction, needs, selectors),), (subject,))


def _refused(incident: Incident, target: str, selectors: Selectors) -> Iterator[_Candidate]:
    """Refusals by Istio: all requests of the actor, else those for the paths that it guessed."""
    actor = incident.actor.workload
    if selectors.of(actor) is None or selectors.of(target) is None:
        return
    told = [path for _, path in requests_told(incident) if _is_literal(path)]
    for paths in ([], told) if told else ([],):
        policy = istio_deny_paths(actor, target, paths, selectors)
        yield _Candidate((policy,), (target,))


def _is_selectable(needs: Needs, selectors: Selectors) -> bool:
    return selectors.of(needs.workload) is not None


def _far(target: Target, selectors: Selectors) -> Far:
    return selectors.far(target.workload, target.ip) if target.workload else Far("unknown", "")


def _is_literal(path: str) -> bool:
    return (
        path.startswith("/") and path.isascii() and path.isprintable() and not set("*{}") & {*path}
    )
