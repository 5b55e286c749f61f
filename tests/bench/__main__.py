"""Every benchmark in this folder, one table: `make bench`, or `python tests/bench NAME...`.

A benchmark is a module `bench_NAME.py` with a function `run()` that returns rows of `name`, `rate`,
`unit` and, where there is something to compare with, `ratio` and whatever else it wants to record.
"""

import importlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE.parent.parent / ".bench" / "results.json"


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def measured(name: str) -> list[dict[str, Any]]:
    """The rows of one benchmark, each with the name of its module."""
    rows = importlib.import_module(f"bench_{name}").run()
    return [{"bench": name, **row} for row in rows]


def shown(rows: Iterable[Mapping[str, Any]]) -> Table:
    """The rows as a table, what is faster than its comparison above 1."""
    table = Table(box=None, pad_edge=False)
    table.add_column("bench")
    table.add_column("what")
    table.add_column("rate", justify="right")
    table.add_column("unit")
    table.add_column("ratio", justify="right")
    for row in rows:
        ratio = row.get("ratio")
        table.add_row(
            str(row["bench"]),
            str(row["name"]),
            f"{row['rate']:,.0f}",
            str(row["unit"]),
            "" if ratio is None else f"{ratio:.2f}",
        )
    return table


def main(wanted: list[str]) -> int:
    """Run the benchmarks named, or all; returns the exit status."""
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    rows = [row for name in wanted or names() for row in measured(name)]
    Console().print(shown(rows))
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    RESULTS.write_text(json.dumps({**machine, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
