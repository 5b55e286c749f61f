"""CiliumNetworkPolicy (cilium.io/v2) from what a workload needs, or against what an intruder did.

Facts: Cilium's CRD and pkg/policy/api of v1.19. A rule names one class of other ends only; DNS is
allowed together with a DNS rule, without which Cilium learns no address of a domain and Hubble
shows no query; at most 40 ports stand in one list.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.policy_names import (
    Far,
    FarKind,
    Selectors,
    digest,
    object_name,
    workload_parts,
)
from sidelong.alerts.policy_needs import DNS_PORT, Direction, Need, Needs, Ports

__all__ = ["allowed_names", "cilium_allow_list", "cilium_deny", "cilium_dns_names"]

_API: Final = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}
_NAMESPACE: Final = "k8s:io.kubernetes.pod.namespace"
_MOST_PORTS: Final = 40
_ENDS: Final[dict[FarKind, str]] = {
    "pods": "Endpoints",
    "nodes": "Entities",
    "entity": "Entities",
    "network": "CIDR",
}
_NODES: Final = ("host", "remote-node")  # where a pod's node is one today, it is the other tomorrow
_ANY_DNS: Final = ({"port": str(DNS_PORT), "protocol": "ANY"},)
_ECHO: Final = ({"family": "IPv4", "type": 8}, {"family": "IPv6", "type": 128})


def cilium_allow_list(
    needs: Needs,
    selectors: Selectors,
    directions: Sequence[Direction] = ("ingress", "egress"),
) -> dict[str, Any]:
    """What the workload needs, and nothing else, in the given directions.

    Pods of one workload may always talk to each other, for the baseline does not hold that.
    """
    spec: dict[str, Any] = {"endpointSelector": _selector(needs.workload, selectors)}
    own = {"matchLabels": _labels(needs.workload, selectors)}
    for direction in directions:
        side = "from" if direction == "ingress" else "to"
        rules: list[dict[str, Any]] = [{f"{side}Endpoints": [own]}]
        if direction == "egress" and not selectors.is_resolver(needs.workload):
            rules += _dns(needs.servers, selectors, ["*"])
            rules += _rules(side, _without_dns(needs.egress), selectors)
        else:
            rules += _rules(side, getattr(needs, direction), selectors)
        spec[direction] = rules
    return _policy(
        needs.workload, selectors, ("needs",) if len(directions) > 1 else directions, spec
    )


def cilium_deny(
    subject: str,
    direction: Direction,
    denied: Iterable[Need],
    selectors: Selectors,
) -> dict[str, Any]:
    """Drops just these connections, and leaves everything else to other policies."""
    side = "from" if direction == "ingress" else "to"
    rules = _rules(side, denied, selectors)
    spec = {
        "endpointSelector": _selector(subject, selectors),
        "enableDefaultDeny": {"ingress": False, "egress": False},
        f"{direction}Deny": rules,
    }
    return _policy(subject, selectors, ("deny", direction, digest(rules)), spec)


def cilium_dns_names(needs: Needs, selectors: Selectors) -> dict[str, Any]:
    """Lets the workload ask DNS for names of the cluster and of the domains it knows, no others.

    Needs no default to deny: what a DNS rule does not name is refused wherever the rule holds.
    """
    spec = {
        "endpointSelector": _selector(needs.workload, selectors),
        "enableDefaultDeny": {"ingress": False, "egress": False},
        "egress": _dns(needs.servers, selectors, allowed_names(needs, selectors)),
    }
    return _policy(needs.workload, selectors, ("dns",), spec)


def allowed_names(needs: Needs, selectors: Selectors) -> list[str]:
    """Patterns of the DNS names that the workload needs.

    `**.` stands for one label or more, since Cilium 1.19. Under the cluster's domain lies too what
    search paths make of other names: without it a resolver gives up before it asks for the name.
    """
    patterns = [f"**.{selectors.cluster_domain}"]
    for zone in (*needs.reverse_zones, *needs.names):
        if selectors.far(zone).kind == "domain":
            patterns += _patterns(zone)
    return list(dict.fromkeys(patterns))


def _patterns(domain: str) -> list[str]:
    return [domain, f"**.{domain}"]


def _policy(
    workload: str, selectors: Selectors, what: Sequence[str], spec: Mapping[str, Any]
) -> dict[str, Any]:
    namespace, name = workload_parts(workload) or ("", "")
    return {
        **_API,
        "metadata": {"name": object_name("sidelong", name, *what), "namespace": namespace},
        "spec": dict(spec),
    }


def _selector(workload: str, selectors: Selectors) -> dict[str, Any]:
    return {"matchLabels": selectors.of(workload) or {}}


def _labels(workload: str, selectors: Selectors) -> dict[str, str]:
    namespace = (workload_parts(workload) or ("", ""))[0]
    return {_NAMESPACE: namespace, **(selectors.of(workload) or {})}


def _dns(
    servers: Sequence[Far], selectors: Selectors, patterns: Sequence[str]
) -> list[dict[str, Any]]:
    """Port 53 of the cluster's resolver, and of whatever else the workload asked."""
    asked = dict.fromkeys((Far("pods", selectors.resolver), *servers))
    rule = {"ports": list(_ANY_DNS), "rules": {"dns": [_name(one) for one in patterns]}}
    ends = _ends("to", [far for far in asked if far.kind != "domain"], selectors)
    return [{**end, "toPorts": [rule]} for end in ends]


def _name(pattern: str) -> dict[str, str]:
    return {"matchPattern" if "*" in pattern else "matchName": pattern}


def _without_dns(needs: Iterable[Need]) -> Iterable[Need]:
    for need in needs:
        if need.far.kind == "domain":
            yield need
        elif rest := tuple(ports for ports in need.ports if ports.first != DNS_PORT):
            yield Need(need.far, rest)


def _rules(side: str, needs: Iterable[Need], selectors: Selectors) -> list[dict[str, Any]]:
    """One rule for all ends of a class that use the same ports; no ports are all of them."""
    together: dict[tuple[Ports, ...], list[Far]] = {}
    for need in needs:
        if not need.ports:
            together.setdefault((), []).append(need.far)
        for icmp in (True, False):
            ports = tuple(one for one in need.ports if (one.protocol == "ICMP") == icmp)
            if ports:
                together.setdefault(ports, []).append(need.far)
    rules = []
    for ports, ends in together.items():
        for end in _ends(side, ends, selectors):
            if not ports:
                rules.append(end)
            elif ports[0].protocol == "ICMP":
                rules.append({**end, "icmps": [{"fields": list(_ECHO)}]})
            else:
                rules.append({**end, "toPorts": _port_lists(ports)})
    return rules


def _ends(side: str, fars: Sequence[Far], selectors: Selectors) -> list[dict[str, Any]]:
    """The other ends, one mapping a class of them."""
    classes: dict[str, list[Any]] = {}
    for far in fars:
        if far.kind == "domain" and side == "to":
            names = [_name(pattern) for pattern in _patterns(far.name)]
            classes.setdefault("toFQDNs", []).extend(names)
        elif far.kind == "domain":
            classes.setdefault("fromEntities", []).append("world")
        elif far.kind == "pods":
            end = {"matchLabels": _labels(far.name, selectors)}
            classes.setdefault(f"{side}Endpoints", []).append(end)
        elif far.kind == "nodes":
            classes.setdefault(f"{side}Entities", []).extend(_NODES)
        elif far.kind in _ENDS:
            classes.setdefault(f"{side}{_ENDS[far.kind]}", []).append(far.name)
    return [{key: _distinct(values)} for key, values in classes.items()]


def _distinct(values: Iterable[Any]) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


def _port_lists(ports: Sequence[Ports]) -> list[dict[str, Any]]:
    told = [_port(one) for one in ports]
    return [{"ports": told[at : at + _MOST_PORTS]} for at in range(0, len(told), _MOST_PORTS)]


def _port(ports: Ports) -> dict[str, Any]:
    end = {"endPort": ports.last} if ports.last != ports.first else {}
    return {"port": str(ports.first), **end, "protocol": ports.protocol}
