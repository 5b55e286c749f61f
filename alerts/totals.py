"""Totals of an incident: what its evidence adds up to, in bounded memory."""

from dataclasses import astuple, dataclass, field
from typing import Any, Final

import polars as pl

from sidelong.alerts.incident import Kind, Target
from sidelong.alerts.zones import Zones
from sidelong.models.dns_exfiltration import TUNNEL_TYPES
from sidelong.models.evidence import MICRO
from sidelong.models.joint import JOINT

__all__ = ["Totals"]

_TOLD_TARGETS: Final = 20
_TOLD_SAMPLES: Final = 5
_SAMPLE_LENGTH: Final = 256  # a path can be as long as its client likes
_COUNTED: Final = 10_000  # distinct peers and ports beyond this are no longer told apart

_OUTCOMES: Final = {
    "ANSWERED": "answered",
    "REFUSED": "refused",
    "UNANSWERED": "unanswered",
    "DENIED": "denied",
    "UNUSED_ADDRESS": "unused_addresses",
}


@dataclass(slots=True, kw_only=True)
class Totals:
    """Running totals; `fold` adds evidence.

    Exact but for distinct peers and ports, which are counted up to 10,000. `statistic` is the sum
    that decided, `level` the highest any sum reached (micro-nats), `parts` how the deciding
    evidence was made up, `accomplices` the workloads that shared in it, `doubled` how many of the
    bytes counted twice.
    """

    kind: Kind
    actor: str
    pod: str | None
    ip: str | None
    statistic: str
    first_ns: int
    last_ns: int
    level: int = 0
    rows: int = 0
    bytes: int = 0
    doubled: int = 0
    groups: set[int] = field(default_factory=set)
    peers: dict[str, str | None] = field(default_factory=dict)
    ports: dict[int, None] = field(default_factory=dict)
    targets: dict[Target, None] = field(default_factory=dict)
    samples: dict[str, None] = field(default_factory=dict)
    zones: Zones = field(default_factory=Zones)
    reasons: dict[str, int] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)
    accomplices: list[str] = field(default_factory=list)

    def fold(self, rows: pl.DataFrame) -> None:
        """Add evidence to the totals."""
        if rows.is_empty():
            return
        self.rows += rows.height
        self.groups.update(rows["group"].unique().to_list())
        self.level = max(self.level, _largest(rows["level"]))
        self.bytes += int(rows["bytes"].sum())
        self.doubled += int(rows.filter(pl.col("reason").is_in(TUNNEL_TYPES))["bytes"].sum())
        self.first_ns = min(self.first_ns, int(rows["time"].to_physical().min()))  # type: ignore[arg-type]
        charged = rows.filter(pl.col("log_evidence") > 0)["time"].to_physical()
        self.last_ns = max(self.last_ns, _largest(charged))
        for reason, count in rows.group_by("reason", maintain_order=True).len().iter_rows():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        self.zones.add(rows)
        self._add_targets(rows)

    def _add_targets(self, rows: pl.DataFrame) -> None:
        towards = rows.filter(pl.col("object").is_not_null())
        distinct = towards.unique(["object", "port"], keep="first", maintain_order=True)
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
                self.samples.setdefault(sample[:_SAMPLE_LENGTH])

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
        own = self.rows - self.reasons.get(JOINT, 0)  # what is repeated counts once
        taken_back = self.reasons.get("TAKEN_BACK", 0)
        if self.kind == "dns_exfiltration":
            found = {"queries": own - taken_back, "bytes": self.bytes, "domains": len(self.peers)}
            return found | ({"workloads": len(self.accomplices)} if self.accomplices else {})
        if self.kind == "lateral_movement":
            return {"edges": own, "peers": len(self.peers)}
        if self.statistic == "changed_dependencies":
            return {"edges": self.rows, "peers": len(self.peers)}
        if self.kind == "anomaly":
            return {"windows": self.rows}
        totals = {
            "contacts": own - taken_back,
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

    @property
    def nats(self) -> float:
        """The highest level its sums reached."""
        return self.level / MICRO

    def snapshot(self) -> dict[str, Any]:
        """The totals as a value."""
        return {
            **{name: _copied(getattr(self, name)) for name in self.__slots__},
            "targets": [astuple(target) for target in self.targets],
            "zones": self.zones.snapshot(),
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Totals":
        """The totals of a snapshot."""
        totals = {name: _copied(value) for name, value in state.items()}
        totals["targets"] = dict.fromkeys(Target(*target) for target in state["targets"])
        totals["zones"] = Zones(dict(state["zones"]))
        return cls(**totals)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, set | dict | list) else value


def _largest(values: pl.Series) -> int:
    return int(values.max() or 0)  # type: ignore[arg-type]  # an integer column
