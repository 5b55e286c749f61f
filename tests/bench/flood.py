"""A flood of a million new pairs a minute, for five minutes: `make bench-flood`.

One workload sends SYNs to five million addresses that nobody has, while a cluster of 100 workloads
does its work at 2,000 flows a second. Memory must keep to its bound, its author must be named, and
nobody else. Its part of docs/performance.md is written anew.
"""

import sys
from typing import Any, Final

from following import followed, told
from record import apart, keep
from scenes import MORNING, baseline

from sidelong.simulation import Simulation
from sidelong.simulation_attacks import Attack

__all__ = ["main", "overrun"]

WORKLOADS: Final = 100
RATE: Final = 2_000.0
A_MINUTE: Final = 1_000_000
GROWTH_MEBIBYTES: Final = 400  # as features/bounds.py promises, what a batch at hand needs included
_STEP: Final = 100_000
_BATCH: Final = 20_000


def overrun(a_minute: int) -> dict[str, Any]:
    """Two minutes of ordinary work, five of the flood, one after it."""
    attack = Attack("flood", 120, a_minute / 60)
    scene = Simulation(
        workloads=WORKLOADS, rate=RATE, hours=8 / 60, start=MORNING, attacks=[attack]
    )
    result = followed(scene.frames(rows=_BATCH), baseline(WORKLOADS), every=_STEP)
    (label,) = (one for one in scene.labels() if one["kind"] == "scan")
    return result | {"author": label["actors"][0]}


def main(a_minute: int) -> int:
    """Run it in a process of its own; 1 if memory passed its bound or the author is not named."""
    result = apart(f"import flood; print(json.dumps(flood.overrun({a_minute})))")
    grown = (result["peak_bytes"] - result["before_bytes"]) / (1 << 20)
    named = {one["actor"] for one in result["incidents"]}
    keep("flood", result | {"a_minute": a_minute})
    print(told(result))
    print(f"grown by {grown:,.0f} MiB; its author is {result['author']}")
    return 0 if grown < GROWTH_MEBIBYTES and named == {result["author"]} else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else A_MINUTE))
