"""Simulated traffic (docs/simulation.md): days of a cluster at work, and how soon little suffices.

It is no measurement of any real cluster, and so has lines of its own in the scorecard.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from scorecard.captures import NS, Truth
from scorecard.judged import explained, named, poisson
from sidelong.alerts.incident import Incident
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline
from sidelong.simulation import Simulation
from sidelong.simulation_attacks import Attack

__all__ = ["benign", "cold_start", "simulated"]

WORKLOADS: Final = 100
RATE: Final = 20.0
LEARN_HOURS: Final = 24
WATCH_HOURS: Final = 96
_ROWS: Final = 100_000
_MINUTES: Final = (0, 10, 60)
_ATTACKS: Final = (
    Attack("scan", 3_700),
    Attack("slow-scan", 4_000),
    Attack("dns-tunnel", 5_400),
    Attack("lateral", 6_000),
)
_SEEDS: Final = (2, 3, 4)


def simulated() -> dict[str, Any]:
    """Both parts, as numbers."""
    return {"benign": benign(), "cold_start": cold_start()}


def benign(
    workloads: int = WORKLOADS,
    rate: float = RATE,
    learn_hours: float = LEARN_HOURS,
    watch_hours: float = WATCH_HOURS,
    seed: int = 1,
) -> dict[str, Any]:
    """A cluster at work, judged by what its first hours have taught."""
    world = Simulation(workloads=workloads, rate=rate, hours=learn_hours + watch_hours, seed=seed)
    until = world.start + timedelta(hours=learn_hours)
    quiet, rest = _parted(world, until)
    found = _last(_learnt(quiet), rest)
    days = workloads * watch_hours / 24
    alarms = [one for one in found if one.severity != "info"]
    return {
        "workloads": workloads,
        "learnt_hours": learn_hours,
        "watched_hours": watch_hours,
        "flows": round(rate * watch_hours * 3_600),
        "workload_days": round(days, 1),
        "false_alarms": dict(Counter(one.kind for one in alarms)),
        "false_alarms_told": [one.summary for one in alarms],
        "false_alarms_per_workload_day": [round(x, 4) for x in poisson(len(alarms), days)],
        "anomalies_a_day": round(24 * sum(one.kind == "anomaly" for one in found) / watch_hours, 1),
    }


def cold_start() -> dict[str, str]:
    """How many attacks are found after no, ten and sixty minutes of learning."""
    told = {}
    for minutes in _MINUTES:
        hits = attacks = false = 0
        for seed in _SEEDS:
            world = Simulation(
                workloads=WORKLOADS, rate=RATE, hours=1.9, seed=seed, attacks=_ATTACKS
            )
            begun = world.start + timedelta(minutes=60)
            quiet, rest = _parted(world, begun)
            since = pl.col("time") >= begun - timedelta(minutes=minutes)
            taught = [piece.filter(since) for piece in quiet]  # also where nothing is taken of it
            taught = taught if minutes else []
            alarms = [one for one in _last(_learnt(taught), rest) if one.severity != "info"]
            truths = [_truth(label) for label in world.labels() if label["kind"] != "benign"]
            attacks += len(truths)
            hits += sum(any(named(truth, one) for one in alarms) for truth in truths)
            false += sum(not any(explained(truth, one) for truth in truths) for one in alarms)
        told[f"{minutes} minutes"] = f"{hits} of {attacks}, {false} false"
    return told


def _truth(label: dict[str, Any]) -> Truth:
    return Truth(
        name=label["name"],
        kind=label["kind"],
        actors=tuple(label["actors"]),
        addresses=(label["src"],),
        objects=(label["dst"],) if label["dst"] else (),
        start=round(label["start"] * NS),
        end=round(label["end"] * NS),
    )


def _parted(
    world: Simulation, moment: datetime
) -> tuple[Iterator[pl.DataFrame], Iterator[pl.DataFrame]]:
    """The flows before a moment, and those from it on, to be taken one after the other."""
    pieces = world.frames(_ROWS)
    held: list[pl.DataFrame] = []

    def before() -> Iterator[pl.DataFrame]:
        for piece in pieces:
            early = piece.filter(pl.col("time") < moment)
            if early.height:
                yield early
            if early.height < piece.height:
                held.append(piece.tail(piece.height - early.height))
                return

    def after() -> Iterator[pl.DataFrame]:
        yield from held
        yield from pieces

    quiet = before()
    return quiet, after()


def _learnt(pieces: Iterable[pl.DataFrame]) -> Baseline | None:
    learning, seen = Learning(), 0
    for piece in pieces:
        learning.observe(piece)
        seen += piece.height
    return learning.finish() if seen else None


def _last(baseline: Baseline | None, pieces: Iterator[pl.DataFrame]) -> list[Incident]:
    pipeline = Pipeline(baseline)
    latest: dict[str, Incident] = {}
    for piece in pieces:
        latest.update((one.id, one) for one in pipeline.process(piece))
    latest.update((one.id, one) for one in pipeline.finish())
    return list(latest.values())
