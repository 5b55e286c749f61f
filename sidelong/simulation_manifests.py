"""What people of a simulated cluster would declare: workloads, Services, NetworkPolicies."""

from typing import Any

from sidelong.simulation_cluster import Cluster, Kind, Workload

__all__ = ["manifests"]

_KINDS = {Kind.CRON: "CronJob"}


def manifests(cluster: Cluster) -> dict[str, Any]:
    """A list of objects as kubectl prints it: each workload, and who may reach it."""
    callers: dict[int, set[int]] = {one.number: set() for one in cluster.workloads}
    for edges in (cluster.edges, cluster.jobs):
        for client, server in zip(edges.client.tolist(), edges.server.tolist(), strict=True):
            if server in callers and client in callers:
                callers[server].add(client)
    items: list[dict[str, Any]] = []
    for one in cluster.workloads:
        items.append(_workload(one))
        if not one.replicas or one.kind in (Kind.INGRESS, Kind.DNS):
            continue  # nothing calls it, or everybody does
        items.append(_service(one))
        clients = sorted(callers[one.number] - {2})
        rules = [
            {"from": [_peer(cluster.workloads[two])], "ports": [{"port": one.port}]}
            for two in clients
        ]
        scraper = {"from": [_peer(cluster.workloads[2])], "ports": [{"port": 9102}]}
        items.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": one.name, "namespace": one.namespace},
                "spec": {
                    "podSelector": {"matchLabels": {"app": one.name}},
                    "policyTypes": ["Ingress"],
                    "ingress": [*rules, scraper],
                },
            }
        )
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _workload(one: Workload) -> dict[str, Any]:
    ports = [
        {"name": "serve", "containerPort": one.port},
        {"name": "metrics", "containerPort": 9102},
    ]
    pod: dict[str, Any] = {
        "metadata": {"labels": {"app": one.name}},
        "spec": {
            "serviceAccountName": one.name,
            "containers": [{"name": one.name, "ports": ports}],
        },
    }
    kind = _KINDS.get(one.kind, "StatefulSet" if one.stateful else "Deployment")
    spec: dict[str, Any] = {"template": pod}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    else:
        spec |= {"replicas": one.replicas, "selector": {"matchLabels": {"app": one.name}}}
    return {
        "apiVersion": "batch/v1" if kind == "CronJob" else "apps/v1",
        "kind": kind,
        "metadata": {"name": one.name, "namespace": one.namespace},
        "spec": spec,
    }


def _service(one: Workload) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": one.name, "namespace": one.namespace},
        "spec": {
            "selector": {"app": one.name},
            "ports": [{"port": one.port, "targetPort": one.port}],
        },
    }


def _peer(one: Workload) -> dict[str, Any]:
    namespace = {"kubernetes.io/metadata.name": one.namespace}
    return {
        "podSelector": {"matchLabels": {"app": one.name}},
        "namespaceSelector": {"matchLabels": namespace},
    }
