"""How much later an alert comes for being looked for: 20,000 flows a second in batches of 0.1 s.

Each batch of simulated traffic is pushed into a pipeline when its wall time has come, as a live
source would; what is added to a flow is the time until its batch is done, waiting for the batches
before it included. Once by wall time, which is what an alert has, and once with each batch taking
its processor time, which is what a machine that has nothing else to do would add at most.
"""

import statistics
import sys
import time
from typing import Any, Final

from scenes import baseline, traffic

from sidelong.pipeline import Pipeline

__all__ = ["run"]

WORKLOADS: Final = 100
RATE: Final = 20_000
BATCH_SECONDS: Final = 0.1
SECONDS: Final = 60
_WARM: Final = 20  # batches


def run() -> list[dict[str, Any]]:
    """The rows of the benchmark."""
    flows = traffic(WORKLOADS, float(RATE), RATE * SECONDS)
    batches = list(flows.iter_slices(round(RATE * BATCH_SECONDS)))
    pipeline = Pipeline(baseline(WORKLOADS))
    for batch in batches[:_WARM]:
        pipeline.process(batch)
    waited, worked = [], []
    began = time.monotonic()
    for number, batch in enumerate(batches[_WARM:]):
        due = began + number * BATCH_SECONDS
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        cpu = time.process_time()
        pipeline.process(batch)
        worked.append(time.process_time() - cpu)
        waited.append(time.monotonic() - due)
    rows = []
    alone, free = [], 0.0
    for number, took in enumerate(worked):
        due = number * BATCH_SECONDS
        free = max(free, due) + took
        alone.append(free - due)
    for name, added in (("wall time", waited), ("processor time", alone)):
        cuts = statistics.quantiles(added, n=100)
        rows.append(
            {
                "name": f"added at {RATE:,} flows/s, {name}",
                "rate": RATE,
                "unit": "flows/s",
                "p50_ms": round(cuts[49] * 1e3, 1),
                "p99_ms": round(cuts[98] * 1e3, 1),
                "most_ms": round(max(added) * 1e3, 1),
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(row, file=sys.stdout)
