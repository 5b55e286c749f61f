"""A sample of closed windows, to learn forests from: bounded, and the same however it was fed.

Each window has a random number of its own, a hash of what and when it was; the least of them stay,
of every actor alike. So the sample is uniform over time, a long training does not outgrow memory,
and where a stream was cut changes nothing.
"""

from typing import Any, Final

import numpy as np
import polars as pl

from sidelong.features.catalogue import WINDOW_NS
from sidelong.ingest.keys import hash_columns, mix
from sidelong.ingest.schema import schema_of
from sidelong.models.forests import JUDGED, features_of

__all__ = ["LEAST_COMPLETENESS", "SAMPLE_SCHEMAS", "WindowSample", "half", "least"]

PER_ACTOR: Final = 2_048
TOTAL: Final = 100_000
_SLACK: Final = 4_096  # rows that may be too many before it is worth choosing anew

LEAST_COMPLETENESS: Final = 0.9
"""Windows of which less arrived are neither learnt from nor judged: their counts are not right."""

_TIME: Final = pl.Datetime("ns", "UTC")

SAMPLE_SCHEMAS: Final = {
    scope: schema_of(
        {
            "chance": pl.UInt64,
            "actor": pl.String,
            "domain": pl.String,
            "window": _TIME,
            **{one.name: pl.Float32 for one in features_of(scope)},
        }
    )
    for scope in JUDGED
}
"""By scope, one row a window: its random number, whose it is, its start, and its features."""


class WindowSample:
    """At most `PER_ACTOR` windows of an actor and `TOTAL` of a scope, after `tidy`.

    counted: windows of each scope that there were, in the sample or not.
    """

    def __init__(self) -> None:
        self._kept = {scope: schema.to_frame() for scope, schema in SAMPLE_SCHEMAS.items()}
        self.counted = dict.fromkeys(JUDGED, 0)

    def add(self, scope: str, windows: pl.DataFrame) -> None:
        """Take in closed windows of a scope (features/catalogue.py)."""
        self.counted[scope] += windows.height
        whole = windows.filter(pl.col("completeness") >= LEAST_COMPLETENESS)
        if whole.is_empty():
            return
        place = hash_columns(whole.select(pl.col("window").to_physical()), ["window"])
        rows = whole.with_columns(
            chance=pl.Series(mix(whole["group"].to_numpy(), place), dtype=pl.UInt64),
            domain="domain" if scope == "domain" else pl.lit(None, pl.String),
        )
        columns = [pl.col(name).cast(dtype) for name, dtype in SAMPLE_SCHEMAS[scope].items()]
        self._kept[scope] = self._kept[scope].vstack(rows.select(columns))

    def tidy(self) -> None:
        """Keep, at an event-time tick, to the bounds."""
        for scope, rows in self._kept.items():
            if rows.height > TOTAL + _SLACK or _crowded(rows):
                self._kept[scope] = least(rows)

    def windows(self, scope: str) -> pl.DataFrame:
        """The sample of a scope (`SAMPLE_SCHEMAS`)."""
        return least(self._kept[scope])

    def snapshot(self) -> dict[str, Any]:
        """The sample as a value."""
        return {"kept": dict(self._kept), "counted": dict(self.counted)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._kept, self.counted = dict(state["kept"]), dict(state["counted"])


def _crowded(rows: pl.DataFrame) -> bool:
    if rows.height <= PER_ACTOR + _SLACK:
        return False
    return int(rows["actor"].value_counts()["count"].max() or 0) > PER_ACTOR + _SLACK  # type: ignore[arg-type]


def least(rows: pl.DataFrame) -> pl.DataFrame:
    """Of windows of a scope those that a sample keeps, in an order of their own."""
    ordered = rows.sort("chance", "actor", "window")
    return ordered.filter(pl.int_range(pl.len()).over("actor") < PER_ACTOR).head(TOTAL)


def half(windows: pl.DataFrame) -> np.typing.NDArray[np.bool_]:
    """Whether a window trains; the others calibrate. Ten minutes of an actor go the same way.

    What follows upon another window is much like it, and would vouch for it in the other half.
    """
    block = windows.select("actor", block=pl.col("window").to_physical() // (10 * WINDOW_NS))
    return (hash_columns(block, ["actor", "block"]) & np.uint64(1)).astype(np.bool_)
