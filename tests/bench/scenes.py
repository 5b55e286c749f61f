"""Simulated traffic for benchmarks, and baselines learnt from it; made once for all of them."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

import polars as pl

from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.simulation import Simulation
from sidelong.simulation_attacks import Attack

__all__ = ["MORNING", "baseline", "scene", "traffic"]

MORNING: Final = datetime(2026, 11, 24, 9, tzinfo=UTC)
_LEARNT_FLOWS: Final = 600_000
_LEARNT_RATE: Final = 400.0  # at least; each workload adds its share
_ATTACKED: Final = ("scan", "slow-scan", "dns-tunnel", "lateral")


def scene(workloads: int, rate: float, flows: int, *, attacked: bool) -> Simulation:
    """So many flows of a cluster from nine o'clock on; with every kind of attack if wanted, among
    them a flood of as many SYNs as a tenth of the flows.
    """
    hours = flows / rate / 3_600
    seconds = hours * 3_600
    attacks = []
    if attacked:
        attacks = [Attack(kind, seconds * (n + 1) / 20) for n, kind in enumerate(_ATTACKED)]
        attacks.append(Attack("flood", seconds / 2, max(1.0, flows / 10 / 300)))
    return Simulation(
        workloads=workloads, rate=rate, hours=hours * 1.02, start=MORNING, attacks=attacks
    )


@lru_cache(maxsize=4)
def traffic(workloads: int, rate: float, flows: int, *, attacked: bool = False) -> pl.DataFrame:
    """The first so many flows of a scene, whole."""
    frames, held = [], 0
    for frame in scene(workloads, rate, flows, attacked=attacked).frames():
        frames.append(frame[: flows - held])
        held += frames[-1].height
        if held >= flows:
            break
    return pl.concat(frames)


@lru_cache(maxsize=8)
def baseline(workloads: int) -> Baseline:
    """What 600,000 flows of the day before teach of a cluster."""
    rate = max(_LEARNT_RATE, workloads * 2.5)
    before = Simulation(
        workloads=workloads,
        rate=rate,
        hours=_LEARNT_FLOWS / rate / 3_600,
        start=MORNING - timedelta(days=1),
    )
    learning = Learning()
    for frame in before.frames(rows=100_000):
        learning.observe(frame)
    return learning.finish()
