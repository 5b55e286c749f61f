"""Pods of the Kubernetes API, and the owners between a pod and its workload.

As in `kubernetes_objects.py`, decoding takes only what is declared here. Field names are those of
core/v1, apps/v1 and batch/v1.
"""

from datetime import datetime
from typing import ClassVar

import msgspec

from sidelong.ingest.holdings import Holding
from sidelong.ingest.kubernetes_objects import HOST, Labels, Thing, address, in_ns
from sidelong.ingest.workloads import workload_of_job, workload_of_replicas

__all__ = ["Job", "Pod", "ReplicaSet"]


class _Address(msgspec.Struct, frozen=True):
    ip: str = ""


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    host_network: bool | None = None
    service_account_name: str | None = None


class _Terminated(msgspec.Struct, frozen=True, rename="camel"):
    finished_at: datetime | None = None


class _State(msgspec.Struct, frozen=True):
    terminated: _Terminated | None = None


class _ContainerStatus(msgspec.Struct, frozen=True):
    state: _State | None = None


class _PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""
    ip: str | None = msgspec.field(default=None, name="podIP")
    ips: tuple[_Address, ...] | None = msgspec.field(default=None, name="podIPs")
    started: datetime | None = msgspec.field(default=None, name="startTime")
    containers: tuple[_ContainerStatus, ...] | None = msgspec.field(
        default=None, name="containerStatuses"
    )


class Pod(Thing, frozen=True):
    """A pod."""

    kind: ClassVar[str] = "Pod"
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)

    @property
    def workload(self) -> str:
        """The workload by the rules of names: the Deployment, not its ReplicaSet of the day."""
        owner, labels = self.metadata.owner, self.metadata.labels or Labels()
        if owner is None:
            return self.metadata.name
        if owner.kind == "ReplicaSet":
            return workload_of_replicas(owner.name, labels.template_hash)
        if owner.kind == "Job":
            return workload_of_job(owner.name)
        if owner.kind == "ReplicationController":  # of an OpenShift DeploymentConfig, if labelled
            return labels.deployment_config or owner.name
        if owner.kind == "Node":  # a static pod, named after its node
            return self.metadata.name.removesuffix(f"-{owner.name}")
        return owner.name

    @property
    def account(self) -> str | None:
        """The service account that it runs under, if it says so."""
        return self.spec.service_account_name

    @property
    def on_host(self) -> bool:
        """Whether the pod is on its node's network, and so has no address of its own."""
        return self.spec.host_network is True

    @property
    def addresses(self) -> list[str]:
        """All addresses of the pod. Errors: ValueError for one that is none."""
        listed = [place.ip for place in self.status.ips or ()]
        single = [self.status.ip] if self.status.ip else []
        return [address(ip) for ip in listed or single]

    @property
    def since(self) -> int | None:
        """When the pod was started, which is before it got its address."""
        started = in_ns(self.status.started)
        return self.metadata.created if started is None else started

    @property
    def freed(self) -> int | None:
        """When the last container of a finished pod ended, and nothing used its address any more;
        such a pod is listed on with it."""
        if self.status.phase not in ("Succeeded", "Failed"):
            return None
        states = [status.state for status in self.status.containers or ()]
        stops = [in_ns(s.terminated.finished_at) for s in states if s and s.terminated]
        return max((stop for stop in stops if stop is not None), default=None)

    @property
    def ended(self) -> int | None:
        """When the pod gave its address back, or is to."""
        ends = self.metadata.deleted, self.freed
        return min((end for end in ends if end is not None), default=None)

    @property
    def latest(self) -> int:
        """The latest time that the pod mentions (ns)."""
        return max(super().latest, self.since or 0)

    def holdings(self, workload: str) -> list[Holding]:
        """Its addresses, held by this workload; those of its node when it is on the host's network.

        Errors: ValueError for an address that is none.
        """
        if self.on_host:
            return [Holding(ip, HOST) for ip in self.addresses]
        namespace = self.metadata.namespace
        name, since, until = f"{namespace}/{workload}", self.since, self.ended
        return [
            Holding(ip, name, namespace, workload, self.full_name, since, until)
            for ip in self.addresses
        ]


class ReplicaSet(Thing, frozen=True):
    """A ReplicaSet; only its metadata is asked for."""

    kind: ClassVar[str] = "ReplicaSet"

    @property
    def unlike_its_name(self) -> str | None:
        """The workload behind it, where the rules of names would say another."""
        about = self.metadata
        real = about.owner.name if about.owner else about.name
        labels = about.labels or Labels()
        return None if real == workload_of_replicas(about.name, labels.template_hash) else real


class Job(Thing, frozen=True):
    """A Job; only its metadata is asked for."""

    kind: ClassVar[str] = "Job"

    @property
    def unlike_its_name(self) -> str | None:
        """The workload behind it, where the rules of names would say another.

        A Job that nobody controls goes by its name without a date at the end: it is the same
        workload tomorrow.
        """
        about = self.metadata
        guess = workload_of_job(about.name)
        return about.owner.name if about.owner and about.owner.name != guess else None
