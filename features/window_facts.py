"""What single rows add to the totals of their windows: integers, one row of facts each.

A row belongs to the window of its own time; one whose time nobody believed (`Clock`) to that of the
clock, and so does one without a time. Everything counts by the events that a row stands for, so
that what several observers tell of one event counts once. Frames carry a column `open_from`
through, see `Windows`.
"""

from typing import Final

import polars as pl

from sidelong.features.catalogue import KEYS, WINDOW_NS
from sidelong.features.edges import edge_keys, with_edge_port
from sidelong.features.events import DENIAL, PROBE, REFUSAL
from sidelong.features.name_shape import name_shape
from sidelong.ingest.keys import hash_columns

__all__ = [
    "EDGE_COLUMNS",
    "LOOKUP_COLUMNS",
    "contact_facts",
    "edge_facts",
    "lookup_facts",
    "new_edge_facts",
    "new_path_facts",
]

_AT: Final = pl.min_horizontal(pl.col("time").fill_null(pl.col("clock")), "clock").to_physical()
_SIDES: Final = ("actor", "actor_pod", "actor_ip", "peer", "peer_ip")
_SERVICE: Final = ("port", "edge_port", "protocol")

# The columns of a row that edge_facts and lookup_facts read: all that is to be kept of it.
_WHEN: Final = ("row", "time", "clock", "end", "reply", "count")
EDGE_COLUMNS: Final = (
    *_WHEN,
    *_SIDES,
    *_SERVICE,
    *("edge", "event", "method", "dns_name", "status", "bytes", "packets"),
)
"""What `edge_facts` reads of a row."""

LOOKUP_COLUMNS: Final = (
    *_WHEN,
    *("actor", "actor_pod", "actor_ip", "domain", "subdomain", "internal"),
    *("actor_key", "domain_key", "subdomain_key"),
    *("dns_name", "dns_type", "dns_rcode", "dns_answer_bytes", "forwarded"),
)
"""What `lookup_facts` reads of a row."""

_ADDRESSES: Final = ("A", "AAAA", "HTTPS", "SVCB", "PTR")
_NXDOMAIN: Final = 3

_events: Final = pl.col("count").cast(pl.Int64)
_forth: Final = ~pl.col("reply")


def _where(condition: pl.Expr, value: pl.Expr = _events) -> pl.Expr:
    return pl.when(condition).then(value).otherwise(0).cast(pl.Int64)


def _sent(column: str, forth: bool) -> pl.Expr:
    """What was sent one way; what a source cannot see counts as nothing, see `sized`."""
    return _where(_forth if forth else ~_forth, pl.col(column).fill_null(0))


_WITHIN: Final = {
    "window": pl.col("at") // WINDOW_NS,
    "seconds": pl.lit(2, pl.UInt64).pow(pl.col("at") % WINDOW_NS // 1_000_000_000),
    "first_ns": pl.col("at"),
    "last_ns": pl.max_horizontal("at", pl.min_horizontal("end", "clock").to_physical()),
}

_asks: Final = pl.col("method").is_not_null() | pl.col("dns_name").is_not_null()
_status: Final = pl.col("status")

_EDGE_FACTS: Final = {
    **_WITHIN,
    "events": _events,
    "attempts": _where((pl.col("event") == PROBE) | (_forth & _asks)),
    "refusals": _where(pl.col("event") == REFUSAL),
    "denials": _where(pl.col("event") == DENIAL),
}

# What follows from a column that many sources cannot fill.
_FACTS_OF: Final = {
    "bytes": {
        "bytes_out": _sent("bytes", forth=True),
        "bytes_in": _sent("bytes", forth=False),
        "sized": pl.col("bytes").is_not_null().cast(pl.Int64),
    },
    "packets": {
        "packets_out": _sent("packets", forth=True),
        "packets_in": _sent("packets", forth=False),
        "counted": pl.col("packets").is_not_null().cast(pl.Int64),
    },
    "status": {
        "responses": _where(_status > 0),
        "redirects": _where(_status.is_between(300, 399)),
        "client_errors": _where(_status.is_between(400, 499)),
        "forbidden": _where(_status.is_in([401, 403])),
        "server_errors": _where(_status.is_between(500, 599)),
    },
}


def edge_facts(rows: pl.DataFrame) -> pl.DataFrame:
    """What rows of `sides`, of which `EDGE_COLUMNS` are needed, add to windows of edges.

    Facts of which there are none have no column.
    """
    facts = dict(_EDGE_FACTS)
    for column, of_column in _FACTS_OF.items():
        if rows[column].null_count() < rows.height:
            facts |= of_column
    return rows.with_columns(at=_AT).select(
        "row", "open_from", *_SIDES, *_SERVICE, group="edge", **facts
    )


_ENDED: Final = ("ANSWERED", "REFUSED", "DENIED", "UNANSWERED")


def contact_facts(outcomes: pl.DataFrame) -> pl.DataFrame:
    """What outcomes of first contacts add, each at the moment it speaks of.

    Takes `OUTCOME_SCHEMA` with `clock`, the clock at the row that decided.
    """
    outcome = pl.col("outcome")
    rows = with_edge_port(outcomes.rename({"object_ip": "peer_ip"}))
    return _rare(
        rows,
        contacts=outcome.is_in(_ENDED),
        # Whoever answers late was counted before, as silent.
        contacts_answered=outcome.is_in(["ANSWERED", "TAKEN_BACK"]),
        contacts_refused=outcome == "REFUSED",
        contacts_denied=outcome == "DENIED",
        contacts_silent=outcome == "UNANSWERED",
    )


def new_edge_facts(new_edges: pl.DataFrame) -> pl.DataFrame:
    """What first uses of edges (`Edges.observe`) add."""
    return _rare(new_edges, new_edges=pl.lit(True))


def new_path_facts(new_paths: pl.DataFrame) -> pl.DataFrame:
    """What first answers on paths (`Tried.paths`) add."""
    return _rare(with_edge_port(new_paths), new_paths=pl.lit(True))


def _rare(rows: pl.DataFrame, **facts: pl.Expr) -> pl.DataFrame:
    return rows.select(
        "row",
        "open_from",
        *_SIDES,
        *_SERVICE,
        group=pl.Series(edge_keys(rows), dtype=pl.UInt64),
        window=_AT // WINDOW_NS,
        first_ns=_AT,
        last_ns=_AT,
        seconds=pl.lit(0, pl.UInt64),
        **{name: fact.cast(pl.Int64) for name, fact in facts.items()},
    )


_LOOKUP_FACTS: Final = {
    **_WITHIN,
    "events": _events,
    "queries": _where(_forth),
    "replies": _where(~_forth),
    "nxdomain": _where(~_forth & (pl.col("dns_rcode") == _NXDOMAIN).fill_null(False)),
    "rare_types": _where(~pl.col("dns_type").is_in(_ADDRESSES).fill_null(True)),
    "answer_bytes": _where(pl.col("dns_answer_bytes") > 0, pl.col("dns_answer_bytes")),
    "answers_sized": pl.col("dns_answer_bytes").is_not_null().cast(pl.Int64),
    "longest": pl.col("name_bytes"),
    **{
        name: pl.col(name) * _events
        for name in ("name_bytes", "labels", "digits", "entropy_microbits")
    },
}


def lookup_facts(rows: pl.DataFrame) -> pl.DataFrame:
    """What DNS rows, of which `LOOKUP_COLUMNS` are needed, add to windows of domains.

    Takes rows of `NameParts`. What search paths make of names and what
    resolvers pass on is left out. Adds `name`, the key of the name below the domain.
    """
    rows = rows.filter(
        pl.col("domain").is_not_null() | pl.col("internal"), ~pl.col("forwarded")
    ).with_columns(at=_AT)
    names = rows["subdomain"].unique()
    shapes = name_shape(names).with_columns(subdomain=names)
    rows = rows.join(shapes, on="subdomain", how="left", maintain_order="left")
    return rows.select(
        "row",
        "open_from",
        "actor",
        "actor_pod",
        "actor_ip",
        "domain",
        sample="dns_name",
        group=pl.Series(hash_columns(rows, KEYS["domain"]), dtype=pl.UInt64),
        name="subdomain_key",
        **_LOOKUP_FACTS,
    )
