"""What a flow costs by the size of the cluster: `make bench-curves`, or curves.py [WORKLOADS...].

The same number of flows a second of clusters of 50 to 5,000 workloads; of each stream the second
half counts, when tables are filled. How it goes over the length of a stream is told by the day
(`day.py`). Its part of docs/performance.md is written anew.
"""

import sys
import time
from typing import Any, Final

from measure import peak_bytes
from record import apart, keep
from scenes import baseline, scene

from sidelong.pipeline import Pipeline

__all__ = ["cost", "main"]

WORKLOADS: Final = (50, 200, 1_000, 5_000)
RATE: Final = 5_000.0
FLOWS: Final = 400_000
BATCH: Final = 50_000


def cost(workloads: int) -> dict[str, Any]:
    """Processor time of a flow in a cluster of this size."""
    learnt = baseline(workloads)
    pipeline = Pipeline(learnt)
    seen, took, counted = 0, 0.0, 0
    for frame in scene(workloads, RATE, FLOWS, attacked=False).frames(rows=BATCH):
        began = time.process_time()
        pipeline.process(frame)
        seen += frame.height
        if seen > FLOWS // 2:
            took += time.process_time() - began
            counted += frame.height
    return {
        "workloads": workloads,
        "microseconds": round(took / counted * 1e6, 2),
        "flows_per_cpu_second": round(counted / took),
        "edges": learnt.description()["edges"],
        "peak_bytes": peak_bytes(),
    }


def main(sizes: list[int]) -> int:
    """Each size in a process of its own."""
    points = []
    for size in sizes:
        points.append(apart(f"import curves; print(json.dumps(curves.cost({size})))"))
        print(points[-1], flush=True)
    keep("workloads", points)
    return 0


if __name__ == "__main__":
    sys.exit(main([int(size) for size in sys.argv[1:]] or list(WORKLOADS)))
