"""A snapshot and its restoring, by how much is remembered, beside pickle; and what that occupies.

After so many flows of a cluster, without and with a flood, so that tables are near their bounds.
The file is that of `ingest/state_store.py`, in which nothing can be executed.
"""

import pickle
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from measure import in_turns
from scenes import baseline, traffic

from sidelong.ingest.state_values import decode, encode
from sidelong.pipeline import Pipeline

__all__ = ["run"]

WORKLOADS: Final = 100
ROUNDS: Final = 5
BATCH: Final = 50_000
_SIZES: Final = ((100_000, False), (400_000, False), (400_000, True))


def restored(pipeline: Pipeline, content: bytes, read: Callable[[bytes], Any]) -> None:
    """A pipeline from a file's content."""
    pipeline.restore(read(content))


def run() -> list[dict[str, Any]]:
    """The rows of the benchmark."""
    rows: list[dict[str, Any]] = []
    learnt = baseline(WORKLOADS)
    for flows, attacked in _SIZES:
        pipeline = Pipeline(learnt)
        for batch in traffic(WORKLOADS, 5_000.0, flows, attacked=attacked).iter_slices(BATCH):
            pipeline.process(batch)
        state = pipeline.snapshot()
        packed, pickled = encode(state), pickle.dumps(state, protocol=5)
        other = Pipeline(learnt)
        acts: dict[str, Callable[[], object]] = {
            "snapshot": pipeline.snapshot,
            "pack": partial(encode, state),
            "pickle": partial(pickle.dumps, state, protocol=5),
            "restore": partial(restored, other, packed, decode),
            "unpickle": partial(restored, other, pickled, pickle.loads),
        }
        took = in_turns(acts, ROUNDS)
        after = f"after {flows:,} flows" + (", a tenth of them a flood" if attacked else "")
        written = took["snapshot"] + took["pack"]
        rows += [
            {
                "name": f"snapshot {after}",
                "rate": 1 / written,
                "unit": "snapshots/s",
                "ratio": (took["snapshot"] + took["pickle"]) / written,
                "against": "pickle",
                "milliseconds": round(written * 1e3, 1),
                "standing_still_ms": round(took["snapshot"] * 1e3, 1),
                "bytes": len(packed),
            },
            {
                "name": f"restore {after}",
                "rate": 1 / took["restore"],
                "unit": "restores/s",
                "ratio": took["unpickle"] / took["restore"],
                "against": "pickle",
                "milliseconds": round(took["restore"] * 1e3, 1),
            },
        ]
    return rows


if __name__ == "__main__":
    for row in run():
        print(row, file=sys.stdout)
