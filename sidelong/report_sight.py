"""What a report says of its own ground: what was read, and what could not be seen."""

from typing import Any, Final

from sidelong.models.baseline import Baseline
from sidelong.recording import Recording
from sidelong.report_incidents import percent
from sidelong.terminal import duration, moment, plural

__all__ = ["could_not_see", "what_was_read"]

_SOURCES: Final = 6
_DROPPED: Final = {
    "incidents": "incidents beyond the first {}",
    "contacts": "edges of little traffic",
    "names": "DNS domains of little traffic",
    "samples": "flows that were kept as samples",
    "activity": "seconds of activity",
}


def what_was_read(
    recording: Recording, baseline: Baseline | None, place: str | None, interrupted: bool
) -> list[dict[str, Any]]:
    """Facts for the head of a report: what, over which time, judged against what."""
    sight = recording.sight
    sources = list(sight.sources[:_SOURCES])
    if more := len(sight.sources) - len(sources):
        sources.append(f"and {more:,} more")
    told = plural(sight.flows, "flow")
    if sight.first and sight.last:
        told = f"{told} over {duration(sight.last - sight.first)}"
    facts = [{"what": "Read", "lines": sources}, {"what": "Flows", "lines": [told]}]
    if sight.first and sight.last:
        span = [f"{moment(sight.first)} to", moment(sight.last)]
        facts.append({"what": "Time", "lines": span})
    if interrupted:
        facts.append({"what": "Ended", "lines": ["early: the run was interrupted"]})
    facts.append({"what": "Judged against", "lines": _baseline(baseline, place)})
    facts.append({"what": "Completeness", "lines": [_completeness(recording)]})
    return facts


def could_not_see(recording: Recording, baseline: Baseline | None) -> list[str]:
    """Sentences on what stayed unseen, whatever the reason; never none."""
    sight = recording.sight
    told = []
    if sight.lost:
        told.append(
            f"{plural(sight.lost, 'event')} were lost on the way to sidelong, as their sources say."
        )
    if sight.bad:
        samples = "; ".join(sight.bad_samples[:3])
        told.append(f"{plural(sight.bad, 'row')} could not be read: {samples}.")
    for what, count in sight.dropped.items():
        named = _DROPPED.get(what, what).format(len(recording.incidents))
        told.append(f"This report leaves out {count:,} {named}: they did not fit in.")
    if baseline is None or baseline.edges.is_empty():
        told.append(
            "There was no baseline, so that no edge could be called new, and of lateral movement "
            "only what is strange by itself was found. Make one with: sidelong learn INPUT "
            "--baseline DIR"
        )
    contacts, names = recording.contacts, recording.names
    if contacts.height and contacts["bytes"].null_count() == contacts.height:
        told.append("No source told how many bytes were carried (Hubble does not).")
    if names.is_empty():
        told.append(
            "No DNS name was seen, so that a DNS tunnel could not have been found. sidelong doctor "
            "says what would show them."
        )
    told.append(
        "By design: less than 4 kB a day of DNS names to one domain, DNS inside TLS or HTTPS, and "
        "whatever never left a node's own network stack."
    )
    return told


def _baseline(baseline: Baseline | None, place: str | None) -> list[str]:
    if baseline is None or baseline.edges.is_empty():
        return ["no baseline"]
    known = baseline.description()
    lines = [place] if place else []
    lines.append(
        f"{plural(known['workloads'], 'workload')} and {plural(known['edges'], 'edge')} learnt "
        f"from {plural(known['flows'], 'flow')}"
    )
    if span := baseline.span:
        lines.append(f"over {duration(span[1] - span[0])}, until {moment(span[1])}")
    return lines


def _completeness(recording: Recording) -> str:
    sight = recording.sight
    if not sight.lost and not sight.bad:
        return f"{percent(sight.completeness)}: nothing is known to be missing"
    return (
        f"{percent(sight.completeness)}: {plural(sight.lost, 'event')} lost, "
        f"{plural(sight.bad, 'row')} unreadable"
    )
