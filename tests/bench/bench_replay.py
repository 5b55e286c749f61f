"""Flows per second through the whole pipeline, beside what normalising alone takes.

The shop's quiet minutes, told twenty times over in the time of once, are as dense as a small
cluster. The ratio is against the normalise stage alone, which every detector has to wait for.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from sidelong.ingest.clock import Clock
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.normalise import Normaliser
from sidelong.learning import Learning
from sidelong.pipeline import Pipeline

__all__ = ["run"]

ROOT: Final = Path(__file__).resolve().parents[2]
ROUNDS: Final = 3
COPIES: Final = 20
BATCH: Final = 50_000


def traffic() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The shop's quiet minutes as they were, and twenty times as dense."""
    path = ROOT / "examples" / "shop-incident" / "train.hubble.jsonl.zst"
    quiet = pl.concat([batch.flows for batch in merged(open_inputs([str(path)]))])
    times = quiet["time"].to_physical()
    ordered = times.sort().to_list()
    start, span = ordered[0], ordered[-1] - ordered[0]
    copies = [
        quiet.with_columns(
            time=(start + (times - start) // COPIES + copy * span // COPIES).cast(
                quiet.schema["time"]
            )
        )
        for copy in range(COPIES)
    ]
    return quiet, pl.concat(copies).with_columns(end=pl.col("time"))


def rate(flows: pl.DataFrame, take: Callable[[pl.DataFrame], object]) -> float:
    """Rows a second, wall time, in batches."""
    started = time.perf_counter()
    for low in range(0, flows.height, BATCH):
        take(flows[low : low + BATCH])
    return flows.height / (time.perf_counter() - started)


def normalised(clock: Clock, normaliser: Normaliser, flows: pl.DataFrame) -> None:
    """What has to happen before any detector sees a row."""
    for piece, tick_ns in clock.cut(flows):
        if tick_ns is not None:
            normaliser.tidy(tick_ns)
        normaliser.normalise(piece)


def run() -> list[dict[str, Any]]:
    """The rows of the benchmark."""
    quiet, dense = traffic()
    learning = Learning()
    learning.observe(quiet)
    baseline = learning.finish()
    alone, whole = [], []
    for _ in range(ROUNDS):
        clock, normaliser = Clock(), Normaliser()
        alone.append(rate(dense, partial(normalised, clock, normaliser)))
        whole.append(rate(dense, Pipeline(baseline).process))
    first, second = statistics.median(alone), statistics.median(whole)
    return [
        {"name": "normalise alone", "rate": first, "unit": "flows/s"},
        {
            "name": "flows to incidents",
            "rate": second,
            "unit": "flows/s",
            "ratio": second / first,
            "against": "normalise alone",
        },
    ]


if __name__ == "__main__":
    for row in run():
        print(row, file=sys.stdout)
