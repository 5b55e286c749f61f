"""Which names each workload asked DNS for in a run: one row per registered domain.

How many different names there were is counted from the smallest of their hashes (Bar-Yossef et al.,
Counting distinct elements in a data stream, 2002): exactly up to 128 names, within a tenth beyond.
"""

from typing import Final

import polars as pl

from sidelong.features.names import CLUSTER_DOMAIN, with_name_parts
from sidelong.ingest.keys import hash_column
from sidelong.ingest.schema import schema_of
from sidelong.recorded_contacts import moments
from sidelong.recorded_rows import RecordedRows

__all__ = ["NAME_SCHEMA", "RecordedNames"]

_TIME: Final = pl.Datetime("ns", "UTC")
NAME_SCHEMA: Final = schema_of(
    {
        "workload": pl.String,
        "domain": pl.String,
        "queries": pl.Int64,
        "names": pl.Int64,
        "name_bytes": pl.Int64,
        "types": pl.List(pl.String),
        "nxdomain": pl.Int64,
        "first_seen": _TIME,
        "last_seen": _TIME,
    }
)
"""domain: the registered domain; `cluster.local` for the cluster's own names and single labels.
queries: or answers, where only those are seen. names: different ones, see above. name_bytes: text
below the domain, over all queries. types: the first eight by name."""

_KEY: Final = ("workload", "domain")
_SUMS: Final = ("queries", "replies", "name_bytes", "nxdomain")
_SMALLEST: Final = 128
_TYPES: Final = 8
_NXDOMAIN: Final = 3


class RecordedNames:
    """Adds up lookups; keeps `most` pairs, those with the most queries."""

    def __init__(self, most: int) -> None:
        self._rows = RecordedRows(most, _KEY, "queries", _summed)

    @property
    def dropped(self) -> int:
        """Rows that were beyond the bound."""
        return self._rows.dropped

    def add(self, lookups: pl.DataFrame) -> None:
        """Count rows of `lookups_of`. What a resolver passes on is left to who asked."""
        rows = lookups.filter(~pl.col("forwarded").fill_null(False))
        if rows.is_empty():
            return
        events = pl.col("count").cast(pl.Int64)
        forth = ~pl.col("reply")
        unknown = ~forth & (pl.col("dns_rcode") == _NXDOMAIN).fill_null(False)
        facts = rows.select(
            workload="actor",
            domain="zone",
            queries=pl.when(forth).then(events).otherwise(0),
            replies=pl.when(forth).then(0).otherwise(events),
            name_bytes=pl.when(forth)
            .then(pl.col("subdomain").str.len_bytes().cast(pl.Int64) * events)
            .otherwise(0),
            nxdomain=pl.when(unknown).then(events).otherwise(0),
            smallest=pl.Series(hash_column(rows["dns_name"])).reshape((-1, 1)).arr.to_list(),
            types=pl.concat_list(pl.col("dns_type")),
            **moments(),
        )
        self._rows.add(facts)

    def tidy(self) -> None:
        """Put together what came since, and drop what is beyond the bound."""
        self._rows.tidy()

    def frame(self) -> pl.DataFrame:
        """The pairs so far (`NAME_SCHEMA`), those with the most text carried out first."""
        rows = self._rows.frame()
        if rows.is_empty():
            return NAME_SCHEMA.to_frame()
        many = pl.col("smallest").list.len() == _SMALLEST
        share = pl.col("smallest").list.max().cast(pl.Float64) / 2.0**64
        return (
            rows.with_columns(
                queries=pl.max_horizontal("queries", "replies"),
                names=pl.when(many)
                .then(((_SMALLEST - 1) / share).round())
                .otherwise(pl.col("smallest").list.len())
                .cast(pl.Int64),
            )
            .sort("name_bytes", "queries", *_KEY, descending=[True, True, False, False])
            .match_to_schema(NAME_SCHEMA, extra_columns="ignore")
        )


def lookups_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of `sides` that ask DNS or answer, with the parts of their names and `zone`."""
    named = with_name_parts(rows.filter(pl.col("dns_name").is_not_null()))
    return named.with_columns(zone=pl.col("domain").fill_null(CLUSTER_DOMAIN))


def _summed(rows: pl.DataFrame) -> pl.DataFrame:
    smallest = pl.col("smallest").explode().unique().sort().head(_SMALLEST)
    types = pl.col("types").explode().drop_nulls().unique().sort().head(_TYPES)
    return rows.group_by(*_KEY).agg(
        pl.col(*_SUMS).sum(),
        smallest.alias("smallest"),
        types.alias("types"),
        pl.col("first_seen").min(),
        pl.col("last_seen").max(),
    )
