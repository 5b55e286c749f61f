"""docs/performance.md, written from docs/performance.json: python tests/bench/page.py"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from drawing import curve

__all__ = ["page", "write_page"]

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
_MEBIBYTE: Final = 1 << 20
_HOUR_NS: Final = 3_600_000_000_000
_HEAD: Final = """\
# Performance

Written by the benchmarks from what they measured (`docs/performance.json`); do not edit. Rates are
for each second of **processor time** of all threads together, medians of several rounds, unless it
says wall time. A ratio compares with something else on the same input in the same run, above 1
where sidelong is faster. Traffic is [simulated](simulation.md) unless it says otherwise.

```console
$ make bench          # all of the tables, and where the time goes
$ make bench-curves   # clusters of 50 to 5,000 workloads
$ make bench-flood    # a million new pairs a minute
$ make bench-day      # 120 million flows of a day
$ make bench-kafka    # the service over a real Kafka
```

`python tests/bench NAME...` measures some again, `--profile` where the time goes. CI measures a few
ratios at every change and fails when one is more than a fifth worse than recorded
(`tests/bench/ratios.json`).
"""


def page(parts: Mapping[str, Any]) -> str:
    """The page, of the parts that were measured."""
    sections = [_HEAD]
    for name, section in (
        ("bench", _tables),
        ("profile", _profile),
        ("workloads", _workloads),
        ("flood", _flood),
        ("day", _day),
    ):
        if name in parts:
            sections.append("\n".join(section(parts[name])) + "\n")
    return "\n".join(sections)


def write_page(parts: Mapping[str, Any]) -> None:
    """Write the page and its drawings."""
    for name, (points, labels, bound) in _drawings(parts).items():
        drawn = curve(points, bound=bound, **labels)
        (DOCS / f"performance-{name}.svg").write_text(drawn, encoding="utf-8")
    (DOCS / "performance.md").write_text(page(parts), encoding="utf-8")


_Drawing = tuple[list[tuple[float, float]], dict[str, str], float | None]


def _drawings(parts: Mapping[str, Any]) -> dict[str, _Drawing]:
    found: dict[str, _Drawing] = {}
    if "day" in parts:
        notes = parts["day"]["result"]["curve"]
        first = notes[0]["clock_ns"] // (24 * _HOUR_NS) * 24 * _HOUR_NS
        memory = [((one["clock_ns"] - first) / _HOUR_NS, one["rss"] / _MEBIBYTE) for one in notes]
        labels = {
            "title": "Memory of the replay of a day",
            "across": "hour of the day that is replayed",
            "up": "MiB resident",
        }
        found["day"] = memory, labels, 4_096.0
        found["day-cost"] = _cost(notes), {
            "title": "What a flow costs over the length of a stream",
            "across": "millions of flows",
            "up": "microseconds of processor time a flow",
        }, None  # fmt: skip
    if "flood" in parts:
        result = parts["flood"]["result"]
        notes = result["curve"]
        first = notes[0]["clock_ns"]
        memory = [((one["clock_ns"] - first) / 1e9, one["rss"] / _MEBIBYTE) for one in notes]
        labels = {
            "title": "Memory under a flood of a million new pairs a minute",
            "across": "seconds of event time; the flood is from 120 to 420",
            "up": "MiB resident",
        }
        found["flood"] = memory, labels, result["before_bytes"] / _MEBIBYTE + 400
    return found


def _cost(notes: list[dict[str, float]]) -> list[tuple[float, float]]:
    """Microseconds a flow between one note and the next."""
    points = []
    before = {"flows": 0.0, "cpu": 0.0}
    for one in notes:
        if one["flows"] > before["flows"]:
            took = (one["cpu"] - before["cpu"]) / (one["flows"] - before["flows"])
            points.append((one["flows"] / 1e6, took * 1e6))
        before = one
    return points


def _measured(part: Mapping[str, Any]) -> str:
    told = part["measured"]
    return (
        f"Measured {told['time'][:16].replace('T', ' ')} UTC at commit {told['commit']} on "
        f"{told['cores']} cores ({told['processor']}), Python {told['python']}; load of "
        f"the machine then: {told['load']}."
    )


def _tables(part: Mapping[str, Any]) -> Iterator[str]:
    rows = part["result"]
    yield "## Steps and formats\n"
    yield _measured(part) + "\n"
    for bench in dict.fromkeys(row["bench"] for row in rows):
        yield f"### {bench}\n"
        yield "| what | rate | | ratio | beside | more |"
        yield "|---|---|---|---|---|---|"
        for row in rows:
            if row["bench"] == bench:
                yield _row(row)
        yield ""


_MOST: Final = 1e9
_SHOWN: Final = {"bench", "name", "rate", "unit", "ratio", "against", "other"}


def _row(row: Mapping[str, Any]) -> str:
    ratio = "" if row.get("ratio") is None else f"{row['ratio']:.2f}"
    more = ", ".join(
        f"{value:,.{0 if value >= 1000 else 1}f} {key.replace('_', ' ')}"
        for key, value in row.items()
        if key not in _SHOWN
    )
    rate = f"{row['rate']:,.0f}" if row["rate"] >= 10 else f"{row['rate']:.2f}"
    rate = rate if row["rate"] < _MOST else "over a billion"
    cells = (row["name"], rate, row["unit"], ratio, row.get("against", ""), more)
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _profile(part: Mapping[str, Any]) -> Iterator[str]:
    result = part["result"]
    yield "## Where the time goes\n"
    yield (
        f"The replay of {result['flows']:,} flows under cProfile, by module: its own time and that "
        f"of what it calls outside of sidelong (polars, NumPy). {_measured(part)}\n"
    )
    yield "| module | share | calls |"
    yield "|---|---|---|"
    for row in result["modules"]:
        yield f"| {row['module']} | {row['share']:.1%} | {row['calls']:,} |"


def _workloads(part: Mapping[str, Any]) -> Iterator[str]:
    yield "## By the size of the cluster\n"
    yield f"The same flows a second of larger and larger clusters. {_measured(part)}\n"
    yield "| workloads | known edges | microseconds a flow | flows/s | memory at most |"
    yield "|---|---|---|---|---|"
    for one in part["result"]:
        yield (
            f"| {one['workloads']:,} | {one['edges']:,} | {one['microseconds']} "
            f"| {one['flows_per_cpu_second']:,} | {one['peak_bytes'] / _MEBIBYTE:,.0f} MiB |"
        )


def _flood(part: Mapping[str, Any]) -> Iterator[str]:
    result = part["result"]
    grown = (result["peak_bytes"] - result["before_bytes"]) / _MEBIBYTE
    yield "## A flood\n"
    yield (
        f"One workload of a hundred sends SYNs to {result['a_minute']:,} new addresses a minute "
        f"for five minutes. Memory grows by {grown:,.0f} MiB (bound: 1,100), {result['evicted']:,} "
        f"rows are evicted, {result['flows_per_cpu_second']:,} flows go through in a second of "
        "processor time"
        + (f" ({result['note']})" if "note" in result else "")
        + ". What is told is\n"
    )
    yield from (
        f"- {one['severity']}, {one['kind']}: {one['summary']}" for one in result["incidents"]
    )
    yield f"\n![Memory under the flood](performance-flood.svg)\n\n{_measured(part)}"


def _day(part: Mapping[str, Any]) -> Iterator[str]:
    result = part["result"]
    until = result["curve"][-1]["clock_ns"] / 1e9
    labels = result["labels"]
    attacks = [one for one in labels if one["kind"] != "benign" and one["start"] < until]
    yield "## A day\n"
    ended = "" if result["finished"] else " (ended before the day did, for want of time)"
    yield (
        f"{result['flows']:,} flows of a cluster of 100 workloads{ended}, from Parquet to "
        f"incidents in one process: {result['wall_seconds'] / 60:.0f} minutes of wall time, "
        f"{result['cpu_seconds'] / 60:.0f} minutes of processor time in the pipeline, "
        f"{result['flows_per_cpu_second']:,} flows a second of it; "
        f"{result['peak_bytes'] / _MEBIBYTE:,.0f} MiB at most. Attacks in it: "
        f"{len(attacks)}; told above info: {len(result['incidents'])}; that only inform: "
        f"{result['infos']:,}.\n"
    )
    yield from (
        f"- {one['severity']}, {one['kind']}: {one['summary']}" for one in result["incidents"]
    )
    yield (
        "\n![Memory of the replay of a day](performance-day.svg)\n\n"
        f"![What a flow costs over the day](performance-day-cost.svg)\n\n{_measured(part)}"
    )


if __name__ == "__main__":
    from record import figures

    write_page(figures())
    sys.exit(0)
