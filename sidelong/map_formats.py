"""A map as text for other programs and for people: DOT, GraphML, JSON, Mermaid, a tree.

The same graph gives the same text, byte for byte. Names come from traffic: each format escapes what
is special in it, after `plain` has made them one line that shows.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

import polars as pl

from sidelong.alerts.plain_text import plain, printable_json
from sidelong.map_pairs import pairs, ports_told
from sidelong.map_tree import tree
from sidelong.service_map import Graph

__all__ = ["FORMATS", "dot", "graphml", "json_text", "mermaid"]

_DOT: Final = {
    "known": 'color="#8b929e"',
    "seen": 'color="#5b6472"',
    "new": 'color="#1b62c4", penwidth=1.6, style=dashed',
    "denied": 'color="#96590a", penwidth=1.6, arrowhead=tee',
    "strange": 'color="#c81e2e", penwidth=2.6',
}
_MERMAID: Final = {
    "known": "stroke:#8b929e",
    "seen": "stroke:#5b6472",
    "new": "stroke:#1b62c4,stroke-dasharray:6 3",
    "denied": "stroke:#96590a,stroke-dasharray:2 3",
    "strange": "stroke:#c81e2e,stroke-width:3px",
}
_SAFE: Final = frozenset(" /-_.,") | frozenset(
    map(chr, [*range(48, 58), *range(65, 91), *range(97, 123)])
)
_GRAPHML: Final[Mapping[type[pl.DataType], str]] = {
    pl.Boolean: "boolean",
    pl.Int64: "long",
    pl.UInt16: "int",
}


def dot(graph: Graph) -> str:
    """For Graphviz; one edge for all ports between two workloads, in its strangest state."""
    ids = _numbered(graph)
    lines = [
        "digraph sidelong {",
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor="#f4f5f7", color="#8b929e", '
        'fontname="sans-serif", fontsize=11];',
        '  edge [fontname="sans-serif", fontsize=9];',
    ]
    for note in graph.folded:
        lines.append(f'  label="{_dot(note)}";')
    for row in graph.nodes.iter_rows(named=True):
        look = ', color="#c81e2e", penwidth=2.2' if row["incidents"] else ""
        look += ', style="filled,dashed"' if row["kind"] == "others" else ""
        lines.append(f'  {ids[row["name"]]} [label="{_dot(row["name"])}"{look}];')
    for row in pairs(graph).iter_rows(named=True):
        label = _dot(ports_told(row))
        lines.append(
            f'  {ids[row["src"]]} -> {ids[row["dst"]]} [label="{label}", {_DOT[row["state"]]}];'
        )
    return "\n".join([*lines, "}", ""])


def mermaid(graph: Graph) -> str:
    """For Markdown that draws (GitHub, GitLab, mkdocs); one edge for all ports between two."""
    ids = _numbered(graph)
    lines = ["flowchart LR"]
    lines += [f"  %% {_mermaid(note)}" for note in graph.folded]
    for row in graph.nodes.iter_rows(named=True):
        lines.append(f'  {ids[row["name"]]}["{_mermaid(row["name"])}"]')
    drawn = list(pairs(graph).iter_rows(named=True))
    for row in drawn:
        told = f"{row['state']} " if row["state"] in ("strange", "denied", "new") else ""
        label = _mermaid(f"{told}{ports_told(row)}")
        lines.append(f'  {ids[row["src"]]} -->|"{label}"| {ids[row["dst"]]}')
    for state, look in _MERMAID.items():
        if places := [str(place) for place, row in enumerate(drawn) if row["state"] == state]:
            lines.append(f"  linkStyle {','.join(places)} {look}")
    acting = graph.nodes.filter(pl.col("incidents") > 0)["name"]
    if len(acting):
        lines.append("  classDef actor stroke:#c81e2e,stroke-width:3px")
        lines.append(f"  class {','.join(ids[name] for name in acting)} actor")
    return "\n".join([*lines, ""])


def graphml(graph: Graph) -> str:
    """For yEd, Gephi, Cytoscape and networkx: every column of nodes and edges as it is.

    Edges are told one by one, each with its port, so that the graph is a multigraph.
    """
    ids = _numbered(graph)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
    ]
    for frame, kind, left_out in ((graph.nodes, "node", ()), (graph.edges, "edge", ("src", "dst"))):
        for name, dtype in frame.schema.items():
            if name not in left_out:
                told = f'attr.name="{name}" attr.type="{_GRAPHML.get(type(dtype), "string")}"'
                lines.append(f'  <key id="{kind}-{name}" for="{kind}" {told}/>')
    lines.append('  <graph id="sidelong" edgedefault="directed">')
    for row in graph.nodes.iter_rows(named=True):
        lines.append(f'    <node id="{ids[row["name"]]}">')
        lines += [f"      {line}" for line in _graphml("node", row)]
        lines.append("    </node>")
    for place, row in enumerate(graph.edges.iter_rows(named=True)):
        source, target = (quoteattr(ids[row.pop(end)]) for end in ("src", "dst"))
        lines.append(f'    <edge id="e{place}" source={source} target={target}>')
        lines += [f"      {line}" for line in _graphml("edge", row)]
        lines.append("    </edge>")
    return "\n".join([*lines, "  </graph>", "</graphml>", ""])


def json_text(graph: Graph) -> str:
    """One object with `nodes` (each with its `id`), `edges` (`source`, `target`) and `folded`.

    It is what networkx calls node-link data, and d3 reads; names are as they are, not shortened.
    """
    nodes = [{"id": row.pop("name"), **row} for row in graph.nodes.iter_rows(named=True)]
    edges = [
        {"source": row.pop("src"), "target": row.pop("dst"), **row}
        for row in graph.edges.iter_rows(named=True)
    ]
    whole = {
        "directed": True,
        "multigraph": True,
        "graph": {"centre": list(graph.centre), "folded": list(graph.folded)},
        "nodes": nodes,
        "edges": edges,
    }
    return printable_json(json.dumps(whole, ensure_ascii=False, default=_moment)) + "\n"


FORMATS: Final[Mapping[str, Callable[[Graph], str]]] = {
    "text": tree,
    "dot": dot,
    "graphml": graphml,
    "json": json_text,
    "mermaid": mermaid,
    "svg": Graph.svg,
}
"""By name; `svg` is a drawing that a browser or an image viewer opens."""


def _numbered(graph: Graph) -> dict[str, str]:
    """Identifiers that are safe in every format."""
    return {name: f"n{place}" for place, name in enumerate(graph.nodes["name"])}


def _dot(text: str) -> str:
    # Graphviz reads entities in labels, and escapes such as \N for the name of the node.
    return plain(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _mermaid(text: str) -> str:
    """What is not surely text as a code that Mermaid turns back after it has parsed."""
    return "".join(one if one in _SAFE else f"#{ord(one)};" for one in plain(text))


def _graphml(kind: str, row: Mapping[str, Any]) -> list[str]:
    return [
        f'<data key="{kind}-{name}">{_xml(value)}</data>'
        for name, value in row.items()
        if value is not None
    ]


def _xml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(plain(_moment(value)) if isinstance(value, datetime) else plain(str(value)))


def _moment(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"no value of a graph is a {type(value).__name__}")
