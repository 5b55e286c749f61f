"""The features of windows in one table: their names, units, meanings and expressions.

A window is 60 seconds of event time, aligned to the minute, of one of four things:

    workload   an actor
    edge       (actor, peer, edge port, protocol)
    domain     (actor, pod, registered domain)
    called     a peer: who calls it; needs the windows of all actors, see `fan_in`

Expressions are over the totals of a window (features/window_totals.py), which are integers: how a
stream was cut or partitioned changes none of them. A feature is null where the source cannot see
what it measures, or where there is nothing to take a share of; that is not the same as zero.
docs/features.md is written from this table.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import polars as pl
from polars.datatypes import DataTypeClass

from sidelong.ingest.schema import PROTOCOLS, schema_of

__all__ = [
    "CALLED_WINDOW",
    "CATALOGUE",
    "DOMAIN_WINDOW",
    "EDGE_WINDOW",
    "KEYS",
    "LATENESS_NS",
    "SCOPES",
    "WINDOW_NS",
    "WORKLOAD_WINDOW",
    "Feature",
    "names_of",
]

WINDOW_NS: Final = 60_000_000_000
"""A window lasts a minute of event time and begins at a whole one."""

LATENESS_NS: Final = 2_000_000_000
"""A window closes at the first row of the pulse whose clock is so far past its end."""

_TIME: Final = pl.Datetime("ns", "UTC")
_Columns: TypeAlias = dict[str, pl.DataType | DataTypeClass]

_PLACE: Final[_Columns] = {
    "row": pl.UInt64,
    "window": _TIME,
    "last": _TIME,
    "last_row": pl.UInt64,
    "group": pl.UInt64,
}

KEYS: Final = {
    "workload": ("actor",),
    "edge": ("actor", "peer", "edge_port", "protocol"),
    "domain": ("actor", "actor_pod", "domain"),
    "called": ("peer",),
}
"""What a window of each scope is a window of; `group` is the 64-bit key of these columns."""

SCOPES: Final = tuple(KEYS)


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a window frame, Float64.

    expression: over the totals of a window. skewed: spans orders of magnitude, so that its
    logarithm is what compares.
    """

    name: str
    unit: str
    meaning: str
    expression: pl.Expr
    skewed: bool = False


def _share(part: str, whole: pl.Expr) -> pl.Expr:
    """A part of a whole, between 0 and 1; null of nothing."""
    return pl.when(whole > 0).then((pl.col(part) / whole).clip(0, 1))


def _ratio(part: str, whole: str) -> pl.Expr:
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def _if_seen(column: str, seen: str) -> pl.Expr:
    """A total of what not every source can see: null where no row had it."""
    return pl.when(pl.col(seen) > 0).then(pl.col(column))


def _seconds(column: str) -> pl.Expr:
    # To divide by a literal rounds otherwise in a frame of one row than in longer ones.
    return (pl.col(column) * 1e-9).round(9)


def _millionths(column: str) -> pl.Expr:
    return (pl.col(column) * 1e-6).round(6)


_tries: Final = pl.col("attempts") + pl.col("denials")
_payload: Final = pl.col("bytes_out") + pl.col("bytes_in")

_TRAFFIC: Final = (
    Feature("events", "events", "rows of telemetry, each by the events it stands for",
            pl.col("events"), skewed=True),
    Feature("attempts", "events", "connections or exchanges begun, as far as rows show a beginning",
            pl.col("attempts"), skewed=True),
    Feature("bytes_out", "bytes", "sent by the actor", _if_seen("bytes_out", "sized"), skewed=True),
    Feature("bytes_in", "bytes", "sent to the actor", _if_seen("bytes_in", "sized"), skewed=True),
    Feature("bytes_out_share", "share", "of the bytes both ways, those that the actor sent",
            _share("bytes_out", _payload)),
    Feature("packets_out", "packets", "sent by the actor", _if_seen("packets_out", "counted"),
            skewed=True),
    Feature("packets_in", "packets", "sent to the actor", _if_seen("packets_in", "counted"),
            skewed=True),
    Feature("packet_bytes_out", "bytes", "mean length of a packet of the actor's",
            _ratio("bytes_out", "packets_out")),
    Feature("packet_bytes_in", "bytes", "mean length of a packet to the actor",
            _ratio("bytes_in", "packets_in")),
)  # fmt: skip

_OUTCOMES: Final = (
    Feature("refusals", "events", "resets and ICMP errors that came back", pl.col("refusals"),
            skewed=True),
    Feature("refused_share", "share", "refusals for each attempt or denial, 1 at most",
            _share("refusals", _tries)),
    Feature("denials", "events", "dropped by policy", pl.col("denials"), skewed=True),
    Feature("denied_share", "share", "of attempts and denials, the denials",
            _share("denials", _tries)),
    Feature("first_contacts", "contacts", "first contacts of the last 24 h that ended",
            pl.col("contacts"), skewed=True),
    Feature("first_answered_share", "share", "of these, the answered",
            _share("contacts_answered", pl.col("contacts"))),
    Feature("first_refused", "contacts", "of these, the refused", pl.col("contacts_refused"),
            skewed=True),
    Feature("first_denied", "contacts", "of these, the denied", pl.col("contacts_denied"),
            skewed=True),
    Feature("first_unanswered", "contacts", "of these, those that had no answer within a second",
            pl.col("contacts_silent"), skewed=True),
)  # fmt: skip

_HTTP: Final = (
    Feature("new_paths", "paths",
            "(peer, method, path with identifiers folded) first answered within 24 h",
            pl.col("new_paths"), skewed=True),
    Feature("http_responses", "responses", "HTTP and gRPC answers with a status",
            pl.col("responses"), skewed=True),
    Feature("http_redirect_share", "share", "of these, 3xx",
            _share("redirects", pl.col("responses"))),
    Feature("http_client_error_share", "share", "of these, 4xx",
            _share("client_errors", pl.col("responses"))),
    Feature("http_forbidden_share", "share", "of these, 401 and 403",
            _share("forbidden", pl.col("responses"))),
    Feature("http_server_error_share", "share", "of these, 5xx",
            _share("server_errors", pl.col("responses"))),
)  # fmt: skip

_ACTIVE: Final = Feature(
    "active_seconds", "seconds", "seconds of the window that saw an event",
    pl.col("seconds").bitwise_count_ones(),
)  # fmt: skip

_RHYTHM: Final = (
    Feature("span", "seconds", "from the first event of the window to the end of its last",
            _seconds("span_ns")),
    Feature("interval", "seconds",
            "median time between beginnings, of the last 32 within an hour; of 8 at least",
            _seconds("interval_ns"), skewed=True),
    Feature("interval_spread", "ratio",
            "distance of the quartiles of these times over their median; 0 is a clock",
            _millionths("interval_spread_ppm")),
    Feature("periodicity", "share",
            "Rayleigh's R of these beginnings at that interval: 1 is a clock, 0 is chance",
            _millionths("periodicity_ppm")),
)  # fmt: skip

_PLACE_IN_TIME: Final = (
    Feature("hour_of_week", "hours", "since Monday 00:00 UTC, whole", pl.col("hour_of_week")),
    Feature("completeness", "share", "of the cluster's events in this minute, those that arrived",
            pl.when(pl.col("stream_lost") > 0)
            .then(pl.col("stream_rows") / (pl.col("stream_rows") + pl.col("stream_lost")))
            .otherwise(1.0)),
)  # fmt: skip

_WORKLOAD: Final = (
    Feature("peers", "peers", "fan-out: workloads, domains, networks or addresses that it used",
            pl.col("peers"), skewed=True),
    Feature("external_peers", "peers", "of these, those outside the cluster",
            pl.col("external_peers"), skewed=True),
    Feature("ports", "ports", "distinct (server port, protocol), dynamic ports as one",
            pl.col("ports"), skewed=True),
    *_TRAFFIC,
    *_OUTCOMES,
    Feature("new_edges", "edges", "edges used for the first time, against baseline and 30 days",
            pl.col("new_edges"), skewed=True),
    Feature("new_edge_share", "share", "of the edges it used, the new ones",
            _share("new_edges", pl.col("edges"))),
    *_HTTP,
    Feature("lookups", "lookups",
            "DNS questions or answers, whichever are more; what search paths make left out",
            pl.max_horizontal("queries", "replies"), skewed=True),
    Feature("lookup_domains", "domains", "distinct registered domains asked for",
            pl.col("lookup_domains"), skewed=True),
    Feature("lookup_names", "names", "distinct outside names, those of each pod added up",
            pl.col("names"), skewed=True),
    Feature("nxdomain_share", "share", "of DNS answers, those that no such name exists",
            _share("nxdomain", pl.col("replies"))),
    Feature("unknown_services", "answers", "NXDOMAIN for names within the cluster",
            pl.col("nxdomain_internal"), skewed=True),
    _ACTIVE,
    *_PLACE_IN_TIME,
)  # fmt: skip

_EDGE: Final = (
    *_TRAFFIC,
    *_OUTCOMES,
    Feature("new_edge", "yes or no", "1 when this window saw the edge for the first time",
            pl.col("new_edges").clip(0, 1)),
    *_HTTP,
    _ACTIVE,
    *_RHYTHM,
    *_PLACE_IN_TIME,
)  # fmt: skip

_DOMAIN: Final = (
    Feature("lookups", "lookups", "questions or answers, whichever are more",
            pl.max_horizontal("queries", "replies"), skewed=True),
    Feature("names", "names", "distinct names", pl.col("names"), skewed=True),
    Feature("distinct_share", "share", "distinct names for each lookup",
            _share("names", pl.max_horizontal("queries", "replies"))),
    Feature("name_length", "bytes", "mean length of what stands below the domain",
            _ratio("name_bytes", "events"), skewed=True),
    Feature("name_length_max", "bytes", "its greatest length", pl.col("longest"), skewed=True),
    Feature("label_length", "bytes", "its mean label", _ratio("name_bytes", "labels"),
            skewed=True),
    Feature("digit_share", "share", "of its characters, the digits",
            _share("digits", pl.col("name_bytes"))),
    Feature("entropy", "bits", "mean entropy of its characters, of each name by itself",
            _ratio("entropy_microbits", "events") * 1e-6),
    Feature("rare_type_share", "share", "questions or answers for other than addresses",
            _share("rare_types", pl.col("events"))),
    Feature("nxdomain_share", "share", "of answers, those that no such name exists",
            _share("nxdomain", pl.col("replies"))),
    Feature("answer_bytes", "bytes", "mean data of an answer",
            _ratio("answer_bytes", "answers_sized"), skewed=True),
    _ACTIVE,
    *_RHYTHM,
    *_PLACE_IN_TIME,
)  # fmt: skip

_CALLED: Final = (
    Feature("callers", "actors", "fan-in: actors that used it", pl.col("callers"), skewed=True),
    Feature("new_callers", "actors", "of these, those over a new edge", pl.col("new_callers"),
            skewed=True),
    *_TRAFFIC,
    *_OUTCOMES[:4],
    *_PLACE_IN_TIME,
)  # fmt: skip

CATALOGUE: Final[dict[str, tuple[Feature, ...]]] = {
    "workload": _WORKLOAD,
    "edge": _EDGE,
    "domain": _DOMAIN,
    "called": _CALLED,
}
"""The features of each scope, in the order of the columns."""


def names_of(scope: str) -> list[str]:
    """The names of a scope's features, in the order of its columns."""
    return [feature.name for feature in CATALOGUE[scope]]


def _schema(scope: str, identity: _Columns) -> pl.Schema:
    return schema_of({**_PLACE, **identity, **dict.fromkeys(names_of(scope), pl.Float64)})


_ACTOR: Final[_Columns] = {"actor": pl.String, "actor_pod": pl.String, "actor_ip": pl.String}
_PEER: Final[_Columns] = {"peer": pl.String, "peer_ip": pl.String}
_SERVICE: Final[_Columns] = {"port": pl.UInt16, "edge_port": pl.UInt16, "protocol": PROTOCOLS}

WORKLOAD_WINDOW: Final = _schema("workload", {**_ACTOR})
"""A window of a workload.

row: number of the row of the pulse at which it closed. window: its start. last, last_row: time and
number of the newest row in it. group: the key of its `KEYS`. actor_pod, actor_ip, as also peer_ip,
port and sample of the other schemas, are those of its last row. Then the features.
"""

EDGE_WINDOW: Final = _schema("edge", {**_ACTOR, **_PEER, **_SERVICE})
"""A window of an edge."""

DOMAIN_WINDOW: Final = _schema("domain", {**_ACTOR, "domain": pl.String, "sample": pl.String})
"""A window of a pod's lookups below a registered domain; sample: a name as asked."""

CALLED_WINDOW: Final = _schema("called", {**_PEER})
"""A window of a workload as others see it."""
