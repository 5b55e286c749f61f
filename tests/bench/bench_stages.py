"""What each step costs a flow, from decoded flows to incidents, beside a straight loop in Python.

Simulated traffic of 100 workloads at 5,000 flows a second, without and with attacks (a flood among
them), in batches of 50,000. The loops do the least of the same for each flow, on dictionaries that
are made before: look names up, drop twins, keep sets of contacts, edges and names, count minutes.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import polars as pl
from measure import cpu_seconds, in_turns
from publicsuffixlist import PublicSuffixList
from scenes import baseline, traffic
from stopwatch import STEPS, Stopwatch

from sidelong.ingest.stream import Stream
from sidelong.pipeline import Pipeline

__all__ = ["run"]

WORKLOADS: Final = 100
RATE: Final = 5_000.0
FLOWS: Final = 400_000
BATCH: Final = 50_000
LOOPED: Final = 100_000
ROUNDS: Final = 3
SIZES: Final = (10_000, 100_000)
DETECTORS: Final = (
    "scan", "guessing", "spread", "dns exfiltration", "resolver bypass", "lateral movement",
    "mesh bypass", "anomaly", "correlate",
)  # fmt: skip

Flow = dict[str, Any]


def by_address(flows: list[Flow]) -> int:
    """Who is who: learns the holder of each address, and asks for both."""
    held: dict[str, tuple[str, int]] = {}
    named = 0
    for flow in flows:
        now = flow["at"]
        for ip, name in ((flow["src_ip"], flow["src"]), (flow["dst_ip"], flow["dst"])):
            if name is not None:
                held[ip] = (name, now)
            elif ip in held and now - held[ip][1] < 3_600_000_000_000:
                named += 1
    return named


def twins(flows: list[Flow]) -> int:
    """Which flows repeat what was told within a tenth of a second."""
    last: dict[tuple[Any, ...], int] = {}
    repeated = 0
    for flow in flows:
        key = (
            flow["src_ip"], flow["dst_ip"], flow["src_port"], flow["dst_port"], flow["protocol"],
            flow["tcp_flags"], flow["dns_name"], flow["dns_type"], flow["reply"], flow["verdict"],
        )  # fmt: skip
        now = flow["at"]
        repeated += now - last.get(key, -(10**12)) < 100_000_000
        last[key] = now
    return repeated


def contacts(flows: list[Flow]) -> int:
    """First contacts, and whether they were answered."""
    seen: dict[tuple[Any, ...], bool] = {}
    for flow in flows:
        back = flow["reply"]
        actor, peer = (flow["dst"], flow["src"]) if back else (flow["src"], flow["dst"])
        port = flow["src_port"] if back else flow["dst_port"]
        key = (actor, peer, port, flow["protocol"])
        seen[key] = seen.get(key, False) or back
    return len(seen)


def edges(flows: list[Flow]) -> int:
    """Edges, when they were used last and how often."""
    used: dict[tuple[Any, ...], list[int]] = {}
    for flow in flows:
        back = flow["reply"]
        actor, peer = (flow["dst"], flow["src"]) if back else (flow["src"], flow["dst"])
        port = flow["src_port"] if back else flow["dst_port"]
        entry = used.setdefault((actor, peer, port, flow["protocol"]), [0, 0])
        entry[0] += 1
        entry[1] = flow["at"]
    return len(used)


def names(flows: list[Flow]) -> int:
    """The registered domain of each name that was asked, and what is new below it."""
    suffixes = PublicSuffixList()
    asked: dict[str, set[str]] = defaultdict(set)
    for flow in flows:
        name = flow["dns_name"]
        if name is not None and not name.endswith(".cluster.local"):
            asked[suffixes.privatesuffix(name) or ""].add(name)
    return sum(map(len, asked.values()))


def windows(flows: list[Flow]) -> int:
    """Of each workload and edge and minute, five counts."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 5)
    for flow in flows:
        back = flow["reply"]
        actor, peer = (flow["dst"], flow["src"]) if back else (flow["src"], flow["dst"])
        minute = flow["at"] // 60_000_000_000
        for key in ((minute, actor), (minute, actor, peer, flow["dst_port"])):
            counts = found[key]
            counts[0] += 1
            counts[1] += back
            counts[2] += flow["tcp_flags"] == 2
            counts[3] += flow["dns_name"] is not None
            counts[4] += flow["verdict"] == "DROPPED"
    return len(found)


LOOPS: Final[dict[str, Callable[[list[Flow]], int]]] = {
    "identity": by_address,
    "twins": twins,
    "first contacts": contacts,
    "edges": edges,
    "names": names,
    "windows": windows,
}


def looped(flows: pl.DataFrame) -> dict[str, float]:
    """Seconds a flow of each loop."""
    some = flows[:LOOPED].with_columns(at=pl.col("time").to_physical())
    rows = some.select(
        "at", "src_ip", "dst_ip", "src", "dst", "src_port", "dst_port", "protocol", "tcp_flags",
        "dns_name", "dns_type", "reply", "verdict",
    ).to_dicts()  # fmt: skip
    acts = {name: (lambda loop=loop: loop(rows)) for name, loop in LOOPS.items()}
    return {name: took / len(rows) for name, took in in_turns(acts, ROUNDS).items()}


def replayed(flows: pl.DataFrame) -> Pipeline:
    """All of the flows through a new pipeline."""
    pipeline = Pipeline(baseline(WORKLOADS))
    for batch in flows.iter_slices(BATCH):
        pipeline.process(batch)
    pipeline.finish()
    return pipeline


def watched(flows: pl.DataFrame) -> Stopwatch:
    """Where the time of a replay goes."""
    with Stopwatch().running() as watch:
        replayed(flows)
    return watch


def normalised(flows: pl.DataFrame) -> None:
    """The same as far as normalising goes."""
    stream = Stream()
    for batch in flows.iter_slices(BATCH):
        for _ in stream.stretches(batch):
            pass


def run() -> list[dict[str, Any]]:
    """Rows for each step without attacks, and for the whole with and without."""
    quiet = traffic(WORKLOADS, RATE, FLOWS)
    attacked = traffic(WORKLOADS, RATE, FLOWS, attacked=True)
    replayed(quiet[:BATCH])  # what is made once is made
    loops = looped(quiet)
    calm, busy = ([watched(flows) for _ in range(ROUNDS)] for flows in (quiet, attacked))
    rows: list[dict[str, Any]] = []
    for step in STEPS:
        # What a detector costs shows where it has something to judge.
        judges = step in DETECTORS
        watches = busy if judges else calm
        took = sorted(watch.seconds[step] for watch in watches)[ROUNDS // 2] / FLOWS
        if not took:
            continue
        row = {
            "name": f"{step}, under attack" if judges else step,
            "rate": 1 / took,
            "unit": "flows/s",
            "nanoseconds": round(took * 1e9, 1),
        }
        if step in loops:
            row |= {"ratio": loops[step] / took, "against": "a loop in Python"}
        rows.append(row)
    acts: dict[str, Callable[[], object]] = {
        **{f"{size:,} flows": partial(replayed, quiet[:size]) for size in SIZES},
        "normalise": lambda: normalised(quiet),
        "whole": lambda: replayed(quiet),
        "attacked": lambda: replayed(attacked),
    }
    took_by = in_turns(acts, ROUNDS)
    all_loops = sum(loops.values()) * FLOWS
    rows += [
        *(
            {
                "name": f"flows to incidents, {size:,} of them",
                "rate": size / took_by[f"{size:,} flows"],
                "unit": "flows/s",
            }
            for size in SIZES
        ),
        {
            "name": "normalise, whole",
            "rate": FLOWS / took_by["normalise"],
            "unit": "flows/s",
        },
        {
            "name": "flows to incidents",
            "rate": FLOWS / took_by["whole"],
            "unit": "flows/s",
            "ratio": all_loops / took_by["whole"],
            "against": "the loops together",
            "nanoseconds": took_by["whole"] / FLOWS * 1e9,
        },
        {
            "name": "flows to incidents, under attack",
            "rate": FLOWS / took_by["attacked"],
            "unit": "flows/s",
            "ratio": took_by["whole"] / took_by["attacked"],
            "against": "the same without attacks",
        },
    ]
    return rows


if __name__ == "__main__":
    print(f"baseline learnt in {cpu_seconds(lambda: baseline(WORKLOADS)):.1f} s", file=sys.stderr)
    for row in run():
        print(row, file=sys.stdout)
