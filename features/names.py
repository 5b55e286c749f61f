"""DNS names: which registered domain a query serves, and how much text it carries there.

The registered domain is the label below the public suffix, private section included, so that two
customers of one provider are strangers to each other (publicsuffix.org). Names under the cluster's
own zone never leave it. That includes what search paths make of outside names, by which a resolver
tries `www.example.org.shop.svc.cluster.local` before `www.example.org`: the name itself comes next.
"""

import re
from functools import cache
from typing import Final

import numpy as np
import polars as pl
from publicsuffixlist import PSLFILE, PublicSuffixList

from sidelong.ingest.groups import Groups
from sidelong.ingest.keys import Keys, hash_column, hash_strings
from sidelong.ingest.schema import schema_of
from sidelong.ingest.table import Table

__all__ = [
    "CLUSTER_DOMAIN",
    "NO_ZONE",
    "REVERSE_ZONES",
    "NameParts",
    "name_parts",
    "registered_domains",
    "with_name_parts",
]

CLUSTER_DOMAIN: Final = "cluster.local"
REVERSE_ZONES: Final = ("in-addr.arpa", "ip6.arpa")
NO_ZONE: Final = "(no zone)"
"""The zone of names under a top level that cannot exist, as zone-less tunnels make them."""

# A top level that nobody registered but that a person could have chosen: `pirate.sea`, `db.corp`.
_WORD: Final = r"^[a-z]{2,16}$|^xn--"

# The top levels that most outside names end in, and that nobody calls a namespace.
_OUTSIDE: Final = r"\.(?:com|net|org|edu|gov|mil|int|info|biz|[a-z]{2})$"


_below: Final = (
    pl.col("outside").str.len_chars().cast(pl.Int64) - pl.col("domain").str.len_chars() - 1
)
_PARTS: Final = (
    pl.col("name"),
    pl.col("domain"),
    pl.when(pl.col("domain").is_null())
    .then(pl.lit(""))
    .when(pl.col("domain") == NO_ZONE)
    .then("outside")
    .otherwise(pl.col("outside").str.head(_below.clip(0)))
    .alias("subdomain"),
    pl.col("internal"),
)


_NO_PARTS: Final = pl.DataFrame(
    schema={"name": pl.String, "domain": pl.String, "subdomain": pl.String, "internal": pl.Boolean}
)


def name_parts(names: pl.Series, *, cluster_domain: str = CLUSTER_DOMAIN) -> pl.DataFrame:
    """What each DNS name asks of whom.

    Takes names in lower case without a trailing dot; returns, row for row, `domain` (the registered
    domain, a reverse zone or `NO_ZONE`; null for names that stay in the cluster and for single
    labels), `subdomain` (the text below it, "" if none) and `internal` (asks for something of the
    cluster's own, rather than for what a search path made of an outside name).

    >>> name_parts(pl.Series(["a.b.example.co.uk", "web.shop.svc.cluster.local"])).rows()
    [('example.co.uk', 'a.b', False), (None, '', True)]
    """
    parts = _parts(names.unique().drop_nulls(), cluster_domain)
    return (
        names.alias("name").to_frame().join(parts, on="name", how="left", maintain_order="left")
    ).select("domain", "subdomain", "internal")


def with_name_parts(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that have a `dns_name` with the columns that `NameParts` adds."""
    return NameParts().of(rows)


class NameParts:
    """Finds the parts of names, remembering those of the last names: most are asked again.

    What is remembered follows from the names alone, so it is no state.
    """

    def __init__(self) -> None:
        self._lately = _no_names()

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows that have a `dns_name` with the columns of `name_parts` and whether that is the
        `service` of a namespace; and `dns_name_key`, `domain_key` and `subdomain_key`, as
        `hash_columns` takes up."""
        keys = hash_column(rows["dns_name"])
        names = Groups(keys)
        asked = keys[names.first]
        if len(self._lately) > _MOST_NAMES:
            self._lately = _no_names()
        at = self._lately.find(asked)
        new = np.flatnonzero(at < 0)
        if len(new):
            self._remember(asked[new], rows["dns_name"][names.first[new]])
            at = self._lately.find(asked)
        parts = pl.DataFrame(
            {
                name: pl.Series(self._lately.get(name, at, None).tolist(), dtype=dtype)
                if dtype == pl.String
                else self._lately.get(name, at, 0)
                for name, dtype in _PART_SCHEMA.items()
            }
        )
        return rows.hstack(parts[names.of]).hstack([pl.Series("dns_name_key", keys)])

    def _remember(self, keys: Keys, names: pl.Series) -> None:
        parts = _parts(names, CLUSTER_DOMAIN)
        domain_keys, subdomain_keys = (
            hash_strings(parts["domain"]),
            hash_strings(parts["subdomain"]),
        )
        self._lately.put(
            keys,
            domain=parts["domain"].to_numpy(),
            subdomain=parts["subdomain"].to_numpy(),
            internal=parts["internal"].to_numpy(),
            service=names.str.contains(_SERVICE).to_numpy(),
            domain_key=domain_keys,
            subdomain_key=subdomain_keys,
            seen=np.zeros(len(keys), np.int64),
        )


_MOST_NAMES: Final = 50_000
_SERVICE: Final = r"^[^.]+\.[^.]+\.svc\."
_PART_SCHEMA: Final = schema_of(
    {
        "domain": pl.String,
        "subdomain": pl.String,
        "internal": pl.Boolean,
        "domain_key": pl.UInt64,
        "subdomain_key": pl.UInt64,
        "service": pl.Boolean,
    }
)


def _no_names() -> Table:
    types = {pl.String(): object, pl.Boolean(): np.bool_, pl.UInt64(): np.uint64}
    columns = {name: types[dtype] for name, dtype in _PART_SCHEMA.items()}
    return Table(columns, capacity=_MOST_NAMES, ttl_ns=None)


def _parts(distinct: pl.Series, cluster_domain: str) -> pl.DataFrame:
    """The parts of distinct names, beside each in `name`."""
    if distinct.is_empty():
        return _NO_PARTS
    asked = _in_cluster(distinct, cluster_domain)
    return asked.with_columns(registered_domains(asked["outside"])).select(_PARTS)


def _in_cluster(names: pl.Series, cluster_domain: str) -> pl.DataFrame:
    """`name`; `outside`, the same, null if it lies in the cluster's zone; `internal`, see above.

    `example.org.svc.cluster.local` reads as a service of a namespace `org`, but is what a search
    path makes of `example.org`: what ends like a common outside name is not called internal.
    """
    tail = "." + cluster_domain
    inside = pl.col("name").str.ends_with(tail) | (pl.col("name") == cluster_domain)
    rest = pl.col("name").str.strip_suffix(tail).str.strip_suffix(".svc")
    below_namespace = rest.str.extract(r"^(.+)\.[^.]+$")
    frame = names.alias("name").to_frame()
    made = rest.str.contains(_OUTSIDE) | below_namespace.str.contains(_OUTSIDE).fill_null(False)
    return frame.with_columns(outside=pl.when(~inside).then("name"), internal=inside & ~made)


def registered_domains(names: pl.Series) -> pl.Series:
    """The registered domain of each name, a reverse zone, `NO_ZONE`, or null for a single label.

    Only distinct endings are looked up: the last two labels decide for nearly all names.
    """
    labels = names.str.split(".")
    endings = labels.list.tail(2).list.join(".")
    undecided = [ending for ending in endings.unique().drop_nulls() if _is_undecided(ending)]
    if undecided:
        long = labels.list.tail(_LONGEST).list.join(".")
        endings = long.zip_with(endings.is_in(undecided).fill_null(False), endings)
    found = {ending: _registered(ending) for ending in endings.unique().drop_nulls()}
    return pl.Series("domain", map(found.get, endings), dtype=pl.String)


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@cache
def _rules() -> frozenset[str]:
    """The rules of the bundled list, in the form that travels on the wire."""
    with open(PSLFILE, encoding="utf-8") as file:
        lines = (line.split()[0] for line in file if line.strip() and not line.startswith("//"))
        return frozenset(line.lstrip("!").encode("idna").decode("ascii") for line in lines)


@cache
def _top_levels() -> frozenset[str]:
    return frozenset(rule.rpartition(".")[2] for rule in _rules())


@cache
def _undecided() -> frozenset[str]:
    """Endings of two labels under which the list has more rules: `amazonaws.com`, `*.np`."""
    deeper = (".".join(rule.split(".")[-2:]) for rule in _rules() if "." in rule)
    return frozenset((*deeper, *REVERSE_ZONES))


def _is_undecided(ending: str) -> bool:
    return ending in _undecided() or f"*.{ending.rpartition('.')[2]}" in _undecided()


_LONGEST: Final = 9  # labels: the longest rule has seven, a wildcard and a name go before it


# Reverse zones of private addresses, which local servers answer (RFC 6303, RFC 1918, RFC 4193).
_PRIVATE_REVERSE: Final = re.compile(
    r"(^|\.)(10|168\.192|(1[6-9]|2\d|3[01])\.172|254\.169|127)\.in-addr\.arpa$"
    r"|(^|\.)([cd]\.f|[89ab]\.e\.f)\.ip6\.arpa$"
)


def _registered(ending: str) -> str | None:
    if "." not in ending or _PRIVATE_REVERSE.search(ending):
        return None
    for zone in REVERSE_ZONES:
        if ending.endswith(zone):
            return zone
    top = ending.rpartition(".")[2]
    if top not in _top_levels() and not re.match(_WORD, top):
        return NO_ZONE
    return _suffixes().privatesuffix(ending)
