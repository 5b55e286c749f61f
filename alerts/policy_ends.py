"""The ends of connections as policies see them: labels, entity, address, certificate, names.

Everything here is asked once per distinct end, however many connections it has.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.alerts.policy_names import Far, Selectors, workload_parts

__all__ = ["CILIUM_NAMESPACE", "KUBERNETES_NAMESPACE", "End", "Ends", "matches_name"]

CILIUM_NAMESPACE: Final = "k8s:io.kubernetes.pod.namespace"
KUBERNETES_NAMESPACE: Final = "kubernetes.io/metadata.name"

_OUTSIDE: Final = ("domain", "network")


@dataclass(frozen=True, slots=True)
class End:
    """One end: what it is to a policy, its namespace and labels if it is a pod's."""

    far: Far
    namespace: str
    labels: Mapping[str, str]
    principal: str

    @classmethod
    def of(cls, identity: str, address: str | None, selectors: Selectors) -> "End":
        """The end of an identity (design section 5), at `address` where that is known."""
        far = selectors.far(identity, address)
        if far.kind != "pods":
            return cls(far, "", {}, "")
        namespace = (workload_parts(identity) or ("", ""))[0]
        principal = f"cluster.local/ns/{namespace}/sa/{selectors.account(identity)}"
        return cls(far, namespace, selectors.of(identity) or {}, principal)

    def bears(self, labels: Mapping[str, str]) -> bool:
        """Whether it is a pod with all these labels, the namespace told as Cilium tells it."""
        if self.far.kind != "pods":
            return False
        own = {**self.labels, CILIUM_NAMESPACE: self.namespace}
        return labels.items() <= own.items()

    def is_entity(self, name: str) -> bool:
        """Whether Cilium counts it to an entity. What it knows nothing of is the world."""
        if name == "all":
            return True
        if self.far.kind in _OUTSIDE or self.far.name == "world":
            return name == "world"
        if name == "cluster":
            return True
        return self.far.kind in ("nodes", "entity") and self.far.name == name

    def is_within(self, cidr: str) -> bool:
        """Whether all that is known of its address lies in a network."""
        if self.far.kind == "network":
            inner, outer = _network(self.far.name), _network(cidr)
            return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
        return False

    def touches(self, cidr: str) -> bool:
        """Whether its address may lie in a network."""
        if self.far.kind != "network":
            return False
        return _network(self.far.name).overlaps(_network(cidr))


class Ends:
    """One side of a frame of connections: each distinct end once, and which row has which."""

    def __init__(self, rows: pl.DataFrame, selectors: Selectors, *, opens: bool) -> None:
        identity = pl.col("actor" if opens else "peer")
        addressed = identity.str.contains("^(world|ip):|^reserved:unknown$")
        address = pl.when(addressed & (not opens)).then("object")
        both = rows.select(identity=identity, address=address)
        distinct = both.unique(maintain_order=True).with_row_index("code")
        self._codes = both.join(
            distinct,
            on=["identity", "address"],
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )["code"].to_numpy()
        self._ends = [End.of(name, at, selectors) for _, name, at in distinct.iter_rows()]

    def where(self, holds: Callable[[End], bool]) -> NDArray[np.bool_]:
        """Row for row, whether something holds of this end."""
        told = np.fromiter((holds(end) for end in self._ends), np.bool_, len(self._ends))
        return np.asarray(told[self._codes])


def matches_name(selector: Mapping[str, Any], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which DNS names a `matchName` or `matchPattern` of Cilium 1.19 stands for.

    >>> matches_name({"matchPattern": "**.a.org"}, ["b.c.a.org", "a.org"]).tolist()
    [True, False]
    """
    exact = selector.get("matchName")
    if exact is not None:
        return np.array([name == exact.lower().rstrip(".") for name in names], np.bool_)
    pattern = _expression(selector["matchPattern"])
    return np.array([pattern.fullmatch(name) is not None for name in names], np.bool_)


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    text = pattern.lower().rstrip(".")
    if not text.strip("*"):
        return re.compile(r"[-a-z0-9_]+(\.[-a-z0-9_]+)*")
    deep = re.match(r"\*{2,}\.", text)
    rest = text[deep.end() :] if deep else text
    fixed = re.sub(r"\*+", "[-a-z0-9_]*", rest.replace(".", r"\."))
    return re.compile((r"([-a-z0-9_]+\.)+" if deep else "") + fixed)


@cache
def _network(cidr: str) -> IPv4Network | IPv6Network:
    return ip_network(cidr, strict=False)
