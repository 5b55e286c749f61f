"""Objects as the Kubernetes API writes them, for tests. Times are seconds since 1970."""

from datetime import UTC, datetime
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]


def moment(second: float) -> str:
    """A time as the API writes it."""
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")


def owned(kind: str, name: str) -> Object:
    """Metadata of something that a controller made; the owner's uid is `KIND name`."""
    owner = {"kind": kind, "name": name, "uid": f"{kind} {name}", "controller": True}
    return {"ownerReferences": [owner]}


def pod(
    name: str,
    ip: str = "10.0.0.1",
    start: float = 0,
    *,
    uid: str = "",
    owner: Object | None = None,
    host: bool = False,
    finished: float | None = None,
    deleted: float | None = None,
) -> Object:
    """A pod in the namespace `shop`; without `ip` it has no address yet."""
    metadata: Object = {"namespace": "shop", "name": name, "uid": uid or name, **(owner or {})}
    metadata["creationTimestamp"] = moment(start)
    if deleted is not None:
        metadata["deletionTimestamp"] = moment(deleted)
    status: Object = {"phase": "Running", "startTime": moment(start)}
    if ip:
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    if finished is not None:
        ended = {"state": {"terminated": {"finishedAt": moment(finished)}}}
        status |= {"phase": "Succeeded", "containerStatuses": [ended]}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": "node-1", "hostNetwork": host},
        "status": status,
    }


def thing(kind: str, name: str, owner: Object | None = None, **more: Any) -> Object:
    """Any other object of the namespace `shop`, created at second 0."""
    metadata = {"namespace": "shop", "name": name, "uid": f"{kind} {name}", **(owner or {})}
    return {"kind": kind, "metadata": {"creationTimestamp": moment(0), **metadata}, **more}


def service(name: str, ip: str, namespace: str = "shop") -> Object:
    """A Service with one cluster IP."""
    found = thing("Service", name, {"namespace": namespace})
    return {**found, "spec": {"clusterIP": ip, "clusterIPs": [ip]}}


def endpoints(
    of: str, *pods: str, elsewhere: str = "", changed: float | None = None, namespace: str = "shop"
) -> Object:
    """The endpoints of a Service: pods by name, or an address that is no pod's."""
    about: Object = {"namespace": namespace, "labels": {"kubernetes.io/service-name": of}}
    if changed is not None:
        noted = "endpoints.kubernetes.io/last-change-trigger-time"
        about["annotations"] = {noted: moment(changed)}
    listed: list[Object] = [
        {"addresses": ["10.9.9.9"], "targetRef": {"kind": "Pod", "namespace": "shop", "name": name}}
        for name in pods
    ]
    if elsewhere:
        listed.append({"addresses": [elsewhere]})
    return thing("EndpointSlice", f"{of}-x7k2d", about, endpoints=listed)


def node(name: str, ip: str) -> Object:
    """A node with an address inside and one outside."""
    addresses = [
        {"type": "InternalIP", "address": ip},
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "Hostname", "address": name},
    ]
    return thing("Node", name, status={"addresses": addresses})
