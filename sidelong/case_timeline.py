"""When it happened: what an actor did, and what was held against it, stretch by stretch."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.case_frames import Framed
from sidelong.errors import ConfigError
from sidelong.terminal import plural, printable

if TYPE_CHECKING:
    import altair as alt

__all__ = ["Timeline"]

_SHARED: Final = ("time", "seconds", "events", "denied", "failed", "signals", "log_evidence")
_MOST_MARKS: Final = 200
_WIDTH: Final = 640
_COLOURS: Final = {"events": "#7f8c9a", "denied or failed": "#c43d3d"}
_SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
_SHADES: Final = ("#7f8c9a", "#3b7ea1", "#b8860b", "#c43d3d", "#7a1f5c")


class Timeline(Framed):
    """Events, denials, failures and evidence over time. `chart` is the same for Altair.

    frame: of each stretch its beginning, its length in seconds, the events in it, how many were
    denied or failed, how many signals there were (rows of evidence), and their weight in nats.
    """

    def __init__(
        self,
        frame: pl.DataFrame,
        incidents: Sequence[Incident],
        incident: Incident | None,
    ) -> None:
        of = "the whole case" if incident is None else f"{incident.actor.workload}, {incident.id}"
        super().__init__(frame.select(_SHARED), f"timeline of {of}", _note(frame))
        self._incidents = tuple(incidents)
        self._incident = incident

    @property
    def chart(self) -> "alt.TopLevelMixin":
        """An Altair chart. Errors: ConfigError where Altair is not installed."""
        try:
            import altair  # of the extra [notebook]
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"charts need {error.name}, which is not installed",
                hint="pip install 'sidelong[notebook]'",
            ) from error
        drawn: alt.TopLevelMixin = self._drawn(altair)
        return drawn

    def _drawn(self, alt: Any) -> Any:
        """The chart. alt: Altair, parts of which bear no types."""
        rows = _rows(self.frame)
        data = alt.Data(values=rows)
        time = alt.X("time:T", title=None, scale=alt.Scale(type="utc"))
        until = alt.X2("until:T")
        bars = (
            alt.Chart(data)
            .mark_rect()
            .encode(
                x=time,
                x2=until,
                y=alt.Y("low:Q", title="events"),
                y2=alt.Y2("high:Q"),
                color=alt.Color(
                    "what:N",
                    title=None,
                    scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
                    legend=alt.Legend(orient="top"),
                ),
                tooltip=["time:T", "what:N", "count:Q", "signals:Q", "nats:Q"],
            )
            .properties(width=_WIDTH, height=120)
        )
        marked = alt.layer(bars, *self._marks(alt)).resolve_scale(color="independent")
        marked = marked.properties(title=printable(self.title, 120))
        if self._incident is None:
            return marked
        evidence = (
            alt.Chart(data)
            .transform_filter("datum.nats > 0")
            .mark_rect(color=_SHADES[3])
            .encode(
                x=time,
                x2=until,
                y=alt.Y("zero:Q", title="evidence, nats"),
                y2=alt.Y2("nats:Q"),
                tooltip=["time:T", "signals:Q", "nats:Q"],
            )
            .properties(width=_WIDTH, height=80)
        )
        return alt.vconcat(marked, evidence).resolve_scale(x="shared")

    def _marks(self, alt: Any) -> list[Any]:
        shown = self._incidents if self._incident is None else [self._incident]
        if not shown:
            return []
        values = [
            {
                "time": one.detected_at.isoformat(),
                "severity": one.severity,
                "incident": one.id,
                "actor": printable(one.actor.workload),
                "what": one.kind.replace("_", " "),
                "summary": printable(one.summary, 300),
            }
            for one in shown[:_MOST_MARKS]
        ]
        return [
            alt.Chart(alt.Data(values=values))
            .mark_rule(strokeWidth=2)
            .encode(
                x=alt.X("time:T", title=None, scale=alt.Scale(type="utc")),
                color=alt.value(_SHADES[3])
                if self._incident is not None
                else alt.Color(
                    "severity:N",
                    title="detected",
                    scale=alt.Scale(domain=list(_SEVERITIES), range=list(_SHADES)),
                    legend=alt.Legend(orient="top"),
                ),
                tooltip=["time:T", "incident:N", "actor:N", "what:N", "severity:N", "summary:N"],
            )
        ]

    def svg(self) -> str:
        """The chart as a drawing of its own. Errors: ConfigError where Altair is not installed."""
        chart = self.chart
        try:
            import vl_convert  # of the extra [notebook]; draws without a browser and without a net
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"drawings need {error.name}, which is not installed",
                hint="pip install 'sidelong[notebook]'",
            ) from error
        drawn: str = vl_convert.vegalite_to_svg(chart.to_dict(), allowed_base_urls=[])
        return drawn

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """For notebooks: the drawing itself, which needs neither a network nor a script."""
        told = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if not len(self):
            return told
        try:
            return {**told, "text/html": f"{self.svg()}<br>{self._repr_html_note()}"}
        except ConfigError:
            return told  # as a table, where nothing can draw

    def _repr_html_note(self) -> str:
        from sidelong.case_frames import html_note

        return html_note(self.note)


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """For the chart: each stretch with what went wrong in it apart from the rest."""
    wrong = pl.col("denied") + pl.col("failed")
    both = pl.concat(
        [
            frame.with_columns(what=pl.lit("denied or failed"), low=wrong - wrong, high=wrong),
            frame.with_columns(what=pl.lit("events"), low=wrong, high=pl.col("events")),
        ]
    ).filter((pl.col("high") > pl.col("low")) | ((pl.col("signals") > 0) & (pl.col("low") > 0)))
    return [
        {
            "time": row["time"].isoformat(),
            "until": (row["time"] + timedelta(seconds=row["seconds"])).isoformat(),
            "what": row["what"],
            "count": row["high"] - row["low"],
            "low": row["low"],
            "high": row["high"],
            "zero": 0,
            "signals": row["signals"],
            "nats": round(row["log_evidence"], 2),
        }
        for row in both.sort("time", "what", descending=[False, True]).iter_rows(named=True)
    ]


def _note(frame: pl.DataFrame) -> str:
    if frame.is_empty():
        return "nothing is known of when it happened"
    seconds = int(frame["seconds"].to_list()[0])
    return f"in stretches of {plural(seconds, 'second')}; empty ones are left out"
