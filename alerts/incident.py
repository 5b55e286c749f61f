"""An incident: what a person, a webhook and the next tool read. The contract of every output."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

import msgspec

__all__ = [
    "Actor",
    "Incident",
    "Kind",
    "Observation",
    "Severity",
    "Status",
    "Target",
    "incident_id",
]

Kind = Literal["scan", "dns_exfiltration", "lateral_movement", "anomaly"]
Severity = Literal["info", "low", "medium", "high", "critical"]
Status = Literal["open", "update", "closed"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who: the workload, and the instance and address that decided."""

    workload: str
    pod: str | None = None
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Towards what: a workload or address with a port, or a domain."""

    workload: str | None = None
    ip: str | None = None
    port: int | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One piece of the evidence: what was observed, what was expected, its weight in nats."""

    feature: str
    observed: str
    expected: str
    log_evidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """The state of one incident at one moment.

    The same stream gives the same `id`s, so that every receiver can tell a repetition.
    `detected_at` is the event time of the record that decided. `score` lies in [0, 1], 0.5 at the
    alert threshold. `counts` are totals so far. `completeness` is the share of events that reached
    sidelong at all.
    """

    id: str
    status: Status
    kind: Kind
    severity: Severity
    score: float
    detected_at: datetime
    first_seen: datetime
    last_seen: datetime
    actor: Actor
    objects: tuple[Target, ...]
    counts: dict[str, int] = field(default_factory=dict)
    techniques: tuple[str, ...] = ()
    completeness: float = 1.0
    evidence: tuple[Observation, ...] = ()
    story: str
    summary: str
    policy: str | None = None

    def to_json(self) -> str:
        """The incident as one line of JSON, keys in the order of the fields."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(", ", ": "))

    def to_dict(self) -> dict[str, Any]:
        """The incident as plain values; moments are RFC 3339 in UTC."""
        plain = asdict(self)
        for name in ("detected_at", "first_seen", "last_seen"):
            moment: datetime = getattr(self, name)
            plain[name] = moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return plain

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Self:
        """The incident that `to_dict` gave. Errors: ValueError, naming the field."""
        return msgspec.convert(plain, cls)


def incident_id(kind: str, actor: str, detected_ns: int) -> str:
    """The id of the incident that `actor` opened at a moment (nanoseconds of the epoch)."""
    text = f"{kind}\n{actor}\n{detected_ns}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
