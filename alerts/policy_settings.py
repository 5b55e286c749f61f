"""What can be set of the policies that are suggested, and what manifests add to it."""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Literal

import msgspec

from sidelong.alerts.policy_manifests import read_manifests
from sidelong.alerts.policy_names import DEFAULT_LABEL, Selectors, workload_parts
from sidelong.errors import ConfigError

__all__ = ["PolicySettings"]

_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
_ZONE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Network policies that are suggested with incidents and by `sidelong policy`.

    `kind` is what is written: a CiliumNetworkPolicy, a NetworkPolicy or an AuthorizationPolicy.
    Pods are selected by the label `label`, whose value is taken to be the name of their workload;
    where `manifests` names what `kubectl get deploy,sts,ds,cronjob -A -o json` printed, by the
    labels that stand there. `resolver` and `resolver_labels` say what the cluster's DNS is,
    `nodes` in which networks the nodes are, which NetworkPolicy has no word for. `cluster_domain`
    is that of the cluster's names in DNS, `trust_domain` that of the mesh's identities.
    """

    kind: Literal["cilium", "kubernetes", "istio"] = "cilium"
    label: str = DEFAULT_LABEL
    manifests: str | None = None
    resolver: str = "kube-system/coredns"
    resolver_labels: Mapping[str, str] = msgspec.field(
        default_factory=lambda: {"k8s-app": "kube-dns"}
    )
    nodes: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    trust_domain: str = "*"

    def selectors(self) -> Selectors:
        """The settings as policies need them. Errors: ConfigError for what Kubernetes refuses."""
        for key in (self.label, *self.resolver_labels):
            if not _KEY.match(key):
                raise ConfigError(
                    f"{key!r} is not the key of a label",
                    hint="give one such as app or example.org/app",
                )
        if workload_parts(self.resolver) is None:
            raise ConfigError(
                f"policy.resolver is {self.resolver!r}", hint="give it as namespace/workload"
            )
        for zone in (self.cluster_domain, self.trust_domain):
            if zone != "*" and not _ZONE.match(zone):
                raise ConfigError(
                    f"{zone!r} is not a domain", hint="give one such as cluster.local"
                )
        found = read_manifests(self.manifests) if self.manifests else None
        return Selectors(
            label=self.label,
            labels=found.labels if found else {},
            host_network=found.host_network if found else frozenset(),
            accounts=found.accounts if found else {},
            resolver=self.resolver,
            resolver_labels=self.resolver_labels,
            nodes=tuple(_network(text) for text in self.nodes),
            cluster_domain=self.cluster_domain,
            trust_domain=self.trust_domain,
        )


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not a network: {error}", hint="give it as 192.168.10.0/24"
        ) from error
