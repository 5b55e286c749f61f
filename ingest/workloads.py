"""The workload behind a pod: what a person created, not what a controller made of it today."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
import polars as pl

__all__ = [
    "Owner",
    "controller",
    "owner_kind",
    "strip_pod_hash",
    "template_hash",
    "workload_of_job",
    "workload_of_replicas",
]

_HASH: Final = "[bcdfghjklmnpqrstvwxz2456789]"  # of Kubernetes' rand.SafeEncodeString
_SUFFIX: Final = (
    rf"^(.+?)(?:-{_HASH}{{8,10}}-{_HASH}{{5}}|-\d{{8,}}-{_HASH}{{5}}|-{_HASH}{{5}}|-\d+)$"
)


def strip_pod_hash(pod: pl.Expr) -> pl.Expr:
    """The workload a pod's name suggests: the name without what its controller appended.

    Takes `pod` or `namespace/pod`. Understood are the suffixes of Deployments, CronJobs, DaemonSets
    and Jobs, StatefulSets; another name stays as it is.

    >>> pl.select(strip_pod_hash(pl.lit("shop/cart-7d9f8c6b5-x2x4z"))).item()
    'shop/cart'
    """
    return pod.str.replace(_SUFFIX, "${1}")


def owner_kind(pod: pl.Expr) -> pl.Expr:
    """The kind of controller that a pod's name suggests; null where it may be several, or none.

    A DaemonSet and a bare Job name their pods alike.

    >>> pl.select(owner_kind(pl.lit("shop/backup-28912345-x2x4z"))).item()
    'CronJob'
    """
    return (
        pl.when(pod.str.contains(rf"-\d{{8,}}-{_HASH}{{5}}$"))
        .then(pl.lit("CronJob"))
        .when(template_hash(pod).is_not_null())
        .then(pl.lit("Deployment"))
        .when(pod.str.contains(r"-\d+$"))
        .then(pl.lit("StatefulSet"))
    )


def template_hash(pod: pl.Expr) -> pl.Expr:
    """The hash of the pod template in a pod's name, if a Deployment made the pod; else null.

    >>> pl.select(template_hash(pl.lit("shop/cart-7d9f8c6b5-x2x4z"))).item()
    '7d9f8c6b5'
    """
    return pod.str.extract(rf"-({_HASH}{{8,10}})-{_HASH}{{5}}$")


class Owner(msgspec.Struct, frozen=True):
    """An owner reference of the Kubernetes API (meta/v1)."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


def controller(owners: Sequence[Owner]) -> Owner | None:
    """The owner that manages an object: the one that says so, else the first."""
    return next((owner for owner in owners if owner.controller), owners[0] if owners else None)


def workload_of_replicas(name: str, template_hash: str | None) -> str:
    """The Deployment that a ReplicaSet's name suggests, given its label `pod-template-hash`.

    >>> workload_of_replicas("cart-7d9f8c6b5", None)
    'cart'
    """
    if template_hash:
        return name.removesuffix(f"-{template_hash}")
    return re.sub(rf"-{_HASH}{{8,10}}$", "", name)


def workload_of_job(name: str) -> str:
    """The CronJob that a Job's name suggests: the name without a time or date at its end.

    >>> workload_of_job("backup-28912345")
    'backup'
    """
    return re.sub(r"-\d{8,}$", "", name)
