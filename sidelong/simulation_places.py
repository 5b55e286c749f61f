"""Whom and what a simulation talks about: the ends of flows, DNS names, paths, each by a number.

Flows are made of numbers, and become text at the very end, out of these columns.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.simulation_cluster import Cluster, Edges, Workload
from sidelong.simulation_schedule import Schedule

__all__ = ["DARK", "MADE_UP", "TURNS", "Names", "Places", "pod_address"]

Ints = NDArray[np.int64]

DARK: Final = 1 << 40
"""From here on the number of an end is an IPv4 address that nobody has: `DARK + address`."""

MADE_UP: Final = 1 << 40
"""From here on the number of a name stands for one that a tunnel makes up."""

TURNS: Final = 8
"""How many addresses a vendor has; DNS tells two of them, others every five minutes."""

_VISITORS: Final = 512
_HOSTS: Final = ("api", "cdn", "img", "hooks", "auth")
_PATHS: Final = ("orders", "items", "users", "carts", "search", "stock")
_IDS: Final = 64


def pod_address(node: int, host: int) -> str:
    """The address of a pod: a /24 for each node."""
    return f"10.{128 + node // 256}.{node % 256}.{host}"


@dataclass(frozen=True, slots=True)
class Places:
    """The ends of flows. node: the number of the node of a pod, -1 for others.

    first, count, turning: of each number that `Cluster` has beyond the workloads, its ends here,
    and whether they take turns. hosts: the end that is node 0, the others after it.
    """

    address: pl.Series
    workload: pl.Series
    pod: pl.Series
    node: Ints
    nodes: pl.Series
    first: Ints
    count: Ints
    turning: Ints
    hosts: int

    @classmethod
    def of(cls, cluster: Cluster, schedule: Schedule) -> "Places":
        """The ends of this cluster."""
        workloads, pods = cluster.workloads, schedule.pods
        hosts = len(pods)
        api = hosts + schedule.nodes
        vendors = api + 2
        visitors = vendors + TURNS * len(cluster.vendors)
        outside = [
            f"198.{18 + n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(visitors - vendors)
        ]
        guests = [
            f"203.0.113.{n // 2}" if n % 2 else f"198.51.100.{n // 2}" for n in range(_VISITORS)
        ]
        alone = [None] * (len(outside) + _VISITORS + 1)
        address = [
            *(pod_address(pod.node, pod.address) for pod in pods),
            *(pod_address(node, 1) for node in range(schedule.nodes)),
            "10.96.0.1", "10.0.0.2", *outside, *guests,
        ]  # fmt: skip
        workload = [
            *(workloads[pod.workload].full for pod in pods),
            *(["reserved:host"] * schedule.nodes), "reserved:kube-apiserver", *alone,
        ]  # fmt: skip
        names = [f"{workloads[pod.workload].namespace}/{pod.name}" for pod in pods]
        node = [*(pod.node for pod in pods), *range(schedule.nodes)]
        node += [-1] * (len(address) - len(node))
        of_vendors = vendors + TURNS * np.arange(len(cluster.vendors))
        return cls(
            address=pl.Series(address, dtype=pl.String),
            workload=pl.Series(workload, dtype=pl.String),
            pod=pl.Series([*names, *[None] * (len(address) - hosts)], dtype=pl.String),
            node=np.array(node, np.int64),
            nodes=pl.Series([f"sim/node-{n}" for n in range(schedule.nodes)], dtype=pl.String),
            first=np.array([*of_vendors, api + 1, api, visitors], np.int64),
            count=np.array([*[2] * len(of_vendors), 1, 1, _VISITORS], np.int64),
            turning=np.array([*[TURNS] * len(of_vendors), 1, 1, _VISITORS], np.int64),
            hosts=hosts,
        )


@dataclass(frozen=True, slots=True)
class Names:
    """DNS names and paths. rcode: what is answered. answers: the addresses that an answer may give;
    `answer` is the first of a name there, and of those that `turns`, the next are its other turns.

    first, count: of the lookups of each edge, steady ones then those of jobs, in `asked`.
    """

    text: pl.Series
    rcode: NDArray[np.uint8]
    answer: Ints
    turns: Ints
    answers: pl.Series
    asked: Ints
    first: Ints
    count: Ints
    paths: pl.Series

    @classmethod
    def of(cls, cluster: Cluster, places: Places) -> "Names":
        """What the edges of this cluster ask for."""
        book = _Book(cluster, places)
        asked: list[int] = []
        first: list[int] = []
        for edges in (cluster.edges, cluster.jobs):
            for edge in range(len(edges.client)):
                first.append(len(asked))
                asked += book.lookup(edges, edge)
        return cls(
            text=pl.Series(list(book.numbers), dtype=pl.String),
            rcode=np.array(book.rcode, np.uint8),
            answer=np.array(book.answer, np.int64),
            turns=np.array(book.turns, np.int64),
            answers=pl.Series(book.answers, dtype=pl.List(pl.String)),
            asked=np.array(asked, np.int64),
            first=np.array(first, np.int64),
            count=np.diff([*first, len(asked)]),
            paths=pl.Series([f"/api/{kind}/{n}" for kind in _PATHS for n in range(1, 1 + _IDS)]),
        )


class _Book:
    """Gives each name a number when it is first asked for."""

    def __init__(self, cluster: Cluster, places: Places) -> None:
        self._cluster, self._places = cluster, places
        self.numbers: dict[str, int] = {}
        self.rcode: list[int] = []
        self.answer: list[int] = []
        self.turns: list[int] = []
        self.answers: list[list[str]] = [[]]
        self._told: dict[int, int] = {}

    def lookup(self, edges: Edges, edge: int) -> list[int]:
        """The names that a client asks for, until one is found, to reach its server."""
        workloads = self._cluster.workloads
        client, server = int(edges.client[edge]), int(edges.server[edge])
        if client >= len(workloads) or server >= self._cluster.resolver:
            return []
        here = workloads[client].namespace
        if server >= len(workloads):
            vendor = self._cluster.vendors[server - len(workloads)]
            host = f"{_HOSTS[client % len(_HOSTS)]}.{vendor}"
            tails = (f".{here}.svc.cluster.local", ".svc.cluster.local", ".cluster.local")
            return [
                *(self._number(host + tail, None) for tail in tails),
                self._number(host, server),
            ]
        there = workloads[server]
        name = self._number(f"{there.name}.{there.namespace}.svc.cluster.local", server)
        if here == there.namespace:
            return [name]
        wrong = f"{there.name}.{there.namespace}.{here}.svc.cluster.local"
        return [self._number(wrong, None), name]

    def _number(self, name: str, server: int | None) -> int:
        if name not in self.numbers:
            self.numbers[name] = len(self.numbers)
            self.rcode.append(3 if server is None else 0)
            self.answer.append(0 if server is None else self._answer(server))
            inside = server is None or server < len(self._cluster.workloads)
            self.turns.append(1 if inside else TURNS)
        return self.numbers[name]

    def _answer(self, server: int) -> int:
        """Where the answers with the addresses of a server begin."""
        if server not in self._told:
            self._told[server] = len(self.answers)
            beyond = server - len(self._cluster.workloads)
            if beyond < 0:
                self.answers.append([_service_address(self._cluster.workloads[server])])
            else:
                first = int(self._places.first[beyond])
                mine = self._places.address[first : first + TURNS].to_list()
                self.answers += [[mine[n], mine[(n + 1) % TURNS]] for n in range(TURNS)]
        return self._told[server]


def _service_address(workload: Workload) -> str:
    number = workload.number + 10
    return f"10.{96 + number // 65536}.{number // 256 % 256}.{number % 256}"
