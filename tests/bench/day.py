"""A day of a cluster, replayed: `make bench-day`, or python tests/bench/day.py [MINUTES].

120 million flows of 100 workloads, simulated, with an attack of every kind in them, are written as
Parquet by hour and replayed in one process against a baseline of an hour of the day before, as
`sidelong replay` does. Every million flows memory and time are noted. Ends after MINUTES of wall
time, 90 unless given. Its part of docs/performance.md is written anew.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
from following import followed, told
from record import apart, keep

from sidelong.baseline_places import load_baseline, save_baseline
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.learning import Learning
from sidelong.simulate import simulate
from sidelong.simulation import START, Simulation
from sidelong.terminal import Terminal

__all__ = ["main", "replayed"]

FOLDER: Final = Path(__file__).resolve().parents[2] / ".bench" / "day"
WORKLOADS: Final = 100
FLOWS: Final = 120_000_000
_STEP: Final = 1_000_000
_ATTACKS: Final = (
    "scan@10h", "slow-scan@11h", "dns-tunnel@12h", "lateral@13h", "flood@15h:1000",
)  # fmt: skip


def prepare() -> None:
    """The day as Parquet and the baseline, unless they are there already."""
    done = FOLDER / "done.json"
    settings = {"workloads": WORKLOADS, "flows": FLOWS, "attacks": _ATTACKS}
    text = json.dumps(settings)
    if done.exists() and done.read_text(encoding="utf-8") == text:
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    simulate(
        terminal=Terminal(),
        to=str(FOLDER / "flows"),
        workloads=WORKLOADS,
        rate=FLOWS / 86_400,
        duration="24h",
        start=START.isoformat(),
        attacks=_ATTACKS,
        labels=str(FOLDER / "labels.json"),
    )
    learning = Learning()
    before = Simulation(
        workloads=WORKLOADS, rate=FLOWS / 86_400, hours=1.0, start=START - timedelta(hours=16)
    )
    for flows in before.frames(rows=100_000):
        learning.observe(flows)
    save_baseline(learning.finish(), str(FOLDER / "baseline"))
    done.write_text(text, encoding="utf-8")


def _frames() -> Iterator[pl.DataFrame]:
    return (batch.flows for batch in merged(open_inputs([str(FOLDER / "flows")])))


def replayed(seconds: float) -> dict[str, Any]:
    """The day, replayed in this process for so long at most. Reading it is part of wall time."""
    baseline = load_baseline(str(FOLDER / "baseline"))
    return followed(_frames(), baseline, every=_STEP, seconds=seconds)


def main(minutes: float) -> int:
    """Prepare, replay in a process of its own, write and say what came of it."""
    prepare()
    result = apart(f"import day; print(json.dumps(day.replayed({minutes * 60})))")
    result["labels"] = json.loads((FOLDER / "labels.json").read_text(encoding="utf-8"))
    keep("day", result)
    print(told(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 90.0))
