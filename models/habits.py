"""Learning: what workloads do, gathered into a baseline.

A contact counts once a second however busy it is, so that a burst is not taken for experience. What
an actor began to do while it had an incident open is not learnt.
"""

from typing import Any, Final

import polars as pl

from sidelong.features.contacts import contact_object
from sidelong.features.edges import with_edge_port
from sidelong.features.names import name_parts
from sidelong.features.sides import is_workload, sides
from sidelong.ingest.schema import schema_of
from sidelong.models.baseline import (
    CONTACTS_SCHEMA,
    DOMAINS_SCHEMA,
    NAMES_SCHEMA,
    NETWORKS_SCHEMA,
    WORKLOADS_SCHEMA,
    Baseline,
)
from sidelong.models.dns_exfiltration import bucket_level, name_keys
from sidelong.models.lateral_movement import COMMON_PORTS

__all__ = ["TROUBLE_SCHEMA", "Habits"]

_TIME: Final = pl.Datetime("ns", "UTC")
_CONTACT: Final = ("actor", "peer", "object", "port", "edge_port", "protocol")
_SECOND: Final = "1s"

# Time and discovery services say nothing of where a workload turns; a DNS lookup begins a contact.
_NO_EXPERIENCE: Final = tuple(port for port in COMMON_PORTS if port != 53)

TROUBLE_SCHEMA: Final = schema_of(
    {"actor": pl.String, "since": _TIME, "until": _TIME, "domain": pl.String}
)
"""When an actor had an incident open, and with which domain if it was about DNS."""

_SECONDS_SCHEMA: Final = schema_of(
    {**{name: CONTACTS_SCHEMA[name] for name in _CONTACT}, "second": _TIME}
)
_NAMES_SCHEMA: Final = schema_of(
    {"key": pl.UInt64, "actor": pl.String, "domain": pl.String, "first": _TIME}
)
_LEVELS_SCHEMA: Final = schema_of({"actor": pl.String, "domain": pl.String, "level": pl.Int64})
_OUTCOMES_SCHEMA: Final = schema_of(
    {"actor": pl.String, "first_contacts": pl.Int64, "answered": pl.Int64}
)


class Habits:
    """Gathers contacts, names and outcomes; `baseline` sums them up.

    Grows with the number of distinct contacts and names, not with the number of flows.
    """

    def __init__(self) -> None:
        self._seconds = _SECONDS_SCHEMA.to_frame()  # since the last tick
        self._contacts = CONTACTS_SCHEMA.to_frame()
        self._names = _NAMES_SCHEMA.to_frame()
        self._levels = _LEVELS_SCHEMA.to_frame()
        self._outcomes = _OUTCOMES_SCHEMA.to_frame()
        self._networks = NETWORKS_SCHEMA.to_frame()
        self._flows = 0
        self._lost = 0

    def observe(self, flows: pl.DataFrame, evidence: pl.DataFrame) -> None:
        """Take in flows (`NORMAL_SCHEMA`) and the evidence that detectors found in them."""
        self._flows += flows.height
        self._lost += int(flows["lost"].sum())
        oriented = sides(flows)
        used = with_edge_port(oriented.with_columns(object=contact_object()))
        self._seconds = self._seconds.vstack(
            used.with_columns(
                pl.col("port").fill_null(0), second=pl.col("time").dt.truncate(_SECOND)
            )
            .select(_SECONDS_SCHEMA.names())
            .unique(maintain_order=True)
        )
        self._take_names(oriented)
        self._take_evidence(evidence)
        self._take_networks(oriented)

    def tidy(self, now_ns: int) -> None:
        """Fold, at an event-time tick, what came since the last one."""
        fresh = (
            self._seconds.unique()
            .group_by(_CONTACT)
            .agg(
                first=pl.col("second").min(),
                last=pl.col("second").max(),
                active_seconds=pl.len().cast(pl.Int64),
            )
        )
        self._contacts = (
            self._contacts.vstack(fresh.select(CONTACTS_SCHEMA.names()))
            .group_by(_CONTACT)
            .agg(
                pl.col("first").min(),
                pl.col("last").max(),
                # A second that two stretches share, for rows came late, counts for both: no matter.
                pl.col("active_seconds").sum(),
            )
        )
        self._seconds = self._seconds.clear()
        self._names = self._names.group_by("key").agg(
            pl.col("actor", "domain").first(), pl.col("first").min()
        )
        self._levels = self._levels.group_by("actor", "domain").agg(pl.col("level").max())
        self._outcomes = self._outcomes.group_by("actor").agg(
            pl.col("first_contacts", "answered").sum()
        )
        self._networks = self._networks.unique()

    def baseline(self, trouble: pl.DataFrame) -> Baseline:
        """What was learnt, without what `trouble` (`TROUBLE_SCHEMA`) forbids."""
        self.tidy(0)
        spans = trouble.filter(pl.col("domain").is_null())
        contacts = _innocent(self._contacts, spans).sort(_CONTACT)
        domains = trouble.filter(pl.col("domain").is_not_null())
        names = _innocent(self._names, spans).join(domains, on=["actor", "domain"], how="anti")
        levels = self._levels.join(domains, on=["actor", "domain"], how="anti")
        seen = self._flows
        return Baseline(
            contacts=contacts,
            workloads=self._workloads(contacts),
            names=names.select("key").sort("key").match_to_schema(NAMES_SCHEMA),
            domains=levels.sort("actor", "domain").match_to_schema(DOMAINS_SCHEMA),
            networks=self._networks.sort("network"),
            flows=seen,
            completeness=seen / (seen + self._lost) if seen else 1.0,
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything gathered, as a value."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        vars(self).update(state)

    def _workloads(self, contacts: pl.DataFrame) -> pl.DataFrame:
        """How well each actor is known; services that everybody uses are no experience."""
        edges = (
            contacts.filter(~pl.col("edge_port").is_in(_NO_EXPERIENCE))
            .group_by("actor", "peer", "edge_port", "protocol")
            .agg(pl.col("active_seconds").sum())
        )
        known = edges.group_by("actor").agg(
            pl.col("active_seconds").sum(),
            singletons=(pl.col("active_seconds") == 1).sum().cast(pl.Int64),
        )
        return (
            contacts.group_by("actor")
            .agg(pl.col("first").min(), pl.col("last").max())
            .join(known, on="actor", how="left")
            .join(self._outcomes, on="actor", how="left")
            .with_columns(
                pl.col("active_seconds", "singletons", "first_contacts", "answered").fill_null(0)
            )
            .sort("actor")
            .match_to_schema(WORKLOADS_SCHEMA)
        )

    def _take_names(self, oriented: pl.DataFrame) -> None:
        lookups = oriented.filter(pl.col("dns_name").is_not_null())
        lookups = lookups.hstack(name_parts(lookups["dns_name"])).filter(
            pl.col("domain").is_not_null()
        )
        # A domain that was asked is known, even if no name below it was: see policies.
        self._levels = self._levels.vstack(
            lookups.select("actor", "domain", level=pl.lit(0, pl.Int64)).unique()
        )
        self._names = self._names.vstack(
            lookups.select(
                key=pl.Series(name_keys(lookups), dtype=pl.UInt64),
                actor="actor",
                domain="domain",
                first="time",
            ).unique("key", keep="first", maintain_order=True)
        )

    def _take_evidence(self, evidence: pl.DataFrame) -> None:
        self._levels = self._levels.vstack(
            evidence.filter(pl.col("statistic") == "bucket").select(
                "actor", "domain", level=bucket_level(pl.col("level"))
            )
        )
        contacts = evidence.filter(pl.col("statistic").is_in(["vertical", "horizontal"]))
        answered = pl.col("reason").is_in(["ANSWERED", "TAKEN_BACK"])
        again = (pl.col("reason") == "TAKEN_BACK").sum().cast(pl.Int64)
        self._outcomes = self._outcomes.vstack(
            contacts.group_by("actor").agg(
                first_contacts=pl.len().cast(pl.Int64) - again,
                answered=answered.sum().cast(pl.Int64),
            )
        )

    def _take_networks(self, oriented: pl.DataFrame) -> None:
        for name, address in (("actor", "actor_ip"), ("peer", "peer_ip")):
            self._networks = self._networks.vstack(
                oriented.filter(is_workload(pl.col(name)))
                .select(network=pl.col(address).str.extract(r"^(\d+\.\d+\.\d+)\.\d+$"))
                .drop_nulls()
                .unique()
            )


def _innocent(rows: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Rows whose `first` does not fall into a span of trouble of their actor."""
    guilty = rows.join(spans.select("actor", "since", "until"), on="actor").filter(
        pl.col("first").is_between(pl.col("since").dt.truncate(_SECOND), pl.col("until"))
    )
    return rows.join(guilty.select(rows.columns), on=rows.columns, how="anti", nulls_equal=True)
