"""A long stream through one pipeline, with notes on the way: memory, time, flows."""

import time
from collections.abc import Iterable
from typing import Any, Final

import polars as pl
from measure import peak_bytes, resident_bytes

from sidelong.alerts.incident import Incident
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline

__all__ = ["followed", "told"]

_MEBIBYTE: Final = 1 << 20


def followed(
    frames: Iterable[pl.DataFrame], baseline: Baseline, *, every: int, seconds: float = 1e9
) -> dict[str, Any]:
    """What came of a stream: incidents, rates, and a note each `every` flows.

    Ends after so many seconds of wall time. Of the processor time, that of making the frames is
    left out; of memory, what was there before is told beside.
    """
    pipeline = Pipeline(baseline)
    before = resident_bytes()
    began, busy = time.monotonic(), 0.0
    curve: list[dict[str, float]] = []
    found: dict[str, Incident] = {}
    flows = 0
    finished = True
    for frame in frames:
        cpu = time.process_time()
        found.update((one.id, one) for one in pipeline.process(frame))
        busy += time.process_time() - cpu
        flows += frame.height
        if flows // every > len(curve):
            curve.append(
                {
                    "flows": flows,
                    "clock_ns": pipeline.clock_ns,
                    "wall": round(time.monotonic() - began, 2),
                    "cpu": round(busy, 2),
                    "rss": resident_bytes(),
                }
            )
        if time.monotonic() - began > seconds:
            finished = False
            break
    found.update((one.id, one) for one in pipeline.finish())
    wall = time.monotonic() - began
    return {
        "flows": flows,
        "finished": finished,
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(busy, 1),
        "flows_per_second": round(flows / wall),
        "flows_per_cpu_second": round(flows / busy),
        "before_bytes": before,
        "peak_bytes": peak_bytes(),
        "evicted": pipeline.evicted,
        "incidents": [_short(one) for one in found.values() if one.severity != "info"],
        "infos": sum(one.severity == "info" for one in found.values()),
        "curve": curve,
    }


def told(result: dict[str, Any]) -> str:
    """The result in a few lines."""
    lines = [
        f"{result['flows']:,} flows in {result['wall_seconds'] / 60:.1f} min of wall time and "
        f"{result['cpu_seconds'] / 60:.1f} min of processor time: "
        f"{result['flows_per_second']:,} flows/s, {result['flows_per_cpu_second']:,} a CPU second",
        f"memory: {result['before_bytes'] / _MEBIBYTE:,.0f} MiB before, "
        f"{result['peak_bytes'] / _MEBIBYTE:,.0f} MiB at most; {result['evicted']:,} rows evicted",
        *(f"  {one['severity']} {one['kind']}: {one['summary']}" for one in result["incidents"]),
        f"  and {result['infos']} that only inform",
    ]
    return "\n".join(lines if result["finished"] else [*lines, "stopped before the end"])


def _short(incident: Incident) -> dict[str, Any]:
    return {
        "severity": incident.severity,
        "kind": incident.kind,
        "actor": incident.actor.workload,
        "summary": incident.summary,
    }
