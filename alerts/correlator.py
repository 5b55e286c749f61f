"""Where all evidence meets: sums that crossed become incidents, and incidents become stories.

What one actor's evidence decides is told on the record that decides. What needs several actors
(chains of new edges) is taken in event-time order behind a watermark of two seconds, so that it
does not depend on how partitions interleave; evidence later than that counts at the watermark.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.alerts.chains import Chains, Hop
from sidelong.alerts.incident import Incident
from sidelong.alerts.ledger import Ledger, Place
from sidelong.alerts.open_incident import OpenIncident
from sidelong.alerts.outages import Outages
from sidelong.alerts.shared_domains import SharedDomains
from sidelong.alerts.stories import Stories
from sidelong.alerts.watermark import Watermark
from sidelong.features.bounds import Bounds
from sidelong.features.segments import Segments
from sidelong.features.sums import one_sided
from sidelong.ingest.state import Stateful
from sidelong.models.evidence import ALERT, EVIDENCE_SCHEMA, INFO, SILENCE_NS
from sidelong.models.joint import JOINT
from sidelong.models.scan import PER_DESTINATION

__all__ = ["Correlator"]

_SCAN_UNDER_WAY_NS: Final = 60_000_000_000
_LAST: Final = 2**32 - 1  # joint decisions come after everything their row brought itself


class _Told(NamedTuple):
    """An incident and the place in the stream at which it is told."""

    row: int
    sub: int
    incident: Incident


class _Lost(NamedTuple):
    """How many events were lost before each of some rows; one more total, of what came after."""

    rows: NDArray[np.uint64]
    totals: NDArray[np.uint64]

    def completeness(self, row: int) -> float:
        """The share of events that arrived, up to a row."""
        lost = int(self.totals[np.searchsorted(self.rows, row, side="right")])
        return (row + 1) / (row + 1 + lost)


class Correlator:
    """Opens, updates and closes incidents. One per (actor, kind) at a time.

    Bounded by `bounds`; of too many open incidents the longest silent is closed first.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._incidents_bound = bounds.incidents
        self._ledger = Ledger(bounds.ledger)
        self._stories = Stories(bounds.workloads)
        self._chains = Chains(bounds.workloads)
        self._open: dict[tuple[str, str], OpenIncident] = {}
        self._lost = 0
        self._outages = Outages(bounds.ledger)
        self._watermark = Watermark(bounds.ledger)
        self._shared_domains = SharedDomains(bounds)
        self._parts: dict[str, Stateful] = {
            "ledger": self._ledger,
            "stories": self._stories,
            "chains": self._chains,
            "outages": self._outages,
            "watermark": self._watermark,
            "shared_domains": self._shared_domains,
        }

    @property
    def evicted(self) -> int:
        """Evidence dropped because there was too much at once."""
        return self._ledger.evicted + self._watermark.evicted + self._shared_domains.evicted

    @property
    def open_incidents(self) -> int:
        """How many are open."""
        return len(self._open)

    def consume(self, evidence: pl.DataFrame, pulse: pl.DataFrame) -> list[Incident]:
        """The incidents that this evidence opens or grows, in the order of the deciding rows.

        evidence: `EVIDENCE_SCHEMA` in stream order. pulse: `PULSE_SCHEMA` of the same stretch of
        the stream, which lies within one event-time tick.
        """
        lost = _Lost(pulse["row"].to_numpy(), np.append(self._lost, pulse["lost"].to_numpy()))
        self._lost = int(lost.totals[-1])
        released = self._watermark.pass_on(evidence.filter(_waits()), pulse)
        if evidence.is_empty() and released.is_empty():
            return []
        self._outages.add(evidence)
        told = self._decide(evidence, released, lost)
        told += self._grow(evidence)
        in_incidents = pl.col("group").is_in(self._groups())
        self._ledger.add(evidence.filter(~in_incidents))
        return [t.incident for t in sorted(told, key=lambda t: (t.row, t.sub, t.incident.id))]

    def finish(self, evidence: pl.DataFrame, pulse: pl.DataFrame) -> list[Incident]:
        """The last incidents of a stream that has ended, and the close of all that are open.

        pulse: one row after the last, its clock far enough ahead to pass every watermark.
        """
        told = self.consume(evidence, pulse)
        told += [incident.tell("closed") for incident in self._open.values()]
        self._open.clear()
        return told

    def tick(self, now_ns: int) -> list[Incident]:
        """Close, at an event-time tick, what has been silent; forget what is old."""
        closing = [k for k, i in self._open.items() if i.totals.last_ns <= now_ns - SILENCE_NS]
        excess = len(self._open) - len(closing) - self._incidents_bound
        if excess > 0:
            rest = sorted(
                self._open.keys() - set(closing), key=lambda k: (self._open[k].totals.last_ns, k)
            )
            closing += rest[:excess]
        over = [self._open.pop(key) for key in closing]
        closed = [incident.tell("closed") for incident in over]
        self._ledger.forget({group for incident in over for group in incident.totals.groups})
        for part in self._parts.values():
            part.tidy(now_ns)
        return closed

    def snapshot(self) -> dict[str, Any]:
        """Everything open and everything remembered, as a value."""
        parts = {name: part.snapshot() for name, part in self._parts.items()}
        opened = [incident.snapshot() for incident in self._open.values()]
        return parts | {"open": opened, "lost": self._lost}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        for name, part in self._parts.items():
            part.restore(state[name])
        self._lost = state["lost"]
        restored = [OpenIncident.restored(one) for one in state["open"]]
        self._open = {incident.key: incident for incident in restored}

    def _decide(self, evidence: pl.DataFrame, released: pl.DataFrame, lost: "_Lost") -> list[_Told]:
        """Open incidents, in stream order: stories depend on who came first."""
        at_once = evidence.filter(pl.col("decisive"), ~_needs_others()).with_columns(
            place=pl.col("row"), place_sub=pl.col("sub"), joint=False
        )
        shared = self._shared_domains.judge(released)
        released = released.filter(pl.col("statistic") != "bucket").vstack(shared)
        joint = released.with_columns(place_sub=pl.lit(_LAST, pl.UInt32), joint=True)
        deciders = pl.concat([at_once, joint.select(at_once.columns)]).with_columns(
            time_ns=pl.col("time").to_physical()
        )
        told = []
        for decider in deciders.sort("place", "place_sub", maintain_order=True).iter_rows(
            named=True
        ):
            place = (decider["place"], decider["place_sub"])
            hop = self._follow(decider) if decider["joint"] else None
            if (decider["actor"], decider["kind"]) in self._open:
                continue
            if self._holds(decider, hop, evidence):
                completeness = lost.completeness(decider["place"])
                incident = self._begin(decider, place, hop, evidence, completeness)
                told.append(_Told(*place, incident.tell("open")))
        return told

    def _holds(self, decider: dict[str, Any], hop: Hop | None, evidence: pl.DataFrame) -> bool:
        """Whether a decider still stands when everything else is considered."""
        if decider["kind"] == "lateral_movement":
            strange = not decider["joint"] or (hop is not None and self._is_chain(hop))
            return strange and not self._scanning(decider, evidence)
        if decider["statistic"] == "cluster":
            return len(self._accomplices(decider)) > 1
        if decider["joint"]:
            return self._is_inexcusable(decider, evidence)
        return True

    def _begin(
        self,
        decider: dict[str, Any],
        place: Place,
        hop: Hop | None,
        evidence: pl.DataFrame,
        completeness: float,
    ) -> OpenIncident:
        incident = OpenIncident.begin(decider, place, completeness=completeness)
        if hop:
            incident.chain(hop.path, hop.evidence)
        if decider["statistic"] == "cluster":
            incident.totals.accomplices = self._accomplices(decider)
            incident.totals.level = decider["level"]
        decided = (decider["row"], decider["sub"])
        climb = self._ledger.climb(decider["group"], decided, place, evidence)
        if climb.is_empty():  # evicted in the meantime: the decider itself is still at hand
            climb = pl.DataFrame([decider], schema_overrides=EVIDENCE_SCHEMA).select(climb.columns)
        incident.totals.fold(climb)
        self._open[incident.key] = incident
        domains = [target.domain for target in incident.totals.targets if target.domain]
        peers = [] if domains else incident.totals.peers
        incident.place(
            self._stories.begin(
                incident.id,
                incident.totals.kind,
                incident.totals.actor,
                reached=[*(hop.path if hop else ()), *peers],
                domains=domains,
                now_ns=decider["time_ns"],
            )
        )
        return incident

    def _grow(self, evidence: pl.DataFrame) -> list[_Told]:
        """Add what came after their opening to open incidents."""
        told = []
        touched = evidence.select("actor", "kind").unique(maintain_order=True)
        for key in touched.iter_rows():
            incident = self._open.get(key)
            if incident is None:
                continue
            actor, kind = key
            row, sub = incident.opened
            later = (pl.col("row") > row) | ((pl.col("row") == row) & (pl.col("sub") > sub))
            least = INFO if kind in ("lateral_movement", "anomaly") else ALERT
            rows = evidence.filter(pl.col("actor") == actor, pl.col("kind") == kind, later)
            rows = rows.filter(
                (pl.col("level") >= least).cum_max().over("group")
                | pl.col("group").is_in(list(incident.totals.groups))
            )
            for place, update in incident.growth(rows):
                told.append(_Told(*place, update))
            self._stories.touch(actor, incident.story, incident.totals.last_ns)
        return told

    def _scanning(self, decider: dict[str, Any], evidence: pl.DataFrame) -> bool:
        """Whether the actor is in the middle of a scan, of which the new edge is a part."""
        place = (decider["row"], decider["sub"])
        since_ns = decider["time_ns"] - _SCAN_UNDER_WAY_NS
        scan = self._open.get((decider["actor"], "scan"))
        if scan is not None and scan.opened < place and scan.totals.last_ns >= since_ns:
            return True
        return self._ledger.level(decider["actor"], "scan", place, since_ns, evidence) >= INFO

    def _accomplices(self, decider: dict[str, Any]) -> list[str]:
        return self._shared_domains.accomplices(decider["domain"], decider["place"])

    def _is_inexcusable(self, decider: dict[str, Any], evidence: pl.DataFrame) -> bool:
        """Whether a sweep remains one without the destinations that failed for everybody."""
        decided = (decider["row"], decider["sub"])
        climb = self._ledger.climb(decider["group"], decided, decided, evidence)
        excused = self._outages.excuse(
            climb["object"], decider["actor"], decider["time_ns"], decider["place"]
        )
        if not excused:
            return True
        rest = climb.filter(~pl.col("object").is_in(list(excused)))
        if rest.is_empty():
            return False
        # What a peer counts for in the sweep is capped; the fourth failure there adds nothing.
        counted = rest.select(
            pl.when((pl.col("log_evidence") > 0).cum_sum().over("object") <= PER_DESTINATION)
            .then(pl.col("log_evidence").clip(0))
            .otherwise(0)
        ).to_series()
        level = one_sided(
            Segments.of(np.zeros(rest.height, np.uint64)),
            charge=counted.to_numpy(),
            leak=(-rest["log_evidence"].to_numpy()).clip(0),
            carried=np.zeros(rest.height, np.int64),
        )
        return bool((level >= ALERT).any())

    def _follow(self, decider: dict[str, Any]) -> Hop | None:
        if decider["kind"] != "lateral_movement":
            return None
        return self._chains.extend(
            decider["actor"],
            decider["object"],
            decider["time_ns"],
            decider["log_evidence"],
            decider["onward"] or 0,
        )

    def _is_chain(self, hop: Hop) -> bool:
        return len(hop.path) > 2 and hop.evidence >= ALERT

    def _groups(self) -> list[int]:
        return [group for incident in self._open.values() for group in incident.totals.groups]


def _waits() -> pl.Expr:
    """Evidence whose meaning may depend on other actors: new edges, sweeps, never-seen names."""
    sweep = pl.col("decisive") & _needs_others()
    alone = pl.col("reason") != JOINT  # what is repeated there waited when it came
    edge_or_name = (pl.col("kind") == "lateral_movement") | (pl.col("statistic") == "bucket")
    return sweep | (edge_or_name & alone)


def _needs_others() -> pl.Expr:
    """Sweeps decided by plain failures, which an outage of the destinations would explain."""
    plain = pl.col("reason").is_in(["REFUSED", "UNANSWERED", JOINT])
    return (pl.col("statistic") == "horizontal") & plain
