"""Incidents with the policy against them, as text: a pure function of incident and baseline.

Nothing is kept that a snapshot would need; what was worked out last is remembered for speed alone.
"""

from dataclasses import replace
from typing import Final

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_names import Selectors
from sidelong.alerts.policy_needs import Acquaintances
from sidelong.alerts.policy_suggestions import PolicyKind, Suggestion, suggestion
from sidelong.alerts.policy_text import checks, policy_text
from sidelong.models.baseline import Baseline

__all__ = ["MOST_TEXT", "Advice", "notes"]

MOST_TEXT: Final = 16_384
"""A longer policy does not travel with its incident."""

_REMEMBERED: Final = 256

_DENIES: Final = "What it does not name in its direction is denied: try it first with --audit."
_TRIAL: Final = "Denies nothing yet: docs/policy.md says how to watch it."
_NAMES: Final = (
    "Holds while no other policy lets this workload ask DNS for more; **. needs Cilium 1.19."
)
_ACCOUNTS: Final = "Callers are known by service account, taken to be named like the workload."


class Advice:
    """Fills in `Incident.policy`."""

    def __init__(
        self, baseline: Baseline, selectors: Selectors | None = None, kind: PolicyKind = "cilium"
    ) -> None:
        self._known = Acquaintances(baseline)
        self._selectors = selectors or Selectors()
        self._kind: PolicyKind = kind
        self._last: dict[object, tuple[Suggestion, str]] = {}

    def on(self, incident: Incident) -> Incident:
        """The incident with its policy, or as it is where there is none or it is too long."""
        found, documents = self._suggested(incident)
        if not found.policies:
            return incident
        told = [f"Suggested by sidelong for incident {incident.id}."]
        text = policy_text((), told + notes(found, self._selectors)) + documents
        return replace(incident, policy=text) if len(text) <= MOST_TEXT else incident

    def _suggested(self, incident: Incident) -> tuple[Suggestion, str]:
        key = (
            incident.kind,
            incident.actor.workload,
            incident.objects,
            tuple(incident.counts.items()),
            incident.evidence,
        )
        known = self._last.pop(key, None)
        if known is None:
            found = suggestion(incident, self._known, self._selectors, self._kind)
            known = found, policy_text(found.policies)
        self._last[key] = known
        if len(self._last) > _REMEMBERED:
            del self._last[next(iter(self._last))]
        return known


def notes(found: Suggestion, selectors: Selectors) -> list[str]:
    """What a person must know before applying a suggestion."""
    return [*_cautions(found), *_how_to_check(found, selectors)]


def _cautions(found: Suggestion) -> list[str]:
    lines = []
    for policy in found.policies:
        spec = policy["spec"]
        if found.on_trial:
            lines.append(_TRIAL)
        if policy["kind"] == "AuthorizationPolicy":
            lines.append(_ACCOUNTS)
        elif "enableDefaultDeny" not in spec:
            lines.append(_DENIES)
        elif any(
            "**." in name.get("matchPattern", "")
            for rule in spec.get("egress", ())
            for ports in rule.get("toPorts", ())
            for name in ports.get("rules", {}).get("dns", ())
        ):
            lines.append(_NAMES)
    return list(dict.fromkeys(lines))


def _how_to_check(found: Suggestion, selectors: Selectors) -> list[str]:
    commands = checks(found.subjects, selectors)
    return ["It selects pods by label; this must list them:", *commands] if commands else []
