"""The report: one page of HTML that needs nothing else, from a recording and its baseline."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from sidelong import __version__
from sidelong.alerts.incident import Incident, Kind
from sidelong.map_drawing import figure
from sidelong.map_strangeness import RANKS
from sidelong.models.baseline import Baseline
from sidelong.page_templates import asset, digest, filled
from sidelong.recording import Recording
from sidelong.report_incidents import KINDS, MARKS, row_view
from sidelong.report_sight import could_not_see, what_was_read
from sidelong.report_stories import Story, stories_of, story_view
from sidelong.report_timeline import overview
from sidelong.service_map import Graph
from sidelong.terminal import moment, plural

__all__ = ["About", "page"]

_DRAWN: Final = 20  # stories that are told in full
_WORKLOADS: Final = 1_000
_NAMES: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a report says of itself. baseline: where it was, as it may be told. written: when.
    suppressed: ids of incidents that somebody did not want to hear of. interrupted: the run was."""

    baseline: str | None = None
    written: datetime | None = None
    suppressed: frozenset[str] = frozenset()
    interrupted: bool = False


def page(recording: Recording, baseline: Baseline | None, about: About) -> str:
    """The report. The same recording gives the same page, but for what `about` says."""
    heard = [one for one in recording.incidents if one.id not in about.suppressed]
    graph = Graph.of(recording.contacts, baseline, heard)
    stories = stories_of(heard)
    alarming = [story for story in stories if story.severity != "info"]
    told, others = alarming[:_DRAWN], [*alarming[_DRAWN:], *_informing(stories)]
    order = [one for story in stories for one in story.incidents]
    anchors = {one.id: f"incident-{place}" for place, one in enumerate(order, 1)}
    sight = recording.sight
    css = (asset("report.css"), asset("map.css"))
    js = (asset("map.js"), asset("report.js"))
    return str(
        filled(
            "report.html",
            css=css,
            js=js,
            policy=_policy(css, js),
            title=_headline(heard, stories),
            version=__version__,
            written=moment(about.written) if about.written else None,
            read=what_was_read(recording, baseline, about.baseline, about.interrupted),
            severities=_severities(heard),
            kinds=[(KINDS[kind], f"{many:,}") for kind, many in _kinds(heard)],
            overview=overview(heard, recording.timeline, sight.first, sight.last)
            if sight.first and sight.last
            else None,
            stories=[
                story_view(story, number, recording, graph, anchors)
                for number, story in enumerate(told, 1)
            ],
            others=[row_view(one, anchors[one.id]) for story in others for one in story.incidents],
            suppressed=len(recording.incidents) - len(heard),
            map=figure(graph),
            workloads=_workloads(graph),
            more_workloads=max(0, graph.nodes.height - _WORKLOADS),
            total_workloads=graph.nodes.height,
            names=_names(recording, heard),
            more_names=max(0, recording.names.height - _NAMES),
            unseen=could_not_see(recording, baseline),
        )
    )


def _informing(stories: Sequence[Story]) -> list[Story]:
    return [story for story in stories if story.severity == "info"]


def _policy(css: Sequence[str], js: Sequence[str]) -> str:
    """What the page may do: show itself, with the styles and scripts that stand in it."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {' '.join(digest(text) for text in css)}",
            f"script-src {' '.join(digest(text) for text in js)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _headline(heard: Sequence[Incident], stories: Sequence[Story]) -> str:
    alarming = sum(one.severity != "info" for one in heard)
    if not alarming:
        return "No incident was found"
    some = sum(story.severity != "info" for story in stories)
    told = f"{some:,} {'story' if some == 1 else 'stories'}"
    return f"{plural(alarming, 'incident')} in {told}"


def _severities(heard: Sequence[Incident]) -> list[dict[str, Any]]:
    counted = Counter(one.severity for one in heard)
    return [
        {"severity": severity, "mark": MARKS[severity], "count": f"{counted[severity]:,}"}
        for severity in RANKS
        if counted[severity] or severity != "info"
    ]


def _kinds(heard: Sequence[Incident]) -> list[tuple[Kind, int]]:
    counted = Counter(one.kind for one in heard)
    return [(kind, counted[kind]) for kind in KINDS if counted[kind]]


def _workloads(graph: Graph) -> list[dict[str, Any]]:
    rows = graph.nodes.sort(["incidents", "events", "name"], descending=[True, True, False])
    return [
        {
            "name": row["name"],
            "mark": MARKS.get(row["severity"] or "", ""),
            "severity": row["severity"],
            "incidents": f"{row['incidents']:,}" if row["incidents"] else "",
            "calls": f"{row['calls']:,}",
            "called_by": f"{row['called_by']:,}",
            "events": f"{row['events']:,}",
        }
        for row in rows.head(_WORKLOADS).iter_rows(named=True)
    ]


def _names(recording: Recording, heard: Sequence[Incident]) -> list[dict[str, Any]]:
    """Who asked for what; what an incident is about first, then by what could be carried out."""
    accused = [
        (one.actor.workload, target.domain)
        for one in heard
        for target in one.objects
        if target.domain
    ]
    suspects: dict[str, list[str]] = {}
    for workload, domain in accused:
        suspects.setdefault(workload, []).append(domain)
    told = recording.names.with_row_index("place").select("place", "workload", "domain")
    strange = [
        place
        for place, workload, domain in told.filter(
            pl.col("workload").is_in(list(suspects))
        ).iter_rows()
        if any(f".{one}".endswith(f".{domain}") for one in suspects[workload])
    ]
    rows = recording.names.with_row_index("place").with_columns(
        strange=pl.col("place").is_in(strange)
    )
    rows = rows.sort("strange", "name_bytes", descending=True, maintain_order=True)
    return [
        {
            "workload": row["workload"],
            "domain": row["domain"],
            "queries": f"{row['queries']:,}",
            "names": f"{row['names']:,}",
            "bytes": f"{row['name_bytes']:,}",
            "types": ", ".join(row["types"] or ()),
            "nxdomain": f"{row['nxdomain']:,}" if row["nxdomain"] else "",
            "strange": row["strange"],
        }
        for row in rows.head(_NAMES).iter_rows(named=True)
    ]
