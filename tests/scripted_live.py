"""A live source that plays a script: what it has, how fast, and how it ends.

Run as a program it collects itself: scripted_live.py FLOWS.parquet DIR [OPTION...] collects the
flows of a Parquet file, a hundred every hundredth of a second, and then waits to be ended.
"""

import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest.mock import patch

import polars as pl

from sidelong.ingest.parquet import ParquetFile
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import Batch

__all__ = ["ScriptedLive"]


class ScriptedLive:
    """Gives `flows`, which resumes by time as Hubble does: it has all that is later than a time.

    batch: rows at once. pause: seconds between batches. endless: goes on with empty batches until
    it is closed. failure: is raised after the flows.
    """

    def __init__(
        self,
        flows: pl.DataFrame,
        *,
        batch: int = 100,
        pause: float = 0,
        endless: bool = False,
        failure: Exception | None = None,
        name: str = "scripted://ring",
    ) -> None:
        self.name = name
        self._flows = flows
        self._batch = batch
        self._pause = pause
        self._endless = endless
        self._failure = failure
        self._closed = threading.Event()
        self.given = 0

    @property
    def size_bytes(self) -> int | None:
        return None

    def batches(self, since: int = 0) -> Iterator[Batch]:
        newest = since
        rows = self._flows.filter(pl.col("time").to_physical() > since)
        for start in range(0, rows.height, self._batch):
            part = rows[start : start + self._batch]
            latest = part["time"].to_physical().max()
            assert isinstance(latest, int)
            newest = max(newest, latest)
            self.given += part.height
            yield Batch(part, newest)
            if self._closed.wait(self._pause):
                return
        if self._failure:
            raise self._failure
        while self._endless and not self._closed.wait(0.01):
            yield Batch(empty_flows(), newest)

    def close(self) -> None:
        self._closed.set()

    def counters(self) -> Mapping[str, int]:
        return {"received": self.given, "reconnects": 2}


def main(flows: str, folder: str, *options: str) -> int:
    """Collect `flows` as a live source would tell them."""
    from sidelong.cli import run

    (batch,) = ParquetFile(flows, Path(flows)).batches()
    source = ScriptedLive(batch.flows, pause=0.01, endless=True)
    with patch("sidelong.resuming.open_inputs", lambda *_: [source]):
        return run(["collect", source.name, "--to", folder, *options])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
