"""Isolation forests: windows judged a second, one by one and in batches, beside scikit-learn."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from sidelong.features.bounds import Bounds
from sidelong.features.windows import NOTHING_CLOSED
from sidelong.models.anomaly import AnomalyDetector
from sidelong.models.forest_training import as_forest, grown

__all__ = ["run"]

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

FEATURES: Final = 24
ROUNDS: Final = 5


def seconds(act: Callable[[], object], times: int) -> float:
    """CPU time of one act, the least of a few rounds."""
    act()
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(times):
            act()
        found.append((time.process_time() - begun) / times)
    return min(found)


def run() -> list[dict[str, Any]]:
    """Rows a second of trees walked in NumPy, at 100 and 200 trees; ratio: over scikit-learn."""
    from forest_builders import jumpy_forests, windows

    rows = np.random.default_rng(9).normal(size=(20_000, FEATURES)).astype(np.float32)
    told: list[dict[str, Any]] = []
    for trees in (100, 200):
        theirs = grown(rows, trees=trees, seed=5)
        ours = as_forest(theirs)
        for count, times in ((1, 300), (32, 100), (1_000, 10), (10_000, 2)):
            batch = rows[:count]
            took = seconds(lambda: ours.depths(batch), times)  # noqa: B023
            slow = seconds(lambda: theirs.score_samples(batch), max(1, times // 100))  # noqa: B023
            told.append(
                {
                    "name": f"{trees} trees, {count:,} at once",
                    "rate": count / took,
                    "unit": "windows/s",
                    "ratio": slow / took,
                    "microseconds": took * 1e6,
                }
            )
    actors = [f"shop/web-{number}" for number in range(500)]
    minute = NOTHING_CLOSED._replace(workload=windows("workload", actors, 1))
    detector = AnomalyDetector(jumpy_forests(actors), Bounds())
    took = seconds(lambda: detector.judge(minute), 3)
    told.append({"name": "a minute of 500 workloads", "rate": 500 / took, "unit": "windows/s"})
    return told
