"""Which proxy reports: by its node id, as Istio writes it, or by a resource of OpenTelemetry."""

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["NOBODY", "Reporter", "by_node", "by_resource"]

_OWNERS: Final = (
    *("k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name", "k8s.cronjob.name"),
    *("k8s.job.name", "k8s.replicaset.name"),
)


class Reporter(NamedTuple):
    """Columns of `ENVOY_FIELDS` that tell of the proxy; each may be unknown."""

    node: str | None = None
    pod: str | None = None
    workload: str | None = None
    ip: str | None = None


NOBODY: Final = Reporter()


def by_node(identity: str, metadata: Mapping[str, str]) -> Reporter:
    """The reporter with Envoy's node id `sidecar~IP~POD.NAMESPACE~DOMAIN`, and its metadata.

    A node id of another form is kept as it is.
    """
    parts = identity.split("~")
    if len(parts) != 4:
        return Reporter(node=identity or None, workload=_workload(metadata, None))
    pod, _, namespace = parts[2].rpartition(".")
    return Reporter(
        node=None if pod else identity,
        pod=f"{namespace}/{pod}" if pod else None,
        workload=_workload(metadata, namespace or None),
        ip=parts[1] or None,
    )


def by_resource(attributes: Mapping[str, str]) -> Reporter:
    """The reporter with attributes of OpenTelemetry's conventions, or Envoy's own of its node."""
    get = attributes.get
    node, of_node = get("node_name"), NOBODY
    if node:
        of_node = by_node(node, {})
    namespace, pod = get("k8s.namespace.name"), get("k8s.pod.name")
    owner = next((name for key in _OWNERS if (name := get(key))), None)
    return Reporter(
        node=of_node.node or get("k8s.node.name"),
        pod=f"{namespace}/{pod}" if namespace and pod else of_node.pod,
        workload=f"{namespace}/{owner}" if namespace and owner else of_node.workload,
        ip=get("k8s.pod.ip") or of_node.ip,
    )


def _workload(metadata: Mapping[str, str], namespace: str | None) -> str | None:
    namespace, name = metadata.get("NAMESPACE") or namespace, metadata.get("WORKLOAD_NAME")
    return f"{namespace}/{name}" if namespace and name else None
