"""What happens in a simulated cluster, and when: pods that come and go, jobs that run, outages.

All of it is drawn once, before the first flow, so that a moment can be looked up. Times are in
nanoseconds since the simulation began.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidelong.simulation_cluster import Cluster, Kind, Workload

__all__ = ["Outages", "Pod", "Runs", "Schedule"]

Ints = NDArray[np.int64]

SECOND: Final = 1_000_000_000
HOUR: Final = 3_600 * SECOND
ALWAYS: Final = 1 << 62
_PODS_A_NODE: Final = 30
_ADDRESSES: Final = range(2, 255)
_ROLLOUTS_A_DAY: Final = 0.25  # of a Deployment
_MOVES_A_DAY: Final = 0.05  # of a pod that is put on another node
_OUTAGES_A_DAY: Final = 0.05  # of a service, a database or a cache
_APART: Final = 1_800 * SECOND  # two rollouts of a Deployment, at least
_STEP: Final = 20 * SECOND  # between two pods of a rollout
_EVERY_MINUTES: Final = (5, 15, 30, 60)
_MINUTES: Final = 29_000_000  # since 1970, about: CronJobs name their Jobs after the minute
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"  # of Kubernetes' names


class Pod(NamedTuple):
    """A pod: where, called what, and from when until when it has its address."""

    workload: int
    seat: int
    node: int
    address: int
    name: str
    start: int
    end: int


class Runs(NamedTuple):
    """Runs of CronJobs, in order of time: workload, number of the pod, start, end."""

    workload: Ints
    pod: Ints
    start: Ints
    end: Ints


class Outages(NamedTuple):
    """Of workloads: from, until, and whether their hosts still refuse or are silent."""

    workload: Ints
    start: Ints
    end: Ints
    silent: NDArray[np.bool_]


class _Life(NamedTuple):
    """A pod to be: `seat` is -1 for that of a job."""

    start: int
    end: int
    workload: int
    seat: int
    name: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that is to happen until the end.

    A seat is what one replica of a workload fills, whichever pod it is at the time: those of
    workload w are `first_seat[w]` and the next `replicas[w]`. first: the pod of each seat at the
    start. changes: (time, seat, pod), in order of time, at most one of a seat within 20 minutes.
    """

    pods: tuple[Pod, ...]
    nodes: int
    first_seat: Ints
    replicas: Ints
    first: Ints
    changes: tuple[Ints, Ints, Ints]
    runs: Runs
    outages: Outages
    rollouts: tuple[tuple[int, int], ...]

    @classmethod
    def drawn(cls, cluster: Cluster, hours: float, seed: int) -> "Schedule":
        """What happens within so many hours; the same for the same seed."""
        chance = np.random.Generator(np.random.PCG64([seed, 2]))
        length = round(hours * HOUR)
        replicas = np.array([one.replicas for one in cluster.workloads], np.int64)
        first_seat = np.cumsum(replicas) - replicas
        rollouts = sorted(_rollouts(cluster, length, chance))
        lives = [*_replicas(cluster, first_seat, rollouts, length, chance)]
        jobs = [*_jobs(cluster, length, chance)]
        nodes = max(3, -(-int(replicas.sum()) // _PODS_A_NODE))
        pods = _placed([*lives, *jobs], nodes)
        numbers = {(pod.workload, pod.seat, pod.start, pod.name): n for n, pod in enumerate(pods)}
        first = np.zeros(int(replicas.sum()), np.int64)
        changed = []
        for life in lives:
            number = numbers[life.workload, life.seat, life.start, life.name]
            if life.start <= 0:
                first[life.seat] = number
            else:
                changed.append((life.start, life.seat, number))
        changed.sort()
        times, seats, after = np.array(changed, np.int64).reshape(-1, 3).T
        of_jobs = sorted(
            (life.start, numbers[life.workload, -1, life.start, life.name], life) for life in jobs
        )
        return cls(
            pods=pods,
            nodes=nodes,
            first_seat=first_seat,
            replicas=replicas,
            first=first,
            changes=(times, seats, after),
            runs=Runs(
                np.array([life.workload for *_, life in of_jobs], np.int64),
                np.array([number for _, number, _ in of_jobs], np.int64),
                np.array([start for start, *_ in of_jobs], np.int64),
                np.array([life.end for *_, life in of_jobs], np.int64),
            ),
            outages=_outages(cluster, length, chance),
            rollouts=tuple(rollouts),
        )


def _rollouts(
    cluster: Cluster, length: int, chance: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """(time, workload), of Deployments."""
    for one in cluster.workloads:
        if one.stateful or one.kind in (Kind.CRON, Kind.DNS) or not one.replicas:
            continue
        count = chance.poisson(_ROLLOUTS_A_DAY * length / (24 * HOUR))
        last = 0
        for time in sorted(chance.integers(0, length, count).tolist()):
            if time - last >= _APART:
                last = time
                yield time, one.number


def _replicas(
    cluster: Cluster,
    first_seat: Ints,
    rollouts: list[tuple[int, int]],
    length: int,
    chance: np.random.Generator,
) -> Iterator[_Life]:
    """One pod after another on each seat."""
    rolled: dict[int, list[int]] = {}
    for time, number in rollouts:
        rolled.setdefault(number, []).append(time)
    for one in cluster.workloads:
        versions = [_letters(chance, 9) for _ in range(1 + len(rolled.get(one.number, [])))]
        for replica in range(one.replicas):
            seat = int(first_seat[one.number]) + replica
            starts = [0, *(time + replica * _STEP for time in rolled.get(one.number, []))]
            moved = int(chance.integers(length))
            if chance.random() < _MOVES_A_DAY * length / (24 * HOUR):
                starts += [moved] if all(abs(moved - time) > _APART for time in starts) else []
            starts.sort()
            for start, end in zip(starts, [*starts[1:], ALWAYS], strict=True):
                version = sum(1 for time in rolled.get(one.number, []) if time <= start)
                yield _Life(
                    start, end, one.number, seat, _pod_name(one, replica, versions[version], chance)
                )


def _pod_name(one: Workload, replica: int, version: str, chance: np.random.Generator) -> str:
    if one.stateful:
        return f"{one.name}-{replica}"
    return f"{one.name}-{version}-{_letters(chance, 5)}"


def _jobs(cluster: Cluster, length: int, chance: np.random.Generator) -> Iterator[_Life]:
    """A pod for each run of a CronJob, named after the minute as its controller does."""
    for one in cluster.of_kind(Kind.CRON):
        every = int(_EVERY_MINUTES[one.number % len(_EVERY_MINUTES)]) * 60 * SECOND
        begin = int(chance.integers(0, every // (60 * SECOND))) * 60 * SECOND
        for start in range(begin, length, every):
            late = int(chance.integers(200_000_000, 3 * SECOND))
            lasts = int(chance.integers(10 * SECOND, 50 * SECOND))
            name = f"{one.name}-{_MINUTES + start // (60 * SECOND)}-{_letters(chance, 5)}"
            yield _Life(start + late, start + late + lasts, one.number, -1, name)


def _placed(lives: list[_Life], nodes: int) -> tuple[Pod, ...]:
    """Pods on nodes, each with an address there that nobody has at the time.

    An address that was given back is used again once all others of its node were.
    """
    free = [deque(_ADDRESSES) for _ in range(nodes)]
    held: list[tuple[int, int, int]] = []  # until when, node, address
    pods = []
    turn = 0
    for life in sorted(lives):
        while held and held[0][0] <= life.start:
            _, node, address = heapq.heappop(held)
            free[node].append(address)
        for _ in range(nodes):
            turn = (turn + 1) % nodes
            if free[turn]:
                break
        address = free[turn].popleft()
        heapq.heappush(held, (life.end, turn, address))
        pods.append(Pod(life.workload, life.seat, turn, address, life.name, life.start, life.end))
    return tuple(pods)


def _outages(cluster: Cluster, length: int, chance: np.random.Generator) -> Outages:
    found = []
    for one in cluster.of_kind(Kind.SERVICE, Kind.DATABASE, Kind.CACHE):
        for time in chance.integers(
            0, length, chance.poisson(_OUTAGES_A_DAY * length / (24 * HOUR))
        ):
            lasts = int(chance.integers(20 * SECOND, 90 * SECOND))
            found.append((one.number, int(time), int(time) + lasts, bool(chance.random() < 0.3)))
    workload, start, end, silent = np.array(found, np.int64).reshape(-1, 4).T
    return Outages(workload, start, end, silent.astype(np.bool_))


def _letters(chance: np.random.Generator, count: int) -> str:
    number = int(chance.integers(len(_LETTERS) ** count))  # one draw is dearer than all the rest
    return "".join(
        _LETTERS[number // len(_LETTERS) ** place % len(_LETTERS)] for place in range(count)
    )
