"""Incidents told as stories: what belongs together, worst first, in a sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import polars as pl

from sidelong.alerts.incident import Incident, Kind, Severity
from sidelong.map_drawing import figure
from sidelong.map_strangeness import RANKS
from sidelong.recording import Recording
from sidelong.report_incidents import KINDS, MARKS, incident_view, lasting, row_view
from sidelong.report_timeline import lanes
from sidelong.service_map import Graph
from sidelong.terminal import moment, plural

__all__ = ["Story", "stories_of", "story_view"]

_FULL: Final = 10  # incidents of a story that are shown with all that is known
_LANES: Final = 12
_BOXES: Final = 22
_NAMED: Final = 3


_WORDS: Final = {
    "scan": "a scan",
    "dns_exfiltration": "DNS exfiltration",
    "lateral_movement": "lateral movement",
    "anomaly": "an anomaly",
}


@dataclass(frozen=True, slots=True)
class Story:
    """Incidents that belong together, in the order of time."""

    incidents: tuple[Incident, ...]

    @property
    def severity(self) -> Severity:
        """That of the worst."""
        severities: list[Severity] = [one.severity for one in self.incidents]
        return min(severities, key=RANKS.index)

    @property
    def title(self) -> str:
        """Who, and what kinds: a heading."""
        kinds: list[Kind] = list(dict.fromkeys(one.kind for one in self.incidents))
        actor = self.incidents[0].actor.workload
        if len(self.incidents) == 1:
            return f"{KINDS[kinds[0]]} by {actor}"
        return f"From {actor} on: {', '.join(_WORDS[kind] for kind in kinds)}"

    @property
    def sentence(self) -> str:
        """What happened: that of the incident, or who did what after whom."""
        if len(self.incidents) == 1:
            return self.incidents[0].summary
        first, last = self.incidents[0].first_seen, max(one.last_seen for one in self.incidents)
        actors = len({one.actor.workload for one in self.incidents})
        steps = []
        for kind, some in groupby(self.incidents, key=lambda one: one.kind):
            names = list(dict.fromkeys(one.actor.workload for one in some))
            steps.append(f"{_WORDS[kind]} by {_named(names)}")
        told = ", then ".join([*steps[:5], *(["more"] if len(steps) > 5 else [])])
        span = lasting(last - first)
        return (
            f"{plural(len(self.incidents), 'incident')} of {plural(actors, 'workload')} within "
            f"{span}: {told}."
        )


def _named(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED:,} more"
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def stories_of(incidents: Sequence[Incident]) -> list[Story]:
    """The stories, worst first, then those with more incidents, then earlier ones."""
    by_story: dict[str, list[Incident]] = {}
    for one in sorted(incidents, key=lambda one: (one.detected_at, one.id)):
        by_story.setdefault(one.story, []).append(one)
    found = [Story(tuple(some)) for some in by_story.values()]
    return sorted(
        found,
        key=lambda story: (
            RANKS.index(story.severity),
            -len(story.incidents),
            story.incidents[0].detected_at,
            story.incidents[0].id,
        ),
    )


def story_view(
    story: Story, number: int, recording: Recording, graph: Graph, anchors: Mapping[str, str]
) -> dict[str, Any]:
    """Everything of a story, ready for a template. anchors: of its incidents, by id."""
    told = story.incidents[:_FULL]
    ids = [one.id for one in story.incidents]
    timeline = recording.timeline.filter(pl.col("incident").is_in(ids))
    first, last = story.incidents[0].first_seen, max(one.last_seen for one in story.incidents)
    title = f"Who talks to whom in story {number}"
    return {
        "number": number,
        "anchor": f"story-{number}",
        "title": story.title,
        "sentence": story.sentence,
        "severity": story.severity,
        "mark": MARKS[story.severity],
        "count": len(story.incidents),
        "when": moment(story.incidents[0].detected_at),
        "lasted": lasting(last - first),
        "lanes": lanes(story.incidents[:_LANES], timeline),
        "more_lanes": max(0, len(story.incidents) - _LANES),
        "map": figure(_ego(story, graph), title, most=_BOXES),
        "incidents": [
            incident_view(one, recording.samples.get(one.id), anchors[one.id]) for one in told
        ],
        "others": [row_view(one, anchors[one.id]) for one in story.incidents[_FULL:]],
    }


def _ego(story: Story, graph: Graph) -> Graph:
    """The neighbourhood of who acts in a story, as far as it is drawn."""
    actors = list(dict.fromkeys(one.actor.workload for one in story.incidents))
    return graph.around(*actors[:_BOXES], most=_BOXES)
