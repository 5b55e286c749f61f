"""NetworkPolicy (networking.k8s.io/v1) as rules."""

from collections.abc import Iterator, Mapping
from typing import Any

from sidelong.declared_objects import inner
from sidelong.declared_rules import (
    ANY_PORT,
    DIRECTIONS,
    Rule,
    Selection,
    Span,
    named_port,
    spans,
)
from sidelong.declared_selectors import Mask, Population

__all__ = ["network_policy"]


def network_policy(policy: Mapping[str, Any], people: Population) -> Iterator[Selection | Rule]:
    """What a NetworkPolicy says."""
    spec = inner(policy, "spec")
    namespace = str(inner(policy, "metadata").get("namespace") or "default")
    subjects = people.inside(namespace) & people.pods(spec.get("podSelector"))
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    for direction in DIRECTIONS:
        if direction.capitalize() not in types:
            continue
        yield Selection("kubernetes", direction, subjects)
        for rule in spec.get(direction) or ():
            peers = rule.get("from" if direction == "ingress" else "to")
            fars = people.nobody() if peers else people.everybody()
            for peer in peers or ():
                fars |= _peer(peer, namespace, people)
            called = subjects if direction == "ingress" else fars
            yield Rule("kubernetes", direction, subjects, fars, _ports(rule, called, people))


def _peer(peer: Mapping[str, Any], namespace: str, people: Population) -> Mask:
    if "ipBlock" in peer:
        block = inner(peer, "ipBlock")
        # A pod's address is one too, to most plugins.
        everywhere = block.get("cidr") in ("0.0.0.0/0", "::/0") and not block.get("except")
        return people.everybody() if everywhere else people.nobody()
    spaces = peer.get("namespaceSelector")
    placed = people.inside(namespace) if spaces is None else people.spaces(spaces)
    return placed & people.pods(peer.get("podSelector"))


def _ports(rule: Mapping[str, Any], called: Mask, people: Population) -> tuple[Span, ...]:
    if not rule.get("ports"):
        return ANY_PORT
    found: list[Span] = []
    for one in rule["ports"]:
        port, protocol = one.get("port"), one.get("protocol") or "TCP"
        if port is None:
            found += spans(protocol, 0, 65_535)
        elif isinstance(port, int):
            found += spans(protocol, port, int(one.get("endPort") or port))
        else:
            for number in named_port(str(port), called, people):
                found += spans(protocol, number, number)
    return tuple(found)
