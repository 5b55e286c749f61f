"""Who talks to whom: a graph of workloads, from what was seen, from a baseline, or from both.

An edge is (src, dst, port, protocol), ports that Linux hands out to clients as 0, like those of a
baseline. It is in one of the `STATES`: known to the baseline, seen (there was no baseline to ask),
new, denied by a policy, or strange, which is to be the object of an incident.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import polars as pl

from sidelong.features.sides import DYNAMIC_PORT
from sidelong.ingest.schema import schema_of
from sidelong.map_strangeness import implicated, marked
from sidelong.models.baseline import Baseline

if TYPE_CHECKING:
    from sidelong.alerts.incident import Incident
    from sidelong.recording import Recording

__all__ = ["EDGES_SCHEMA", "NODES_SCHEMA", "STATES", "Graph"]

STATES: Final = ("known", "seen", "new", "denied", "strange")
"""Of an edge, from ordinary to strange; an edge in two of them is in the later one."""

_TIME: Final = pl.Datetime("ns", "UTC")
_PAIR: Final = ("src", "dst")
_EDGE: Final = (*_PAIR, "port", "protocol")

EDGES_SCHEMA: Final = schema_of(
    {
        "src": pl.String,
        "dst": pl.String,
        "port": pl.UInt16,
        "protocol": pl.String,
        "events": pl.Int64,
        "bytes": pl.Int64,
        "denied": pl.Int64,
        "failed": pl.Int64,
        "first_seen": _TIME,
        "last_seen": _TIME,
        "known": pl.Boolean,
        "active_seconds": pl.Int64,
        "strange": pl.Boolean,
        "incident": pl.String,
        "state": pl.Enum(STATES),
    }
)
"""A row is an edge; events, bytes, denied and failed count what was seen, 0 where only the baseline
knows it. bytes: null where no source told. active_seconds: in how many the baseline saw it used.
incident: the id of the worst one that it belongs to."""

NODES_SCHEMA: Final = schema_of(
    {
        "name": pl.String,
        "namespace": pl.String,
        "kind": pl.String,
        "members": pl.Int64,
        "calls": pl.Int64,
        "called_by": pl.Int64,
        "events": pl.Int64,
        "incidents": pl.Int64,
        "incident": pl.String,
        "severity": pl.String,
    }
)
"""A row is a workload or what else stands at the end of an edge. kind: workload, cluster (Cilium's
reserved identities), address, outside, or others, which stands for `members` nodes that were
folded. calls, called_by: how many others. events: of all its edges. incidents: how many it is the
actor of; incident and severity are those of the worst."""


@dataclass(frozen=True)
class Graph:
    """Workloads and the edges between them, both in a fixed order.

    folded: what was put together to keep the graph small, a sentence each. centre: around whom it
    is, if around anybody.
    """

    nodes: pl.DataFrame
    edges: pl.DataFrame
    folded: tuple[str, ...] = ()
    centre: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        contacts: pl.DataFrame | None = None,
        baseline: Baseline | None = None,
        incidents: Sequence["Incident"] = (),
    ) -> "Graph":
        """The graph of what was seen (`Recording.contacts`), what is known, and what is strange.

        Incidents of severity info are told of, and strange to nobody.
        """
        seen = _seen(contacts) if contacts is not None else _edges_frame()
        known = _known(baseline) if baseline is not None else _edges_frame()
        edges = _joined(seen, known, known_at_all=baseline is not None)
        edges = marked(edges, incidents)
        asked = baseline is not None and not baseline.edges.is_empty()
        state = (
            pl.when("strange")
            .then(pl.lit("strange"))
            .when(pl.col("denied") > 0)
            .then(pl.lit("denied"))
            .when("known")
            .then(pl.lit("known"))
            .otherwise(pl.lit("new" if asked else "seen"))
        )
        edges = edges.with_columns(state=state.cast(pl.Enum(STATES)))
        edges = edges.select(EDGES_SCHEMA.names()).sort(_EDGE, nulls_last=True)
        return cls(_nodes(edges, incidents), edges)

    @classmethod
    def of_recording(cls, recording: "Recording", baseline: Baseline | None = None) -> "Graph":
        """The graph of a recording, beside the baseline that it was judged by."""
        return cls.of(recording.contacts, baseline, recording.incidents)

    def around(self, *workloads: str, hops: int = 1, most: int | None = 40) -> "Graph":
        """The edges by which some workloads reach others in so many hops, or are reached by them.

        most: how many nodes there may be; the least telling are folded into "and 37 others". A
        workload that the graph does not know is left out; see `named_like`.
        """
        inside = pl.Series("name", [one for one in workloads if one in self], dtype=pl.String)
        centre = tuple(inside)
        edges = self.edges.clear()
        for _ in range(max(0, hops)):
            near = pl.col("src").is_in(inside.implode()) | pl.col("dst").is_in(inside.implode())
            edges = self.edges.filter(near)
            inside = pl.concat([edges["src"], edges["dst"], inside]).unique().rename("name")
        nodes = self.nodes.filter(pl.col("name").is_in(inside.implode()))
        return replace(self, nodes=nodes, edges=edges, centre=centre).bounded(most)

    def bounded(self, most: int | None) -> "Graph":
        """The same with at most so many nodes, as far as incidents leave a choice; see `folded`."""
        from sidelong.map_folding import bounded  # which needs this module

        return self if most is None else bounded(self, most)

    def __contains__(self, workload: object) -> bool:
        return isinstance(workload, str) and workload in self.nodes["name"]

    def named_like(self, workload: str, most: int = 3) -> list[str]:
        """Nodes whose names come close to one that is not there, closest first."""
        from difflib import get_close_matches

        names = self.nodes.filter(pl.col("kind") != "others")["name"].to_list()
        told = workload.rpartition("/")[2].lower()
        ending = [name for name in names if told and told in name.lower()]
        return list(dict.fromkeys([*ending, *get_close_matches(workload, names, n=most)]))[:most]

    @property
    def counts(self) -> dict[str, int]:
        """How many edges are in each state, of those that occur, strangest first."""
        counted = dict(self.edges.group_by("state").len().iter_rows())
        return {state: counted[state] for state in reversed(STATES) if state in counted}

    def svg(self, title: str = "") -> str:
        """A drawing that stands for itself; see `sidelong.map_drawing`."""
        from sidelong.map_drawing import svg

        return svg(self, title)

    def __repr__(self) -> str:
        """As a tree of lines, folded if there is much of it."""
        from sidelong.map_tree import tree

        return tree(self.bounded(40)).rstrip()

    def _repr_html_(self) -> str:
        """For Jupyter: a drawing to point at and walk through, and the same as a table."""
        from sidelong.map_drawing import widget

        return widget(self)


def _edges_frame() -> pl.DataFrame:
    return EDGES_SCHEMA.to_frame()


def _seen(contacts: pl.DataFrame) -> pl.DataFrame:
    port = pl.col("port").fill_null(0)
    named = contacts.drop_nulls(_PAIR).with_columns(
        pl.when(port < DYNAMIC_PORT).then(port).otherwise(0).cast(pl.UInt16).alias("port"),
        pl.col("protocol").cast(pl.String),
        pl.col("bytes").cast(pl.Int64),
    )
    told = pl.col("bytes").is_not_null().any()
    return named.group_by(_EDGE).agg(
        pl.col("events").sum().cast(pl.Int64),
        pl.when(told).then(pl.col("bytes").sum()),
        pl.col("denied", "failed").sum().cast(pl.Int64),
        pl.col("first_seen").min().cast(_TIME),
        pl.col("last_seen").max().cast(_TIME),
    )


def _known(baseline: Baseline) -> pl.DataFrame:
    return baseline.edges.select(
        "active_seconds",
        src="actor",
        dst="peer",
        port="edge_port",
        protocol=pl.col("protocol").cast(pl.String),
    )


def _joined(seen: pl.DataFrame, known: pl.DataFrame, *, known_at_all: bool) -> pl.DataFrame:
    """What was seen and what is known, as edges that nothing is strange about yet."""
    counted = ("events", "denied", "failed", "active_seconds")
    zero = {name: pl.lit(0, pl.Int64) for name in counted}
    both = seen.select(*_EDGE, "events", "bytes", "denied", "failed", "first_seen", "last_seen")
    known = known.select(*_EDGE, "active_seconds").with_columns(known=pl.lit(True))
    if known_at_all:
        both = both.join(known, on=_EDGE, how="full", coalesce=True)
    else:
        both = both.with_columns(known=pl.lit(False), active_seconds=pl.lit(0, pl.Int64))
    return both.with_columns(
        *(pl.coalesce(name, value) for name, value in zero.items()),
        pl.col("known").fill_null(False),
    )


def _nodes(edges: pl.DataFrame, incidents: Iterable["Incident"]) -> pl.DataFrame:
    """Whoever stands at an end of an edge, and the actors of incidents."""
    ends = pl.concat(
        [
            edges.select(name=here, other=there, calls=pl.lit(calls), events="events")
            for here, there, calls in (("src", "dst", True), ("dst", "src", False))
        ]
    )
    counted = ends.group_by("name").agg(
        calls=pl.col("other").filter("calls").n_unique().cast(pl.Int64),
        called_by=pl.col("other").filter(~pl.col("calls")).n_unique().cast(pl.Int64),
        events=pl.col("events").sum(),
    )
    name = pl.col("name")
    kind = (
        pl.when(name.str.starts_with("reserved:"))
        .then(pl.lit("cluster"))
        .when(name.str.starts_with("ip:"))
        .then(pl.lit("address"))
        .when(name.str.contains("/") & ~name.str.starts_with("world:"))
        .then(pl.lit("workload"))
        .otherwise(pl.lit("outside"))
    )
    return (
        counted.join(implicated(incidents), on="name", how="full", coalesce=True)
        .with_columns(
            kind=kind,
            namespace=pl.when(kind == "workload").then(name.str.split("/").list.first()),
            members=pl.lit(1, pl.Int64),
            **{
                column: pl.col(column).fill_null(0)
                for column in ("calls", "called_by", "events", "incidents")
            },
        )
        .select(NODES_SCHEMA.names())
        .cast(NODES_SCHEMA)
        .sort("name")
    )
