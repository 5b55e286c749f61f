"""What happened when, as bars over a common time: a lane for each incident, or for the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl
from markupsafe import Markup

from sidelong.alerts.incident import Incident
from sidelong.page_templates import filled
from sidelong.report_incidents import KINDS
from sidelong.terminal import moment, plural

__all__ = ["lanes", "overview"]

_BARS: Final = 120
_WIDTH: Final = 1_200  # of a lane, in its own units; it is drawn as wide as there is room
_HEIGHT: Final = 40
_TICKS: Final = 5
_TALL: Final = 40  # marks that are as tall as the lane; more are short
_SHORT: Final = 8
_MARGIN: Final = 0.06
_SHORTEST: Final = timedelta(seconds=20)
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Span:
    """The time that a chart shows."""

    first: datetime
    last: datetime

    @classmethod
    def around(cls, first: datetime, last: datetime) -> "_Span":
        margin = max((last - first) * _MARGIN, (_SHORTEST - (last - first)) / 2, timedelta(0))
        return cls(first - margin, last + margin)

    def x(self, time: datetime) -> float:
        share = (time - self.first) / (self.last - self.first)
        return round(_WIDTH * min(1.0, max(0.0, share)), 1)

    def ticks(self) -> list[str]:
        form = "%H:%M:%S" if self.last - self.first < timedelta(hours=12) else "%b %d %H:%M"
        step = (self.last - self.first) / (_TICKS - 1)
        return [f"{self.first + step * place:{form}}" for place in range(_TICKS)]


def lanes(incidents: Sequence[Incident], timeline: pl.DataFrame) -> Markup:
    """One lane for each incident, on the time of all: what its actor did, what was evidence, and
    when it was decided. timeline: `TIMELINE_SCHEMA`."""
    span = _Span.around(
        min(one.first_seen for one in incidents), max(one.last_seen for one in incidents)
    )
    rows = [
        {
            "label": f"{one.actor.workload}: {KINDS[one.kind]}",
            "said": f"Detected {moment(one.detected_at)}; active from {moment(one.first_seen)} to "
            f"{moment(one.last_seen)}; {_counted(timeline, one.id)}.",
            "bars": _bars(timeline.filter(pl.col("incident") == one.id), span),
            "marks": [{"x": span.x(one.detected_at), "severity": one.severity, "height": _HEIGHT}],
            "band": (span.x(one.first_seen), span.x(one.last_seen)),
        }
        for one in incidents
    ]
    return filled("report_lanes.html", **_frame(span, "events of the workload"), lanes=rows)


def overview(
    incidents: Sequence[Incident], timeline: pl.DataFrame, first: datetime, last: datetime
) -> Markup:
    """One lane for the whole run, with a mark for each incident."""
    span = _Span(first, max(last, first + timedelta(seconds=1)))
    whole = timeline.filter(pl.col("incident").is_null())
    marks = _distinct(incidents, span)
    lane = {
        "label": "All traffic",
        "said": f"{plural(int(whole['events'].sum()), 'event')} and "
        f"{plural(len(incidents), 'incident')} from {moment(first)} to {moment(last)}.",
        "bars": _bars(whole, span),
        "marks": [
            {"x": x, "severity": severity, "height": _HEIGHT if len(marks) <= _TALL else _SHORT}
            for x, severity in marks
        ],
        "band": None,
    }
    return filled("report_lanes.html", **_frame(span, "events"), lanes=[lane])


def _frame(span: _Span, grey: str) -> dict[str, Any]:
    return {"grey": grey, "ticks": span.ticks(), "width": _WIDTH, "height": _HEIGHT}


def _distinct(incidents: Sequence[Incident], span: _Span) -> list[tuple[float, str]]:
    """Marks that do not hide each other: one a place for each severity."""
    places = {(round(span.x(one.detected_at) / 4) * 4.0, one.severity): None for one in incidents}
    return sorted(places)


def _bars(rows: pl.DataFrame, span: _Span) -> list[dict[str, float]]:
    """Bars for events and for signals; heights go by the square root, so that little is seen beside
    much."""
    total_ns = int((span.last - span.first).total_seconds() * _NANO)
    start_ns = int(span.first.timestamp() * _NANO)
    # No bar is narrower than what was counted together, or every other one would be empty.
    finest_ns = _NANO * max([1, *rows["seconds"]])
    bars = max(1, min(_BARS, total_ns // finest_ns))
    place = (pl.col("time").to_physical() - start_ns) * bars // total_ns
    counted = (
        rows.select(place=place, events="events", signals="signals")
        .filter(pl.col("place").is_between(0, bars - 1))
        .group_by("place")
        .agg(pl.col("events", "signals").sum())
        .with_columns(events=pl.max_horizontal("events", "signals"))
        .sort("place")
    )
    if counted.is_empty():
        return []
    tall = counted.select(
        "place",
        *(
            (_HEIGHT * (pl.col(name) / pl.col("events").max()).sqrt()).round(1).alias(name)
            for name in ("events", "signals")
        ),
    )
    wide = _WIDTH / bars
    return [
        {"x": round(at * wide, 1), "width": wide - 1, "events": events, "signals": signals}
        for at, events, signals in tall.iter_rows()
    ]


def _counted(timeline: pl.DataFrame, incident: str) -> str:
    rows = timeline.filter(pl.col("incident") == incident)
    events, signals = int(rows["events"].sum()), int(rows["signals"].sum())
    return f"{plural(signals, 'signal')} among {plural(events, 'event')} of the workload around it"
