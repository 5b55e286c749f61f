"""Where all evidence meets: sums that crossed become incidents, and incidents become stories.

What one actor's evidence decides is told on the record that decides. What needs several actors
(chains of new edges) is taken in event-time order behind a watermark of two seconds, so that it does
not depend on how partitions interleave; evidence later than that counts at the watermark.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from sidelong.alerts.chains import Chains, Hop
from sidelong.alerts.incident import Incident
from sidelong.alerts.ledger import Ledger
from sidelong.alerts.open_incident import OpenIncident
from sidelong.alerts.stories import Stories
from sidelong.features.bounds import Bounds
from sidelong.ingest.schema import schema_of
from sidelong.models.evidence import ALERT, EVIDENCE_SCHEMA, INFO, SILENCE_NS, micro_nats

__all__ = ["PULSE_SCHEMA", "Correlator"]

_TIME: Final = pl.Datetime("ns", "UTC")

PULSE_SCHEMA: Final = schema_of(
    {"row": pl.UInt64, "clock": _TIME, "clock_before": _TIME, "lost": pl.UInt64}
)
"""The beat of a stream: for each row the clock after and before it, and the events lost so far."""

_REORDER_NS: Final = 2_000_000_000
_DAY_NS: Final = 86_400_000_000_000
_YOUNG_BASELINE: Final = micro_nats(3.0)
_SCAN_UNDER_WAY_NS: Final = 60_000_000_000
_LAST: Final = 255  # joint decisions come after everything their row brought itself

_EDGE_SCHEMA: Final = schema_of({**EVIDENCE_SCHEMA, "due": pl.Int64})


class _Told(NamedTuple):
    """An incident and the place in the stream at which it is told."""

    row: int
    sub: int
    incident: Incident


class Correlator:
    """Opens, updates and closes incidents. One per (actor, kind) at a time.

    baseline_span_ns: how long the baseline watched; below a day, chains need e^3 times more evidence.
    Bounded by `bounds`; of too many open incidents the longest silent is closed first.
    """

    def __init__(self, baseline_span_ns: int, bounds: Bounds) -> None:
        self._chain_alert = ALERT + (_YOUNG_BASELINE if baseline_span_ns < _DAY_NS else 0)
        self._incidents_bound = bounds.incidents
        self._ledger = Ledger(bounds.ledger)
        self._stories = Stories(bounds.workloads)
        self._chains = Chains(bounds.workloads)
        self._open: dict[tuple[str, str], OpenIncident] = {}
        self._edges = _EDGE_SCHEMA.to_frame()

    @property
    def evicted(self) -> int:
        """Evidence dropped because there was too much at once."""
        return self._ledger.evicted

    def consume(self, evidence: pl.DataFrame, pulse: pl.DataFrame) -> list[Incident]:
        """The incidents that this evidence opens or grows, in the order of the deciding rows.

        evidence: `EVIDENCE_SCHEMA` in stream order. pulse: `PULSE_SCHEMA`, every row of the same
        stretch of the stream, which lies within one event-time tick.
        """
        edges = self._released(evidence, pulse)
        if evidence.is_empty() and edges.is_empty():
            return []
        told = self._decide(evidence, edges, pulse)
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
        closing = [k for k, i in self._open.items() if i.last_ns <= now_ns - SILENCE_NS]
        excess = len(self._open) - len(closing) - self._incidents_bound
        if excess > 0:
            rest = sorted(
                self._open.keys() - set(closing), key=lambda k: (self._open[k].last_ns, k)
            )
            closing += rest[:excess]
        closed = [self._open.pop(key).tell("closed") for key in closing]
        for part in (self._ledger, self._stories, self._chains):
            part.tidy(now_ns)
        return closed

    def snapshot(self) -> dict[str, Any]:
        """Everything open and everything remembered, as a value."""
        return {
            "ledger": self._ledger.snapshot(),
            "stories": self._stories.snapshot(),
            "chains": self._chains.snapshot(),
            "open": [incident.snapshot() for incident in self._open.values()],
            "edges": self._edges,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._ledger.restore(state["ledger"])
        self._stories.restore(state["stories"])
        self._chains.restore(state["chains"])
        restored = [OpenIncident.restored(one) for one in state["open"]]
        self._open = {(incident.actor, incident.kind): incident for incident in restored}
        self._edges = state["edges"]

    def _decide(
        self, evidence: pl.DataFrame, edges: pl.DataFrame, pulse: pl.DataFrame
    ) -> list[_Told]:
        """Open incidents, in stream order: stories depend on who came first."""
        crossed = evidence.filter(pl.col("level") >= ALERT)
        sums = crossed.filter(pl.col("kind") != "lateral_movement")
        deciders = pl.concat(
            [
                sums.unique(["actor", "kind"], keep="first", maintain_order=True),
                crossed.filter(pl.col("kind") == "lateral_movement"),
            ]
        ).with_columns(place=pl.col("row"), place_sub=pl.col("sub"), joint=False)
        deciders = pl.concat([deciders, edges.select(deciders.columns)]).with_columns(
            time_ns=pl.col("time").to_physical()
        )
        told = []
        for decider in deciders.sort("place", "place_sub", "time_ns", "row").iter_rows(named=True):
            hop = self._follow(decider) if decider["joint"] else None
            if decider["joint"] and not (hop and self._is_chain(hop)):
                continue
            if (decider["actor"], decider["kind"]) in self._open:
                continue
            if decider["kind"] == "lateral_movement" and self._scanning(decider, evidence):
                continue
            incident = self._begin(decider, hop, evidence, pulse)
            told.append(_Told(decider["place"], decider["place_sub"], incident.tell("open")))
        return told

    def _begin(
        self,
        decider: dict[str, Any],
        hop: Hop | None,
        evidence: pl.DataFrame,
        pulse: pl.DataFrame,
    ) -> OpenIncident:
        actor, place = decider["actor"], (decider["row"], decider["sub"])
        incident = OpenIncident.begin(
            decider,
            story=self._stories.of(actor),
            completeness=_completeness(pulse, decider["place"]),
        )
        this = evidence.filter(
            pl.col("row") == place[0],
            pl.col("sub") == place[1],
            pl.col("group") == decider["group"],
        )
        if hop:
            incident.chain(hop.path, hop.evidence)
            this = pl.DataFrame([decider], schema_overrides=EVIDENCE_SCHEMA).select(
                EVIDENCE_SCHEMA.names()
            )
        incident.fold(self._ledger.climb(decider["group"], place, evidence))
        incident.fold(this)
        incident.opened = (decider["place"], decider["place_sub"])
        self._open[actor, decider["kind"]] = incident
        reached = list(incident.peers) if decider["kind"] == "lateral_movement" else []
        for workload in (actor, *(hop.path if hop else reached)):
            self._stories.touch(workload, incident.story, decider["time_ns"])
        return incident

    def _grow(self, evidence: pl.DataFrame) -> list[_Told]:
        """Add evidence to open incidents; a row's place decides whether it came after the opening."""
        told = []
        touched = evidence.select("actor", "kind").unique(maintain_order=True)
        for key in touched.iter_rows():
            incident = self._open.get(key)
            if incident is None:
                continue
            actor, kind = key
            row, sub = incident.opened
            later = (pl.col("row") > row) | ((pl.col("row") == row) & (pl.col("sub") > sub))
            least = INFO if kind == "lateral_movement" else ALERT
            rows = evidence.filter(pl.col("actor") == actor, pl.col("kind") == kind, later)
            rows = rows.filter(
                (pl.col("level") >= least).cum_max().over("group")
                | pl.col("group").is_in(list(incident.groups))
            )
            for place, update in incident.growth(rows):
                told.append(_Told(*place, update))
            self._stories.touch(actor, incident.story, incident.last_ns)
        return told

    def _scanning(self, decider: dict[str, Any], evidence: pl.DataFrame) -> bool:
        """Whether the actor is in the middle of a scan, of which the new edge is a part."""
        place = (decider["row"], decider["sub"])
        since_ns = decider["time_ns"] - _SCAN_UNDER_WAY_NS
        scan = self._open.get((decider["actor"], "scan"))
        if scan is not None and scan.opened < place and scan.last_ns >= since_ns:
            return True
        return self._ledger.level(decider["actor"], "scan", place, since_ns, evidence) >= INFO

    def _follow(self, edge: dict[str, Any]) -> Hop:
        return self._chains.extend(
            edge["actor"], edge["object"], edge["time_ns"], edge["log_evidence"]
        )

    def _is_chain(self, hop: Hop) -> bool:
        return len(hop.path) > 2 and hop.evidence >= self._chain_alert

    def _released(self, evidence: pl.DataFrame, pulse: pl.DataFrame) -> pl.DataFrame:
        """New edges whose watermark passes within this stretch, with the place where it does."""
        fresh = evidence.filter(pl.col("kind") == "lateral_movement")
        if fresh.is_empty() and self._edges.is_empty():
            return _released_schema()
        before = pulse["clock_before"].to_physical().to_numpy()
        clock = pulse["clock"].to_physical().to_numpy()
        at = np.searchsorted(pulse["row"].to_numpy(), fresh["row"].to_numpy())
        late = before[np.minimum(at, pulse.height - 1)] - _REORDER_NS
        fresh = fresh.with_columns(
            due=pl.max_horizontal(pl.col("time").to_physical(), pl.Series(late, dtype=pl.Int64))
            + _REORDER_NS
        )
        waiting = self._edges.vstack(fresh).sort("due", "row", "sub")
        passed = np.searchsorted(clock, waiting["due"].to_numpy())
        ready = pl.Series(passed < pulse.height, dtype=pl.Boolean)
        self._edges = waiting.filter(~ready)
        rows = pulse["row"].to_numpy()
        return waiting.filter(ready).with_columns(
            place=pl.Series(rows[passed[passed < pulse.height]], dtype=pl.UInt64),
            place_sub=pl.lit(_LAST, pl.UInt8),
            joint=True,
        )

    def _groups(self) -> list[int]:
        return [group for incident in self._open.values() for group in incident.groups]


def _released_schema() -> pl.DataFrame:
    return schema_of(
        {**_EDGE_SCHEMA, "place": pl.UInt64, "place_sub": pl.UInt8, "joint": pl.Boolean}
    ).to_frame()


def _completeness(pulse: pl.DataFrame, row: int) -> float:
    """The share of events that arrived, up to a row."""
    at = min(int(np.searchsorted(pulse["row"].to_numpy(), row)), pulse.height - 1)
    lost = int(pulse["lost"][at])
    return (row + 1) / (row + 1 + lost)
