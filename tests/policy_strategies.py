"""Policies and connections at random, over a handful of workloads, entities and addresses."""

from collections.abc import Callable
from typing import Any, Final

import polars as pl
from hypothesis import strategies as st

__all__ = [
    "ADDRESSES",
    "NODES",
    "PODS",
    "cilium_policies",
    "connections",
    "istio_policies",
    "kubernetes_policies",
]

PODS: Final = ("shop/a", "shop/b", "payments/a", "payments/c", "kube-system/coredns")
NODES: Final = (
    "reserved:host",
    "reserved:remote-node",
    "reserved:kube-apiserver",
    "reserved:ingress",
)
ADDRESSES: Final = ("203.0.113.10", "203.0.113.77", "198.51.100.7", "10.9.9.9")

_PORTS: Final = (53, 80, 443, 5432, 40_000)
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_CIDRS: Final = ("203.0.113.10/32", "203.0.113.0/24", "203.0.0.0/16", "10.0.0.0/8", "0.0.0.0/0")
_ENTITIES: Final = ("world", "host", "remote-node", "kube-apiserver", "ingress", "cluster", "all")

_LABELS: Final = {
    "shop/a": {"app.kubernetes.io/name": "a"},
    "shop/b": {"app.kubernetes.io/name": "b"},
    "payments/a": {"app.kubernetes.io/name": "a"},
    "payments/c": {"app.kubernetes.io/name": "c"},
    "kube-system/coredns": {"k8s-app": "kube-dns"},
}


def connections(*, nodes: bool = True) -> st.SearchStrategy[pl.DataFrame]:
    """Frames of connections, most of them between pods."""
    others = [(f"world:{one.rsplit('.', 2)[0]}.0.0/16", one) for one in ADDRESSES[:3]]
    others += [("ip:10.9.9.9", "10.9.9.9")]
    others += [(one, one) for one in NODES] if nodes else []
    pods = st.sampled_from([(one, one) for one in PODS])
    ends = st.one_of(pods, pods, st.sampled_from(others))
    carried = st.one_of(
        st.tuples(st.sampled_from(_PORTS), st.sampled_from(_PROTOCOLS)), st.just((0, "ICMP"))
    )
    row = st.tuples(ends, ends, carried).filter(lambda one: one[0] != one[1])
    return st.lists(row, min_size=1, max_size=12).map(
        lambda rows: pl.DataFrame(
            [(src[0], dst[0], dst[1], *carried) for src, dst, carried in rows],
            schema={
                "actor": pl.String,
                "peer": pl.String,
                "object": pl.String,
                "port": pl.UInt16,
                "protocol": pl.String,
            },
            orient="row",
        )
    )


def cilium_policies() -> st.SearchStrategy[list[dict[str, Any]]]:
    """CiliumNetworkPolicies of up to three."""
    return st.lists(_cilium_policy(), min_size=1, max_size=3).map(_numbered)


def kubernetes_policies() -> st.SearchStrategy[list[dict[str, Any]]]:
    """NetworkPolicies of up to three."""
    return st.lists(_kubernetes_policy(), min_size=1, max_size=3).map(_numbered)


def istio_policies() -> st.SearchStrategy[list[dict[str, Any]]]:
    """AuthorizationPolicies of up to three."""
    return st.lists(_istio_policy(), min_size=1, max_size=3).map(_numbered)


def _numbered(policies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for number, policy in enumerate(policies):
        policy["metadata"]["name"] = f"policy-{number}"
    return policies


@st.composite
def _policy(draw: st.DrawFn, api: str, kind: str) -> tuple[dict[str, Any], dict[str, str]]:
    pod = draw(st.sampled_from(PODS))
    labels = draw(st.sampled_from([{}, _LABELS[pod], _LABELS[pod]]))
    metadata = {"namespace": pod.partition("/")[0]}
    return {"apiVersion": api, "kind": kind, "metadata": metadata}, labels


@st.composite
def _cilium_policy(draw: st.DrawFn) -> dict[str, Any]:
    policy, labels = draw(_policy("cilium.io/v2", "CiliumNetworkPolicy"))
    spec: dict[str, Any] = {"endpointSelector": {"matchLabels": labels}}
    if draw(st.booleans()):
        spec["enableDefaultDeny"] = {"ingress": draw(st.booleans()), "egress": draw(st.booleans())}
    sections = draw(
        st.sets(st.sampled_from(("ingress", "egress", "ingressDeny", "egressDeny")), min_size=1)
    )
    for section in sorted(sections):
        side = "from" if section.startswith("ingress") else "to"
        rules = _cilium_rule(side, names=section == "egress")
        spec[section] = draw(st.lists(rules, min_size=1, max_size=3))
    return {**policy, "spec": spec}


@st.composite
def _cilium_rule(draw: st.DrawFn, side: str, *, names: bool) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    far = draw(st.sampled_from(("Endpoints", "Entities", "CIDR", None)))
    if far == "Endpoints":
        pods = draw(st.lists(st.sampled_from(PODS), min_size=1, max_size=2, unique=True))
        rule[side + far] = [
            {
                "matchLabels": {
                    "k8s:io.kubernetes.pod.namespace": pod.partition("/")[0],
                    **_LABELS[pod],
                }
            }
            for pod in pods
        ]
    elif far is not None:
        told = _ENTITIES if far == "Entities" else _CIDRS
        rule[side + far] = draw(
            st.lists(st.sampled_from(told), min_size=1, max_size=2, unique=True)
        )
    what = draw(st.sampled_from(("toPorts", "icmps", "names" if names else "toPorts", "nothing")))
    if what == "toPorts" or (what == "nothing" and far is None):
        rule["toPorts"] = [{"ports": draw(st.lists(_cilium_port(), min_size=1, max_size=2))}]
    elif what == "icmps":
        rule["icmps"] = [{"fields": [{"family": "IPv4", "type": 8}]}]
    elif what == "names":
        rule["toPorts"] = [
            {
                "ports": [{"port": "53", "protocol": "ANY"}],
                "rules": {"dns": [{"matchPattern": "*.example.org"}]},
            }
        ]
    return rule


@st.composite
def _cilium_port(draw: st.DrawFn) -> dict[str, Any]:
    port = draw(st.sampled_from(_PORTS))
    told: dict[str, Any] = {"port": str(port)}
    if draw(st.booleans()):
        told["endPort"] = max(port, draw(st.sampled_from((443, 8_000, 65_535))))
    told["protocol"] = draw(st.sampled_from((*_PROTOCOLS, "ANY")))
    return told


@st.composite
def _kubernetes_policy(draw: st.DrawFn) -> dict[str, Any]:
    policy, labels = draw(_policy("networking.k8s.io/v1", "NetworkPolicy"))
    types = sorted(draw(st.sets(st.sampled_from(("Ingress", "Egress")), min_size=1)))
    spec: dict[str, Any] = {"podSelector": {"matchLabels": labels}, "policyTypes": types}
    for kind in types:
        side = "from" if kind == "Ingress" else "to"
        rules = draw(st.lists(_kubernetes_rule(side), max_size=3))
        if rules:
            spec[kind.lower()] = rules
    return {**policy, "spec": spec}


@st.composite
def _kubernetes_rule(draw: st.DrawFn, side: str) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    peers = draw(st.lists(_kubernetes_peer(), max_size=2))
    if peers:
        rule[side] = peers
    ports = draw(st.lists(_kubernetes_port(), max_size=2))
    if ports:
        rule["ports"] = ports
    return rule


@st.composite
def _kubernetes_peer(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        block: dict[str, Any] = {"cidr": draw(st.sampled_from(_CIDRS[:4]))}
        if block["cidr"].startswith("203.0.113.0") and draw(st.booleans()):
            block["except"] = ["203.0.113.64/26"]
        return {"ipBlock": block}
    pod = draw(st.sampled_from(PODS))
    peer: dict[str, Any] = {"podSelector": {"matchLabels": _LABELS[pod]}}
    if draw(st.booleans()):
        space = {"kubernetes.io/metadata.name": pod.partition("/")[0]}
        peer["namespaceSelector"] = {"matchLabels": space}
    return peer


@st.composite
def _kubernetes_port(draw: st.DrawFn) -> dict[str, Any]:
    port = draw(st.sampled_from(_PORTS))
    told: dict[str, Any] = {"port": port, "protocol": draw(st.sampled_from(_PROTOCOLS))}
    if draw(st.booleans()):
        told["endPort"] = max(port, draw(st.sampled_from((443, 65_535))))
    return told


@st.composite
def _istio_policy(draw: st.DrawFn) -> dict[str, Any]:
    policy, labels = draw(_policy("security.istio.io/v1", "AuthorizationPolicy"))
    spec = {
        "selector": {"matchLabels": labels},
        "action": draw(st.sampled_from(("ALLOW", "DENY"))),
        "rules": draw(st.lists(_istio_rule(), max_size=3)),
    }
    return {**policy, "spec": spec}


@st.composite
def _istio_rule(draw: st.DrawFn) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    maybe: Callable[[], bool] = lambda: draw(st.booleans())  # noqa: E731
    if maybe():
        pods = draw(st.lists(st.sampled_from(PODS), min_size=1, max_size=2))
        told = [f"*/ns/{one.partition('/')[0]}/sa/{one.partition('/')[2]}" for one in pods]
        source = {"principals": told} if maybe() else {"ipBlocks": [draw(st.sampled_from(_CIDRS))]}
        rule["from"] = [{"source": source}]
    if maybe():
        ports = draw(st.lists(st.sampled_from(_PORTS), min_size=1, max_size=2))
        rule["to"] = [{"operation": {"ports": [str(port) for port in ports]}}]
    return rule
