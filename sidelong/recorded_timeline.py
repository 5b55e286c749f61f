"""What happened when: stretches of time of each incident, and of the run as a whole."""

from collections.abc import Iterable
from typing import Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.features.events import DENIAL, REFUSAL
from sidelong.ingest.schema import schema_of
from sidelong.models.evidence import KINDS, MICRO
from sidelong.recorded_contacts import moments
from sidelong.recorded_samples import spans_of
from sidelong.recording_bounds import RecordingBounds

__all__ = ["AROUND_SECONDS", "TIMELINE_SCHEMA", "RecordedTimeline"]

TIMELINE_SCHEMA: Final = schema_of(
    {
        "incident": pl.String,
        "time": pl.Datetime("ns", "UTC"),
        "seconds": pl.Int64,
        "events": pl.Int64,
        "denied": pl.Int64,
        "failed": pl.Int64,
        "signals": pl.Int64,
        "log_evidence": pl.Float64,
    }
)
"""One stretch of `seconds` from `time` on. incident: null for the run as a whole. events, denied,
failed: of everything its actor did then, see `CONTACT_SCHEMA`. signals: rows of evidence against
it, log_evidence their weight in nats."""

AROUND_SECONDS: Final = 60
"""The timeline of an incident begins that long before it, and ends that long after."""

_WIDTHS: Final = (1, 5, 10, 60, 300, 600, 3_600, 21_600, 86_400)  # each divides the next
_COUNTS: Final = ("events", "denied", "failed", "signals", "log_evidence")
_SECOND_NS: Final = 1_000_000_000
_SLOTS: Final = {"second": pl.Int64, **dict.fromkeys(_COUNTS, pl.Int64)}
_SCHEMA: Final = schema_of({"actor": pl.String, "kind": KINDS, **_SLOTS})


class RecordedTimeline:
    """Counts by second and workload; keeps that of incidents, coarser the longer they last."""

    def __init__(self, bounds: RecordingBounds) -> None:
        self._bounds = bounds
        self._fresh: list[pl.DataFrame] = []
        self._before = _SCHEMA.to_frame()
        self._seen: set[str] = set()
        self._kept = pl.DataFrame(schema={"incident": pl.String, **_SLOTS})
        self.dropped = 0

    def add(self, rows: pl.DataFrame, evidence: pl.DataFrame) -> None:
        """Count rows of `sides` and the evidence (`EVIDENCE_SCHEMA`) that came with them."""
        if rows.height:
            events = pl.col("count").cast(pl.Int64)
            self._fresh.append(
                _summed(
                    rows.select(
                        "actor",
                        kind=pl.lit(None, KINDS),
                        second=_second(moments()["first_seen"]),
                        events=events,
                        denied=pl.when(pl.col("event") == DENIAL).then(events).otherwise(0),
                        failed=pl.when(pl.col("event") == REFUSAL).then(events).otherwise(0),
                        signals=pl.lit(0, pl.Int64),
                        log_evidence=pl.lit(0, pl.Int64),
                    )
                )
            )
        charged = evidence.filter(pl.col("log_evidence") > 0, pl.col("time").is_not_null())
        if charged.height:
            none = pl.lit(0, pl.Int64)
            self._fresh.append(
                _summed(
                    charged.select(
                        "actor",
                        "kind",
                        second=_second(pl.col("time")),
                        events=none,
                        denied=none,
                        failed=none,
                        signals=pl.lit(1, pl.Int64),
                        log_evidence="log_evidence",
                    )
                )
            )

    def tidy(self, clock_ns: int, incidents: Iterable[Incident]) -> None:
        """Give what was counted to the incidents told since the last tick or open yet."""
        told = list(incidents)
        fresh = _summed(pl.concat(self._fresh)) if self._fresh else _SCHEMA.to_frame()
        self._fresh = []
        new = [one for one in told if one.id not in self._seen]
        self._seen.update(one.id for one in new)
        whole = fresh.select(pl.lit(None, pl.String).alias("incident"), *_SLOTS)
        self._kept = _coarse(
            pl.concat([self._kept, whole, _within(fresh, told), _within(self._before, new)]),
            self._bounds.buckets,
        )
        # Evidence of a slow incident is older than what else is drawn of it.
        rows = pl.concat([self._before, fresh])
        recent = pl.col("second") >= clock_ns // _SECOND_NS - AROUND_SECONDS
        rows = _summed(rows.filter(recent | pl.col("kind").is_not_null()))
        rows = rows.sort("second", "actor", "kind")
        self.dropped += max(0, rows.height - self._bounds.activity)
        self._before = rows.tail(self._bounds.activity)

    def frame(self, incidents: Iterable[Incident]) -> pl.DataFrame:
        """`TIMELINE_SCHEMA`, the run as a whole first, then by incident; in order of time."""
        last = pl.col("last") // _SECOND_NS + AROUND_SECONDS
        lasted = pl.DataFrame(
            [(one.id, one.last_seen) for one in incidents],
            schema={"incident": pl.String, "last": TIMELINE_SCHEMA["time"]},
            orient="row",
        ).with_columns(pl.col("last").to_physical())
        kept = self._kept.join(lasted, on="incident", how="left")
        kept = kept.filter((pl.col("second") <= last).fill_null(True))
        widths = _widths(self._kept, self._bounds.buckets)
        return (
            kept.join(widths, on="incident", how="left", nulls_equal=True)
            .with_columns(
                time=(pl.col("second") * _SECOND_NS).cast(TIMELINE_SCHEMA["time"]),
                seconds=pl.col("width"),
                log_evidence=pl.col("log_evidence") / MICRO,
            )
            .sort("incident", "second", nulls_last=False)
            .match_to_schema(TIMELINE_SCHEMA, extra_columns="ignore")
        )


def _second(moment: pl.Expr) -> pl.Expr:
    return moment.to_physical() // _SECOND_NS


def _summed(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("actor", "kind", "second").agg(pl.col(*_COUNTS).sum())


def _within(rows: pl.DataFrame, incidents: Iterable[Incident]) -> pl.DataFrame:
    """What belongs to incidents: all that the actor did, and the evidence of the kind."""
    spans = spans_of(incidents).with_columns(pl.col("first", "last").to_physical() // _SECOND_NS)
    second = pl.col("second")
    did = pl.col("kind").is_null() & (second >= pl.col("first") - AROUND_SECONDS)
    told = (pl.col("kind") == pl.col("of")).fill_null(False) & (second >= pl.col("first"))
    mine = rows.join(spans.rename({"kind": "of"}), on="actor", how="inner").filter(
        did | told, (second <= pl.col("last") + AROUND_SECONDS).fill_null(True)
    )
    return mine.select("incident", *_SLOTS)


def _coarse(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """The rows of each incident in so few stretches, begun at multiples of their width."""
    wide = rows.join(_widths(rows, most), on="incident", how="left", nulls_equal=True)
    floor = pl.col("second") // pl.col("width") * pl.col("width")
    return wide.group_by("incident", floor.alias("second")).agg(pl.col(*_COUNTS).sum())


def _widths(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """How wide a stretch of each incident is (`width`, seconds)."""
    span = pl.col("second").max() - pl.col("second").min()
    width = pl.lit(_WIDTHS[-1])
    for one in reversed(_WIDTHS):
        width = pl.when(pl.col("span") < one * most).then(one).otherwise(width)
    spans = rows.group_by("incident").agg(span.alias("span"))
    return spans.select("incident", width=width.cast(pl.Int64))
