"""The work of `sidelong baseline show`: whom a workload talks to, when and how often."""

from datetime import timedelta
from typing import Any, Final

import polars as pl

from sidelong.baseline_output import is_json, write_json
from sidelong.baseline_places import load_baseline
from sidelong.errors import ConfigError
from sidelong.features.edges import EDGE
from sidelong.models.acquaintance import states
from sidelong.models.baseline import Baseline
from sidelong.models.contact_history import edges_of
from sidelong.models.drift import hours_in_words
from sidelong.terminal import Terminal, duration, moment, plural

__all__ = ["heat", "show"]

_BYTES: Final = 1_000  # levels are in thousandths of a byte
_WIDEST_PORTS: Final = 65_535


def show(
    workload: str | None, *, terminal: Terminal, baseline: str, output: str | None = None
) -> int:
    """Print what a baseline holds of a workload, or which workloads it knows; returns 0.

    Errors: ConfigError for a baseline that cannot be used, or that knows nothing of the workload.
    """
    known = load_baseline(baseline)
    if workload is None:
        rows = _workloads(known)
    else:
        rows = [*_workloads(known, workload), *_edges(known, workload), *_domains(known, workload)]
        rows += _declared(known, workload)
        if not rows:
            raise ConfigError(
                f"{baseline} knows nothing of {workload!r}",
                hint=f"see whom it knows: sidelong baseline show --baseline {baseline}",
            )
    if is_json(output, terminal):
        write_json(rows, terminal)
        return 0
    for row in rows:
        for line in _LINES[row["what"]](row):
            terminal.tell(line)
    if workload is None:
        edges, trial = known.edges.height, known.trial.select(EDGE).unique().height
        waiting = f", {plural(trial, 'edge')} on trial" if trial else ""
        terminal.tell(f"{plural(len(rows), 'workload')}, {plural(edges, 'edge')}{waiting}")
    return 0


def heat(hours: list[int]) -> str:
    """For each hour of the day on how many weekdays, of hours of the week; a dot for none.

    >>> heat([0, 24, 48, 9])
    '3........1..............'
    """
    counts = [0] * 24
    for hour in hours:
        counts[hour % 24] += 1
    return "".join(str(count) if count else "." for count in counts)


def _workloads(known: Baseline, workload: str | None = None) -> list[dict[str, Any]]:
    rows = known.workloads.join(states(known), on="actor")
    if workload is not None:
        rows = rows.filter(pl.col("actor") == workload)
    return [{"what": "workload", **row} for row in rows.sort("actor").iter_rows(named=True)]


def _edges(known: Baseline, workload: str) -> list[dict[str, Any]]:
    ours = (pl.col("actor") == workload) | (pl.col("peer") == workload)
    on_trial = edges_of(known.trial.filter(ours))
    outwards = pl.col("actor") == workload
    found = []
    for table, trial in ((known.edges.filter(ours), False), (on_trial, True)):
        for rows in (table.filter(outwards), table.filter(~outwards)):
            found += [
                {"what": "edge", "trial": trial, "outwards": row["actor"] == workload, **row}
                for row in rows.sort(EDGE).iter_rows(named=True)
            ]
    return found


def _domains(known: Baseline, workload: str) -> list[dict[str, Any]]:
    rows = known.domains.filter(pl.col("actor") == workload).sort("domain")
    return [{"what": "domain", **row} for row in rows.iter_rows(named=True)]


def _declared(known: Baseline, workload: str) -> list[dict[str, Any]]:
    ours = (pl.col("actor") == workload) | (pl.col("peer") == workload)
    rows = (
        known.declared.filter(ours).drop_nulls("breadth").sort("actor", "peer", "protocol", "low")
    )
    return [{"what": "declared", **row} for row in rows.iter_rows(named=True)]


def _workload_lines(row: dict[str, Any]) -> list[str]:
    watched: timedelta = row["watched"]
    told = [
        row["actor"],
        row["state"],
        f"watched {duration(watched)}",
        f"{row['active_seconds']:,} active seconds",
        *([row["owner"]] if row["owner"] else []),
        *row["accounts"],
    ]
    return ["  ".join(told)]


def _edge_lines(row: dict[str, Any]) -> list[str]:
    end = row["peer"] if row["outwards"] else row["actor"]
    arrow = "->" if row["outwards"] else "<-"
    where = f"{end}:{row['edge_port'] or 'dynamic'}/{row['protocol']}"
    told = [
        f"{row['active_seconds']:,} s",
        f"in {plural(row['hours_seen'], 'hour')} on {plural(row['days_seen'], 'day')}",
        f"last {moment(row['last'])}",
    ]
    if row["pods"] > 1:
        told.append(f"{row['pods']} pods")
    if told_of := row["encrypted"] + row["plain"]:
        told.append(f"{100 * row['encrypted'] // told_of} % encrypted")
    name = "on trial  " if row["trial"] else ""
    lines = [f"  {arrow} {name}{where}  {', '.join(told)}"]
    if row["hours"]:
        lines.append(f"       {heat(row['hours'])}  {hours_in_words(row['hours'])}")
    return lines


def _domain_lines(row: dict[str, Any]) -> list[str]:
    level = row.get("level")
    told = "" if level is None else f"  {level // _BYTES:,} bytes of new names at once"
    return [f"  asks {row['domain']}{told}"]


def _declared_lines(row: dict[str, Any]) -> list[str]:
    low, high = row["low"], row["high"]
    ports = f"{low}" if low == high else f"{low}-{high}"
    ports = "any port" if (low, high) == (0, _WIDEST_PORTS) else ports
    return [
        f"  declared  {row['actor']} -> {row['peer']}:{ports}/{row['protocol']}, "
        f"one of {row['breadth']:,}"
    ]


_LINES: Final = {
    "workload": _workload_lines,
    "edge": _edge_lines,
    "domain": _domain_lines,
    "declared": _declared_lines,
}
