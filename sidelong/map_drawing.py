"""A map as a drawing: SVG that needs nothing else, and with it a table that says the same.

It works as it stands; where scripts run, map.js lets it be enlarged and moved, and shows with whom
a workload talks when it is pointed at or reached with the Tab key.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import polars as pl
from markupsafe import Markup

from sidelong.map_layout import BOX, GAP, Points, layout
from sidelong.map_pairs import pairs, ports_told, strength
from sidelong.page_templates import asset, filled
from sidelong.service_map import Graph

__all__ = ["DRAWN", "drawing", "figure", "legend", "svg", "table", "widget"]

DRAWN: Final = 60
"""Boxes of a drawing; more are folded."""

_ARROWS: Final = 150
_FEWER: Final = (40, 28, 18, 12)
_LABELLED: Final = 14  # arrows up to which ordinary ones are labelled too
_ROWS: Final = 300
_LETTER: Final = 6.8  # the width of one on an arrow
_BESIDE: Final = 24.0
_FITS: Final = 18  # characters of a bold name, and some more of what stands below it
_FITS_BELOW: Final = 22
_ROUND: Final = ("outside", "address")
_MARKS: Final = {"strange": "!", "denied": "\N{MULTIPLICATION SIGN}", "new": "+"}
_LEGEND: Final = {
    "strange": "strange: the object of an incident",
    "denied": "denied",
    "new": "new: not in the baseline",
    "seen": "seen",
    "known": "known to the baseline",
}


def svg(graph: Graph, title: str = "") -> str:
    """A file of its own: the drawing with its style in it."""
    return str(drawing(graph, title, whole=True)) + "\n"


def widget(graph: Graph) -> str:
    """For a page that is not ours, as a notebook: drawing, table, style and script in one piece."""
    return str(
        filled("map_widget.html", css=asset("map.css"), js=asset("map.js"), figure=figure(graph))
    )


def figure(
    graph: Graph, title: str = "", *, most: int = DRAWN, links: dict[str, str] | None = None
) -> Markup:
    """The drawing in a frame, what its arrows mean, and folded away the same as a table."""
    small = _readable(graph, most)
    return filled(
        "map_figure.html",
        name=f"Drawing: {title or _title(graph)}",
        drawing=drawing(small, title, most=most, links=links),
        legend=legend(small),
        table=table(small, title or _title(graph)),
    )


def drawing(
    graph: Graph,
    title: str = "",
    *,
    whole: bool = False,
    most: int = DRAWN,
    links: dict[str, str] | None = None,
) -> Markup:
    """The SVG, with a title and a description; links: where boxes lead to, by name.

    whole: with the style in it. Of names that are longer than their box the middle is left out; the
    whole name is in what a pointer or a screen reader is told.
    """
    graph = _readable(graph, most)
    nodes = list(graph.nodes.iter_rows(named=True))
    index = {node["name"]: place for place, node in enumerate(nodes)}
    rows = list(pairs(graph).iter_rows(named=True))
    every = len(rows) <= _LABELLED
    labels = [_label(row, every=every) for row in rows]
    gap = max([GAP, *(_LETTER * len(label) + _BESIDE for label in labels)])
    placed = layout(len(nodes), [(index[row["src"]], index[row["dst"]]) for row in rows], gap)
    boxes = [
        _box(
            node, float(x), float(y), node["name"] in graph.centre, (links or {}).get(node["name"])
        )
        for node, (x, y) in zip(nodes, placed.boxes, strict=True)
    ]
    arrows = [
        _arrow(row, points, index, label)
        for row, points, label in zip(rows, placed.arrows, labels, strict=True)
        if points
    ]
    arrows.sort(key=lambda arrow: list(_LEGEND).index(arrow["state"]), reverse=True)
    told = title or _title(graph)
    values = {
        "title": told,
        "description": _description(graph, rows),
        "width": round(placed.size[0]),
        "height": round(placed.size[1]),
        "boxes": boxes,
        "arrows": arrows,
        "css": asset("map.css") if whole else None,
    }
    # Drawings of one page need names of their own, and the same graph the same ones.
    shape = repr((told, [box["x"] for box in boxes], [row["src"] for row in rows], nodes, rows))
    values["id"] = (
        "m" + hashlib.blake2b(shape.encode("utf-8", "replace"), digest_size=5).hexdigest()
    )
    return filled("map.svg", **values)


def table(graph: Graph, title: str = "", most: int = _ROWS) -> Markup:
    """The edges as rows, strangest first; says how many are left out beyond `most`."""
    rows = pairs(graph).with_columns(rank=pl.col("state").to_physical())
    rows = rows.sort(["rank", "events", "src", "dst"], descending=[True, True, False, False])
    told = [
        {
            "src": row["src"],
            "dst": row["dst"],
            "ports": ports_told(row),
            "state": row["state"],
            "mark": _MARKS.get(row["state"], ""),
            "seen": strength(row),
            "incident": row["incident"],
        }
        for row in rows.head(most).iter_rows(named=True)
    ]
    return filled(
        "map_table.html",
        name=f"Edges: {title or _title(graph)}",
        rows=told,
        more=max(0, rows.height - most),
        folded=graph.folded,
    )


def _readable(graph: Graph, most: int) -> Graph:
    """The graph with at most so many boxes, and fewer where there were more arrows than one sees
    through."""
    small = graph.bounded(most)
    for fewer in _FEWER:
        if pairs(small).height <= _ARROWS:
            break
        small = graph.bounded(min(fewer, most))
    return small


def legend(graph: Graph) -> list[dict[str, str]]:
    """What the arrows of a drawing mean, of the states that occur."""
    return [
        {"state": state, "mark": _MARKS.get(state, ""), "text": _LEGEND[state]}
        for state in graph.counts
    ]


def _title(graph: Graph) -> str:
    return f"Around {', '.join(graph.centre[:3])}" if graph.centre else "Service map"


def _description(graph: Graph, rows: Sequence[dict[str, Any]]) -> str:
    counted = ", ".join(f"{count:,} {state}" for state, count in graph.counts.items())
    strange = [
        f"{row['src']} to {row['dst']} ({ports_told(row)})"
        for row in rows
        if row["state"] == "strange"
    ]
    more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
    told = f" Strange: {'; '.join(strange[:5])}{more}." if strange else ""
    return f"{graph.nodes.height:,} workloads and peers; edges: {counted or 'none'}.{told}"


def _box(
    node: dict[str, Any], x: float, y: float, central: bool, link: str | None
) -> dict[str, Any]:
    space, _, name = node["name"].rpartition("/")
    if node["kind"] == "others":
        name, space = _folded_name(node["name"])
    elif node["kind"] != "workload":
        space, name = "", node["name"]
    below = {"outside": "outside", "address": "address", "cluster": "Cilium", "others": "folded"}
    said = [node["name"]]
    if node["incidents"]:
        many = f"{node['incidents']:,} incident{'' if node['incidents'] == 1 else 's'}"
        said.append(f"{many}, {node['severity']}")
    said.append(f"calls {node['calls']:,}, called by {node['called_by']:,}")
    return {
        "x": round(x, 1),
        "y": round(y, 1),
        "width": BOX[0],
        "height": BOX[1],
        "name": _short(name, _FITS - 3 * bool(node["incidents"])),
        "round": node["kind"] in _ROUND,
        "below": _short(space or below.get(node["kind"], ""), _FITS_BELOW),
        "kind": node["kind"],
        "acting": bool(node["incidents"]),
        "central": central,
        "said": ": ".join([said[0], "; ".join(said[1:])]),
        "link": link,
    }


def _arrow(
    row: dict[str, Any], points: Points, index: dict[str, int], label: str
) -> dict[str, Any]:
    end, low = points[-1]
    leftwards = end < points[0][0]
    tip = 7.0 if leftwards else -7.0
    middle = _middle(points)
    state = row["state"]
    return {
        "path": _curve((*points[:-1], (end + tip, low))),
        "head": f"M{end:.1f} {low:.1f}l{tip:.1f} -4v8z",
        "state": state,
        "unseen": not row["events"] and state == "known",
        "label": label,
        "label_x": round(middle[0], 1),
        "label_y": round(middle[1] + 4, 1),
        "src": index[row["src"]],
        "dst": index[row["dst"]],
        "said": f"{row['src']} to {row['dst']}, {ports_told(row)}: {state}, {strength(row)}",
    }


def _label(row: dict[str, Any], *, every: bool) -> str:
    """What is written on an arrow; on ordinary ones only where there are few."""
    mark = _MARKS.get(row["state"], "")
    return f"{mark} {ports_told(row)}".strip() if every or mark else ""


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """Through the points in curves that leave and arrive level."""
    (x, y), *others = points
    path = [f"M{x:.1f} {y:.1f}"]
    for right, low in others:
        half = (right - x) / 2
        path.append(
            f"H{right:.1f}"
            if abs(low - y) < 0.05
            else f"C{x + half:.1f} {y:.1f} {right - half:.1f} {low:.1f} {right:.1f} {low:.1f}"
        )
        x, y = right, low
    return "".join(path)


def _middle(points: Points) -> tuple[float, float]:
    """Where there is room for a label: halfway between the first two columns."""
    (x, y), (right, low) = points[:2]
    return (x + right) / 2, (y + low) / 2


def _folded_name(name: str) -> tuple[str, str]:
    """`and 9 others (called)` or `shop: 9 more` on two lines."""
    if name.startswith("and "):
        first, _, second = name.partition(" (")
        return first, second.rstrip(")")
    first, _, second = name.rpartition(": ")
    return first, f"{second}, folded"


def _short(text: str, fits: int) -> str:
    if len(text) <= fits:
        return text
    tail = fits // 3
    return f"{text[: fits - tail - 1]}…{text[-tail:]}"
