"""Labels of pods from the manifests of their workloads, as kubectl prints them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from sidelong.errors import ConfigError

__all__ = ["Manifests", "objects_in", "read_manifests"]

_HINT: Final = "give it the output of: kubectl get deploy,sts,ds,cronjob -A -o json"
_KINDS: Final = (
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "DeploymentConfig",
    "CronJob",
    "Job",
)

# Written by controllers: gone with the next rollout or run.
_PASSING: Final = (
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
)


@dataclass(frozen=True, slots=True)
class Manifests:
    """By workload: the labels that its own selector asks for, its service account; and which
    workloads live in the network of their node."""

    labels: Mapping[str, Mapping[str, str]]
    accounts: Mapping[str, str]
    host_network: frozenset[str]


def read_manifests(path: str) -> Manifests:
    """Read a file of manifests, JSON or YAML, one object, a list, or several documents.

    Errors: ConfigError when it cannot be read or holds no workload.
    """
    labels, accounts, host_network = {}, {}, set()
    for item in objects_in(path):
        if item["kind"] not in _KINDS:
            continue
        meta, spec = _mapping(item, "metadata"), _mapping(item, "spec")
        workload = f"{meta.get('namespace', 'default')}/{meta.get('name')}"
        pods = _mapping(spec, "jobTemplate", "spec") if item["kind"] == "CronJob" else spec
        template = _mapping(pods, "template")
        selector = _mapping(pods, "selector")
        chosen = _texts(selector.get("matchLabels", selector if "Config" in item["kind"] else None))
        chosen = chosen or _texts(_mapping(template, "metadata").get("labels"))
        if chosen:
            labels[workload] = chosen
        inside = _mapping(template, "spec")
        accounts[workload] = str(inside.get("serviceAccountName") or "default")
        if inside.get("hostNetwork") is True:
            host_network.add(workload)
    if not accounts:
        raise ConfigError(f"{path} holds no workload", hint=_HINT)
    return Manifests(labels, accounts, frozenset(host_network))


def objects_in(path: str) -> Iterator[dict[str, Any]]:
    """The objects of a file, JSON or YAML, each with its `kind`; those in lists one by one.

    Errors: ConfigError when it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="check the path") from error
    for document in _documents(text, path):
        inside = document.get("items") if isinstance(document, dict) else None
        for item in inside if isinstance(inside, list) else [document]:
            if isinstance(item, dict) and isinstance(item.get("kind"), str):
                yield item


def _documents(text: str, path: str) -> list[Any]:
    try:
        return [msgspec.json.decode(text)]
    except msgspec.DecodeError:
        pass
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{path} is neither JSON nor YAML: {first}", hint=_HINT) from error


def _mapping(value: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {
        key: text
        for key, text in value.items()
        if isinstance(key, str) and isinstance(text, str) and key not in _PASSING
    }
