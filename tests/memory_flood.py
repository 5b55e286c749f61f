"""A flood into a process that may have so much memory: what it let in, what it left out.

memory_flood.py ROOM_MEGABYTES SECONDS: a live source gives 500,000 flows/s for so long to a
collector that holds them for three seconds. The cap is ROOM_MEGABYTES above what the process has at
its start, 0 for none. Prints JSON: limit and peak in bytes; offered, held, shed, lost in flows.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from sidelong.collect_settings import CollectSettings
from sidelong.collector import Collector, Feed
from sidelong.ingest.flow_folder import HeldFlows, SourceState, Written
from sidelong.ingest.schema import conform
from sidelong.ingest.source import Batch
from sidelong.memory_cap import MemoryCap, resident_bytes

_BATCH = 10_000
_RATE = 500_000
_STATUS = Path("/proc/self/status")


class Flood:
    """A live source whose senders do not wait."""

    name = "flood://source"
    size_bytes = None

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.offered = 0

    def batches(self, since: int = 0) -> Iterator[Batch]:
        began = time.monotonic()
        while (now := time.monotonic() - began) < self._seconds:
            if self.offered > _RATE * now:
                time.sleep(0.001)
                continue
            number, self.offered = self.offered, self.offered + _BATCH
            row = pl.int_range(number, number + _BATCH, eager=True)
            named = pl.format("10.{}.{}.{}", row % 251, row // 251 % 251, row // 63_001)
            frame = pl.DataFrame({"time": row * 1_000}).select(
                pl.col("time").cast(pl.Datetime("ns", "UTC")),
                src_ip=pl.select(named).to_series(),
                dst_ip=pl.select(named).to_series(),
                dns_name=pl.select(pl.format("{}.{}.example", row, pl.lit("a" * 60))).to_series(),
            )
            yield Batch(conform(frame), number + _BATCH)

    def close(self) -> None: ...


class Hoard:
    """A sink that takes all at the end, and counts it."""

    def __init__(self) -> None:
        self.rows = self.lost = 0

    def commit(
        self, held: HeldFlows, sources: Mapping[str, SourceState], *, reserve: bool = True
    ) -> list[Written]:
        for frame in (frame for frames in held.values() for frame in frames):
            self.rows += frame.height
            self.lost += int(frame["lost"].fill_null(0).sum())
        return []

    def prune(self, keep: timedelta, now: datetime) -> int:
        return 0


def main(room: int, seconds: float) -> None:
    settings = CollectSettings(
        rotate_rows=10**9, rotate_megabytes=10**6, rotate_seconds=3, stop_seconds=5
    )
    for _ in Flood(0.1).batches():
        pass  # what a first batch loads is no part of the flood
    limit = resident_bytes() + (room << 20)
    cap = MemoryCap(limit)
    gate = (lambda: cap.gate("collect")) if room else None
    source, sink = Flood(seconds), Hoard()
    feed = Feed(source.name, source, close=source.close)
    Collector([[feed]], sink, settings, gate=gate).run(threading.Event())
    shed = sum(n for key, n in cap.counters().items() if key[0] == "shed")
    told_by_kernel = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    most, files = (int(told_by_kernel[name].split()[0]) << 10 for name in ("VmHWM", "RssFile"))
    peak = most - files  # ru_maxrss would be that of who started this, if it is more
    told = {"limit": limit, "peak": peak, "offered": source.offered}
    print(json.dumps(told | {"held": sink.rows, "shed": shed, "lost": sink.lost}))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
