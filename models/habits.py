"""Learning: what workloads do, gathered into a baseline.

What an actor began to do while it had an incident open is not learnt.
"""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from sidelong.features.contacts import contact_keys, contact_object
from sidelong.features.events import ANSWER
from sidelong.features.names import name_parts
from sidelong.features.sides import is_workload, principal, sides
from sidelong.features.windows import Closed
from sidelong.ingest.schema import schema_of
from sidelong.ingest.workloads import owner_kind
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import (
    CONTACTS_SCHEMA,
    DOMAINS_SCHEMA,
    NAMES_SCHEMA,
    NETWORKS_SCHEMA,
)
from sidelong.models.contact_history import CONTACT, SECONDS_SCHEMA, folded, joined, seconds_of
from sidelong.models.dns_exfiltration import bucket_level, name_keys
from sidelong.models.search_paths import TAKEN_BACK
from sidelong.models.window_habits import WindowHabits
from sidelong.models.workload_rows import workload_rows

__all__ = ["TROUBLE_SCHEMA", "Habits"]

_TIME: Final = pl.Datetime("ns", "UTC")
_SECOND: Final = "1s"
_HOUR_NS: Final = 3_600_000_000_000

TROUBLE_SCHEMA: Final = schema_of(
    {"actor": pl.String, "since": _TIME, "until": _TIME, "domain": pl.String}
)
"""When an actor had an incident open, and with which domain if it was about DNS."""

_NAMES_SCHEMA: Final = schema_of(
    {"key": pl.UInt64, "actor": pl.String, "domain": pl.String, "first": _TIME}
)
_NEWS_SCHEMA: Final = schema_of(
    {name: dtype for name, dtype in DOMAINS_SCHEMA.items() if name != "seconds"}
)
_OUTCOMES_SCHEMA: Final = schema_of(
    {
        "actor": pl.String,
        "contact": pl.UInt64,
        "first_contacts": pl.Int64,
        "answered": pl.Int64,
        "spoke": pl.Boolean,
    }
)
_BEARERS_SCHEMA: Final = schema_of(
    {"actor": pl.String, "owner": pl.String, "account": pl.String, "first": _TIME}
)


class Habits:
    """Gathers contacts, names and outcomes; `baseline` sums them up.

    Grows with the number of distinct contacts and names, not with the number of flows.
    """

    def __init__(self) -> None:
        self._seconds = SECONDS_SCHEMA.to_frame()  # since the last tick
        self._recent = CONTACTS_SCHEMA.to_frame()  # of this hour
        self._contacts = CONTACTS_SCHEMA.to_frame()
        self._hour = 0
        self._bearers = _BEARERS_SCHEMA.to_frame()
        self._names = _NAMES_SCHEMA.to_frame()
        self._news = _NEWS_SCHEMA.to_frame()
        self._outcomes = _OUTCOMES_SCHEMA.to_frame()
        self._networks = NETWORKS_SCHEMA.to_frame()
        self._windows = WindowHabits()
        self._flows = 0
        self._lost = 0

    def observe(self, flows: pl.DataFrame, evidence: pl.DataFrame, closed: Closed) -> None:
        """Take in flows (`NORMAL_SCHEMA`), the evidence in them and the windows they close."""
        self._flows += flows.height
        self._lost += int(flows["lost"].sum())
        oriented = sides(flows)
        self._seconds = self._seconds.vstack(seconds_of(oriented))
        self._take_bearers(oriented)
        self._take_names(oriented)
        self._take_evidence(evidence)
        self._take_answers(oriented)
        self._take_networks(oriented)
        self._windows.observe(closed, evidence)

    def tidy(self, now_ns: int) -> None:
        """Fold, at an event-time tick, what came since the last one."""
        self._recent = joined(self._recent, folded(self._seconds.unique()))
        self._seconds = self._seconds.clear()
        if now_ns // _HOUR_NS != self._hour:
            self._hour = now_ns // _HOUR_NS
            self._contacts = joined(self._contacts, self._recent)
            self._recent = self._recent.clear()
        self._bearers = self._bearers.group_by("actor", "owner", "account").agg(
            pl.col("first").min()
        )
        self._names = self._names.group_by("key").agg(
            pl.col("actor", "domain").first(), pl.col("first").min()
        )
        self._news = self._news.group_by("actor", "domain").agg(
            pl.col("level").max(), pl.col("names", "bytes").sum()
        )
        self._outcomes = _by_contact(self._outcomes)
        self._networks = self._networks.unique()
        self._windows.tidy()

    def baseline(self, trouble: pl.DataFrame, known: pl.Series) -> Baseline:
        """What was learnt, without what `trouble` (`TROUBLE_SCHEMA`) forbids.

        known: actors that were not new. The windows that teach are in it, no forest yet.
        """
        self.tidy((self._hour + 1) * _HOUR_NS)
        spans = trouble.filter(pl.col("domain").is_null())
        contacts = _innocent(self._contacts, spans, CONTACT).sort(CONTACT)
        bearers = _innocent(self._bearers, spans, ("actor", "owner", "account"))
        domains = trouble.filter(pl.col("domain").is_not_null())
        names = _innocent(self._names, spans, ("key",)).join(
            domains, on=["actor", "domain"], how="anti"
        )
        news = self._news.join(domains, on=["actor", "domain"], how="anti")
        seen = self._flows
        lessons = self._windows.lessons(trouble, known)
        return Baseline(
            contacts=contacts,
            workloads=workload_rows(contacts, _in_the_end(self._outcomes), bearers),
            names=names.select("key").sort("key").match_to_schema(NAMES_SCHEMA),
            domains=_watched(news, contacts),
            networks=self._networks.sort("network"),
            workload_windows=lessons["workload"],
            edge_windows=lessons["edge"],
            domain_windows=lessons["domain"],
            window_counts=self._windows.counts(),
            flows=seen,
            completeness=seen / (seen + self._lost) if seen else 1.0,
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything gathered, as a value."""
        return {**vars(self), "_windows": self._windows.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._windows.restore(state["_windows"])
        vars(self).update({**state, "_windows": self._windows})

    def _take_bearers(self, oriented: pl.DataFrame) -> None:
        """What pods are called and which mesh identity they bear tells of their workload."""
        told = oriented.select("actor", "actor_pod", account=principal(), first="time")
        told = told.filter(pl.col("actor_pod").is_not_null() | pl.col("account").is_not_null())
        first = told.unique(["actor", "actor_pod", "account"], keep="first", maintain_order=True)
        self._bearers = self._bearers.vstack(
            first.with_columns(owner=owner_kind(pl.col("actor_pod"))).select(
                _BEARERS_SCHEMA.names()
            )
        )

    def _take_names(self, oriented: pl.DataFrame) -> None:
        lookups = oriented.filter(pl.col("dns_name").is_not_null())
        lookups = lookups.hstack(name_parts(lookups["dns_name"])).filter(
            pl.col("domain").is_not_null()
        )
        # A domain that was asked is known, even if no name below it was: see policies.
        nothing = dict.fromkeys(("level", "names", "bytes"), pl.lit(0, pl.Int64))
        self._news = self._news.vstack(lookups.select("actor", "domain", **nothing).unique())
        self._names = self._names.vstack(
            lookups.select(
                key=pl.Series(name_keys(lookups), dtype=pl.UInt64),
                actor="actor",
                domain="domain",
                first="time",
            ).unique("key", keep="first", maintain_order=True)
        )

    def _take_evidence(self, evidence: pl.DataFrame) -> None:
        news = evidence.filter(pl.col("statistic") == "bucket")
        self._news = self._news.vstack(
            news.select(
                "actor",
                "domain",
                "bytes",
                level=bucket_level(pl.col("level")),
                names=(pl.col("reason") != TAKEN_BACK).cast(pl.Int64),
            ).select(_NEWS_SCHEMA.names())
        )
        contacts = evidence.filter(pl.col("statistic").is_in(["vertical", "horizontal"]))
        answered = pl.col("reason").is_in(["ANSWERED", "TAKEN_BACK"])
        again = (pl.col("reason") == "TAKEN_BACK").sum().cast(pl.Int64)
        if contacts.is_empty():
            return
        contacts = contacts.with_columns(contact=pl.Series(contact_keys(contacts)))
        self._outcomes = self._outcomes.vstack(
            contacts.group_by("actor", "contact").agg(
                first_contacts=pl.len().cast(pl.Int64) - again,
                answered=answered.sum().cast(pl.Int64),
                spoke=answered.any(),
            )
        )

    def _take_answers(self, oriented: pl.DataFrame) -> None:
        """Note which of the contacts that failed at first are answered by now."""
        failed = self._outcomes.filter(~pl.col("spoke"))["contact"]
        if failed.is_empty():
            return
        answers = oriented.filter(pl.col("event") == ANSWER).with_columns(object=contact_object())
        spoke = pl.Series(contact_keys(answers), dtype=pl.UInt64)
        since = pl.col("contact").is_in(spoke.implode())
        self._outcomes = self._outcomes.with_columns(spoke=pl.col("spoke") | since)

    def _take_networks(self, oriented: pl.DataFrame) -> None:
        for name, address in (("actor", "actor_ip"), ("peer", "peer_ip")):
            self._networks = self._networks.vstack(
                oriented.filter(is_workload(pl.col(name)))
                .select(network=pl.col(address).str.extract(r"^(\d+\.\d+\.\d+)\.\d+$"))
                .drop_nulls()
                .unique()
            )


def _by_contact(outcomes: pl.DataFrame) -> pl.DataFrame:
    sums = pl.col("first_contacts", "answered").sum()
    return outcomes.group_by("actor", "contact").agg(sums, pl.col("spoke").any())


def _in_the_end(outcomes: pl.DataFrame) -> pl.DataFrame:
    """How often an actor met somebody who is there: `actor`, `first_contacts`, `answered`.

    Who came before its peers, as when a cluster starts, and was answered in the end, did.
    """
    answered = pl.when("spoke").then("first_contacts").otherwise("answered")
    return (
        _by_contact(outcomes)
        .with_columns(answered=answered)
        .group_by("actor")
        .agg(pl.col("first_contacts", "answered").sum())
    )


def _innocent(rows: pl.DataFrame, spans: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Rows whose `first` does not fall into a span of trouble of their actor."""
    guilty = rows.join(spans.select("actor", "since", "until"), on="actor").filter(
        pl.col("first").is_between(pl.col("since").dt.truncate(_SECOND), pl.col("until"))
    )
    return rows.join(guilty.select(key), on=list(key), how="anti", nulls_equal=True)


def _watched(news: pl.DataFrame, contacts: pl.DataFrame) -> pl.DataFrame:
    """`DOMAINS_SCHEMA`: what was new, and for how long its actor was watched."""
    span = contacts.group_by("actor").agg(
        seconds=(pl.col("last").max() - pl.col("first").min()).dt.total_seconds()
    )
    return (
        news.join(span, on="actor", how="left")
        .with_columns(pl.col("seconds").fill_null(0))
        .sort("actor", "domain")
        .match_to_schema(DOMAINS_SCHEMA)
    )
