"""What policies would do to connections: a small model of what Cilium, Kubernetes and Istio do.

A connection passes if the policies of the pod that opens it let it out and those of the pod it is
opened to let it in; answers pass with it. A pod that no policy selects, as those on the network of
their node, is free. Sources: networking.k8s.io/v1, Cilium 1.19 (policy/intro), Istio security.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.alerts.policy_cilium_rules import cilium_passes
from sidelong.alerts.policy_ends import KUBERNETES_NAMESPACE, End, Ends
from sidelong.alerts.policy_names import Far, Selectors
from sidelong.alerts.policy_needs import CONNECTIONS

__all__ = ["passes"]

_Mask = NDArray[np.bool_]
_Policy = Mapping[str, Any]
_HERE: Final = Far("nodes", "host")


def passes(
    policies: Sequence[_Policy], connections: pl.DataFrame, selectors: Selectors
) -> pl.Series:
    """Row for row, whether a connection passes the policies, which are all of one kind.

    connections: the columns of `CONNECTIONS`, and optionally `name` (what DNS is asked, in lower
    case) and `path`; null where there is no such thing. policies: as manifests; a selector may have
    `matchLabels` only.
    """
    rows = connections.with_columns(
        pl.lit(None, pl.String).alias(name)
        for name in ("name", "path")
        if name not in connections.columns
    ).select(*CONNECTIONS, "name", "path")
    actors, peers = Ends(rows, selectors, opens=True), Ends(rows, selectors, opens=False)
    kinds = {policy["kind"] for policy in policies}
    if kinds == {"CiliumNetworkPolicy"}:
        good = cilium_passes(policies, rows, actors, peers, "egress")
        good &= cilium_passes(policies, rows, peers, actors, "ingress")
    elif kinds == {"NetworkPolicy"}:
        good = _kubernetes(policies, rows, actors, peers, "egress", selectors)
        good &= _kubernetes(policies, rows, peers, actors, "ingress", selectors)
    elif kinds == {"AuthorizationPolicy"}:
        good = _istio(policies, rows, actors, peers, selectors)
    elif not kinds:
        good = np.ones(rows.height, np.bool_)
    else:
        raise ValueError(f"policies of kinds {sorted(kinds)}; give those of one kind")
    return pl.Series("passes", good, dtype=pl.Boolean)


def _kubernetes(
    policies: Sequence[_Policy],
    rows: pl.DataFrame,
    subjects: Ends,
    fars: Ends,
    direction: str,
    selectors: Selectors,
) -> _Mask:
    isolated = np.zeros(rows.height, np.bool_)
    allowed = fars.where(lambda end: end.far == _HERE)
    side = "from" if direction == "ingress" else "to"
    for policy in policies:
        spec, namespace = policy["spec"], policy["metadata"]["namespace"]
        if direction.capitalize() not in spec["policyTypes"]:
            continue
        labels = spec["podSelector"].get("matchLabels", {})
        subject = subjects.where(
            lambda end, labels=labels, namespace=namespace: (  # type: ignore[misc]  # mypy: bound defaults
                end.namespace == namespace and end.bears(labels)
            )
        )
        isolated |= subject
        for rule in spec.get(direction, ()):
            far = (
                np.zeros(rows.height, np.bool_) if side in rule else np.ones(rows.height, np.bool_)
            )
            for peer in rule.get(side, ()):
                far |= fars.where(
                    lambda end, peer=peer, namespace=namespace: _is_peer(  # type: ignore[misc]  # mypy: bound defaults
                        end, peer, namespace, selectors
                    )
                )
            allowed |= subject & far & _kubernetes_ports(rule, rows)
    return allowed | ~isolated


def _is_peer(end: End, peer: Mapping[str, Any], namespace: str, selectors: Selectors) -> bool:
    if "ipBlock" in peer:
        return _is_in_block(end, peer["ipBlock"], selectors)
    spaces = peer.get("namespaceSelector")
    if spaces is None:
        placed = end.namespace == namespace
    else:
        wanted = spaces.get("matchLabels", {})
        placed = wanted.items() <= {KUBERNETES_NAMESPACE: end.namespace}.items()
    return placed and end.bears(peer.get("podSelector", {}).get("matchLabels", {}))


def _is_in_block(end: End, block: Mapping[str, Any], selectors: Selectors) -> bool:
    """Where no address is known: domains are public, nodes are where `selectors.nodes` says."""
    cidr, but = block["cidr"], block.get("except", [])
    everything = cidr in ("0.0.0.0/0", "::/0")
    if end.far.kind == "network":
        return end.is_within(cidr) and not any(end.touches(one) for one in but)
    if end.far.kind == "domain" or end.far.name == "world":
        return everything
    if end.far.kind in ("nodes", "entity"):
        return (everything and not but) or cidr in selectors.nodes
    return everything and not but  # a pod's address is one too, to most plugins


def _kubernetes_ports(rule: Mapping[str, Any], rows: pl.DataFrame) -> _Mask:
    if "ports" not in rule:
        return np.ones(rows.height, np.bool_)
    good = np.zeros(rows.height, np.bool_)
    port, protocol = rows["port"].to_numpy(), rows["protocol"].cast(pl.String).to_numpy()
    for one in rule["ports"]:
        within = (port >= one["port"]) & (port <= one.get("endPort", one["port"]))
        good |= within & (protocol == one.get("protocol", "TCP"))
    return good


def _istio(
    policies: Sequence[_Policy],
    rows: pl.DataFrame,
    actors: Ends,
    peers: Ends,
    selectors: Selectors,
) -> _Mask:
    guarded = np.zeros(rows.height, np.bool_)
    allowed, denied = guarded.copy(), guarded.copy()
    judged = rows["protocol"].cast(pl.String).to_numpy() == "TCP"
    for policy in policies:
        spec, namespace = policy["spec"], policy["metadata"]["namespace"]
        labels = spec["selector"].get("matchLabels", {})
        subject = judged & peers.where(
            lambda end, labels=labels, namespace=namespace: (  # type: ignore[misc]  # mypy: bound defaults
                end.namespace == namespace and end.bears(labels)
            )
        )
        hit = np.zeros(rows.height, np.bool_)
        for rule in spec.get("rules", ()):
            hit |= _istio_rule(rule, rows, actors, selectors)
        if spec.get("action", "ALLOW") == "DENY":
            denied |= subject & hit
        else:
            guarded |= subject
            allowed |= subject & hit
    return ~denied & (allowed | ~guarded)


def _istio_rule(
    rule: Mapping[str, Any], rows: pl.DataFrame, actors: Ends, selectors: Selectors
) -> _Mask:
    good = np.ones(rows.height, np.bool_)
    if "from" in rule:
        sources = [one["source"] for one in rule["from"]]
        good &= actors.where(lambda end: any(_is_source(end, one, selectors) for one in sources))
    if "to" in rule:
        somewhere = np.zeros(rows.height, np.bool_)
        for one in rule["to"]:
            operation, here = one["operation"], np.ones(rows.height, np.bool_)
            if "ports" in operation:
                here &= np.isin(rows["port"].to_numpy(), [int(port) for port in operation["ports"]])
            if "paths" in operation:
                here &= rows["path"].is_in(operation["paths"]).fill_null(False).to_numpy()
            somewhere |= here
        good &= somewhere
    return good


def _is_source(end: End, source: Mapping[str, Any], selectors: Selectors) -> bool:
    if "principals" in source:
        return any(_is_principal(end.principal, one) for one in source["principals"])
    blocks = source["ipBlocks"]
    if end.far.kind == "nodes":
        return any(cidr in selectors.nodes for cidr in blocks)
    return any(end.is_within(cidr) for cidr in blocks)


def _is_principal(principal: str, pattern: str) -> bool:
    """Istio lets an asterisk stand before or behind."""
    if pattern.startswith("*"):
        return bool(principal) and principal.endswith(pattern[1:])
    return principal == pattern
