"""DNS names: which registered domain a query serves, and how much text it carries there.

The registered domain is the label below the public suffix, private section included, so that two
customers of one provider are strangers to each other (publicsuffix.org). Search-path expansions, by
which a resolver tries `www.example.org.shop.svc.cluster.local` before `www.example.org`, are undone
first: the expansion never leaves the cluster and says nothing of its own.
"""

import re
from functools import cache
from typing import Final

import polars as pl
from publicsuffixlist import PSLFILE, PublicSuffixList

__all__ = ["CLUSTER_DOMAIN", "NO_ZONE", "REVERSE_ZONES", "name_parts", "registered_domains"]

CLUSTER_DOMAIN: Final = "cluster.local"
REVERSE_ZONES: Final = ("in-addr.arpa", "ip6.arpa")
NO_ZONE: Final = "(no zone)"
"""The zone of names under a top level that cannot exist, as zone-less tunnels make them."""

# A top level that nobody registered but that a person could have chosen: `pirate.sea`, `db.corp`.
_WORD: Final = r"^[a-z]{2,16}$|^xn--"


def name_parts(names: pl.Series, *, cluster_domain: str = CLUSTER_DOMAIN) -> pl.DataFrame:
    """What each DNS name asks of whom.

    Takes names in lower case without a trailing dot; returns, row for row, `domain` (the registered
    domain, a reverse zone or `NO_ZONE`; null for names that stay in the cluster and for single
    labels), `subdomain` (the text below it, "" if none) and `internal` (asks the cluster's own
    zone).

    >>> name_parts(pl.Series(["a.b.example.co.uk", "web.shop.svc.cluster.local"])).rows()
    [('example.co.uk', 'a.b', False), (None, '', True)]
    """
    distinct = names.unique().drop_nulls()
    bare = _without_search_path(distinct, cluster_domain)
    domains = registered_domains(bare)
    parts = pl.DataFrame({"name": distinct, "bare": bare, "domain": domains}).select(
        "name",
        "domain",
        subdomain=pl.when(pl.col("domain").is_null())
        .then(pl.lit(""))
        .when(pl.col("domain") == NO_ZONE)
        .then("bare")
        .otherwise(
            pl.col("bare").str.head(
                (
                    pl.col("bare").str.len_chars().cast(pl.Int64)
                    - pl.col("domain").str.len_chars()
                    - 1
                ).clip(0)
            )
        ),
        internal=pl.col("bare").is_null(),
    )
    return (
        names.alias("name").to_frame().join(parts, on="name", how="left", maintain_order="left")
    ).select("domain", "subdomain", "internal")


def _without_search_path(names: pl.Series, cluster_domain: str) -> pl.Series:
    """The name as the program asked it; null for names of the cluster's own zone."""
    tail = "." + cluster_domain
    frame = (
        names.alias("name")
        .to_frame()
        .with_columns(
            rest=pl.col("name").str.strip_suffix(tail),
            expanded=pl.col("name").str.ends_with(tail) | (pl.col("name") == cluster_domain),
        )
    )
    service = pl.col("rest").str.ends_with(".svc")
    rest = pl.col("rest").str.strip_suffix(".svc")
    below_namespace = rest.str.extract(r"^(.+)\.[^.]+$")
    outside = _is_outside(frame.select(rest).to_series())
    outside_below = _is_outside(frame.select(below_namespace).to_series())
    return frame.select(
        pl.when(~pl.col("expanded"))
        .then("name")
        .when(service & outside_below)
        .then(below_namespace)
        # `web.shop.svc` is a service of the cluster even where `shop` is a top-level domain.
        .when(outside & (~service | (rest.str.count_matches(".", literal=True) > 1)))
        .then(rest)
    ).to_series()


def _is_outside(names: pl.Series) -> pl.Series:
    """Whether a name of two labels or more ends in a top-level domain that exists."""
    top = names.str.extract(r"\.([^.]+)$")
    known = [label for label in top.unique().drop_nulls() if label in _top_levels()]
    return top.is_in(known).fill_null(False)


def registered_domains(names: pl.Series) -> pl.Series:
    """The registered domain of each name, a reverse zone, `NO_ZONE`, or null for a single label.

    Only distinct endings are looked up: the last two labels decide for nearly all names.
    """
    labels = names.str.split(".")
    short = labels.list.tail(2).list.join(".")
    long = labels.list.tail(_LONGEST).list.join(".")
    wildcard = "*." + labels.list.last()
    undecided = list(_undecided())
    endings = pl.select(
        pl.when(short.is_in(undecided) | wildcard.is_in(undecided)).then(long).otherwise(short)
    ).to_series()
    found = {ending: _registered(ending) for ending in endings.unique().drop_nulls()}
    return endings.replace_strict(
        list(found), list(found.values()), default=None, return_dtype=pl.String
    ).alias("domain")


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
