"""A map as a tree of lines: for a terminal, a ticket, or a mail."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import polars as pl

from sidelong.alerts.plain_text import plain
from sidelong.map_pairs import pairs, ports_told, strength
from sidelong.service_map import STATES, Graph

__all__ = ["tree"]

_MARKS: Final = {"strange": "!!", "denied": "x ", "new": "+ ", "seen": "  ", "known": "  "}
_LEGEND: Final = {
    "strange": "!! strange: the object of an incident",
    "denied": "x  denied",
    "new": "+  new: not in the baseline",
}
_DEPTH: Final = 6

Pairs = Mapping[str, Sequence[Mapping[str, Any]]]


def tree(graph: Graph) -> str:
    """Whom each workload calls; around a centre, also who calls it, and so on outwards.

    A workload is opened once; where it comes again it says so by `...`.
    """
    rows = list(pairs(graph).iter_rows(named=True))
    calls, called_by = _by(rows, "src"), _by(rows, "dst")
    lines: list[str] = []
    if graph.centre:
        for name in graph.centre:
            lines.append(_name(graph, name))
            groups = [
                (label, ways, end)
                for label, ways, end in (
                    ("calls", calls, "dst"),
                    ("is called by", called_by, "src"),
                )
                if ways.get(name)
            ]
            for place, (label, ways, end) in enumerate(groups):
                last = place == len(groups) - 1
                lines.append(f"{'└─' if last else '├─'} {label}")
                deeper = {
                    other: [row for row in rows if row[end] not in graph.centre]
                    for other, rows in ways.items()
                }
                indent = "   " if last else "│  "
                lines += _branches(ways[name], end, indent, deeper, {name})
    else:
        for name in graph.nodes["name"]:
            if name in calls:
                lines.append(_name(graph, name))
                lines += _branches(calls[name], "dst", "")
    lines += [""] if lines else []
    lines += [f"({note})" for note in graph.folded]
    counts = graph.counts
    lines += [text for state, text in _LEGEND.items() if state in counts]
    edges = ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "none"
    lines.append(f"{graph.nodes.height:,} nodes; edges: {edges}")
    return "\n".join([*lines, ""])


def _by(rows: Sequence[Mapping[str, Any]], end: str) -> Pairs:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: STATES.index(row["state"]), reverse=True):
        found.setdefault(row[end], []).append(row)  # strangest first, and then by name
    return found


def _branches(
    rows: Sequence[Mapping[str, Any]],
    end: str,
    indent: str,
    ways: Pairs | None = None,
    opened: set[str] | None = None,
    depth: int = 1,
) -> Iterator[str]:
    """The lines below a workload. ways: by which it goes on from there; opened: who is already."""
    ways, opened = ways or {}, set() if opened is None else opened
    for place, row in enumerate(rows):
        last = place == len(rows) - 1
        other = row[end]
        deeper = ways.get(other, ()) if depth < _DEPTH else ()
        again = "  ..." if deeper and other in opened else ""
        told = f"  incident {row['incident']}" if row["incident"] else ""
        what = f"{ports_told(row)}  {strength(row)}{told}{again}"
        yield f"{indent}{'└─' if last else '├─'} {_MARKS[row['state']]} {plain(other)}  {what}"
        if deeper and not again:
            opened.add(other)
            inner = indent + ("   " if last else "│  ")
            yield from _branches(deeper, end, inner, ways, opened, depth + 1)


def _name(graph: Graph, name: str) -> str:
    row = graph.nodes.row(by_predicate=pl.col("name") == name, named=True)
    many = f", {row['incidents']:,} incidents" if row["incidents"] > 1 else ""
    told = f"  {row['severity'].upper()}{many}" if row["incidents"] else ""
    return f"{plain(name)}{told}"
