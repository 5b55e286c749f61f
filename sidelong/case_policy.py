"""The network policy against an incident, as text to apply, with what came of trying it."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_advice import notes
from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_names import Selectors
from sidelong.alerts.policy_needs import Acquaintances
from sidelong.alerts.policy_replay import attempted, habitual
from sidelong.alerts.policy_suggestions import PolicyKind, suggestion
from sidelong.alerts.policy_text import policy_text
from sidelong.case_frames import escaped
from sidelong.terminal import plural, printable

__all__ = ["PolicySuggestion", "suggested"]

_LONGEST: Final = 100_000


@dataclass(frozen=True, slots=True)
class PolicySuggestion:
    """The smallest policy that would have stopped an incident, or why there is none.

    text: YAML, "" for none. kind: what was asked for. subjects: the workloads it selects. stopped,
    tried: how many of the connections that the incident tells it stops, and how many there are.
    broken, held: how many connections of the baseline it would break, of how many it was tried on.
    """

    incident: str
    kind: PolicyKind
    text: str
    why_none: str | None
    subjects: tuple[str, ...]
    stopped: int
    tried: int
    broken: int
    held: int

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        body = "\n".join(printable(line, _LONGEST) for line in self.text.splitlines())
        return f"{body}\n# {self.outcome}" if body else self.outcome

    def _repr_html_(self) -> str:
        text = "\n".join(escaped(line, _LONGEST) for line in self.text.splitlines())
        block = f"<pre><code>{text}</code></pre>" if text else ""
        return (
            f"<div class='sidelong'>{block}<p><small>{escaped(self.outcome, 500)}</small></p></div>"
        )

    @property
    def outcome(self) -> str:
        """What came of trying it, in a sentence."""
        if self.why_none:
            return f"no policy of kind {self.kind} is suggested: {self.why_none}"
        breaks = "breaks none" if not self.broken else f"breaks {self.broken:,}"
        return (
            f"stops {self.stopped:,} of {plural(self.tried, 'connection')} that the incident "
            f"tells, and {breaks} of {self.held:,} that the baseline holds"
        )


def suggested(
    incident: Incident,
    known: Acquaintances,
    selectors: Selectors,
    kind: PolicyKind,
    *,
    audit: bool = False,
) -> PolicySuggestion:
    """The policy against an incident, tried on it and on the baseline. See `suggestion`."""
    found = suggestion(incident, known, selectors, kind, audit=audit)
    tried = attempted(incident, known, selectors)
    if not found.policies:
        return PolicySuggestion(
            incident.id, kind, "", found.why_none or "there is none", (), 0, tried.height, 0, 0
        )
    held = pl.concat([habitual(known, one, selectors) for one in found.subjects])
    told = [f"Suggested by sidelong for incident {incident.id}.", *notes(found, selectors)]
    in_force = found if not audit else suggestion(incident, known, selectors, kind)
    stopped = int((~passes(in_force.policies, tried, selectors)).sum())
    broken = int((~passes(in_force.policies, held, selectors)).sum())
    return PolicySuggestion(
        incident.id,
        kind,
        policy_text(found.policies, told),
        None,
        found.subjects,
        stopped,
        tried.height,
        broken,
        held.height,
    )
