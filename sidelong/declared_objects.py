"""What people declare of a cluster: the objects in YAML and JSON files, and the workloads there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sidelong.alerts.policy_manifests import objects_in
from sidelong.errors import ConfigError

__all__ = ["NAMESPACE_NAME", "Cluster", "Port", "Workload", "inner", "read_cluster"]

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
"""The label that every namespace bears, with its name."""

_SUFFIXES: Final = (".yaml", ".yml", ".json")
_WORKLOADS: Final = (
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "DeploymentConfig",
    "CronJob",
    "Job",
    "Pod",
)
_POLICIES: Final = (
    "NetworkPolicy",
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "AuthorizationPolicy",
)
_BINDINGS: Final = ("RoleBinding", "ClusterRoleBinding")
_HINT: Final = (
    "give it the output of: kubectl get namespaces,deploy,sts,ds,cronjobs,services,"
    "networkpolicies -A -o yaml"
)


@dataclass(frozen=True, slots=True)
class Port:
    """A port at which a workload serves; `name` may be empty."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload whose pods policies may select: the labels of the pods, not its own."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    account: str
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was declared. spaces: labels of namespaces. bound: accounts `(namespace, name)` that a
    role is bound to."""

    workloads: tuple[Workload, ...]
    spaces: Mapping[str, Mapping[str, str]]
    services: tuple[Mapping[str, Any], ...] = ()
    policies: tuple[Mapping[str, Any], ...] = ()
    bound: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    def space(self, name: str) -> Mapping[str, str]:
        """The labels of a namespace, the one with its name among them."""
        return {**self.spaces.get(name, {}), NAMESPACE_NAME: name}


def read_cluster(paths: Sequence[str]) -> Cluster:
    """Read files, and folders of them with all that is below.

    Errors: ConfigError for one that cannot be read, and when there is no workload in them.
    """
    found = [item for path in _files(paths) for item in objects_in(str(path))]
    workloads = {one.name: one for one in map(_workload, _of(found, _WORKLOADS)) if one}
    if not workloads:
        raise ConfigError(f"there is no workload in {', '.join(paths)}", hint=_HINT)
    spaces = {
        str(inner(item, "metadata").get("name")): _texts(inner(item, "metadata").get("labels"))
        for item in _of(found, ("Namespace",))
    }
    bound = {
        (str(one.get("namespace") or inner(item, "metadata").get("namespace")), str(one["name"]))
        for item in _of(found, _BINDINGS)
        for one in _dicts(item.get("subjects"))
        if one.get("kind") == "ServiceAccount" and "name" in one
    }
    return Cluster(
        workloads=tuple(workloads[name] for name in sorted(workloads)),
        spaces=spaces,
        services=tuple(_of(found, ("Service",))),
        policies=tuple(_of(found, _POLICIES)),
        bound=frozenset(bound),
    )


def inner(value: Any, *keys: str) -> dict[str, Any]:
    """What lies below the keys, an empty mapping where that is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _files(paths: Sequence[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        inside = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES)
        if not inside:
            raise ConfigError(f"there is no .yaml, .yml or .json file in {path}", hint=_HINT)
        yield from inside


def _of(found: Sequence[dict[str, Any]], kinds: Sequence[str]) -> Iterator[dict[str, Any]]:
    return (item for item in found if item.get("kind") in kinds)


def _workload(item: dict[str, Any]) -> Workload | None:
    """None for what another object runs, and for what lives in the network of its node."""
    meta, spec = inner(item, "metadata"), inner(item, "spec")
    if any(one.get("controller") for one in _dicts(meta.get("ownerReferences"))):
        return None
    kind = item["kind"]
    pods = inner(spec, "jobTemplate", "spec") if kind == "CronJob" else spec
    template = item if kind == "Pod" else inner(pods, "template")
    inside = inner(template, "spec")
    if inside.get("hostNetwork") is True:
        return None
    namespace = str(meta.get("namespace") or "default")
    ports = [
        Port(
            str(one.get("name") or ""),
            one["containerPort"],
            str(one.get("protocol") or "TCP").upper(),
        )
        for container in _dicts(inside.get("containers"))
        for one in _dicts(container.get("ports"))
        if isinstance(one.get("containerPort"), int)
    ]
    return Workload(
        name=f"{namespace}/{meta.get('name')}",
        namespace=namespace,
        labels=_texts(inner(template, "metadata").get("labels")),
        account=str(inside.get("serviceAccountName") or "default"),
        ports=tuple(ports),
    )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}
