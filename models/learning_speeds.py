"""Three speeds of learning, and of forgetting: what is cheap to be wrong about goes fast.

What a person vouches for is learnt at once. What is only seen is on trial first, and joins when it
was used in three separate hours or over 24 hours while its actor was in no trouble (Bhatia et al.,
"Real-Time Anomaly Detection in Edge Streams", 2022, keep what was anomalous out of the mean for the
same reason); what leads to a sensitive service, on three separate days. Of an actor that had an
incident open nothing new counts from that span, so nothing joins by being repeated while it alarms.

Experience fades by half within a half-life, and an edge that was not used for a while is forgotten:

    speed    half-life   forgotten after   which edges
    fast     1 day       7 days            to peers outside, and to bare addresses
    normal   7 days      30 days           between workloads
    slow     30 days     90 days           of CronJobs, which may run once a month; to sensitive
                                           services, which are few
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final, NamedTuple

import polars as pl

from sidelong.features.edges import EDGE
from sidelong.features.sides import is_external
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import DOMAINS_SCHEMA
from sidelong.models.contact_history import CONTACT, edges_of, joined
from sidelong.models.sensitive_services import sensitive_target
from sidelong.models.window_sample import least
from sidelong.models.workload_rows import recounted

__all__ = ["SPEEDS", "Speed", "Updated", "speed_of", "updated"]


class Speed(NamedTuple):
    """How fast experience fades, and when an unused edge is forgotten."""

    half_life: timedelta
    forgotten: timedelta


SPEEDS: Final = {
    "fast": Speed(timedelta(days=1), timedelta(days=7)),
    "normal": Speed(timedelta(days=7), timedelta(days=30)),
    "slow": Speed(timedelta(days=30), timedelta(days=90)),
}

_HOURS: Final = 3
_DAYS: Final = 3
_LONG: Final = timedelta(days=1)


class Updated(NamedTuple):
    """A baseline with what was seen since, and its drift: edges (`EDGE`) by what became of them.

    joined: on trial until now, or seen long enough at once. trial: may join later. withheld: new,
    but of actors in trouble. forgotten: not used for so long that they would be new again.
    """

    baseline: Baseline
    joined: pl.DataFrame
    trial: pl.DataFrame
    withheld: pl.DataFrame
    forgotten: pl.DataFrame


def speed_of(contacts: pl.DataFrame, workloads: pl.DataFrame) -> pl.Series:
    """The speed, a key of `SPEEDS`, of each of the contacts (`CONTACTS_SCHEMA`)."""
    jobs = workloads.filter(pl.col("owner") == "CronJob")["actor"].implode()
    passing = is_external(pl.col("peer")) | pl.col("peer").str.starts_with("ip:")
    return contacts.select(
        pl.when(pl.col("actor").is_in(jobs) | sensitive_target(pl.col("object")).is_not_null())
        .then(pl.lit("slow"))
        .when(passing)
        .then(pl.lit("fast"))
        .otherwise(pl.lit("normal"))
    ).to_series()


def updated(before: Baseline, since: Baseline, troubled: pl.Series) -> Updated:
    """`before` with what was seen `since`; nobody vouches for that.

    since: without what began in an incident, as `Habits.baseline` gives it. troubled: actors that
    had an incident open.
    """
    faded, forgotten = _faded(before.contacts, before, since)
    waiting, _ = _faded(before.trial, before, since)
    known = since.contacts.join(faded, on=list(EDGE), how="semi")
    fresh = since.contacts.join(faded, on=list(EDGE), how="anti")
    in_trouble = pl.col("actor").is_in(troubled.implode())
    trial = joined(waiting, fresh.filter(~in_trouble)).join(faded, on=list(EDGE), how="anti")
    passed = _passed(trial).filter(~in_trouble)
    joining = trial.join(passed, on=list(EDGE), how="semi")
    contacts = pl.concat([joined(faded, known), joining]).sort(CONTACT)
    trial = trial.join(passed, on=list(EDGE), how="anti").sort(CONTACT)
    flows = before.flows + since.flows
    arrived = sum(one.flows / one.completeness for one in (before, since) if one.flows)
    baseline = replace(
        before,
        contacts=contacts,
        trial=trial,
        workloads=recounted(contacts, pl.concat([before.workloads, since.workloads])),
        names=pl.concat([before.names, since.names]).unique().sort("key"),
        domains=pl.concat([before.domains, since.domains])
        .group_by("actor", "domain")
        .agg(pl.col("level").max(), pl.col("names", "bytes", "seconds").sum())
        .sort("actor", "domain")
        .match_to_schema(DOMAINS_SCHEMA),
        networks=pl.concat([before.networks, since.networks]).unique().sort("network"),
        workload_windows=least(pl.concat([before.workload_windows, since.workload_windows])),
        edge_windows=least(pl.concat([before.edge_windows, since.edge_windows])),
        domain_windows=least(pl.concat([before.domain_windows, since.domain_windows])),
        window_counts=pl.concat([before.window_counts, since.window_counts]),
        flows=flows,
        completeness=flows / arrived if flows else 1.0,
    )
    gone = forgotten.join(contacts, on=list(EDGE), how="anti")
    withheld = fresh.filter(in_trouble)
    return Updated(baseline, *map(_edges, (joining, trial, withheld, gone)))


def _faded(
    contacts: pl.DataFrame, before: Baseline, since: Baseline
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The contacts with what is left of them at the end of the new span, and those forgotten."""
    if before.span is None or since.span is None or contacts.is_empty():
        return contacts, contacts.clear()
    now, passed = since.span[1], max(timedelta(0), since.span[1] - before.span[1])
    speed = speed_of(contacts, before.workloads)

    def of_speed(values: dict[str, float]) -> pl.Expr:
        return pl.lit(speed).replace_strict(values, return_dtype=pl.Float64)

    kept = of_speed({name: 0.5 ** (passed / one.half_life) for name, one in SPEEDS.items()})
    unused = (pl.lit(now) - pl.col("last")).dt.total_seconds(fractional=True)
    old = unused > of_speed({name: one.forgotten.total_seconds() for name, one in SPEEDS.items()})
    # Who used something once, long ago, still did: it stays a singleton until it is forgotten.
    left = contacts.with_columns(
        (pl.col("active_seconds") * kept).floor().cast(pl.Int64).clip(1),
        (pl.col("encrypted", "plain") * kept).floor().cast(pl.Int64),
        old=old,
    )
    return left.filter(~pl.col("old")).drop("old"), contacts.filter(left["old"])


def _passed(trial: pl.DataFrame) -> pl.DataFrame:
    """The edges on trial that have been seen long enough."""
    edges = edges_of(trial).with_columns(sensitive=sensitive_target(pl.col("peer")).is_not_null())
    lasted = pl.col("last") - pl.col("first")
    long = (lasted >= _LONG) | (pl.col("hours_seen") >= _HOURS)
    often = pl.col("days_seen") >= _DAYS
    return edges.filter(pl.when("sensitive").then(often).otherwise(long)).select(EDGE)


def _edges(contacts: pl.DataFrame) -> pl.DataFrame:
    return contacts.select(EDGE).unique().sort(EDGE)
