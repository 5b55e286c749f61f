"""An incident while it lasts: totals that grow with the evidence, and the moments they are told."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from sidelong.alerts.incident import Actor, Incident, Kind, Status, Target, incident_id
from sidelong.alerts.wording import observations, severity, summary, techniques
from sidelong.alerts.zones import Zones
from sidelong.models.evidence import ALERT, MICRO

__all__ = ["OpenIncident"]

_GROWTH: Final = 4  # told again whenever the evidence has grown fourfold
_TOLD_TARGETS: Final = 20
_TOLD_SAMPLES: Final = 5
_COUNTED: Final = 10_000  # distinct peers and ports beyond this are no longer told apart

_OUTCOMES: Final = {
    "ANSWERED": "answered",
    "REFUSED": "refused",
    "UNANSWERED": "unanswered",
    "DENIED": "denied",
    "UNUSED_ADDRESS": "unused_addresses",
}


@dataclass(slots=True, kw_only=True)
class OpenIncident:
    """Running totals of one incident; `fold` adds evidence, `tell` states it.

    Totals are exact but for distinct peers and ports, which are counted up to 10,000.
    """

    id: str
    kind: Kind
    actor: str
    pod: str | None
    ip: str | None
    statistic: str
    detected_ns: int
    story: str
    first_ns: int
    last_ns: int
    completeness: float
    level: int = 0
    rows: int = 0
    told_rows: int = 0
    bytes: int = 0
    groups: set[int] = field(default_factory=set)
    peers: dict[str, str | None] = field(default_factory=dict)
    ports: dict[int, None] = field(default_factory=dict)
    targets: dict[Target, None] = field(default_factory=dict)
    samples: dict[str, None] = field(default_factory=dict)
    zones: Zones = field(default_factory=Zones)
    reasons: dict[str, int] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)
    opened: tuple[int, int] = (0, 0)

    @classmethod
    def begin(
        cls, decider: dict[str, Any], *, story: str | None, completeness: float
    ) -> "OpenIncident":
        """The incident that a row of evidence opens; nothing is folded in yet."""
        detected = int(decider["time_ns"])
        id_ = incident_id(decider["kind"], decider["actor"], detected)
        return cls(
            id=id_,
            kind=decider["kind"],
            actor=decider["actor"],
            pod=decider["actor_pod"],
            ip=decider["actor_ip"],
            statistic=decider["statistic"],
            detected_ns=detected,
            story=story or id_,
            first_ns=detected,
            last_ns=detected,
            completeness=completeness,
            parts=decider["parts"] or [],
        )

    def fold(self, rows: pl.DataFrame) -> None:
        """Add evidence to the totals."""
        if rows.is_empty():
            return
        self.rows += rows.height
        self.groups.update(rows["group"].unique().to_list())
        self.level = max(self.level, _largest(rows["level"]))
        self.bytes += int(rows["bytes"].sum())
        self.first_ns = min(self.first_ns, int(rows["time"].to_physical().min()))  # type: ignore[arg-type]
        charged = rows.filter(pl.col("log_evidence") > 0)["time"].to_physical()
        self.last_ns = max(self.last_ns, _largest(charged))
        for reason, count in rows.group_by("reason", maintain_order=True).len().iter_rows():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        self.zones.add(rows)
        self._add_targets(rows)

    def _add_targets(self, rows: pl.DataFrame) -> None:
        distinct = rows.unique(["object", "port"], keep="first", maintain_order=True)
        for name, ip, port, domain in distinct.select(
            "object", "object_ip", "port", "domain"
        ).iter_rows():
            if len(self.peers) < _COUNTED:
                self.peers.setdefault(name, ip)
            if port is not None and len(self.ports) < _COUNTED:
                self.ports.setdefault(port)
            if len(self.targets) < _TOLD_TARGETS:
                told = None if domain else ip
                self.targets.setdefault(
                    Target(domain=domain) if domain else Target(workload=name, ip=told, port=port)
                )
        for sample in rows["sample"].drop_nulls().head(_TOLD_SAMPLES):
            if len(self.samples) < _TOLD_SAMPLES:
                self.samples.setdefault(sample)

    def chain(self, path: tuple[str, ...], evidence: int) -> None:
        """Note that a chain of new edges, not the last edge alone, opened the incident."""
        link = {
            "feature": "chain",
            "observed": " -> ".join(path),
            "expected": "a new edge is followed by another about once in 50 times",
            "log_evidence": evidence - sum(part["log_evidence"] for part in self.parts),
        }
        self.level = evidence
        self.parts = [link, *self.parts]

    def growth(self, rows: pl.DataFrame) -> Iterator[tuple[tuple[int, int], Incident]]:
        """Add evidence; tell the incident, and where, whenever it has grown fourfold."""
        while not rows.is_empty():
            room = max(1, self.told_rows * _GROWTH - self.rows)
            added, rows = rows.head(room), rows.slice(room)
            self.fold(added)
            if self.rows >= self.told_rows * _GROWTH:
                yield added.select("row", "sub").row(-1), self.tell("update")

    def objects(self) -> list[Target]:
        """Towards what, the first twenty; a domain is told as the zone that its names share."""
        return [
            Target(domain=self.zones.of(target.domain)) if target.domain else target
            for target in self.targets
        ]

    def counts(self) -> dict[str, int]:
        """The totals by name, in the order a reader wants them."""
        if self.statistic == "bypass":
            return {"resolvers": len(self.peers)}
        if self.kind == "dns_exfiltration":
            return {"queries": self.rows, "bytes": self.bytes, "domains": len(self.peers)}
        if self.kind == "lateral_movement":
            return {"edges": self.rows, "peers": len(self.peers)}
        taken_back = self.reasons.get("TAKEN_BACK", 0)
        totals = {
            "contacts": self.rows - taken_back,
            "peers": len(self.peers),
            "ports": len(self.ports),
        }
        for reason, name in _OUTCOMES.items():
            count = self.reasons.get(reason, 0)
            count -= taken_back if reason == "UNANSWERED" else 0
            count += taken_back if reason == "ANSWERED" else 0
            if count:
                totals[name] = count
        return totals

    def tell(self, status: Status) -> Incident:
        """The incident as it stands."""
        self.told_rows = self.rows
        return Incident(
            id=self.id,
            status=status,
            kind=self.kind,
            severity=severity(self),
            score=round(self.level / (self.level + ALERT), 4),
            detected_at=_moment(self.detected_ns),
            first_seen=_moment(self.first_ns),
            last_seen=_moment(self.last_ns),
            actor=Actor(self.actor, self.pod, self.ip),
            objects=tuple(self.objects()),
            counts=self.counts(),
            techniques=techniques(self),
            completeness=round(self.completeness, 4),
            evidence=observations(self),
            story=self.story,
            summary=summary(self),
        )

    @property
    def nats(self) -> float:
        """The highest level its sums reached."""
        return self.level / MICRO

    def snapshot(self) -> dict[str, Any]:
        """The totals as a value."""
        return {
            **{name: _copied(getattr(self, name)) for name in self.__slots__},
            "targets": tuple(self.targets),
            "zones": self.zones.snapshot(),
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "OpenIncident":
        """The incident of a snapshot."""
        totals = {name: _copied(value) for name, value in state.items()}
        totals["targets"] = dict.fromkeys(state["targets"])
        totals["zones"] = Zones(dict(state["zones"]))
        return cls(**totals)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, set | dict | list) else value


def _largest(values: pl.Series) -> int:
    return int(values.max() or 0)  # type: ignore[arg-type]


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).replace(
        microsecond=ns % 1_000_000_000 // 1_000
    )
