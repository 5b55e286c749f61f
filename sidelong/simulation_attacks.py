"""Attacks within a simulation, each with a label of what was done, by whom, to whom and when.

scan        1,000 ports of one peer, 500 a second, as nmap does
slow-scan   an address or port every six seconds for twenty minutes, most of them nobody's
dns-tunnel  base32 in TXT questions below t.evil.example, five a second for two minutes
lateral     a service of another team, and from there the database of a third
flood       SYNs to a million new addresses a minute for five minutes
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidelong.errors import ConfigError
from sidelong.ingest.durations import length
from sidelong.simulation_cluster import Cluster, Kind, Workload
from sidelong.simulation_exchanges import DENIED, DNS, REFUSED, SILENT, TCP, UNANSWERED
from sidelong.simulation_places import DARK, MADE_UP, pod_address
from sidelong.simulation_schedule import SECOND, Schedule
from sidelong.simulation_traffic import Exchanges

__all__ = ["ATTACKS", "Attack"]

Ints = NDArray[np.int64]

_PORTS: Final = np.array([22, 80, 443, 3306, 5432, 6379, 8080, 9200], np.int64)
_UNUSED: Final = 10 << 24 | 192 << 16  # 10.192.0.0/10: no pod has an address there
_UNUSED_SIZE: Final = 1 << 22
_ODD: Final = 2_654_435_761  # of Knuth's multiplicative hashing


class _Plan(NamedTuple):
    """What an attack is: the kind that it is found as, how fast, how long, and its exchanges.

    lasting: done faster, it takes as long and does more.
    """

    kind: str
    a_second: float
    seconds: float
    made: "Callable[[_Scene, Ints, Ints], Exchanges]"
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack that begins `at` seconds into the simulation.

    a_second: how many steps it does a second, where not as usual.
    """

    kind: str
    at: float
    a_second: float | None = None

    @classmethod
    def parsed(cls, text: str) -> "Attack":
        """From KIND@TIME or KIND@TIME:RATE, as `flood@10m:50000`. Errors: ConfigError."""
        found = re.fullmatch(r"([a-z-]+)@([^:]+)(?::(\d+(?:\.\d+)?))?", text)
        if found is None or found[1] not in ATTACKS or (found[3] and not float(found[3])):
            raise ConfigError(
                f"{text} is no attack", hint=f"KIND@TIME, such as scan@30m; {', '.join(ATTACKS)}"
            )
        at = length(found[2], "the time of an attack").total_seconds()
        return cls(found[1], at, float(found[3]) if found[3] else None)

    @property
    def rate(self) -> float:
        """Steps a second."""
        return self.a_second or _PLANS[self.kind].a_second

    @property
    def steps(self) -> int:
        """How many steps it has."""
        plan = _PLANS[self.kind]
        return round((self.rate if plan.lasting else plan.a_second) * plan.seconds)

    def exchanges(
        self, cluster: Cluster, schedule: Schedule, start: int, end: int
    ) -> list[Exchanges]:
        """Those that begin at or after `start` and before `end`, in nanoseconds."""
        began = round(self.at * SECOND)
        step = np.arange(*self._span(start, end))
        time = began + (step * (SECOND / self.rate)).astype(np.int64)
        within = (time >= start) & (time < end)
        if not within.any():
            return []
        scene = _Scene(cluster, schedule, began)
        return [_PLANS[self.kind].made(scene, step[within], time[within])]

    def steps_within(self, start: int, end: int) -> int:
        """About how many begin between two times."""
        low, high = self._span(start, end)
        return max(0, high - low)

    def _span(self, start: int, end: int) -> tuple[int, int]:
        """From which step to which, one too many at either end perhaps."""
        began = round(self.at * SECOND)
        low = max(0, int((start - began) * self.rate // SECOND))
        return low, min(self.steps, int((end - began) * self.rate // SECOND) + 1)

    def label(self, cluster: Cluster, schedule: Schedule, start: float) -> dict[str, Any]:
        """What there is to find; start: of the simulation, seconds since 1970."""
        scene = _Scene(cluster, schedule, round(self.at * SECOND))
        pod = schedule.pods[scene.pod(scene.actor(self.kind))]
        return {
            "name": f"{self.kind}-{self.at:g}",
            "kind": _PLANS[self.kind].kind,
            "src": pod_address(pod.node, pod.address),
            "actors": scene.actors(self.kind),
            "pod": pod.name,
            "dst": scene.target(self.kind),
            "start": start + self.at,
            "end": start + self.at + self.steps / self.rate,
        }


@dataclass(frozen=True, slots=True)
class _Scene:
    """Who attacks whom. The attackers are services, each kind of attack another one."""

    cluster: Cluster
    schedule: Schedule
    began: int

    def actor(self, kind: str) -> Workload:
        services = self.cluster.of_kind(Kind.SERVICE)
        return services[(1 + ATTACKS.index(kind) * 3) % len(services)]

    def stranger(self, to: Workload, kind: int, place: int = 0) -> Workload:
        """A workload of some kind in another namespace, if there is one."""
        others = [one for one in self.cluster.of_kind(kind) if one.namespace != to.namespace]
        found = others or [one for one in self.cluster.of_kind(kind) if one is not to] or [to]
        return found[place % len(found)]

    def pod(self, one: Workload) -> int:
        """Its first pod when the attack begins."""
        seat = self.schedule.first_seat[one.number]
        pods = enumerate(self.schedule.pods)
        return next(n for n, pod in pods if pod.seat == seat and pod.start <= self.began < pod.end)

    def hops(self) -> tuple[Workload, Workload, Workload]:
        """From whom to whom somebody moves."""
        first = self.actor("lateral")
        second = self.stranger(first, Kind.SERVICE, 2)
        return first, second, self.stranger(second, Kind.DATABASE, 1)

    def actors(self, kind: str) -> list[str]:
        """All that do something they never do, the first first."""
        taking_part = self.hops()[:2] if kind == "lateral" else (self.actor(kind),)
        return [one.full for one in taking_part]

    def target(self, kind: str) -> str:
        """Whom or what a label names."""
        if kind == "dns-tunnel":
            return "t.evil.example"
        if kind == "lateral":
            return self.hops()[2].full
        return self.stranger(self.actor("scan"), Kind.DATABASE).full if kind == "scan" else ""


def _scan(scene: _Scene, step: Ints, time: Ints) -> Exchanges:
    actor = scene.actor("scan")
    victim = scene.stranger(actor, Kind.DATABASE)
    port = 1 + (step * 7_919 + 4_000) % 10_000
    kind = np.where(port == victim.port, TCP, REFUSED)
    return _made(time, kind, scene.pod(actor), np.full(len(step), scene.pod(victim)), port, step)


def _slow_scan(scene: _Scene, step: Ints, time: Ints) -> Exchanges:
    known = np.array([scene.pod(one) for one in scene.cluster.of_kind(Kind.FRONTEND, Kind.CACHE)])
    nobody = DARK + _UNUSED + step * _ODD % _UNUSED_SIZE
    dark = step % 4 != 0
    server = np.where(dark, nobody, known[step // 4 % len(known)])
    kind = np.where(dark, SILENT, DENIED)
    port = np.where(dark, _PORTS[step % len(_PORTS)], 22)
    return _made(time, kind, scene.pod(scene.actor("slow-scan")), server, port, step)


def _dns_tunnel(scene: _Scene, step: Ints, time: Ints) -> Exchanges:
    resolver = scene.pod(scene.cluster.workloads[1])
    kind, server = np.full(len(step), DNS), np.full(len(step), resolver)
    made = _made(
        time, kind, scene.pod(scene.actor("dns-tunnel")), server, np.full(len(step), 53), step
    )
    return made._replace(name=MADE_UP + step, asks=np.full(len(step), 2))


def _lateral(scene: _Scene, step: Ints, time: Ints) -> Exchanges:
    """Three connections to each; the second half of the time belongs to the second hop."""
    hops = scene.hops()
    pods = np.array([scene.pod(one) for one in hops])
    ports = np.array([one.port for one in hops], np.int64)
    hop = (step >= 3).astype(np.int64)
    kind = np.full(len(step), TCP)
    made = _made(time, kind, int(pods[0]), pods[hop + 1], ports[hop + 1], step)
    return made._replace(client=pods[hop])


def _flood(scene: _Scene, step: Ints, time: Ints) -> Exchanges:
    server = DARK + _UNUSED + step % _UNUSED_SIZE
    kind, port = np.full(len(step), UNANSWERED), 80 + step // _UNUSED_SIZE
    return _made(time, kind, scene.pod(scene.actor("flood")), server, port, step)


def _made(time: Ints, kind: Ints, client: int, server: Ints, port: Ints, step: Ints) -> Exchanges:
    count = len(time)
    zeros = np.zeros(count, np.int64)
    return Exchanges(
        time, kind, np.full(count, client), server, 33_000 + step * 13 % 27_000, port,
        np.full(count, 300_000), np.full(count, 5_000_000), zeros, zeros,
    )  # fmt: skip


_PLANS: Final = {
    "scan": _Plan("scan", 500.0, 2.0, _scan),
    "slow-scan": _Plan("scan", 1 / 6, 1_200.0, _slow_scan),
    "dns-tunnel": _Plan("dns_exfiltration", 5.0, 120.0, _dns_tunnel),
    "lateral": _Plan("lateral_movement", 0.05, 120.0, _lateral),
    "flood": _Plan("scan", 1_000_000 / 60, 300.0, _flood, lasting=True),
}
ATTACKS: Final = tuple(_PLANS)
"""The kinds there are."""
