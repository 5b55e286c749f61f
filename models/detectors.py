"""All detectors over one stream: features are computed once and shared.

The isolation forest joins here as a fourth voice beside scan, DNS and edges.
"""

from typing import Any

import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.features.observed import Known, Observer
from sidelong.features.windows import NOTHING_CLOSED
from sidelong.ingest.state import Counted
from sidelong.models.anomaly import ALARMS_PER_DAY, AnomalyDetector
from sidelong.models.baseline import Baseline
from sidelong.models.dns_exfiltration import DnsExfiltrationDetector
from sidelong.models.evidence import NO_EVIDENCE, as_evidence, in_stream_order
from sidelong.models.guessing import GuessingDetector
from sidelong.models.joint import Joint
from sidelong.models.lateral_movement import LateralMovementDetector
from sidelong.models.mesh_bypass import MeshBypassDetector
from sidelong.models.rarity import Rarity
from sidelong.models.resolver_bypass import ResolverBypassDetector
from sidelong.models.scan import ScanDetector
from sidelong.models.spread import SpreadDetector

__all__ = ["Detectors"]


class Detectors:
    """Turns normalised flows into evidence, judged against a frozen baseline.

    Evidence on an actor follows from that actor's own rows alone, in stream order, so that streams
    partitioned by actor give what one stream gives. networks: see `OutcomeWeights`. windows:
    whether anybody else needs them. closed: those that the last rows taken have closed. budget: of
    anomalies a day, see `AnomalyDetector`.
    """

    def __init__(
        self,
        baseline: Baseline,
        networks: frozenset[str] = frozenset(),
        bounds: Bounds = Bounds(),  # noqa: B008, a frozen value
        *,
        windows: bool = False,
        budget: float = ALARMS_PER_DAY,
    ) -> None:
        self._anomaly = AnomalyDetector(baseline.forests, bounds, budget)
        self._joint = Joint(bounds)
        windows = windows or bool(self._anomaly.scopes)
        known = Known(baseline.contact_keys, baseline.edge_keys, baseline.service_keys)
        self._observer = Observer(known, bounds, windows=windows)
        self.closed = NOTHING_CLOSED
        self._scan = ScanDetector(baseline, networks, bounds)
        self._guessing = GuessingDetector(bounds)
        self._spread = SpreadDetector(baseline, bounds)
        self._dns = DnsExfiltrationDetector(baseline, bounds)
        rarity = Rarity(baseline)
        self._scanners = baseline.feedback.scanning()
        self._lateral = LateralMovementDetector(baseline, rarity)
        self._bypass = ResolverBypassDetector(baseline, rarity)
        self._mesh = MeshBypassDetector(baseline, bounds)
        self._stateful: dict[str, Counted] = {
            **self._observer.parts,
            "scan": self._scan,
            "guessing": self._guessing,
            "spread": self._spread,
            "dns": self._dns,
            "mesh": self._mesh,
            "anomaly": self._anomaly,
            "joint": self._joint,
        }

    @property
    def evicted(self) -> int:
        """State dropped for want of room, over all detectors; above zero, sight is narrowed."""
        return sum(part.evicted for part in self._stateful.values())

    def observe(self, flows: pl.DataFrame, pulse: pl.DataFrame) -> pl.DataFrame:
        """The evidence (`EVIDENCE_SCHEMA`) in `flows`, in stream order.

        Takes rows of `NORMAL_SCHEMA` within one event-time tick, all or those of some actors, and
        the whole pulse (`PULSE_SCHEMA`) of that stretch.
        """
        seen = self._observer.observe(flows, pulse)
        self.closed = seen.closed
        judged = (
            self._scan.judge(seen.contacts),
            self._guessing.judge_paths(seen.new_paths),
            self._guessing.judge_services(seen.new_services),
            self._spread.judge(seen.new_edges),
            self._dns.judge(seen.lookups),
            self._bypass.judge(seen.new_edges),
            self._lateral.judge(seen.new_edges),
            self._mesh.judge(seen.flows),
        )
        told = [evidence for evidence in judged if evidence.height]
        if not told:
            return self._declared(self._with_anomalies(NO_EVIDENCE))
        evidence = pl.concat(told).sort("row", "sub", maintain_order=True)
        return self._declared(self._with_anomalies(in_stream_order(evidence)))

    def finish(self, row: int) -> pl.DataFrame:
        """The evidence that only silence brings, once a stream has ended after `row`."""
        silent, self.closed = self._observer.finish(row)
        evidence = in_stream_order(self._scan.judge(silent))
        return self._declared(self._with_anomalies(evidence))

    def tidy(self, now_ns: int) -> None:
        """Expire and evict state at an event-time tick."""
        for part in self._stateful.values():
            part.tidy(now_ns)

    def snapshot(self) -> dict[str, Any]:
        """The state of all detectors as a value."""
        return {name: part.snapshot() for name, part in self._stateful.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        for name, part in self._stateful.items():
            # There are none of a baseline without forests, and they begin with the next minute.
            if name != "windows" or name in state:
                part.restore(state[name])

    def _with_anomalies(self, evidence: pl.DataFrame) -> pl.DataFrame:
        """Evidence in stream order, with what the windows that closed say and support."""
        silent = evidence.is_empty() and self.closed is NOTHING_CLOSED
        if silent or not self._anomaly.scopes:
            return evidence
        anomalies = self._anomaly.judge(self.closed)
        joined = pl.concat([self._joint.judge(evidence, anomalies), as_evidence(anomalies)])
        return in_stream_order(joined.sort("row", "sub", maintain_order=True))

    def _declared(self, evidence: pl.DataFrame) -> pl.DataFrame:
        """The evidence, nothing of it decisive that a declared scanner's scans bring.

        It stays evidence: what a scanner reaches while it scans is no lateral movement.
        """
        if self._scanners.is_empty() or evidence.is_empty():
            return evidence
        scans = (pl.col("kind") == "scan") & (pl.col("time") < pl.col("until")).fill_null(False)
        rows = evidence.join(self._scanners, on="actor", how="left", maintain_order="left")
        return rows.with_columns(decisive=pl.col("decisive") & ~scans).drop("until")
