"""Simulated traffic of a cluster, as Hubble would tell it: seeded, and as long as wanted.

    Simulation(workloads=100, rate=1_400, hours=24, seed=7).batches()

What happens is drawn slot by slot, each slot from its own seed, so that the same settings give the
same flows however they are cut into batches. See docs/simulation.md for what is simulated.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.errors import ConfigError
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.source import Batch
from sidelong.simulation_attacks import Attack
from sidelong.simulation_cluster import Cluster
from sidelong.simulation_frames import Scribe
from sidelong.simulation_load import load
from sidelong.simulation_places import Names, Places, pod_address
from sidelong.simulation_schedule import ALWAYS, HOUR, SECOND, Schedule
from sidelong.simulation_traffic import Traffic

__all__ = ["START", "Simulation"]

START: Final = datetime(2026, 11, 23, tzinfo=UTC)
"""A Monday."""

_SLOT_ROWS: Final = 250_000
_SLOT_SECONDS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_LEAST_WORKLOADS: Final = 8


class Simulation:
    """A source of simulated flows. rate: flows a second on a working day's average.

    hours: how long; of the day too, so that the load follows the clock. attacks: what is done
    meanwhile. Errors: ConfigError for a cluster, rate or attack that cannot be.
    """

    size_bytes: Final = None

    def __init__(
        self,
        *,
        workloads: int = 100,
        rate: float = 1_000.0,
        hours: float = 1.0,
        seed: int = 1,
        start: datetime = START,
        attacks: Sequence[Attack] = (),
    ) -> None:
        if workloads < _LEAST_WORKLOADS:
            raise ConfigError(
                f"a cluster of {workloads} workloads is too small to simulate",
                hint=f"{_LEAST_WORKLOADS} are the least: ingress, DNS, Prometheus and a team",
            )
        if not (0 < rate <= 10_000_000 and 0 < hours <= 24 * 366):
            raise ConfigError(
                f"{rate:g} flows/s for {hours:g} hours cannot be simulated",
                hint="up to 10,000,000 flows/s, and no more than a year",
            )
        for attack in attacks:
            if attack.at >= hours * 3_600:
                raise ConfigError(
                    f"{attack.kind} begins after {attack.at:g} s, and then nothing is simulated",
                    hint="simulate for longer, or begin it earlier",
                )
        self.name: Final = f"simulation of {workloads} workloads, seed {seed}"
        self.start: Final = start.astimezone(UTC)
        self.attacks: Final = tuple(attacks)
        self.cluster: Final = Cluster.made(workloads, seed)
        self.schedule: Final = Schedule.drawn(self.cluster, hours, seed)
        self._places: Final = Places.of(self.cluster, self.schedule)
        self._names: Final = Names.of(self.cluster, self._places)
        self._rate, self._seed = rate, seed
        self._length: Final = round(hours * HOUR)
        self._began: Final = round(self.start.timestamp()) * SECOND

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after the first `since`, a slot at a time. What lies before is made again."""
        passed = 0
        for flows in self.frames():
            passed += flows.height
            if passed > since:
                yield Batch(flows.tail(passed - since), passed)

    def frames(self, rows: int | None = None) -> Iterator[pl.DataFrame]:
        """The flows in `FLOW_SCHEMA`, in frames of `rows` rows, or as they come: of a slot each."""
        if rows is None:
            yield from self._slots()
            return
        held = FLOW_SCHEMA.to_frame()
        for flows in self._slots():
            held = pl.concat([held, flows]) if held.height else flows
            whole = held.height // rows * rows
            yield from held[:whole].iter_slices(rows)
            held = held[whole:]
        if held.height:
            yield held

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self._length // SECOND

    def passed(self, flows: pl.DataFrame) -> int:
        """How many of its seconds have passed at the end of these flows."""
        return int(flows["time"].to_physical()[-1] - self._began) // SECOND

    def labels(self) -> list[dict[str, Any]]:
        """What was injected, and the rollouts, which are benign: in the form of the labels of
        examples/shop-incident. Times are seconds since 1970."""
        told = [
            attack.label(self.cluster, self.schedule, self._began / SECOND)
            for attack in self.attacks
        ]
        for number, (time, workload) in enumerate(self.schedule.rollouts):
            one = self.cluster.workloads[workload]
            seat = int(self.schedule.first_seat[workload])
            before = next(pod for pod in self.schedule.pods if pod.seat == seat)
            told.append(
                {
                    "name": f"rollout-{number}",
                    "kind": "benign",
                    "src": pod_address(before.node, before.address),
                    "actors": [one.full],
                    "dst": "",
                    "start": (self._began + time) / SECOND,
                    "end": None,
                }
            )
        return told

    def holders(self) -> dict[str, dict[str, Any]]:
        """Who holds which address when, in the form of a pod map file."""
        told: dict[str, dict[str, Any]] = {}
        for pod in self.schedule.pods:
            one = self.cluster.workloads[pod.workload]
            entry: dict[str, Any] = {
                "ip": pod_address(pod.node, pod.address),
                "namespace": one.namespace,
                "workload": one.name,
            }
            if pod.start > 0:
                entry["from"] = (self._began + pod.start) / SECOND
            if pod.end < ALWAYS:
                entry["until"] = (self._began + pod.end) / SECOND
            told[f"{one.namespace}.{pod.name}"] = entry
        return told

    def _slots(self) -> Iterator[pl.DataFrame]:
        traffic = Traffic(self.cluster, self.schedule, self._places, self._names, self._rate)
        scribe = Scribe(self._places, self._names, self._began)
        seconds = next(
            (s for s in _SLOT_SECONDS if s * self._rate >= _SLOT_ROWS), _SLOT_SECONDS[-1]
        )
        for slot, start in enumerate(range(0, self._length, seconds * SECOND)):
            end = min(start + seconds * SECOND, self._length)
            chance = np.random.Generator(np.random.SFC64([self._seed, 3, slot]))
            middle = (self._began + (start + end) // 2) / SECOND
            parts = traffic.drawn(start, end - start, load(middle), chance)
            for low, high in self._pieces(start, end):
                for attack in self.attacks:
                    parts += attack.exchanges(self.cluster, self.schedule, low, high)
                flows = scribe.flows(parts, low, high)
                parts = []  # what of it comes later, the scribe keeps
                if flows.height:
                    yield flows

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """A slot, in as many pieces as the attacks in it need to stay small."""
        steps = sum(attack.steps_within(start, end) for attack in self.attacks)
        pieces = 1 + steps // _SLOT_ROWS
        edges = [start + (end - start) * piece // pieces for piece in range(pieces + 1)]
        return pairwise(edges)
