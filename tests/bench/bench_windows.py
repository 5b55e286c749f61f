"""What windows cost beside detection, and what a small stretch costs at all.

The same traffic as `replay`, in stretches of 10,000 rows as replay has them and of 100 as a live
stream has. A rate of stretches says what each costs however few its rows are.
"""

import statistics
import sys
import time
from dataclasses import replace
from typing import Any, Final

import polars as pl
from bench_replay import traffic

from sidelong.ingest.stream import Stream, Stretch
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.forests import Forests

__all__ = ["run"]

ROUNDS: Final = 3
LARGE: Final = 10_000
SMALL: Final = 100
ROWS: Final = {LARGE: 300_000, SMALL: 10_000}


def stretches(flows: pl.DataFrame, size: int) -> tuple[list[Stretch], list[float]]:
    """Stretches made of batches of some size, and the seconds that each batch took."""
    stream = Stream()
    found: list[Stretch] = []
    took: list[float] = []
    for batch in flows[: ROWS[size]].iter_slices(size):
        started = time.perf_counter()
        found += stream.stretches(batch)
        took.append(time.perf_counter() - started)
    return found, took


def seconds(baseline: Baseline, stream: list[Stretch], *, windows: bool) -> list[float]:
    """What each stretch takes to be judged, ticks included."""
    detectors = Detectors(baseline, windows=windows)
    took = []
    for _, _, tick_ns, pulse, flows in stream:
        started = time.perf_counter()
        if tick_ns is not None:
            detectors.tidy(tick_ns)
        detectors.observe(flows, pulse)
        took.append(time.perf_counter() - started)
    return took


def run() -> list[dict[str, Any]]:
    """The rows of the benchmark."""
    quiet, dense = traffic()
    learning = Learning()
    learning.observe(quiet)
    # What is measured is the windows, not the forests that judge them.
    baseline = replace(learning.finish(), forests=Forests())
    rows: list[dict[str, Any]] = []
    for size in (LARGE, SMALL):
        stream, normalised = stretches(dense, size)
        without, beside = [], []
        for _ in range(ROUNDS):
            without.append(seconds(baseline, stream, windows=False))
            beside.append(seconds(baseline, stream, windows=True))
        if size == LARGE:
            alone, both = (statistics.median(map(sum, took)) for took in (without, beside))
            rows.append(
                {
                    "name": "detect with windows",
                    "rate": ROWS[size] / both,
                    "unit": "flows/s",
                    "ratio": alone / both,
                    "against": "detect without windows",
                }
            )
            continue
        for name, took in (
            ("normalise 100 rows", normalised),
            ("detect 100 rows", without[-1]),
            ("detect 100 rows with windows", beside[-1]),
        ):
            slow = statistics.quantiles(took, n=100)[-1]
            rows.append(
                {
                    "name": name,
                    "rate": 1 / statistics.median(took),
                    "unit": "stretches/s",
                    "median_ms": statistics.median(took) * 1e3,
                    "p99_ms": slow * 1e3,
                }
            )
    return rows


if __name__ == "__main__":
    for row in run():
        print(row, file=sys.stdout)
