"""What another configuration would have found in the same stream, beside what was found."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import printable_json
from sidelong.case_frames import Framed
from sidelong.case_incidents import Incidents
from sidelong.ingest.schema import schema_of
from sidelong.models.evidence import SILENCE_NS
from sidelong.terminal import plural

__all__ = ["CHANGES", "Comparison", "compared"]

CHANGES: Final = ("gained", "lost", "suppressed", "told again", "moved", "changed", "same")
"""gained, lost: found now, or not any more. suppressed, told again: found both times, and kept back
now, or not any more. moved: found both times, at another moment. changed: other numbers."""

COMPARISON_SCHEMA: Final = schema_of(
    {
        "change": pl.Enum(CHANGES),
        "id": pl.String,
        "kind": pl.String,
        "actor": pl.String,
        "severity": pl.String,
        "severity_before": pl.String,
        "score": pl.Float64,
        "score_before": pl.Float64,
        "detected_at": pl.Datetime("us", "UTC"),
        "suppressed_by": pl.String,
        "summary": pl.String,
    }
)

_SILENCE: Final = timedelta(microseconds=SILENCE_NS // 1_000)
_SHOWN: Final = ("change", "id", "severity", "kind", "actor", "summary")
Suppressed = Callable[[Incident], str | None]


class Comparison(Framed):
    """What differs, one row an incident; see `CHANGES`.

    before, after: the incidents of both. events: every event of the replay with the other
    configuration in order, which are those of `sidelong replay --output json`.
    """

    def __init__(
        self, frame: pl.DataFrame, before: Incidents, after: Incidents, events: Sequence[Incident]
    ) -> None:
        counts = dict(frame.group_by("change").len().iter_rows())
        told = [f"{counts[name]:,} {name}" for name in CHANGES if name in counts]
        title = f"{plural(len(after), 'incident')} instead of {len(before):,}"
        super().__init__(frame, title, ", ".join(told) or "nothing was found either way", _SHOWN)
        self.before: Final = before
        self.after: Final = after
        self.events: Final = tuple(events)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many incidents there are of each change."""
        counts = dict(self.frame.group_by("change").len().iter_rows())
        return {name: counts.get(name, 0) for name in CHANGES}

    def to_jsonl(self) -> str:
        """Every event as `sidelong replay --output json` writes it, byte for byte."""
        return "".join(printable_json(one.to_json()) + "\n" for one in self.events)


@dataclass(frozen=True, slots=True)
class _Pair:
    before: Incident | None
    after: Incident | None


def compared(
    before: Incidents,
    after: Incidents,
    events: Sequence[Incident],
    suppressed_before: Suppressed,
    suppressed_after: Suppressed,
) -> Comparison:
    """The comparison of two replays of one stream.

    suppressed_before, suppressed_after: the id of the suppression that keeps an incident back.
    """
    rows = []
    for pair in _pairs(before, after):
        one = pair.after or pair.before
        assert one is not None
        was = suppressed_before(pair.before) if pair.before else None
        now = suppressed_after(pair.after) if pair.after else None
        rows.append(
            {
                "change": _change(pair, was, now),
                "id": one.id,
                "kind": one.kind,
                "actor": one.actor.workload,
                "severity": pair.after.severity if pair.after else None,
                "severity_before": pair.before.severity if pair.before else None,
                "score": pair.after.score if pair.after else None,
                "score_before": pair.before.score if pair.before else None,
                "detected_at": one.detected_at,
                "suppressed_by": now,
                "summary": one.summary,
            }
        )
    frame = pl.DataFrame(rows, schema=COMPARISON_SCHEMA)
    return Comparison(frame.sort("change", "detected_at", "id"), before, after, events)


def _change(pair: _Pair, was: str | None, now: str | None) -> str:
    if pair.before is None or pair.after is None:
        return "lost" if pair.after is None else "gained"
    if bool(was) != bool(now):
        return "suppressed" if now else "told again"
    if pair.before.id != pair.after.id:
        return "moved"
    return "same" if pair.before == pair.after else "changed"


def _pairs(before: Iterable[Incident], after: Iterable[Incident]) -> list[_Pair]:
    """Incidents of both by id; of those left by actor and kind, where they overlap in time."""
    old = {one.id: one for one in before}
    new = {one.id: one for one in after}
    pairs = [_Pair(old[id], new[id]) for id in new if id in old]
    left = [one for id, one in old.items() if id not in new]
    for one in [one for id, one in new.items() if id not in old]:
        twin = next((other for other in left if _same_story(one, other)), None)
        if twin is not None:
            left.remove(twin)
        pairs.append(_Pair(twin, one))
    return pairs + [_Pair(one, None) for one in left]


def _same_story(one: Incident, other: Incident) -> bool:
    alike = one.kind == other.kind and one.actor.workload == other.actor.workload
    latest = max(one.first_seen, other.first_seen)
    return alike and latest <= min(one.last_seen, other.last_seen) + _SILENCE
