"""When and how contacts were used: seconds folded into rows, and rows of two spans into one.

A contact counts once a second however busy it is, so that a burst is not taken for experience.
"""

from typing import Final

import polars as pl

from sidelong.features.contacts import contact_object
from sidelong.features.edges import EDGE, with_edge_port
from sidelong.ingest.schema import schema_of
from sidelong.models.baseline_tables import CONTACTS_SCHEMA

__all__ = ["CONTACT", "SECONDS_SCHEMA", "edges_of", "folded", "joined", "seconds_of"]

CONTACT: Final = ("actor", "peer", "object", "port", "edge_port", "protocol")

SECONDS_SCHEMA: Final = schema_of(
    {
        **{name: CONTACTS_SCHEMA[name] for name in CONTACT},
        "second": pl.Datetime("ns", "UTC"),
        "actor_pod": pl.String,
        "encrypted": pl.Boolean,
    }
)
_NOTHING: Final = pl.lit([], pl.List(pl.UInt8))


def seconds_of(oriented: pl.DataFrame) -> pl.DataFrame:
    """The seconds (`SECONDS_SCHEMA`) in which each contact was used, and by which pods.

    Takes rows of `sides`.
    """
    used = with_edge_port(oriented.with_columns(object=contact_object()))
    return (
        used.with_columns(pl.col("port").fill_null(0), second=pl.col("time").dt.truncate("1s"))
        .select(SECONDS_SCHEMA.names())
        .unique(maintain_order=True)
    )


def folded(seconds: pl.DataFrame) -> pl.DataFrame:
    """Contacts (`CONTACTS_SCHEMA`) from the seconds of one short stretch of a stream."""
    second, encrypted = pl.col("second"), pl.col("encrypted")
    hour = (second.dt.weekday().cast(pl.Int16) - 1) * 24 + second.dt.hour()
    return (
        seconds.group_by(CONTACT)
        .agg(
            first=second.min(),
            last=second.max(),
            active_seconds=second.n_unique(),
            hours=hour.cast(pl.UInt8).unique().sort(),
            hours_seen=second.dt.truncate("1h").n_unique(),
            days_seen=second.dt.truncate("1d").n_unique(),
            pods=pl.col("actor_pod").drop_nulls().n_unique(),
            encrypted=second.filter(encrypted).n_unique(),
            plain=second.filter(~encrypted).n_unique(),
        )
        .match_to_schema(CONTACTS_SCHEMA, integer_cast="upcast")
    )


def joined(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The contacts of two spans, both in `CONTACTS_SCHEMA`, the second of which began later.

    An hour or day that the spans share counts once.
    """
    if before.is_empty() or after.is_empty():
        return after if before.is_empty() else before
    both = before.join(
        after, on=list(CONTACT), how="full", suffix="_after", coalesce=True, nulls_equal=True
    )

    def again(unit: str) -> pl.Expr:
        same = pl.col("first_after").dt.truncate(unit) <= pl.col("last").dt.truncate(unit)
        return same.fill_null(False).cast(pl.Int64)

    def total(name: str) -> pl.Expr:
        # A second that two stretches share, for rows came late, counts for both: no matter.
        return pl.col(name).fill_null(0) + pl.col(f"{name}_after").fill_null(0)

    return both.select(
        *CONTACT,
        pl.min_horizontal("first", "first_after"),
        pl.max_horizontal("last", "last_after"),
        total("active_seconds"),
        pl.coalesce("hours", _NOTHING)
        .list.set_union(pl.coalesce("hours_after", _NOTHING))
        .list.sort(),
        total("hours_seen") - again("1h"),
        total("days_seen") - again("1d"),
        pl.max_horizontal("pods", "pods_after"),
        total("encrypted"),
        total("plain"),
    )


def edges_of(contacts: pl.DataFrame) -> pl.DataFrame:
    """One row per edge of the contacts: the columns `EDGE` and those that tell when and how.

    hours_seen, days_seen: at least so many, where an edge has several contacts.
    """
    hours = pl.col("hours").explode().drop_nulls().unique().sort()
    return (
        contacts.group_by(EDGE)
        .agg(
            pl.col("first").min(),
            pl.col("last").max(),
            pl.col("active_seconds").sum(),
            hours,
            pl.max_horizontal(pl.col("hours_seen").max(), hours.len().cast(pl.Int64)),
            pl.col("days_seen", "pods").max(),
            pl.col("encrypted", "plain").sum(),
        )
        .sort(EDGE)
    )
