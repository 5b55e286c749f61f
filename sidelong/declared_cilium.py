"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2) as rules."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sidelong.declared_objects import inner
from sidelong.declared_rules import (
    ANY_PORT,
    DIRECTIONS,
    Direction,
    Rule,
    Selection,
    Span,
    named_port,
    spans,
)
from sidelong.declared_selectors import Mask, Population

__all__ = ["cilium_policy"]

_PODS: Final = ("all", "cluster")
_PORTS: Final = ("toPorts", "icmps", "authentication")


def cilium_policy(policy: Mapping[str, Any], people: Population) -> Iterator[Selection | Rule]:
    """What a policy of Cilium says. One that selects nodes says nothing of workloads."""
    meta = inner(policy, "metadata")
    clusterwide = policy.get("kind") == "CiliumClusterwideNetworkPolicy"
    namespace = None if clusterwide else str(meta.get("namespace") or "default")
    for spec in [policy.get("spec"), *(policy.get("specs") or ())]:
        if isinstance(spec, dict) and "endpointSelector" in spec:
            yield from _spec(spec, namespace, people)


def _spec(
    spec: Mapping[str, Any], namespace: str | None, people: Population
) -> Iterator[Selection | Rule]:
    subjects = people.endpoints(spec["endpointSelector"], namespace)
    if namespace is not None:
        subjects &= people.inside(namespace)
    for direction in DIRECTIONS:
        allow, deny = spec.get(direction), spec.get(f"{direction}Deny")
        if (allow is not None or deny is not None) and inner(spec, "enableDefaultDeny").get(
            direction, True
        ):
            yield Selection("cilium", direction, subjects)
        for rules, denies in ((allow, False), (deny, True)):
            for rule in rules or ():
                fars = _fars(rule, direction, namespace, people)
                called = subjects if direction == "ingress" else fars
                ports = _ports(rule, called, people)
                yield Rule("cilium", direction, subjects, fars, ports, denies)


def _fars(
    rule: Mapping[str, Any], direction: Direction, namespace: str | None, people: Population
) -> Mask:
    side = "from" if direction == "ingress" else "to"
    if not any(key.startswith(side) and key not in _PORTS for key in rule):
        return people.everybody()
    fars = people.nobody()
    for selector in rule.get(f"{side}Endpoints") or ():
        fars |= people.endpoints(selector, namespace)
    if any(name in _PODS for name in rule.get(f"{side}Entities") or ()):
        fars |= people.everybody()
    for one in rule.get("toServices") or ():
        service = inner(one, "k8sService")
        where = str(service.get("namespace") or namespace or "default")
        fars |= people.service(str(service.get("serviceName")), where)
    return fars


def _ports(rule: Mapping[str, Any], called: Mask, people: Population) -> tuple[Span, ...]:
    """Rules on requests narrow what is said on a port, not who may call there."""
    if "toPorts" not in rule:
        return () if "icmps" in rule else ANY_PORT
    found: list[Span] = []
    for one in rule["toPorts"] or ():
        listed = one.get("ports") or ()
        if not listed:
            found += ANY_PORT
        for port in listed:
            text, protocol = str(port.get("port")), port.get("protocol")
            if text == "0":
                found += spans(protocol, 0, 65_535)
            elif text.isdigit():
                found += spans(protocol, int(text), int(port.get("endPort") or text))
            else:
                for number in named_port(text, called, people):
                    found += spans(protocol, number, number)
    return tuple(found)
