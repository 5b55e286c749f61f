"""Big maps made small: the least telling nodes are put together, and it is said which."""

from dataclasses import replace
from typing import Final

import polars as pl

from sidelong.map_strangeness import RANKS
from sidelong.service_map import EDGES_SCHEMA, NODES_SCHEMA, STATES, Graph

__all__ = ["bounded"]

_EDGE: Final = ("src", "dst", "port", "protocol")
_LEAST: Final = 6  # nodes; below that a drawing says nothing
_NAMED: Final = 4
_OUTSIDE: Final = "outside the cluster"
_ADDRESSES: Final = "addresses without a name"


def bounded(graph: Graph, most: int) -> Graph:
    """The graph with at most `most` nodes, `_LEAST` at the least.

    Kept are the centre, then who takes part in what is strange, denied or new, then whoever is
    busiest. Around a centre the others are those that call and those that are called; in a whole
    map they go by namespace. Edges within such a group are left out, alike ones are added up.
    """
    most = max(most, _LEAST)
    if graph.nodes.height <= most:
        return graph
    grouped = _groups(graph)
    sizes = grouped.group_by("group").len().sort(["len", "group"], descending=[True, False])
    room = max(1, most // 3)
    if sizes.height > room:
        rare = sizes["group"].slice(room - 1)
        fits = ~pl.col("group").is_in(rare.implode())
        other = pl.lit("other namespaces" if not graph.centre else "the rest")
        grouped = grouped.with_columns(group=pl.when(fits).then("group").otherwise(other))
    order = _telling(graph)
    kept = order.head(most - min(room, sizes.height))
    aside = grouped.join(kept, on="name", how="anti")
    kept = order.head(most - aside["group"].n_unique())  # those that are kept whole need no fold
    aside = grouped.join(kept, on="name", how="anti")
    alone = aside.group_by("group").len().filter(pl.col("len") == 1)
    aside = aside.join(alone, on="group", how="anti")
    names = aside.group_by("group").agg(members=pl.len().cast(pl.Int64)).sort("group")
    taken = set(graph.nodes["name"])
    word = "and {:,} others ({})" if graph.centre else "{1}: {0:,} more"
    called = {
        group: _untaken(word.format(members, group), taken) for group, members in names.iter_rows()
    }
    into = aside.select("name", into=pl.col("group").replace_strict(called, return_dtype=pl.String))
    edges = _moved(graph.edges, into)
    nodes = pl.concat(
        [
            graph.nodes.join(into, on="name", how="anti"),
            _folded_nodes(graph.nodes.join(into, on="name"), edges),
        ]
    ).sort("name")
    told = _sentence(names, graph)
    return replace(graph, nodes=nodes, edges=edges, folded=(*graph.folded, told))


def _groups(graph: Graph) -> pl.DataFrame:
    """In which group each node would be folded: name, group."""
    nodes = graph.nodes
    if graph.centre:
        callers = graph.edges["src"].unique().implode()
        calls = pl.col("name").is_in(callers)
        group = pl.when(calls).then(pl.lit("callers")).otherwise(pl.lit("called"))
    else:
        group = pl.coalesce(
            "namespace",
            pl.when(pl.col("kind") == "address")
            .then(pl.lit(_ADDRESSES))
            .when(pl.col("kind") == "cluster")
            .then(pl.lit("reserved"))
            .otherwise(pl.lit(_OUTSIDE)),
        )
    return nodes.select("name", group=group)


def _telling(graph: Graph) -> pl.DataFrame:
    """The names of all nodes, those first that should be seen."""
    rank = pl.col("state").to_physical().cast(pl.Int64)
    ends = (
        pl.concat([graph.edges.select(rank, name=side) for side in ("src", "dst")])
        .group_by("name")
        .agg(state=pl.col("state").max())
    )
    severity = pl.col("severity").replace_strict(
        {name: place for place, name in enumerate(RANKS)}, default=len(RANKS), return_dtype=pl.Int64
    )
    central = pl.Series(graph.centre, dtype=pl.String).implode()
    return (
        graph.nodes.join(ends, on="name", how="left")
        .with_columns(central=pl.col("name").is_in(central), worst=severity)
        .sort(
            ["central", "state", "worst", "events", "name"],
            descending=[True, True, False, True, False],
            nulls_last=True,
        )
        .select("name")
    )


def _moved(edges: pl.DataFrame, into: pl.DataFrame) -> pl.DataFrame:
    """The edges between what remains."""
    for side in ("src", "dst"):
        edges = edges.join(into.rename({"name": side}), on=side, how="left")
        edges = edges.with_columns(pl.coalesce("into", side).alias(side)).drop("into")
    told = pl.col("bytes").is_not_null().any()
    state = pl.col("state").to_physical().max()
    return (
        edges.filter(pl.col("src") != pl.col("dst"))
        .sort("strange", descending=True, maintain_order=True)
        .group_by(_EDGE, maintain_order=True)
        .agg(
            pl.col("events", "denied", "failed", "active_seconds").sum(),
            pl.when(told).then(pl.col("bytes").sum()),
            pl.col("first_seen").min(),
            pl.col("last_seen").max(),
            pl.col("known").all(),
            pl.col("strange").any(),
            pl.col("incident").drop_nulls().first(),
            state=state.replace_strict(dict(enumerate(STATES)), return_dtype=pl.Enum(STATES)),
        )
        .select(EDGES_SCHEMA.names())
        .sort(_EDGE, nulls_last=True)
    )


def _folded_nodes(nodes: pl.DataFrame, edges: pl.DataFrame) -> pl.DataFrame:
    """What stands for the nodes that went `into` one."""
    ends = {
        column: edges.group_by(here).agg(pl.col(there).n_unique().cast(pl.Int64).alias(column))
        for column, here, there in (("calls", "src", "dst"), ("called_by", "dst", "src"))
    }
    severity = pl.col("severity").filter(pl.col("incidents") > 0)
    rows = nodes.group_by("into").agg(
        pl.col("namespace").unique().sort(),
        pl.col("members", "events", "incidents").sum(),
        pl.col("incident").drop_nulls().first(),
        severity.first(),
        kind=pl.lit("others"),
    )
    rows = rows.with_columns(
        namespace=pl.when(pl.col("namespace").list.len() == 1).then(
            pl.col("namespace").list.first()
        ),
        name="into",
    )
    for column, counted in ends.items():
        rows = rows.join(counted, left_on="name", right_on=counted.columns[0], how="left")
        rows = rows.with_columns(pl.col(column).fill_null(0))
    return rows.select(NODES_SCHEMA.names())


def _untaken(name: str, taken: set[str]) -> str:
    while name in taken:  # somebody may have chosen it
        name += "\N{PRIME}"
    return name


def _sentence(names: pl.DataFrame, graph: Graph) -> str:
    total = int(names["members"].sum())
    rows = names.sort(["members", "group"], descending=[True, False]).rows()
    told = ", ".join(f"{members:,} of {group}" for group, members in rows[:_NAMED])
    if graph.centre:
        told = ", ".join(f"{members:,} {group}" for group, members in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED:,} more groups" if len(rows) > _NAMED else ""
    return f"{total:,} of {graph.nodes.height:,} nodes are folded: {told}{more}"
