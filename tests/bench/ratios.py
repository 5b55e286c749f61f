"""The few ratios that a change must not worsen by more than a fifth: `tests/test_bench_ratios.py`.

    python tests/bench/ratios.py            print them beside those recorded
    python tests/bench/ratios.py --record   record them: the least of five measurements

Each is the processor time of a plain way of doing a thing over that of ours, on the same input in
the same process with one thread of polars, median of several in turns. So a slower machine, or one
that does other work, changes both. What noise is left is met by measuring again: only what is worse
each time is worse.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from measure import in_turns

__all__ = ["RECORDED", "TOLERANCE", "measured", "packets", "ratio", "recorded", "worse"]

Act: TypeAlias = Callable[[], object]
Pair: TypeAlias = tuple[Act, Act]

RECORDED: Final = Path(__file__).resolve().parent / "ratios.json"
TOLERANCE: Final = 0.2
FLOWS: Final = 40_000
WORKLOADS: Final = 40
ROUNDS: Final = 5
_TRIALS: Final = 5


def measured() -> dict[str, float]:
    """The ratios, measured in a process of its own."""
    ran = subprocess.run(
        [sys.executable, __file__, "--json"],
        check=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def recorded() -> dict[str, float]:
    """The ratios as they were recorded."""
    found: dict[str, float] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found


def worse(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Those more than a fifth below what they were: before and now. Missing ones are worse."""
    return {
        name: (ratio, now.get(name, 0.0))
        for name, ratio in before.items()
        if now.get(name, 0.0) < ratio * (1 - TOLERANCE)
    }


@contextmanager
def packets() -> Iterator[Pair]:
    """A capture to flows, by us and by dpkt."""
    import bench_pcap

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flows.pcap"
        path.write_bytes(bench_pcap.lookups(20_000))
        yield lambda: bench_pcap.by_sidelong(path), lambda: bench_pcap.by_dpkt(path)


def ratio(ours: Act, theirs: Act) -> float:
    """Their processor time over ours, medians of several rounds in turns."""
    took = in_turns({"ours": ours, "theirs": theirs}, ROUNDS)
    return took["theirs"] / took["ours"]


def _measured() -> dict[str, float]:
    """In this process."""
    import bench_stages
    import numpy as np
    import polars as pl
    from bench_hubble import ours, standard_library
    from scenes import MORNING

    from sidelong.ingest.stream import Stream
    from sidelong.learning import Learning
    from sidelong.models.forest_training import as_forest, grown
    from sidelong.pipeline import Pipeline
    from sidelong.simulation import Simulation
    from sidelong.simulation_hubble import hubble_lines

    scene = Simulation(workloads=WORKLOADS, rate=400.0, hours=0.06, start=MORNING)
    flows = pl.concat(list(scene.frames()))
    learning = Learning()
    learning.observe(flows[:FLOWS])
    baseline = learning.finish()
    flows = flows[FLOWS : 2 * FLOWS]
    rows = flows.with_columns(at=pl.col("time").to_physical()).to_dicts()
    noise = np.random.default_rng(9).normal(size=(1_000, 24)).astype(np.float32)
    theirs = grown(noise, trees=100, seed=5)
    forest = as_forest(theirs)

    def loops() -> None:
        for loop in bench_stages.LOOPS.values():
            loop(rows)

    def normalised() -> None:
        for _ in Stream().stretches(flows):
            pass

    with packets() as (by_us, by_dpkt), tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "flows.jsonl"
        lines.write_text("\n".join(hubble_lines(flows[:20_000])) + "\n", encoding="utf-8")
        return {
            "normalise, over loops in Python": ratio(normalised, loops),
            "flows to incidents, over loops in Python": ratio(
                lambda: Pipeline(baseline).process(flows), loops
            ),
            "Hubble JSON to flows, over the standard library": ratio(
                lambda: ours(lines), lambda: standard_library(lines)
            ),
            "pcap to flows, over a dpkt loop": ratio(by_us, by_dpkt),
            "forest, over scikit-learn": ratio(
                lambda: forest.depths(noise), lambda: theirs.score_samples(noise)
            ),
        }


def main(arguments: list[str]) -> int:
    """Print, record, or print as JSON."""
    if arguments == ["--json"]:
        print(json.dumps(_measured()))
        return 0
    if arguments == ["--record"]:
        trials = [measured() for _ in range(_TRIALS)]
        least = {name: round(min(one[name] for one in trials), 3) for name in trials[0]}
        RECORDED.write_text(json.dumps(least, indent=1) + "\n", encoding="utf-8")
    now = measured()
    for name, ratio in now.items():
        print(f"{name:<45} {ratio:6.2f}   recorded {recorded().get(name, 0.0):6.2f}")
    return 1 if worse(recorded(), now) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
