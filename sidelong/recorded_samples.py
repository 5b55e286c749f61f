"""Flows that brought the evidence of each incident, a few of each.

Evidence mostly names the row that brought it. What follows from no row of its own, such as that
nobody answered, or that a minute was strange, is shown by flows of that contact or that minute.
Evidence comes before the incident that it opens, so its flows wait until there is one.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.ingest.normalise import NORMAL_SCHEMA
from sidelong.ingest.schema import schema_of
from sidelong.models.evidence import KINDS, MICRO
from sidelong.recording_bounds import RecordingBounds

__all__ = ["SAMPLE_SCHEMA", "RecordedSamples", "spans_of"]

_TIME: Final = pl.Datetime("ns", "UTC")
SAMPLE_SCHEMA: Final = pl.Schema(
    {
        **NORMAL_SCHEMA,
        "reason": pl.String(),
        "log_evidence": pl.Float64(),
        "decisive": pl.Boolean(),
    }
)
"""A flow as normalised, then what it says: the reason of its evidence and the weight in nats, and
whether it was the one that decided."""

_SPANS: Final = schema_of(
    {"incident": pl.String, "actor": pl.String, "kind": KINDS, "first": _TIME, "last": _TIME}
)
_WHO: Final = ("actor", "kind")
_SAID: Final = ("reason", "log_evidence", "decisive")
_FLOWS: Final = (*_WHO, "at", *NORMAL_SCHEMA.names(), *_SAID)
_PRESSED: Final = 20_000  # flows that may wait for a tick before they are reduced
_MINUTE_NS: Final = 60_000_000_000
_SHOWN: Final = 10  # flows that stand for a minute

_CONTACT: Final = ("actor", "actor_pod", "peer", "peer_ip", "port", "protocol", "zone")


class RecordedSamples:
    """Keeps flows by incident. `add` with each stretch, `tidy` at each tick."""

    def __init__(self, bounds: RecordingBounds) -> None:
        self._bounds = bounds
        self._recent = pl.DataFrame()
        self._loose = pl.DataFrame()
        self._fresh: list[pl.DataFrame] = []
        self._unresolved: list[pl.DataFrame] = []
        self._kept: dict[str, pl.DataFrame] = {}
        self.dropped = 0

    def add(self, rows: pl.DataFrame, evidence: pl.DataFrame) -> None:
        """Take rows of `sides` with their `zone`, and the evidence (`EVIDENCE_SCHEMA`) of them."""
        self._remember(rows)
        charged = evidence.filter((pl.col("log_evidence") > 0) | pl.col("decisive"))
        if charged.is_empty():
            return
        told = charged.select(
            *_WHO,
            *("object", "object_ip", "port", "protocol", "domain", "statistic", "reason"),
            pl.col("row").alias("evidence_row"),
            pl.col("time").alias("at"),
            pl.col("log_evidence", "decisive"),
        )
        found = told.drop("port", "protocol").join(
            rows, left_on=["evidence_row", "actor"], right_on=["row", "actor"], how="inner"
        )
        # Whatever silence brings is noticed at a row that is somebody else's, or an earlier one's.
        by_row = (pl.col("reason") != "UNANSWERED").fill_null(True) & (pl.col("kind") != "anomaly")
        found = found.filter(by_row).rename({"evidence_row": "row"})
        if found.height:
            self._fresh.append(found.select(_FLOWS))
        rest = told.join(
            found.select("row", "actor").unique(),
            left_on=["evidence_row", "actor"],
            right_on=["row", "actor"],
            how="anti",
        )
        if rest.height:
            self._unresolved.append(rest)
        if sum(frame.height for frame in self._fresh) > _PRESSED:
            self._fresh = [_reduced(pl.concat(self._fresh), self._bounds.samples)]

    def tidy(self, clock_ns: int, incidents: Iterable[Incident]) -> None:
        """Give flows to the incidents that were told since the last tick or are open yet."""
        if self._recent.height:
            self._recent = self._first_of_contacts(self._recent)
        fresh = [*self._fresh, *self._resolved()]
        self._fresh, self._unresolved = [], []
        waiting = [self._loose] if self._loose.height else []
        if fresh:
            waiting.append(_reduced(pl.concat(fresh), self._bounds.samples))
        if waiting:
            self._give(pl.concat(waiting), spans_of(incidents))
        keep = pl.lit(clock_ns - 3 * _MINUTE_NS).cast(_TIME)
        if self._recent.height:
            self._recent = self._recent.filter(pl.col("clock") >= keep).tail(self._bounds.recent)

    def frames(self) -> Mapping[str, pl.DataFrame]:
        """By incident: `SAMPLE_SCHEMA`, in the order of the stream."""
        return dict(self._kept)

    def _remember(self, rows: pl.DataFrame) -> None:
        forth = rows.filter(~pl.col("reply"))
        if forth.is_empty():
            return
        firsts = self._first_of_contacts(
            forth.select(*dict.fromkeys((*_CONTACT, *NORMAL_SCHEMA.names())))
        )
        self._recent = pl.concat([self._recent, firsts]) if self._recent.height else firsts
        if self._recent.height > 4 * self._bounds.recent:
            self._recent = self._first_of_contacts(self._recent)

    def _first_of_contacts(self, rows: pl.DataFrame) -> pl.DataFrame:
        minute = pl.col("time").to_physical() // _MINUTE_NS
        firsts = rows.with_columns(minute.alias("minute")).unique(
            [*_CONTACT, "minute"], keep="first", maintain_order=True
        )
        return firsts.drop("minute")

    def _resolved(self) -> Iterable[pl.DataFrame]:
        """Flows for the evidence that no row of its own brought."""
        if not self._unresolved or self._recent.is_empty():
            return
        told = pl.concat(self._unresolved).with_row_index("number")
        near = self._recent.rename({"port": "to_port", "protocol": "by"})
        pairs = told.join(near, on="actor", how="inner", maintain_order="left_right").filter(
            pl.col("row") <= pl.col("evidence_row"),
            pl.col("time") >= pl.col("at") - pl.duration(nanoseconds=2 * _MINUTE_NS),
        )
        pairs = pairs.filter(
            (pl.col("peer_ip") == pl.col("object_ip")).fill_null(pl.col("object_ip").is_null()),
            (pl.col("to_port") == pl.col("port")).fill_null(pl.col("port").is_null()),
            (pl.col("by") == pl.col("protocol")).fill_null(pl.col("protocol").is_null()),
            (pl.col("zone") == pl.col("domain")).fill_null(pl.col("domain").is_null()),
        )
        chosen = pairs.group_by("number", maintain_order=True).tail(_SHOWN)
        # A silent contact is one attempt; a strange minute is what happened in it.
        last = pl.col("row") == pl.col("row").max().over("number")
        one = pl.col("kind") != "anomaly"
        chosen = chosen.filter(~one | last).with_columns(protocol=pl.col("by"))
        yield chosen.select(_FLOWS)

    def _give(self, flows: pl.DataFrame, spans: pl.DataFrame) -> None:
        placed = (
            flows.sort("at", maintain_order=True)
            .join_asof(
                spans.sort("first"),
                left_on="at",
                right_on="first",
                by=list(_WHO),
                check_sortedness=False,
            )
            .with_columns(
                incident=pl.when(pl.col("at") <= pl.col("last").fill_null(pl.col("at"))).then(
                    "incident"
                )
            )
        )
        mine = placed.filter(pl.col("incident").is_not_null())
        for (incident,), rows in mine.group_by("incident", maintain_order=True):
            self._keep(str(incident), rows)
        loose = placed.filter(pl.col("incident").is_null()).select(_FLOWS)
        loose = loose.sort("row", *_WHO, maintain_order=True)
        few = loose.group_by(*_WHO, maintain_order=True).tail(self._bounds.samples)
        few = few.sort("row", *_WHO, maintain_order=True)
        self.dropped += max(0, few.height - self._bounds.waiting)
        self._loose = few.tail(self._bounds.waiting)

    def _keep(self, incident: str, rows: pl.DataFrame) -> None:
        flows = rows.with_columns(pl.col("log_evidence") / MICRO).match_to_schema(
            SAMPLE_SCHEMA, extra_columns="ignore"
        )
        if incident in self._kept:
            flows = pl.concat([self._kept[incident], flows])
        best = flows.unique("row", keep="first", maintain_order=True).sort(
            "decisive", "row", descending=[True, False]
        )
        self._kept[incident] = best.head(self._bounds.samples).sort("row")


def spans_of(incidents: Iterable[Incident]) -> pl.DataFrame:
    """When each was: `incident`, `actor`, `kind`, `first`, and `last` once it is closed."""
    rows: list[dict[str, Any]] = [
        {
            "incident": one.id,
            "actor": one.actor.workload,
            "kind": one.kind,
            "first": one.first_seen,
            "last": one.last_seen if one.status == "closed" else None,
        }
        for one in incidents
    ]
    return pl.DataFrame(rows, schema=_SPANS, orient="row")


def _reduced(flows: pl.DataFrame, most: int) -> pl.DataFrame:
    """One row a flow and kind, and of each actor and kind the first, the last and the deciding.

    Whether a flow stays does not depend on how often this was done before.
    """
    rows = flows.sort("row", *_WHO, maintain_order=True)
    once = rows.group_by("row", *_WHO, maintain_order=True).agg(
        pl.exclude(*_SAID).first(),
        pl.col("reason").first(),
        pl.col("log_evidence").sum(),
        pl.col("decisive").any(),
    )
    place = pl.int_range(pl.len()).over(*_WHO)
    of = pl.len().over(*_WHO)
    deciding = pl.col("decisive") & (pl.col("decisive").cum_sum().over(*_WHO) <= most)
    return once.filter((place < most) | (place >= of - most) | deciding).select(_FLOWS)
