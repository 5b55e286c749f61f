"""NetworkPolicy (networking.k8s.io/v1) from what a workload needs.

It knows pods, namespaces, address blocks and ports, and no rule that denies: no domains, no DNS
names, no word for nodes. Where it lacks one, the next wider thing is said, and `widened` tells so.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sidelong.alerts.policy_names import Far, Selectors, object_name, workload_parts
from sidelong.alerts.policy_needs import DNS_PORT, Direction, Need, Needs, Ports

__all__ = ["PUBLIC", "kubernetes_allow_list", "widened"]

_API: Final = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
_NAMESPACE: Final = "kubernetes.io/metadata.name"

PUBLIC: Final = (
    {
        "cidr": "0.0.0.0/0",
        "except": [
            "10.0.0.0/8",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
        ],
    },
    {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]},
)
"""Every address that is not private: the next thing to a domain's."""

_ANYWHERE: Final = ({"cidr": "0.0.0.0/0"}, {"cidr": "::/0"})
_OUTSIDE: Final = ("world",)


def kubernetes_allow_list(
    needs: Needs,
    selectors: Selectors,
    directions: Sequence[Direction] = ("ingress", "egress"),
) -> dict[str, Any]:
    """What the workload needs, and as little else as can be said, in the given directions.

    Pods of one workload may always talk to each other, for the baseline does not hold that; DNS is
    always allowed.
    """
    namespace, name = workload_parts(needs.workload) or ("", "")
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": selectors.of(needs.workload) or {}},
        "policyTypes": [direction.capitalize() for direction in directions],
    }
    own = _peers([Far("pods", needs.workload)], selectors)
    for direction in directions:
        side = "from" if direction == "ingress" else "to"
        rules: list[dict[str, Any]] = [{side: own}]
        if direction == "egress":
            dns = _peers([Far("pods", selectors.resolver)], selectors)
            ports = [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]
            rules.append({"to": dns, "ports": ports})
        rules += _rules(
            side, _without_resolver(getattr(needs, direction), direction, selectors), selectors
        )
        spec[direction] = rules
    what = ("needs",) if len(directions) > 1 else directions
    metadata = {"name": object_name("sidelong", name, *what), "namespace": namespace}
    return {**_API, "metadata": metadata, "spec": spec}


def widened(
    needs: Needs, selectors: Selectors, directions: Sequence[Direction] = ("ingress", "egress")
) -> list[str]:
    """What a NetworkPolicy has no word for, and what stands there instead: one line each."""
    lines = []
    for direction in directions:
        for need in getattr(needs, direction):
            where = ", ".join(_told(ports) for ports in need.ports)
            if need.far.kind == "domain":
                lines.append(f"{need.far.name} ({where}): any public address")
            elif _is_elsewhere(need.far) and not selectors.nodes:
                lines.append(f"{need.far.name} ({where}): any address; narrow it with --nodes CIDR")
            if any(ports.protocol == "ICMP" for ports in need.ports):
                lines.append(f"{need.far.name}: ICMP cannot be allowed by itself, and is left out")
    return lines


def _without_resolver(
    needs: Iterable[Need], direction: Direction, selectors: Selectors
) -> Iterable[Need]:
    """What is left once the cluster's resolver has its own rule."""
    resolver = Far("pods", selectors.resolver)
    for need in needs:
        if direction == "egress" and need.far == resolver:
            rest = tuple(ports for ports in need.ports if ports.first != DNS_PORT)
            yield Need(need.far, rest)
        else:
            yield need


def _told(ports: Ports) -> str:
    last = f"-{ports.last}" if ports.last != ports.first else ""
    return f"{ports.first}{last}/{ports.protocol}"


def _rules(side: str, needs: Iterable[Need], selectors: Selectors) -> list[dict[str, Any]]:
    together: dict[tuple[Ports, ...], list[Far]] = {}
    for need in needs:
        # The node of a pod may always reach it and be reached by it.
        here = need.far == Far("nodes", "host")
        ports = tuple(one for one in need.ports if one.protocol != "ICMP")
        if ports and not here:
            together.setdefault(ports, []).append(need.far)
    return [
        {side: _peers(ends, selectors), "ports": [_port(one) for one in ports]}
        for ports, ends in together.items()
    ]


def _peers(fars: Iterable[Far], selectors: Selectors) -> list[dict[str, Any]]:
    peers: list[dict[str, Any]] = []
    for far in fars:
        if far.kind == "pods":
            namespace = (workload_parts(far.name) or ("", ""))[0]
            told: list[dict[str, Any]] = [
                {
                    "namespaceSelector": {"matchLabels": {_NAMESPACE: namespace}},
                    "podSelector": {"matchLabels": selectors.of(far.name) or {}},
                }
            ]
        elif far.kind == "network":
            told = [{"ipBlock": {"cidr": far.name}}]
        elif far.kind == "domain" or far.name in _OUTSIDE:
            told = [{"ipBlock": block} for block in PUBLIC]
        else:
            blocks = [{"cidr": cidr} for cidr in selectors.nodes] or list(_ANYWHERE)
            told = [{"ipBlock": block} for block in blocks]
        peers += [peer for peer in told if peer not in peers]
    return peers


def _is_elsewhere(far: Far) -> bool:
    return far == Far("nodes", "remote-node") or (far.kind == "entity" and far.name != "world")


def _port(ports: Ports) -> dict[str, Any]:
    end = {"endPort": ports.last} if ports.last != ports.first else {}
    return {"port": ports.first, **end, "protocol": ports.protocol}
