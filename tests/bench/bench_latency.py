"""How much later an alert comes for being looked for: 20,000 flows a second in batches of 0.1 s.

Each batch of simulated traffic is pushed into a pipeline when its wall time has come, as a live
source would; what is added to a flow is the time until its batch is done, waiting for the one
before included. Wall time, since that is what an alert has; beside it the processor time of a
batch, which other work on the machine does not change: what a machine of its own would add.
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
    for name, took in (("wall time", waited), ("processor time", worked)):
        cuts = statistics.quantiles(took, n=100)
        rows.append(
            {
                "name": f"added at {RATE:,} flows/s, {name}",
                "rate": RATE,
                "unit": "flows/s",
                "p50_ms": round(cuts[49] * 1e3, 1),
                "p99_ms": round(cuts[98] * 1e3, 1),
                "most_ms": round(max(took) * 1e3, 1),
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(row, file=sys.stdout)
