"""A flood of a million new pairs a minute, for five minutes: `make bench-flood`.

One workload sends SYNs to five million addresses that nobody has, while a cluster of 100 workloads
does its work at 2,000 flows a second. Memory must keep to its bound, its author must be named, and
nobody else. The flows are written as Parquet and the baseline is learnt before, so that the process
that is measured holds nothing of that. Its part of docs/performance.md is written anew.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
from following import followed, told
from record import apart, keep
from scenes import MORNING, baseline

from sidelong.baseline_places import load_baseline, save_baseline
from sidelong.ingest.parquet import ParquetFile, write_flows
from sidelong.simulation import Simulation
from sidelong.simulation_attacks import Attack

__all__ = ["main", "overrun", "prepare"]

FOLDER: Final = Path(__file__).resolve().parents[2] / ".bench" / "flood"
WORKLOADS: Final = 100
RATE: Final = 2_000.0
A_MINUTE: Final = 1_000_000
GROWTH_MEBIBYTES: Final = 1_100  # as features/bounds.py has it, all that a batch needs included
_STEP: Final = 100_000
_BATCH: Final = 20_000


def prepare(a_minute: int) -> str:
    """Two minutes of ordinary work, five of the flood, one after it; returns the author."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    attack = Attack("flood", 120, a_minute / 60)
    scene = Simulation(
        workloads=WORKLOADS, rate=RATE, hours=8 / 60, start=MORNING, attacks=[attack]
    )
    write_flows(scene.frames(rows=_BATCH), FOLDER / "flows.parquet")
    save_baseline(baseline(WORKLOADS), str(FOLDER / "baseline"))
    (label,) = (one for one in scene.labels() if one["kind"] == "scan")
    author: str = label["actors"][0]
    return author


def overrun() -> dict[str, Any]:
    """The flood, replayed in this process."""
    learnt = load_baseline(str(FOLDER / "baseline"))
    return followed(_frames(), learnt, every=_STEP)


def _frames() -> Iterator[pl.DataFrame]:
    source = ParquetFile("flood", FOLDER / "flows.parquet", rows_per_batch=_BATCH)
    return (batch.flows for batch in source.batches())


def main(a_minute: int) -> int:
    """Run it in a process of its own; 1 if memory passed its bound or the author is not named."""
    author = prepare(a_minute)
    result = apart("import flood; print(json.dumps(flood.overrun()))")
    grown = (result["peak_bytes"] - result["before_bytes"]) / (1 << 20)
    named = {one["actor"] for one in result["incidents"]}
    keep("flood", result | {"a_minute": a_minute})
    print(told(result))
    print(f"grown by {grown:,.0f} MiB; its author is {author}")
    return 0 if grown < GROWTH_MEBIBYTES and named == {author} else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else A_MINUTE))
