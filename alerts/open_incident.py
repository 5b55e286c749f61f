"""An incident while it lasts: when it opened, what it has been told of, what it tells next."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from sidelong.alerts.incident import Actor, Incident, Kind, Status, incident_id
from sidelong.alerts.ledger import Place
from sidelong.alerts.stories import Part
from sidelong.alerts.totals import Totals
from sidelong.alerts.wording import observations, severity, summary, techniques
from sidelong.models.evidence import ALERT

__all__ = ["OpenIncident"]

_GROWTH: Final = 4  # told again whenever the evidence has grown fourfold


@dataclass(slots=True, kw_only=True)
class OpenIncident:
    """One incident from its opening to its close.

    opened: the place in the stream at which it was. told_rows: how much evidence it had when last
    told. before: the kinds of incident that its story held when it opened.
    """

    id: str
    story: str
    detected_ns: int
    completeness: float
    opened: Place
    totals: Totals
    told_rows: int = 0
    before: frozenset[Kind] = frozenset()

    @classmethod
    def begin(
        cls, decider: dict[str, Any], opened: Place, *, completeness: float
    ) -> "OpenIncident":
        """The incident that a row of evidence opens, a story of its own; nothing is in it yet."""
        detected = int(decider["time_ns"])
        id_ = incident_id(decider["kind"], decider["actor"], detected)
        totals = Totals(
            kind=decider["kind"],
            actor=decider["actor"],
            pod=decider["actor_pod"],
            ip=decider["actor_ip"],
            statistic=decider["statistic"],
            first_ns=detected,
            last_ns=detected,
            parts=decider["parts"] or [],
        )
        return cls(
            id=id_,
            story=id_,
            detected_ns=detected,
            completeness=completeness,
            opened=opened,
            totals=totals,
        )

    @property
    def key(self) -> tuple[str, str]:
        """(actor, kind): there is one open incident for each at a time."""
        return self.totals.actor, self.totals.kind

    def place(self, part: Part) -> None:
        """Give the incident its place in a story."""
        self.story, self.before = part

    def chain(self, path: tuple[str, ...], evidence: int) -> None:
        """Note that a chain of new edges, not the last edge alone, opened the incident."""
        totals = self.totals
        link = {
            "feature": "chain",
            "observed": " -> ".join(path),
            "expected": "a new edge is seldom followed by another so soon",
            "log_evidence": evidence - sum(part["log_evidence"] for part in totals.parts),
        }
        totals.level = evidence
        totals.parts = [link, *totals.parts]

    def growth(self, rows: pl.DataFrame) -> Iterator[tuple[Place, Incident]]:
        """Add evidence; tell the incident, and where, whenever it has grown fourfold."""
        while not rows.is_empty():
            room = max(1, self.told_rows * _GROWTH - self.totals.rows)
            added, rows = rows.head(room), rows.slice(room)
            self.totals.fold(added)
            if self.totals.rows >= self.told_rows * _GROWTH:
                yield added.select("row", "sub").row(-1), self.tell("update")

    def tell(self, status: Status) -> Incident:
        """The incident as it stands."""
        totals = self.totals
        self.told_rows = totals.rows
        return Incident(
            id=self.id,
            status=status,
            kind=totals.kind,
            severity=severity(totals, self.before),
            score=round(totals.level / (totals.level + ALERT), 4),
            detected_at=_moment(self.detected_ns),
            first_seen=_moment(totals.first_ns),
            last_seen=_moment(totals.last_ns),
            actor=Actor(totals.actor, totals.pod, totals.ip),
            objects=tuple(totals.objects()),
            counts=totals.counts(),
            techniques=techniques(totals),
            completeness=round(self.completeness, 4),
            evidence=observations(totals),
            story=self.story,
            summary=summary(totals),
        )

    def snapshot(self) -> dict[str, Any]:
        """The incident as a value."""
        state = {name: getattr(self, name) for name in self.__slots__}
        return state | {"totals": self.totals.snapshot()}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "OpenIncident":
        """The incident of a snapshot."""
        values: dict[str, Any] = {**state, "totals": Totals.restored(state["totals"])}
        return cls(**values)


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).replace(
        microsecond=ns % 1_000_000_000 // 1_000
    )
