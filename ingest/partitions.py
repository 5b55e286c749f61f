"""Which part of a partitioned stream a flow belongs to: that of its actor.

All that one actor does is judged in one place, so both directions of a connection go there.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.keys import hash_column

__all__ = ["partitions"]


def partitions(flows: pl.DataFrame, count: int) -> NDArray[np.int64]:
    """The part, from 0 up to but not including `count`, of each row of `NORMAL_SCHEMA`.

    The actor is who opened the connection; a row without one, such as a report of loss, goes to
    part 0. The same name goes to the same part on every machine.
    """
    actor = flows.select(pl.when("reply").then("dst").otherwise("src")).to_series()
    parts = (hash_column(actor) % np.uint64(count)).astype(np.int64)
    parts[actor.is_null().to_numpy()] = 0
    return parts
