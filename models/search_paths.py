"""Search paths: what a stub resolver makes of a name before it asks for the name itself.

`www.example.org` is asked as `www.example.org.corp.example.com` first where a node's own domain is
among the search paths (`ndots:5`). If the name itself exists, what went before says no more than
which of all names that exist was meant: about as much as an address does. So all but four bytes of
its charge, and once the labels between (`corp`), are taken back as soon as the name itself is
answered. A tunnel gains nothing by looking like this, since it cannot make a name exist for every
piece of data but in a domain of its own, where that name is charged.
"""

from typing import Any, Final

import polars as pl

from sidelong.ingest.keys import hash_columns
from sidelong.ingest.schema import schema_of

__all__ = ["EXISTING_BYTES", "TAKEN_BACK", "SearchPaths"]

EXISTING_BYTES: Final = 4
"""What a name says that somebody else registered: which of at most some billions."""

TAKEN_BACK: Final = "TAKEN_BACK"
"""The reason of evidence that lowers a bucket again."""

_WITHIN_NS: Final = 10_000_000_000  # a stub gives up on a question after five seconds, twice
_BETWEEN: Final = 3  # labels of a search path, at most, in front of the registered domain

_ASKED: Final = schema_of(
    {
        "asked": pl.UInt64,
        "since": pl.UInt64,
        "time_ns": pl.Int64,
        "group": pl.UInt64,
        "domain": pl.String,
        "name": pl.String,
        "between": pl.String,
        "bytes": pl.Int64,
        "charge": pl.Int64,
        "limit": pl.Int64,
        "leak_per_day": pl.Int64,
    }
)


class SearchPaths:
    """What was charged for names that may prove to be made by a search path.

    Bounded: the newest `capacity` of the last ten seconds.
    """

    def __init__(self, capacity: int) -> None:
        self._asked = _ASKED.to_frame()
        self._capacity = capacity

    @property
    def is_empty(self) -> bool:
        """Whether nothing could be taken back."""
        return self._asked.is_empty()

    def charged(self, rows: pl.DataFrame) -> None:
        """Remember charged lookups, given in stream order, whose subdomain may be a name itself.

        Takes `actor`, `subdomain`, `bytes`, and the columns of a charge.
        """
        names = rows.filter(
            pl.col("subdomain").str.contains(".", literal=True), pl.col("bytes") > EXISTING_BYTES
        )
        if names.is_empty():
            return
        cuts = [
            names.with_columns(
                meant=pl.col("subdomain").str.extract(rf"^(.+\..+?)((?:\.[^.]+){{{count}}})$", 1),
                between=pl.col("subdomain").str.extract(rf"((?:\.[^.]+){{{count}}})$", 1),
            )
            for count in range(_BETWEEN + 1)
        ]
        named = pl.concat(cuts).drop_nulls("meant")
        self._asked = self._asked.vstack(
            named.with_columns(
                asked=_keys(named, "meant"),
                since="row",
                time_ns=pl.col("time").to_physical(),
                name="dns_name",
            )
            .sort("row", maintain_order=True)
            .select(_ASKED.names())
            .match_to_schema(_ASKED)
        )

    def answered(self, lookups: pl.DataFrame) -> pl.DataFrame:
        """The lookups that prove earlier ones to be of a search path, once for each of these.

        With the columns of those, of which `bytes` and `charge` are the whole, and `between`, the
        labels that are of the search path (`.corp`, or "").
        """
        if self._asked.is_empty():
            return lookups.clear()
        exist = lookups.filter((pl.col("dns_rcode") == 0).fill_null(False))
        if exist.is_empty():
            return lookups.clear()
        found = (
            exist.drop("bytes", "domain", "domain_key", "subdomain", "subdomain_key", strict=False)
            .with_columns(asked=_keys(exist, "dns_name"))
            .join(self._asked, on="asked", how="inner", maintain_order="left_right")
            .filter(
                pl.col("row") > pl.col("since"),
                pl.col("time").to_physical() <= pl.col("time_ns") + _WITHIN_NS,
            )
            .unique("since", keep="first", maintain_order=True)
        )
        proven = pl.col("since").is_in(found["since"].implode())
        self._asked = self._asked.filter(~proven)
        return found.with_columns(dns_name="name")

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick what nothing can prove any more."""
        recent = self._asked.filter(pl.col("time_ns") >= now_ns - _WITHIN_NS)
        self._asked = recent.tail(self._capacity)

    def snapshot(self) -> dict[str, Any]:
        """What was charged, as a value."""
        return {"asked": self._asked}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._asked = state["asked"]


def _keys(rows: pl.DataFrame, name: str) -> pl.Series:
    keys = hash_columns(rows.select("actor", name=name), ["actor", "name"])
    return pl.Series(keys, dtype=pl.UInt64)
