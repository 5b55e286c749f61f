"""Names as network policies know them: what an identity of ours is to Cilium and to Kubernetes.

A policy selects pods by labels, never by name. Which labels a workload's pods bear is told by its
manifests where there are any; else by one label whose value is the workload's name.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final, Literal

__all__ = [
    "DEFAULT_LABEL",
    "Far",
    "FarKind",
    "Selectors",
    "digest",
    "object_name",
    "workload_parts",
]

DEFAULT_LABEL: Final = "app.kubernetes.io/name"

FarKind = Literal["pods", "nodes", "entity", "domain", "network", "unknown"]

# RFC 1123 as Kubernetes reads it; a label's value may have capitals, dots and underscores inside.
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_WORKLOAD: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_DOMAIN: Final = re.compile(r"(?=.{1,240}\Z)[a-z0-9_]([-a-z0-9_]*\.)+[-a-z0-9_]*[a-z0-9_]\Z")

_LONGEST: Final = 253

_NODES: Final = ("host", "remote-node")
_ENTITIES: Final = {
    "world": "world",
    "world-ipv4": "world",
    "world-ipv6": "world",
    "health": "health",
    "init": "init",
    "ingress": "ingress",
    "unmanaged": "unmanaged",
    "kube-apiserver": "kube-apiserver",
}

# The cluster's resolver bears these labels whatever its Deployment is called.
_RESOLVERS: Final = {
    "kube-system/coredns": {"k8s-app": "kube-dns"},
    "kube-system/kube-dns": {"k8s-app": "kube-dns"},
    "kube-system/rke2-coredns-rke2-coredns": {"k8s-app": "kube-dns"},
    "openshift-dns/dns-default": {"dns.operator.openshift.io/daemonset-dns": "default"},
}


@dataclass(frozen=True, slots=True, order=True)
class Far:
    """The other end of a connection, seen from the workload that a policy is for.

    name: `namespace/workload` for pods, an entity of Cilium, a registered domain, or a network in
    CIDR notation. Of kind "unknown" is what no policy can name.
    """

    kind: FarKind
    name: str


@dataclass(frozen=True, slots=True)
class Selectors:
    """How workloads are selected, and what else of a cluster a policy must know.

    label: the key whose value is the workload's name. labels: those of workloads whose manifests
    are known. host_network: workloads whose pods live in the network of their node, which policies
    do not select. accounts: service accounts by workload. resolver: workload and labels of the
    cluster's DNS. nodes: networks of the nodes, for NetworkPolicy, which has no word for them.
    """

    label: str = DEFAULT_LABEL
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    host_network: frozenset[str] = frozenset()
    accounts: Mapping[str, str] = field(default_factory=dict)
    resolver: str = "kube-system/coredns"
    resolver_labels: Mapping[str, str] = field(
        default_factory=lambda: dict(_RESOLVERS["kube-system/coredns"])
    )
    nodes: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    trust_domain: str = "*"

    def of(self, workload: str) -> dict[str, str] | None:
        """The labels that select a workload's pods; None if no pod can have such a name."""
        parts = workload_parts(workload)
        if parts is None or workload in self.host_network:
            return None
        if workload in self.labels:
            return dict(self.labels[workload])
        if workload == self.resolver:
            return dict(self.resolver_labels)
        if workload in _RESOLVERS:
            return dict(_RESOLVERS[workload])
        name = parts[1]
        return {self.label: name} if _LABEL_VALUE.match(name) else None

    def far(self, identity: str, address: str | None = None) -> Far:
        """What an identity (design section 5) is to a policy; `address` where it is known."""
        if identity in self.host_network:
            return Far("nodes", "remote-node")
        if identity.startswith("reserved:"):
            return _reserved(identity.removeprefix("reserved:"), address)
        if identity.startswith("world:"):
            return _network(address or identity.removeprefix("world:"))
        if identity.startswith("ip:"):
            return _network(identity.removeprefix("ip:"))
        if "/" in identity:
            known = self.of(identity) is not None
            return Far("pods", identity) if known else Far("unknown", identity)
        network = _network(identity)
        if network.kind == "network":
            return network
        return Far("domain", identity) if _DOMAIN.match(identity) else Far("unknown", identity)

    def is_resolver(self, workload: str) -> bool:
        """Whether it is the cluster's DNS, which must reach servers elsewhere."""
        return workload == self.resolver or workload in _RESOLVERS

    def account(self, workload: str) -> str:
        """The service account of a workload, taken to be called like it unless manifests tell."""
        parts = workload_parts(workload)
        return self.accounts.get(workload, parts[1] if parts else workload)


def workload_parts(workload: str) -> tuple[str, str] | None:
    """Namespace and name of `namespace/workload`; None if Kubernetes allows no such names.

    >>> workload_parts("shop/frontend"), workload_parts("shop/a b"), workload_parts("reserved:host")
    (('shop', 'frontend'), None, None)
    """
    namespace, slash, name = workload.partition("/")
    if slash and _NAMESPACE.match(namespace) and _WORKLOAD.match(name):
        return namespace, name
    return None


def object_name(*parts: str) -> str:
    """A name for a policy: the parts as RFC 1123 has it, long enough for any workload.

    >>> object_name("sidelong", "postgres", "ingress")
    'sidelong-postgres-ingress'
    """
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower())[:_LONGEST].strip("-")


def digest(rules: object) -> str:
    """Eight digits for rules, so that two policies for one workload do not replace each other."""
    text = json.dumps(rules, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _reserved(name: str, address: str | None) -> Far:
    if name in _NODES:
        return Far("nodes", name)
    if name == "unknown" and address:
        return _network(address)
    return Far("entity", _ENTITIES[name]) if name in _ENTITIES else Far("unknown", name)


def _network(text: str) -> Far:
    try:
        return Far("network", str(ip_network(text, strict=False)))
    except ValueError:
        return Far("unknown", text)
