"""The cluster of a simulation: workloads, their replicas, and who calls whom how often.

Traffic enters at the ingress and goes down in layers: frontends, services, databases and caches,
and to vendors outside. Workers take from queues, CronJobs do their work at their hours, Prometheus
scrapes every pod, the node probes every pod, and whoever wants to reach a name asks the cluster's
DNS for it, along its search path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidelong.simulation_exchanges import HTTP, TCP, UDP

__all__ = ["Cluster", "Edges", "Kind", "Workload"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Kind:
    """What a workload is."""

    INGRESS, DNS, PROMETHEUS, FRONTEND, SERVICE, DATABASE, CACHE, QUEUE, WORKER, CRON = range(10)


_PORTS: Final = {
    Kind.INGRESS: 443,
    Kind.DNS: 53,
    Kind.PROMETHEUS: 9090,
    Kind.DATABASE: 5432,
    Kind.CACHE: 6379,
    Kind.QUEUE: 9092,
}
_REPLICAS: Final = {
    Kind.DATABASE: 1,
    Kind.CACHE: 1,
    Kind.QUEUE: 3,
    Kind.PROMETHEUS: 1,
    Kind.CRON: 0,
}
_STATEFUL: Final = (Kind.DATABASE, Kind.QUEUE, Kind.PROMETHEUS)
_TEAM: Final = (
    (Kind.FRONTEND, ("web", "portal")),
    (Kind.SERVICE, ("api", "gateway")),
    (Kind.DATABASE, ("postgres", "ledger-db")),
    (Kind.SERVICE, ("orders", "accounts")),
    (Kind.CACHE, ("redis", "cache")),
    (Kind.SERVICE, ("catalog", "pricing")),
    (Kind.CRON, ("report", "cleanup")),
    (Kind.QUEUE, ("kafka", "events")),
    (Kind.WORKER, ("mailer", "indexer")),
    (Kind.SERVICE, ("search", "stock")),
    (Kind.CRON, ("backup", "sync")),
    (Kind.SERVICE, ("auth", "media")),
)
"""What a namespace holds, in this order as far as it goes; the names that these have."""

_NAMESPACES: Final = (
    "shop", "payments", "search", "billing", "media", "orders", "users", "logistics",
    "analytics", "support", "partners", "pricing", "risk", "content", "mobile", "hr",
)  # fmt: skip
_LEAST_VENDORS: Final = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload. port: on which it serves. replicas: 0 for what runs now and then."""

    number: int
    namespace: str
    name: str
    kind: int
    port: int
    replicas: int

    @property
    def full(self) -> str:
        """Its identity."""
        return f"{self.namespace}/{self.name}"

    @property
    def stateful(self) -> bool:
        """Whether its pods are numbered and never rolled over."""
        return self.kind in _STATEFUL


class Edges(NamedTuple):
    """Who calls whom, as columns. client, server: the number of a workload, or a place that
    `Cluster` has for others. rate: exchanges a second. lookups: how many of these begin with a
    question to DNS, in [0, 1]."""

    client: Ints
    server: Ints
    port: Ints
    kind: Ints
    rate: Floats
    lookups: Floats


@dataclass(frozen=True, slots=True)
class Cluster:
    """All that does not change in a simulation.

    edges: of what runs all the time. jobs: of CronJobs, their rate in exchanges a run. vendors:
    registered domains outside. Beyond the workloads are numbered the vendors, then `resolver`,
    whom the cluster's DNS asks, `api`, the API server, and `visitors`, who come from outside.
    """

    workloads: tuple[Workload, ...]
    edges: Edges
    jobs: Edges
    vendors: tuple[str, ...]

    @classmethod
    def made(cls, workloads: int, seed: int) -> "Cluster":
        """A cluster of so many workloads, at least 8; the same for the same seed.

        Rates are relative: `1` enters the cluster at the ingress.
        """
        chance = np.random.Generator(np.random.PCG64([seed, 1]))
        named = tuple(_workloads(workloads))
        vendors = tuple(f"vendor{n}.example" for n in range(_LEAST_VENDORS + workloads // 40))
        calls = list(_calls(named, len(vendors), chance))
        of_jobs = {one.number for one in named if one.kind == Kind.CRON}
        steady = [call for call in calls if call[0] not in of_jobs]
        jobs = [call for call in calls if call[0] in of_jobs]
        return cls(named, _flowing(steady, named, chance), _edges(jobs), vendors)

    @property
    def resolver(self) -> int:
        """The number of the resolver that the cluster's DNS asks."""
        return len(self.workloads) + len(self.vendors)

    @property
    def api(self) -> int:
        """The number of the API server."""
        return self.resolver + 1

    @property
    def visitors(self) -> int:
        """The number of those who come from outside, all together."""
        return self.resolver + 2

    def of_kind(self, *kinds: int) -> tuple[Workload, ...]:
        """The workloads of these kinds."""
        return tuple(one for one in self.workloads if one.kind in kinds)

    @property
    def pods(self) -> int:
        """How many pods run all the time."""
        return sum(one.replicas for one in self.workloads)


def _workloads(count: int) -> Iterator[Workload]:
    yield Workload(0, "ingress-nginx", "controller", Kind.INGRESS, 443, 2 + count // 500)
    yield Workload(1, "kube-system", "coredns", Kind.DNS, 53, 2 + count // 1000)
    yield Workload(2, "monitoring", "prometheus", Kind.PROMETHEUS, 9090, 1)
    for number in range(3, count):
        team, place = divmod(number - 3, len(_TEAM))
        kind, names = _TEAM[place]
        again, which = divmod(team, len(_NAMESPACES))
        namespace = _NAMESPACES[which] + (f"-{again + 1}" if again else "")
        replicas = _REPLICAS.get(kind, 2 + (number * 7) % 3)
        name = names[team % len(names)]
        yield Workload(number, namespace, name, kind, _PORTS.get(kind, 8080), replicas)


_Call = tuple[
    int, int, int, int, float, float
]  # a row of Edges; its rate is a share of its client's


def _calls(
    workloads: tuple[Workload, ...], vendors: int, chance: np.random.Generator
) -> Iterator[_Call]:
    """Who calls whom; services only those further down, so that their order is that of traffic."""
    ingress, dns = 0, 1
    teams: dict[str, list[Workload]] = {}
    for one in workloads[3:]:
        teams.setdefault(one.namespace, []).append(one)
    services = [one for one in workloads if one.kind == Kind.SERVICE]
    outside = len(workloads)
    yield dns, outside + vendors, 53, UDP, 0.2, 0.0
    for watcher in (ingress, dns, 2):
        yield watcher, outside + vendors + 1, 443, TCP, 0.0, 0.0
    yield outside + vendors + 2, ingress, 443, TCP, 1.0, 0.0
    for rank, team in enumerate(teams.values()):
        by_kind: dict[int, list[Workload]] = {}
        for one in team:
            by_kind.setdefault(one.kind, []).append(one)
        mine = by_kind.get(Kind.SERVICE, [])
        for front in by_kind.get(Kind.FRONTEND, []):
            yield ingress, front.number, front.port, HTTP, 1 / (rank + 1) ** 0.8, 0.0
            for service in mine[:3]:
                yield front.number, service.number, service.port, HTTP, 0.5, 0.3
        for place, service in enumerate(mine):
            for kind, share in ((Kind.DATABASE, 0.6), (Kind.CACHE, 0.8), (Kind.QUEUE, 0.1)):
                for store in by_kind.get(kind, [])[:1]:
                    if kind != Kind.QUEUE or place % 2 == 0:
                        yield service.number, store.number, store.port, TCP, share, 0.2
            for other in mine[place + 1 : place + 2]:
                yield service.number, other.number, other.port, HTTP, 0.4, 0.3
            if place % 3 == 1:
                vendor = int(chance.integers(vendors))
                yield service.number, outside + vendor, 443, TCP, 0.05, 1.0
            abroad = services[int(chance.integers(len(services)))]
            if place % 2 == 1 and abroad.number > service.number and abroad not in mine:
                yield service.number, abroad.number, abroad.port, HTTP, 0.1, 0.4
        for worker in by_kind.get(Kind.WORKER, []):
            for queue in by_kind.get(Kind.QUEUE, []):
                yield worker.number, queue.number, queue.port, TCP, 1.0, 0.1
            for service in mine[-1:]:
                yield worker.number, service.number, service.port, HTTP, 0.5, 0.3
            yield worker.number, outside + int(chance.integers(vendors)), 443, TCP, 0.2, 1.0
        for job in by_kind.get(Kind.CRON, []):
            for store in by_kind.get(Kind.DATABASE, [])[:1]:
                yield job.number, store.number, store.port, TCP, 12.0, 0.5
            for service in mine[:1]:
                yield job.number, service.number, service.port, HTTP, 8.0, 0.5
            yield job.number, outside + int(chance.integers(vendors)), 443, TCP, 5.0, 1.0


def _flowing(
    calls: list[_Call], workloads: tuple[Workload, ...], chance: np.random.Generator
) -> Edges:
    """The edges with rates that follow from what enters: whoever is called more calls more."""
    passing = np.zeros(1 + max(max(call[:2]) for call in calls))
    passing[[0, 1, -1]] = 1.0, 0.1, 1.0  # of the ingress, of DNS, of the visitors
    services = set()
    for one in workloads:
        if one.kind == Kind.WORKER:
            passing[one.number] = 0.02
        if one.kind == Kind.SERVICE:
            services.add(one.number)
    order = sorted(calls, key=lambda call: (call[0] in services, call[0]))
    shares = np.array([call[4] for call in order]) * chance.uniform(0.7, 1.4, len(order))
    by_ingress = sum(share for call, share in zip(order, shares, strict=True) if call[0] == 0)
    rates = []
    for (client, server, *_), share in zip(order, shares, strict=True):
        rate = float(passing[client] * share / (by_ingress if client == 0 else 1.0))
        rates.append(rate)
        if server != 0:
            passing[server] += rate
    return _edges(order)._replace(rate=np.array(rates))


def _edges(calls: list[_Call]) -> Edges:
    columns = list(zip(*calls, strict=True)) if calls else [()] * 6
    client, server, port, kind = (np.array(column, np.int64) for column in columns[:4])
    rate, lookups = (np.array(column, np.float64) for column in columns[4:])
    return Edges(client, server, port, kind, rate, lookups)
