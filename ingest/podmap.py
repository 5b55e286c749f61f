"""Who held an address when: the pod map, for telemetry that carries addresses only.

Pods live for seconds and their addresses are used again, so each entry is valid from one moment to
another, and a flow is attributed to the entry that held the address at the flow's time.
"""

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

import polars as pl

from sidelong.errors import ConfigError

__all__ = ["POD_SCHEMA", "PodMap", "strip_pod_hash"]

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

POD_SCHEMA: Final = pl.Schema(
    {
        "ip": pl.String(),
        "name": pl.String(),
        "namespace": pl.String(),
        "workload": pl.String(),
        "pod": pl.String(),
        "since": pl.Datetime("ns", "UTC"),
        "until": pl.Datetime("ns", "UTC"),
    }
)
"""One row per address and holder. `name` is the identity, namespace/workload, a domain outside the
cluster, or `reserved:host`; `pod` is namespace/pod. `since` is included, `until` is not; null means
without bound."""

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


@dataclass(frozen=True, slots=True)
class _Holding:
    """One row of `POD_SCHEMA`; times in nanoseconds."""

    ip: str
    name: str
    namespace: str | None = None
    workload: str | None = None
    pod: str | None = None
    since: int | None = None
    until: int | None = None


class PodMap:
    """The holders of addresses in time, in `frame` (`POD_SCHEMA`)."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame: Final = (
            frame.select(POD_SCHEMA.names()).cast(POD_SCHEMA).unique(maintain_order=True)
        )
        always = pl.lit(-(2**63)).cast(POD_SCHEMA["since"])
        self._by_time: Final = self.frame.select(
            "ip", "name", "pod", pl.col("since").fill_null(always), "until"
        ).sort("since", maintain_order=True)
        self._by_pod: Final = (
            self.frame.drop_nulls("pod")
            .select("pod", "name")
            .unique("pod", keep="last", maintain_order=True)
        )

    @classmethod
    def read(cls, path: Path) -> "PodMap":
        """Read a pod map, or what `kubectl get pods -A -o json` printed.

        A pod map is `{name: {"ip", "namespace", "workload"}}`; `ips` may stand for `ip`, and `from`
        and `until` (RFC 3339 or seconds since 1970) bound the time of the holding. An entry without
        a namespace, or of the workload `world`, is outside the cluster; it is named by its `domain`
        and left out without one. From kubectl the workload is the owner of the pod; a pod on the
        host's network does not own the address, it is `reserved:host`.

        Errors: ConfigError, naming file and key, when the file has neither form.
        """
        try:
            document: Json = json.loads(path.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"the pod map {path} cannot be read: {error.strerror}", hint="check the path"
            ) from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the pod map {path} is not JSON: {error}", hint=_HINT) from error
        root = _Node(path, "", document)
        kind = root.fields().get("kind")
        if isinstance(kind, str) and kind in ("List", "PodList"):
            pods = root["items"].items()
        elif kind == "Pod":
            pods = iter([root])
        else:
            return cls._of(_declared(root))
        return cls._of(holding for pod in pods for holding in _running(pod))

    @classmethod
    def _of(cls, holdings: Iterator[_Holding]) -> "PodMap":
        rows = [asdict(holding) for holding in holdings]
        physical = {k: pl.Int64() if v.is_temporal() else v for k, v in POD_SCHEMA.items()}
        return cls(pl.DataFrame(rows, schema=physical))

    def holders(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Who held each address at each time: `asked` has `ip` and `time`, any order.

        Returns `name` and `pod` row by row, nulls where the map does not say. When two holdings
        overlap the one that began later counts.
        """
        found = (
            asked.select("ip", "time")
            .with_row_index("asked")
            .join(self._by_time.select("ip").unique(), on="ip", how="semi")
            .sort("time")
            .join_asof(
                self._by_time,
                left_on="time",
                right_on="since",
                by="ip",
                check_sortedness=False,
            )
            .filter(pl.col("until").is_null() | (pl.col("time") < pl.col("until")))
        )
        rows = pl.select(asked=pl.int_range(len(asked), dtype=pl.UInt32))
        return rows.join(
            found.select("asked", "name", "pod"), on="asked", how="left", maintain_order="left"
        ).drop("asked")

    @cached_property
    def networks(self) -> frozenset[str]:
        """The IPv4 /24 prefixes (`10.244.1`) that hold addresses of workloads."""
        inside = self.frame.filter(pl.col("workload").is_not_null())
        prefixes = inside["ip"].str.extract(r"^(\d+\.\d+\.\d+)\.\d+$").drop_nulls()
        return frozenset(prefixes)

    def names(self, pods: pl.Series) -> pl.Series:
        """The identity of each pod by its name, namespace/pod; null where the map has none."""
        asked = pl.DataFrame({"pod": pods})
        return asked.join(self._by_pod, on="pod", how="left", maintain_order="left")["name"]


_HINT: Final = (
    'write {"cart-0": {"ip": "10.0.0.7", "namespace": "shop", "workload": "cart"}, ...},'
    " or save the output of: kubectl get pods -A -o json"
)


@dataclass(frozen=True, slots=True)
class _Node:
    """A place in a JSON document, which knows its name when something is wrong with it."""

    path: Path
    key: str
    value: Json

    def wrong(self, expected: str) -> ConfigError:
        seen = json.dumps(self.value)
        seen = seen if len(seen) < 60 else seen[:57] + "..."
        where = self.key or "the document"
        return ConfigError(f"pod map {self.path}: {where} is {seen}, not {expected}", hint=_HINT)

    def fields(self) -> Mapping[str, Json]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def __getitem__(self, name: str) -> "_Node":
        return _Node(self.path, f"{self.key}.{name}" if self.key else name, self.fields().get(name))

    def items(self) -> Iterator["_Node"]:
        """The elements of a list; none of a null."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        for place, value in enumerate(self.value):
            yield _Node(self.path, f"{self.key}[{place}]", value)

    def inside(self, *names: str) -> "_Node":
        """A place further down; null when something on the way is."""
        node = self
        for name in names:
            node = node[name] if node.value is not None else _Node(self.path, node.key, None)
        return node

    def text(self) -> str:
        """A string, empty for a null."""
        if not isinstance(self.value, str | None):
            raise self.wrong("a string")
        return self.value or ""

    def address(self) -> str:
        """An address in the form flows carry it."""
        try:
            return str(ipaddress.ip_address(self.text()))
        except ValueError:
            raise self.wrong("an IP address") from None

    def moment(self) -> int | None:
        """A time in nanoseconds, from RFC 3339 or seconds since 1970."""
        if self.value is None:
            return None
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            if abs(self.value) < 2**33:
                return _nanoseconds(self.value)
        elif isinstance(self.value, str):
            try:
                given = datetime.fromisoformat(self.value)
            except ValueError:
                pass
            else:
                aware = given if given.tzinfo else given.replace(tzinfo=UTC)
                return _nanoseconds(aware.timestamp())
        raise self.wrong("a time, RFC 3339 or seconds since 1970")


def _nanoseconds(seconds: float) -> int:
    """To the microsecond; year 9999, beyond 64 bits, becomes the last moment within them."""
    return max(-(2**63), min(round(seconds * 1_000_000) * 1000, 2**63 - 1))


def _declared(root: _Node) -> Iterator[_Holding]:
    """The holdings of a pod map of our own form."""
    holders: dict[tuple[str, int | None], str] = {}
    for entry in root.fields():
        node = root[entry]
        namespace, workload = node["namespace"].text(), node["workload"].text()
        domain = node["domain"].text().rstrip(".").lower()
        since, until = node["from"].moment(), node["until"].moment()
        if since is not None and until is not None and until <= since:
            raise node["until"].wrong(f"after {node.key}.from")
        listed = list(node["ips"].items())
        outside = not namespace or workload == "world"
        if not outside and not workload:
            raise node["workload"].wrong("the name of a workload")
        for place in listed or [node["ip"]]:
            ip = place.address()
            rival = holders.setdefault((ip, since), entry)
            if rival != entry:
                raise ConfigError(
                    f"pod map {root.path}: {rival} and {entry} both hold {ip} at the same time",
                    hint='bound both holdings in time with "from" and "until"',
                )
            if not outside:
                name, pod = f"{namespace}/{workload}", f"{namespace}/{entry}"
                yield _Holding(ip, name, namespace, workload, pod, since, until)
            elif domain:
                yield _Holding(ip, domain, since=since, until=until)


def _running(pod: _Node) -> Iterator[_Holding]:
    """The holdings of one Pod of the Kubernetes API (v1)."""
    namespace = pod["metadata"]["namespace"].text()
    name = pod["metadata"]["name"].text()
    addresses = [place["ip"] for place in pod.inside("status", "podIPs").items()]
    single = pod.inside("status", "podIP")
    for place in addresses or ([single] if single.value else []):
        ip = place.address()
        if pod.inside("spec", "hostNetwork").value is True:
            yield _Holding(ip, "reserved:host")
            continue
        workload = _owner(pod)
        since = pod.inside("status", "startTime").moment()
        if since is None:
            since = pod["metadata"]["creationTimestamp"].moment()
        yield _Holding(
            ip, f"{namespace}/{workload}", namespace, workload, f"{namespace}/{name}",
            since, _ended(pod),
        )  # fmt: skip


def _owner(pod: _Node) -> str:
    """The workload that a person created: the Deployment, not its ReplicaSet of the day."""
    metadata = pod["metadata"]
    name = metadata["name"].text()
    for owner in metadata["ownerReferences"].items():
        kind, owned_by = owner["kind"].text(), owner["name"].text()
        if kind == "ReplicaSet":
            template = metadata.inside("labels", "pod-template-hash").text()
            if template:
                return owned_by.removesuffix(f"-{template}")
            return re.sub(rf"-{_HASH}{{8,10}}$", "", owned_by)
        if kind == "Job":
            return re.sub(r"-\d{8,}$", "", owned_by)
        if kind == "Node":  # a static pod, named after its node
            return name.removesuffix(f"-{owned_by}")
        return owned_by
    return name


def _ended(pod: _Node) -> int | None:
    """When the pod gave its address back; a finished pod is listed on with it."""
    ends = [pod["metadata"]["deletionTimestamp"].moment()]
    if pod.inside("status", "phase").text() in ("Succeeded", "Failed"):
        statuses = list(pod.inside("status", "containerStatuses").items())
        stops = [s.inside("state", "terminated", "finishedAt").moment() for s in statuses]
        known = [stop for stop in stops if stop is not None]
        ends.append(max(known, default=None))
    return min((end for end in ends if end is not None), default=None)
