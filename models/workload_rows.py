"""How well workloads are known, counted from the contacts that a baseline keeps of them."""

from typing import Final

import polars as pl

from sidelong.models.baseline_tables import WORKLOADS_SCHEMA
from sidelong.models.lateral_movement import COMMON_PORTS

__all__ = ["recounted", "workload_rows"]

# Time and discovery services say nothing of where a workload turns; a DNS lookup begins a contact.
_NO_EXPERIENCE: Final = tuple(port for port in COMMON_PORTS if port != 53)


def workload_rows(
    contacts: pl.DataFrame, outcomes: pl.DataFrame, bearers: pl.DataFrame
) -> pl.DataFrame:
    """How well each actor is known (`WORKLOADS_SCHEMA`), from its contacts.

    Services that everybody uses are no experience. outcomes: `actor`, `first_contacts` and
    `answered`. bearers: `actor`, `owner` and `account`, each as often as one likes.
    """
    edges = (
        contacts.filter(~pl.col("edge_port").is_in(_NO_EXPERIENCE))
        .group_by("actor", "peer", "edge_port", "protocol")
        .agg(pl.col("active_seconds").sum())
    )
    known = edges.group_by("actor").agg(
        pl.col("active_seconds").sum(),
        singletons=(pl.col("active_seconds") == 1).sum().cast(pl.Int64),
    )
    borne = bearers.group_by("actor").agg(
        pl.col("owner").drop_nulls().sort().first(),
        accounts=pl.col("account").drop_nulls().unique().sort(),
    )
    return (
        contacts.group_by("actor")
        .agg(pl.col("first").min(), pl.col("last").max())
        .join(known, on="actor", how="left")
        .join(outcomes, on="actor", how="left")
        .join(borne, on="actor", how="left")
        .with_columns(
            pl.col("active_seconds", "singletons", "first_contacts", "answered").fill_null(0),
            pl.coalesce("accounts", pl.lit([], pl.List(pl.String))),
        )
        .sort("actor")
        .match_to_schema(WORKLOADS_SCHEMA)
    )


def recounted(contacts: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """The same once contacts have come or gone: of actors that were known and still have some.

    before: `WORKLOADS_SCHEMA`, perhaps several rows of an actor, whose outcomes are added up. What
    is forgotten of a workload makes it no younger.
    """
    accounts = pl.col("accounts").alias("account")
    bearers = before.select("actor", "owner", accounts).explode("account", empty_as_null=True)
    sums = before.group_by("actor").agg(
        pl.col("first").min(), pl.col("last").max(), pl.col("first_contacts", "answered").sum()
    )
    rows = workload_rows(contacts, sums.drop("first", "last"), bearers)
    seen = sums.select("actor", "first", "last")
    return rows.drop("first", "last").join(seen, on="actor").sort("actor").select(rows.columns)
