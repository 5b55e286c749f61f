"""The work of `sidelong baseline diff`: what changed between two baselines."""

from itertools import groupby
from typing import Any, Final

from rich.text import Text

from sidelong.baseline_output import is_json, write_json
from sidelong.baseline_places import load_baseline
from sidelong.models.drift import drift
from sidelong.terminal import Terminal, printable

__all__ = ["DIFFERENT", "SAME", "diff"]

SAME: Final = 0
DIFFERENT: Final = 1

_SIGNS: Final = {"new": ("+", "green"), "gone": ("-", "red"), "changed": ("~", "yellow")}
_HEADINGS: Final = {
    "workload": "workloads",
    "edge": "edges",
    "trial": "edges on trial, which nobody vouches for",
    "domain": "DNS domains",
}


def diff(before: str, after: str, *, terminal: Terminal, output: str | None = None) -> int:
    """Print what changed from one baseline to another; returns 0 if nothing did, else 1.

    Errors: ConfigError for a baseline that cannot be used.
    """
    changes = drift(load_baseline(before), load_baseline(after))
    rows = list(changes.iter_rows(named=True))
    if is_json(output, terminal):
        write_json(rows, terminal)
    else:
        for what, some in groupby(rows, lambda row: str(row["what"])):
            terminal.tell(_HEADINGS[what])
            for row in some:
                terminal.out.print(_line(row), soft_wrap=True)
        if not rows:
            terminal.tell("nothing changed")
    return DIFFERENT if rows else SAME


def _line(row: dict[str, Any]) -> Text:
    sign, style = _SIGNS[row["change"]]
    subject = str(row["actor"])
    if row["peer"] is not None:
        subject += f" -> {row['peer']}:{row['port'] or 'dynamic'}/{row['protocol']}"
    if row["domain"] is not None:
        subject += f" asks {row['domain']}"
    sides = [side for side in (row["before"], row["after"]) if side is not None]
    told = " => ".join(sides) if row["change"] == "changed" else "".join(sides)
    return Text.assemble((f"  {sign} ", style), printable(subject), f"  {told}" if told else "")
