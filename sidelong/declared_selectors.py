"""Which workloads a selector of labels selects: as masks over all that are declared."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sidelong.declared_objects import Cluster, Workload, inner

__all__ = ["Mask", "Population"]

Mask = NDArray[np.bool_]

_SPACE: Final = "io.kubernetes.pod.namespace"
_SPACE_LABELS: Final = "io.cilium.k8s.namespace.labels."
_ACCOUNT: Final = "io.cilium.k8s.policy.serviceaccount"
_SOURCE: Final = re.compile(r"^(?:k8s|any)[:.]")


class Population:
    """The declared workloads, in their order; a mask has one place for each."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.workloads = cluster.workloads
        self.namespaces = sorted({one.namespace for one in cluster.workloads})

    def where(self, condition: Callable[[Workload], bool]) -> Mask:
        """The workloads for which a condition holds."""
        return np.array([condition(one) for one in self.workloads], np.bool_)

    def everybody(self) -> Mask:
        """All workloads."""
        return np.ones(len(self.workloads), np.bool_)

    def nobody(self) -> Mask:
        """None of them."""
        return np.zeros(len(self.workloads), np.bool_)

    def inside(self, namespace: str) -> Mask:
        """The workloads of a namespace."""
        return self.where(lambda one: one.namespace == namespace)

    def pods(self, selector: Any) -> Mask:
        """Those whose pods a `LabelSelector` of Kubernetes selects; an empty one selects all."""
        return self.where(lambda one: _selects(selector, one.labels))

    def spaces(self, selector: Any) -> Mask:
        """Those whose namespace it selects."""
        return self.where(lambda one: _selects(selector, self.cluster.space(one.namespace)))

    def endpoints(self, selector: Any, namespace: str | None) -> Mask:
        """Those whose pods an `EndpointSelector` of Cilium selects.

        namespace: where the policy lives, which is meant unless the selector names one.
        """
        selector = _plain(selector)
        labels = [self._seen_by_cilium(one) for one in self.workloads]
        found = np.array([_selects(selector, one) for one in labels], np.bool_)
        asked = {*inner(selector, "matchLabels"), *_keys(selector)}
        elsewhere = any(key == _SPACE or key.startswith(_SPACE_LABELS) for key in asked)
        return found if namespace is None or elsewhere else found & self.inside(namespace)

    def service(self, name: str, namespace: str) -> Mask:
        """Those behind a Service."""
        for service in self.cluster.services:
            meta = inner(service, "metadata")
            if (meta.get("name"), meta.get("namespace") or "default") == (name, namespace):
                chosen = inner(service, "spec", "selector")
                if chosen:
                    return self.inside(namespace) & self.pods({"matchLabels": chosen})
        return self.nobody()

    def _seen_by_cilium(self, one: Workload) -> dict[str, str]:
        space = self.cluster.space(one.namespace)
        return {
            **one.labels,
            **{f"{_SPACE_LABELS}{key}": value for key, value in space.items()},
            _SPACE: one.namespace,
            _ACCOUNT: one.account,
        }


def _selects(selector: Any, labels: Mapping[str, str]) -> bool:
    if not isinstance(selector, dict):
        return True
    if not inner(selector, "matchLabels").items() <= labels.items():
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or ())


def _holds(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = str(one.get("key")), one.get("values") or ()
    match one.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def _plain(selector: Any) -> dict[str, Any]:
    """Keys without `k8s:` or `any:`, which say where a label comes from; here all are of pods."""
    if not isinstance(selector, dict):
        return {}
    return {
        "matchLabels": {
            _SOURCE.sub("", key): value for key, value in inner(selector, "matchLabels").items()
        },
        "matchExpressions": [
            {**one, "key": _SOURCE.sub("", str(one.get("key")))}
            for one in selector.get("matchExpressions") or ()
        ],
    }


def _keys(selector: Mapping[str, Any]) -> list[str]:
    return [str(one["key"]) for one in selector["matchExpressions"]] if selector else []
