"""Objects of the Kubernetes API, as far as they say who holds an address; pods are by themselves.

Decoding takes only the fields declared here, so an object costs what is needed of it. Field names
are those of the API: core/v1, discovery.k8s.io/v1, meta/v1.
"""

import ipaddress
from datetime import datetime
from typing import ClassVar, Final

import msgspec

from sidelong.ingest.holdings import nanoseconds
from sidelong.ingest.workloads import Owner, controller

__all__ = [
    "API_SERVER",
    "HOST",
    "EndpointSlice",
    "Labels",
    "Metadata",
    "Node",
    "Service",
    "Thing",
    "address",
    "in_ns",
]

HOST: Final = "reserved:host"
API_SERVER: Final = "reserved:kube-apiserver"


def address(text: str) -> str:
    """An address in the form flows carry it. Errors: ValueError."""
    return str(ipaddress.ip_address(text))


class Labels(msgspec.Struct, frozen=True):
    """The labels that say something of a workload."""

    template_hash: str | None = msgspec.field(default=None, name="pod-template-hash")
    deployment_config: str | None = msgspec.field(default=None, name="deploymentconfig")
    service: str | None = msgspec.field(default=None, name="kubernetes.io/service-name")


class Annotations(msgspec.Struct, frozen=True):
    """When something last changed what an EndpointSlice says."""

    changed: str | None = msgspec.field(
        default=None, name="endpoints.kubernetes.io/last-change-trigger-time"
    )


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """What all objects have."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: Labels | None = None
    annotations: Annotations | None = None
    owner_references: tuple[Owner, ...] | None = None

    @property
    def created(self) -> int | None:
        """When the object was created (ns)."""
        return in_ns(self.creation_timestamp)

    @property
    def deleted(self) -> int | None:
        """When the object is to be gone (ns): the end of its grace, which may lie ahead."""
        return in_ns(self.deletion_timestamp)

    @property
    def owner(self) -> Owner | None:
        """The controller of the object."""
        return controller(self.owner_references or ())


def in_ns(moment: datetime | None) -> int | None:
    """A moment in nanoseconds, if there is one."""
    return None if moment is None else nanoseconds(moment)


class Thing(msgspec.Struct, frozen=True):
    """Any object that is watched."""

    kind: ClassVar[str] = ""
    metadata: Metadata = msgspec.field(default_factory=Metadata)

    @property
    def key(self) -> tuple[str, str]:
        """What tells the object from all others, also from a later one of its name."""
        about = self.metadata
        return self.kind, about.uid or f"{about.namespace}/{about.name}"

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def ended(self) -> int | None:
        """When the object came or comes to its end (ns), as far as it says so itself."""
        return self.metadata.deleted

    @property
    def latest(self) -> int:
        """The latest time that the object mentions (ns), 0 for none."""
        return max(self.metadata.created or 0, self.ended or 0)


class _ServiceSpec(msgspec.Struct, frozen=True):
    ip: str | None = msgspec.field(default=None, name="clusterIP")
    ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")


class Service(Thing, frozen=True):
    """A Service."""

    kind: ClassVar[str] = "Service"
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)

    @property
    def addresses(self) -> list[str]:
        """Its cluster IPs; a headless service has none. Errors: ValueError for a strange one."""
        listed = self.spec.ips or ([self.spec.ip] if self.spec.ip else [])
        return [address(ip) for ip in listed if ip != "None"]


class _Target(msgspec.Struct, frozen=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""


class _Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    addresses: tuple[str, ...] | None = None
    target_ref: _Target | None = None


class EndpointSlice(Thing, frozen=True):
    """Some of the endpoints of a Service."""

    kind: ClassVar[str] = "EndpointSlice"
    endpoints: tuple[_Endpoint, ...] | None = None

    @property
    def service(self) -> str | None:
        """The Service, namespace/name; None for a slice that belongs to none."""
        name = self.metadata.labels.service if self.metadata.labels else None
        return f"{self.metadata.namespace}/{name}" if name else None

    @property
    def pods(self) -> frozenset[str]:
        """The pods behind it, namespace/name."""
        found = (self._pod(endpoint) for endpoint in self.endpoints or ())
        return frozenset(pod for pod in found if pod)

    @property
    def elsewhere(self) -> list[str]:
        """The addresses behind it that are no pod's."""
        apart = (endpoint for endpoint in self.endpoints or () if not self._pod(endpoint))
        return [ip for endpoint in apart for ip in endpoint.addresses or ()]

    def _pod(self, endpoint: _Endpoint) -> str | None:
        """The pod of an endpoint. Whoever may write here may not borrow the name of a pod from a
        namespace that is not his."""
        target, namespace = endpoint.target_ref, self.metadata.namespace
        if target is None or target.kind != "Pod" or target.namespace not in ("", namespace):
            return None
        return f"{namespace}/{target.name}"

    @property
    def changed(self) -> int | None:
        """When what it says last changed (ns), where the controller noted it."""
        noted = self.metadata.annotations.changed if self.metadata.annotations else None
        try:
            return nanoseconds(datetime.fromisoformat(noted)) if noted else None
        except ValueError:
            return None


class _NodeAddress(msgspec.Struct, frozen=True):
    type: str = ""
    address: str = ""


class _NodeStatus(msgspec.Struct, frozen=True):
    addresses: tuple[_NodeAddress, ...] | None = None


class Node(Thing, frozen=True):
    """A node."""

    kind: ClassVar[str] = "Node"
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)

    @property
    def addresses(self) -> list[str]:
        """Its addresses inside the cluster. Errors: ValueError for one that is none."""
        places = self.status.addresses or ()
        return [address(place.address) for place in places if place.type == "InternalIP"]
