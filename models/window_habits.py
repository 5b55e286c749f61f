"""What windows teach: those of workloads at work, and of nobody who is under suspicion.

A window is not learnt if any sum of its actor stood above `INFO` within ten minutes of it, for sums
take their time to rise, and begin again when they have alarmed; if it overlaps an incident of its
actor; or if it belongs to the first tenth of what was seen of a new actor (a day at most), when
everything it does is still new: learnt, that would make all novelty look ordinary.
"""

from typing import Any, Final

import polars as pl

from sidelong.features.catalogue import WINDOW_NS
from sidelong.features.windows import Closed
from sidelong.ingest.schema import schema_of
from sidelong.models.evidence import INFO
from sidelong.models.forests import JUDGED
from sidelong.models.window_sample import WindowSample

__all__ = ["COUNTS_SCHEMA", "WindowHabits"]

_TIME: Final = pl.Datetime("ns", "UTC")
_NEAR: Final = 10  # windows before and after a suspicious one
_NEW_FOR: Final = 10  # the tenth of an actor's time that is left out
_NEW_AT_MOST: Final = 86_400  # seconds

COUNTS_SCHEMA: Final = schema_of({"scope": pl.String, "windows": pl.Int64, "seconds": pl.Int64})
"""How many windows of each scope there were, learnt or not, in how many seconds."""

_SUSPECT_SCHEMA: Final = schema_of({"actor": pl.String, "window": _TIME})
_SPAN_SCHEMA: Final = schema_of({"actor": pl.String, "first": _TIME, "last": _TIME})


class WindowHabits:
    """Gathers closed windows. Bounded but for actors and suspicious minutes."""

    def __init__(self) -> None:
        self._sample = WindowSample()
        self._suspect = _SUSPECT_SCHEMA.to_frame()
        self._span = _SPAN_SCHEMA.to_frame()

    def observe(self, closed: Closed, evidence: pl.DataFrame) -> None:
        """Take in closed windows, and the evidence found meanwhile."""
        for scope in JUDGED:
            self._sample.add(scope, getattr(closed, scope))
        spans = closed.workload.select("actor", first="window", last="last")
        self._span = self._span.vstack(spans.match_to_schema(_SPAN_SCHEMA))
        suspect = evidence.filter(pl.col("level") >= INFO).select(
            "actor", window=pl.col("time").dt.truncate(f"{WINDOW_NS}ns")
        )
        self._suspect = self._suspect.vstack(suspect.unique(maintain_order=True))

    def tidy(self) -> None:
        """Fold, at an event-time tick, what came since the last one."""
        self._sample.tidy()
        self._suspect = self._suspect.unique(maintain_order=True)
        self._span = _spans(self._span)

    def lessons(self, trouble: pl.DataFrame, known: pl.Series) -> dict[str, pl.DataFrame]:
        """By scope, the windows that teach (`SAMPLE_SCHEMAS`).

        trouble: when an actor had an incident open (models/habits.py's `TROUBLE_SCHEMA`). known:
        actors that are not new.
        """
        life = (pl.col("last") - pl.col("first")).dt.total_seconds()
        new_for = pl.duration(seconds=(life // _NEW_FOR).clip(upper_bound=_NEW_AT_MOST))
        settled = (
            _spans(self._span)
            .filter(~pl.col("actor").is_in(known.implode()))
            .select("actor", settled=pl.col("first") + new_for)
        )
        return {scope: self._innocent(scope, settled, trouble) for scope in JUDGED}

    def counts(self) -> pl.DataFrame:
        """How many windows there were (`COUNTS_SCHEMA`)."""
        first, last = self._span.select(pl.col("first").min(), pl.col("last").max()).row(0)
        seconds = int((last - first).total_seconds()) if first is not None else 0
        rows = [(scope, self._sample.counted[scope], seconds) for scope in JUDGED]
        return pl.DataFrame(rows, schema=COUNTS_SCHEMA, orient="row")

    def snapshot(self) -> dict[str, Any]:
        """Everything gathered, as a value."""
        return {"sample": self._sample.snapshot(), "suspect": self._suspect, "span": self._span}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._sample.restore(state["sample"])
        self._suspect, self._span = state["suspect"], state["span"]

    def _innocent(self, scope: str, settled: pl.DataFrame, trouble: pl.DataFrame) -> pl.DataFrame:
        rows = (
            self._sample.windows(scope)
            .join(settled, on="actor", how="left", maintain_order="left")
            .filter((pl.col("window") >= pl.col("settled")).fill_null(True))
            .drop("settled")
            .join(
                _around(self._suspect),
                on=["actor", "window"],
                how="anti",
                maintain_order="left",
            )
        )
        about = pl.col("trouble").is_null() | (pl.col("trouble") == pl.col("domain"))
        end = pl.col("window") + pl.duration(nanoseconds=WINDOW_NS)
        overlaps = (pl.col("window") <= pl.col("until")) & (end >= pl.col("since"))
        guilty = (
            rows.join(trouble.rename({"domain": "trouble"}), on="actor", how="inner")
            .filter(overlaps, about.fill_null(False))
            .select("chance", "actor", "window")
            .unique()
        )
        return rows.join(
            guilty, on=["chance", "actor", "window"], how="anti", maintain_order="left"
        )


def _around(suspect: pl.DataFrame) -> pl.DataFrame:
    near = [pl.duration(nanoseconds=WINDOW_NS * by) for by in range(-_NEAR, _NEAR + 1)]
    return pl.concat([suspect.with_columns(pl.col("window") + one) for one in near]).unique()


def _spans(rows: pl.DataFrame) -> pl.DataFrame:
    spans = rows.group_by("actor").agg(pl.col("first").min(), pl.col("last").max())
    return spans.sort("actor")
