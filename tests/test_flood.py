"""A flood: one workload makes first contacts at a million a minute of event time, 300,000 of them.

Its author is named, the rest of the cluster is still seen, memory keeps to its bounds, and flow
number 300,000 costs no more than the first. `make bench-flood` has five million of them.
"""

import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pytest
from builders import flows
from streams import START_NS

from sidelong.alerts.incident import Incident
from sidelong.ingest.schema import PROTOCOLS, TCP_FLAGS, conform
from sidelong.pipeline import Pipeline

CONTACTS: Final = 300_000
BATCH: Final = 20_000
SPAN_NS: Final = 18 * 1_000_000_000
AUTHOR: Final = "tools/masscan"
ROOM_MIB: Final = 400


def flood() -> Iterator[pl.DataFrame]:
    """Batches in which every fourth row is ordinary work, and all others are the author's SYNs."""
    rows = CONTACTS * 4 // 3
    number = np.arange(rows)
    ordinary = number % 4 == 3
    answer = ordinary & (number % 8 == 7)
    target = number - number // 4  # counts the author's contacts
    client, server = number // 8 % 40, number // 8 % 7
    frame = pl.DataFrame(
        {
            "number": number,
            "time": START_NS + number * (SPAN_NS // rows),
            "ordinary": ordinary,
            "reply": answer,
            "client": client,
            "server": server,
            "host": target % 50_000,
            "to": 1 + target // 50_000,
        }
    ).with_columns(
        one=pl.when("ordinary").then(pl.format("shop/c{}", "client")).otherwise(pl.lit(AUTHOR)),
        one_ip=pl.when("ordinary")
        .then(pl.format("10.1.0.{}", pl.col("client") + 1))
        .otherwise(pl.lit("10.1.1.1")),
        other=pl.when("ordinary").then(pl.format("shop/s{}", "server")),
        other_ip=pl.when("ordinary")
        .then(pl.format("10.1.2.{}", pl.col("server") + 1))
        .otherwise(pl.format("10.2.{}.{}", pl.col("host") // 250, pl.col("host") % 250 + 1)),
        one_port=pl.lit(40_000),
        other_port=pl.when("ordinary").then(8_080).otherwise("to"),
    )
    back = pl.col("reply")
    frame = frame.select(
        pl.col("time").cast(pl.Datetime("ns", "UTC")),
        *(
            pl.when(back).then(there).otherwise(here).alias(name)
            for name, here, there in (
                ("src", "one", "other"),
                ("dst", "other", "one"),
                ("src_ip", "one_ip", "other_ip"),
                ("dst_ip", "other_ip", "one_ip"),
                ("src_port", "one_port", "other_port"),
                ("dst_port", "other_port", "one_port"),
            )
        ),
        "reply",
        protocol=pl.lit("TCP", PROTOCOLS),
        verdict=pl.lit("FORWARDED"),
        tcp_flags=pl.when(back)
        .then(TCP_FLAGS["SYN"] | TCP_FLAGS["ACK"])
        .otherwise(TCP_FLAGS["SYN"]),
        origin=pl.lit("test"),
    )
    for batch in frame.iter_slices(BATCH):
        yield conform(batch)


class Peak:
    """The most memory this process had resident while the block ran, above what it began with."""

    def __enter__(self) -> "Peak":
        gc.collect()
        self._done = threading.Event()
        self._before = self._most = _resident_mib()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()

    @property
    def growth_mib(self) -> float:
        return self._most - self._before

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self._most = max(self._most, _resident_mib())


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1_024


@dataclass(frozen=True)
class Outcome:
    """What came of the flood: incidents, seconds per flow of each batch, memory."""

    told: list[Incident]
    seconds_per_flow: list[float]
    growth_mib: float


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    batches = list(flood())
    Pipeline().process(flows("0s a/x -> b/y:80 SYN"))  # whatever is made once is made
    pipeline = Pipeline()
    told, took = [], []
    with Peak() as peak:
        for batch in batches:
            began = time.perf_counter()
            told += pipeline.process(batch)
            took.append((time.perf_counter() - began) / batch.height)
        told += pipeline.finish()
    return Outcome(told, took, peak.growth_mib)


@pytest.mark.slow
def test_its_author_is_named_and_nobody_else(outcome: Outcome) -> None:
    assert {incident.actor.workload for incident in outcome.told} == {AUTHOR}
    assert outcome.told[0].kind == "scan"


@pytest.mark.slow
def test_its_totals_are_exact(outcome: Outcome) -> None:
    closed = outcome.told[-1]
    assert closed.status == "closed"
    assert closed.counts["contacts"] == closed.counts["unanswered"] == CONTACTS


@pytest.mark.slow
def test_it_is_told_a_handful_of_times(outcome: Outcome) -> None:
    assert len(outcome.told) < 15


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_keeps_to_its_bounds(outcome: Outcome) -> None:
    assert outcome.growth_mib < ROOM_MIB


@pytest.mark.slow
def test_the_last_flow_costs_no_more_than_the_first(outcome: Outcome) -> None:
    tenth = len(outcome.seconds_per_flow) // 10
    first, last = outcome.seconds_per_flow[:tenth], outcome.seconds_per_flow[-tenth:]
    assert min(last) <= 3 * min(first)  # the least of each: the machine has other work
