"""Every benchmark in this folder, one table: `make bench`, or `python tests/bench NAME...`.

A benchmark is a module `bench_NAME.py` with a function `run()` that returns rows of `name`, `rate`,
`unit` and, where there is something to compare with, `ratio`, `against` and whatever else it wants
to record. What all of them found is kept and written into docs/performance.md; what some found
takes the place of what the same found before. `--profile` tells where a replay's time goes.
"""

import cProfile
import importlib
import pstats
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from record import figures, keep
from rich.console import Console
from rich.table import Table

HERE: Final = Path(__file__).resolve().parent
PROFILED: Final = 300_000
_FOLDERS: Final = ("ingest", "features", "models", "alerts", "sidelong")
_LISTED: Final = 20


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
    table.add_column("beside")
    for row in rows:
        ratio = row.get("ratio")
        table.add_row(
            str(row["bench"]),
            str(row["name"]),
            f"{row['rate']:,.0f}",
            str(row["unit"]),
            "" if ratio is None else f"{ratio:.2f}",
            str(row.get("against", "")),
        )
    return table


def profiled() -> dict[str, Any]:
    """Where the time of a replay goes, by module: its own, and what it spends outside sidelong."""
    from scenes import baseline, traffic

    from sidelong.pipeline import Pipeline

    flows, learnt = traffic(100, 5_000.0, PROFILED), baseline(100)
    pipeline, profile = Pipeline(learnt), cProfile.Profile()
    profile.enable()
    for batch in flows.iter_slices(50_000):
        pipeline.process(batch)
    profile.disable()
    seconds: dict[str, float] = {}
    calls: dict[str, int] = {}
    stats: Any = pstats.Stats(profile)
    charged = _charged(stats.stats)
    for (file, _, _), (_, count, *_) in stats.stats.items():
        if module := _module(file):
            calls[module] = calls.get(module, 0) + count
    for module, took in charged.items():
        seconds[module] = seconds.get(module, 0.0) + took
    whole = sum(seconds.values())
    order = sorted(seconds, key=seconds.__getitem__, reverse=True)[:_LISTED]
    rows = [
        {"module": name, "share": round(seconds[name] / whole, 4), "calls": calls.get(name, 0)}
        for name in order
    ]
    return {"flows": flows.height, "modules": rows}


def _charged(stats: Mapping[Any, Any]) -> dict[str, float]:
    """Seconds by module of ours: its own, and those of calls from it that leave sidelong."""
    found: dict[str, float] = {}
    for (file, _, _), (_, _, own, _, callers) in stats.items():
        if module := _module(file):
            found[module] = found.get(module, 0.0) + own
            continue
        for (caller, _, _), (_, _, _, cumulated) in callers.items():
            if module := _module(caller):
                found[module] = found.get(module, 0.0) + cumulated
    return found


def _module(file: str) -> str | None:
    """Of which module of ours a file is, as `ingest/keys`."""
    path = Path(file)
    folder = path.parent.name
    ours = HERE.parents[1] in path.parents and ".venv" not in file
    return f"{folder}/{path.stem}" if ours and folder in _FOLDERS else None


def main(arguments: list[str]) -> int:
    """Run the benchmarks named, or all; returns the exit status."""
    wanted = [name for name in arguments if name != "--profile"]
    unknown = sorted(set(wanted) - set(names()))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    if "--profile" in arguments:
        result = profiled()
        keep("profile", result)
        for row in result["modules"]:
            print(f"{row['share']:6.1%}  {row['module']}")
        if not wanted:
            return 0
    rows: list[dict[str, Any]] = []
    for name in wanted or names():
        found = measured(name)
        Console().print(shown(found))
        rows += found
    before = figures().get("bench", {}).get("result", []) if wanted else []
    kept = [row for row in before if row["bench"] not in wanted]
    keep("bench", sorted([*kept, *rows], key=lambda row: str(row["bench"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
