"""The same replay by one process and on Spark, on one core and on two: `make bench-spark`.

    .venv/bin/python tests/bench/spark_replay.py [FLOWS] [RATE]

Makes up FLOWS flows (20 million) of a cluster that tells RATE of them a second (1,400), with
attacks, replays them with `sidelong replay` and `sidelong spark replay`, holds the outputs against
each other byte for byte, and prints wall time, CPU time and ratios. Fails where outputs differ.
"""

import ctypes
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Ran", "compared", "main", "simulated"]

_SIDELONG: Final = (sys.executable, "-m", "sidelong")
_START: Final = "2026-11-23T06:00:00Z"
_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_ONE_CORE: Final = {"POLARS_MAX_THREADS": "1"}


class Ran(NamedTuple):
    """A run: seconds of the clock, of CPU over all its processes, and what it printed, hashed."""

    name: str
    wall: float
    cpu: float
    output: str
    lines: int


def simulated(folder: Path, flows: int, rate: float) -> Path:
    """About so many flows, with attacks in them."""
    seconds = int(flows / rate)
    middle = f"{seconds // 2}s"
    attacks = [f"{kind}@{middle}" for kind in ("scan", "dns-tunnel", "lateral")]
    options = [option for attack in attacks for option in ("--attack", attack)]
    length = ["--start", _START, "--for", f"{seconds}s", "--rate", str(rate)]
    subprocess.run(
        [*_SIDELONG, "simulate", "--to", str(folder / "flows"), *length, *options], check=True
    )
    return folder / "flows"


def compared(flows: Path, masters: Sequence[str]) -> list[Ran]:
    """The replay alone, with all cores and with one, and on Spark. Errors: SystemExit for outputs
    that differ."""
    alone = ("replay", str(flows), "--output", "json")
    there = ("spark", "replay", str(flows), "--output", "json")
    runs = [
        _ran("one process", alone, {}),
        _ran("one process, one thread", alone, _ONE_CORE),
        *(_ran(master, (*there, "--master", master), {}) for master in masters),
    ]
    for run in runs:
        if run.output != runs[0].output:
            raise SystemExit(f"{run.name} printed something else than {runs[0].name}")
    return runs


def main(arguments: Sequence[str]) -> None:
    """Run it and print the table."""
    _adopt()
    flows = int(arguments[0]) if arguments else 20_000_000
    rate = float(arguments[1]) if len(arguments) > 1 else 1_400.0
    folder = Path(tempfile.mkdtemp(prefix="sidelong-bench-"))
    try:
        place = simulated(folder, flows, rate)
        size = sum(file.stat().st_size for file in place.rglob("*.parquet"))
        print(f"{flows:,} flows, {size / 1e9:.2f} GB of Parquet, load {os.getloadavg()[0]:.1f}")
        runs = compared(place, ("local[1]", "local[2]"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"all print the same {runs[0].lines} lines")
    print("| | wall s | CPU s | CPU us/flow | flows/s |\n|---|---|---|---|---|")
    for run in runs:
        cells = (f"{run.wall:.0f}", f"{run.cpu:.0f}", f"{run.cpu / flows * 1e6:.2f}")
        print(f"| {run.name} | {' | '.join(cells)} | {flows / run.wall:,.0f} |")
    one, two = runs[-2:]
    print(f"from one core to two: {one.wall / two.wall:.2f} times as fast")
    print(f"Spark costs {one.cpu / runs[1].cpu:.2f} times the CPU of one process")


def _ran(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Ran:
    before, began = _cpu(), time.monotonic()
    done = subprocess.run(
        [*_SIDELONG, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{name} ended with {done.returncode}")
    wall = time.monotonic() - began
    _reap()
    cpu = _cpu() - before
    return Ran(name, wall, cpu, hashlib.sha256(done.stdout).hexdigest(), done.stdout.count(b"\n"))


def _adopt() -> None:
    """Have what descendants leave behind, such as Spark's Java, become children of ours."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def _reap() -> None:
    """Wait for what was left behind, so that its time counts."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _cpu() -> float:
    """CPU seconds of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
