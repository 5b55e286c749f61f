"""The memory a process may have: kept to, by waiting where one can and leaving out what cannot."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from builders import flows, incidents

from sidelong.collect_settings import CollectSettings
from sidelong.collector import Feed
from sidelong.features.bounds import Bounds
from sidelong.ingest.source import Batch
from sidelong.memory_cap import Gate, MemoryCap, give_back, resident_bytes

MIB: Final = 1 << 20
FLOOD: Final = Path(__file__).with_name("memory_flood.py")


class Process:
    """A process with as much memory, at such a time, as a test says."""

    def __init__(self) -> None:
        self.megabytes = 10.0
        self.now = 0.0
        self.relieved = 0
        self.said: list[str] = []

    def cap(self, limit_megabytes: int = 100) -> MemoryCap:
        return MemoryCap(
            limit_megabytes * MIB,
            say=self.said.append,
            resident=lambda: int(self.megabytes * MIB),
            relieve=self.relieve,
            ticks=lambda: self.now,
        )

    def relieve(self) -> None:
        self.relieved += 1

    def has(self, megabytes: float, after: float = 1.0) -> None:
        self.megabytes = megabytes
        self.now += after


def test_intake_pauses_above_nine_tenths_and_goes_on_well_below() -> None:
    process = Process()
    cap = process.cap()
    states = []
    for megabytes in (89, 91, 88, 86, 84, 89):
        process.has(megabytes)
        states.append(cap.short)
    assert states == [False, True, True, True, False, False]
    assert cap.counters() == {"intake_pauses": 1}


def test_what_is_free_in_the_heap_is_given_back_first_and_not_all_the_time() -> None:
    process = Process()
    cap = process.cap()
    for _ in range(10):
        process.has(95)
        assert cap.short
    assert process.relieved == 2  # within ten seconds


def test_what_was_only_free_memory_pauses_nothing() -> None:
    process = Process()
    process.relieve = lambda: process.has(50, after=0)  # type: ignore[method-assign]
    cap = process.cap()
    process.has(95)
    assert not cap.short


def test_what_reads_kafka_goes_on_for_a_moment_every_two_seconds_but_not_above_the_cap() -> None:
    process = Process()
    cap = process.cap()
    process.has(95)
    assert cap.hold
    held: list[bool] = []
    for _ in range(200):  # ten times two seconds
        process.has(95, after=0.1)
        held.append(cap.hold)
    assert 40 <= sum(not one for one in held) <= 60
    process.has(101, after=0.0)
    for _ in range(210):
        process.has(101, after=0.1)
        assert cap.hold


def test_a_person_is_told_once_in_a_while() -> None:
    process = Process()
    cap = process.cap()
    for _ in range(61):
        process.has(95)
        assert cap.short
    assert (
        process.said
        == ["memory is short: 95 of 100 MiB (memory_megabytes) are used, and reading pauses"] * 3
    )


def test_metrics_say_how_much_there_is_and_may_be() -> None:
    process = Process()
    cap = process.cap()
    process.has(95)
    assert cap.gauges() == {
        "memory_bytes": 95 * MIB,
        "memory_limit_bytes": 100 * MIB,
        "intake_paused": 1.0,
    }


def batch(rows: int = 3, **columns: int) -> Batch:
    frame = flows(*["0s a -> b:80 SYN"] * (rows or 1)).head(rows)
    told = {name: pl.lit(value).cast(frame.schema[name]) for name, value in columns.items()}
    return Batch(frame.with_columns(**told), position=rows)


class Ended(threading.Event):
    """Not set; whoever waits for it lets time go by at once."""

    def __init__(self, process: Process, then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.waited = 0.0
        self._process = process
        self._then = then

    def wait(self, timeout: float | None = None) -> bool:
        self.waited += timeout or 0
        self._process.now += timeout or 0
        self._then()
        return self.is_set()


def gate(process: Process) -> tuple[MemoryCap, Gate]:
    cap = process.cap()
    return cap, cap.gate("collect")


def test_a_live_source_is_held_back_for_two_seconds_and_then_loses() -> None:
    process = Process()
    cap, passing = gate(process)
    process.has(95)
    ended = Ended(process)
    passed = passing.pass_(batch(3), ended, live=True)
    assert (passed.flows.height, passed.position) == (0, 3)
    assert ended.waited == pytest.approx(2.0, abs=0.2)
    assert cap.counters()["shed", "role", "collect"] == 3
    assert passing.pass_(batch(3), ended, live=True).flows.is_empty()
    assert ended.waited == pytest.approx(2.0, abs=0.2)  # it is known by now


def test_above_the_whole_cap_a_live_source_loses_at_once() -> None:
    process = Process()
    _, passing = gate(process)
    process.has(100)
    ended = Ended(process)
    assert passing.pass_(batch(), ended, live=True).flows.is_empty()
    assert ended.waited == 0


def test_what_stays_where_it_is_waits_as_long_as_it_takes() -> None:
    process = Process()
    cap, passing = gate(process)
    process.has(150)

    def after_a_minute() -> None:
        if process.now > 60:
            process.has(50)

    assert passing.pass_(batch(3), Ended(process, after_a_minute), live=False).flows.height == 3
    assert cap.counters() == {"intake_pauses": 1}


def test_the_next_row_tells_of_every_event_that_was_left_out() -> None:
    process = Process()
    _, passing = gate(process)
    ended = Ended(process)
    process.has(100)
    assert passing.pass_(batch(3), ended, live=True).flows.is_empty()
    assert passing.pass_(batch(2, count=5, lost=7), ended, live=True).flows.is_empty()
    process.has(50)
    assert passing.pass_(batch(0), ended, live=True).flows.is_empty()
    first = passing.pass_(batch(2, lost=1), ended, live=True)
    assert first.flows["lost"].to_list() == [3 + 2 * (5 + 7) + 1, 1]
    assert passing.pass_(batch(2), ended, live=True).flows["lost"].null_count() == 2


def test_nothing_is_left_out_while_there_is_room() -> None:
    process = Process()
    _, passing = gate(process)
    given = batch(3)
    assert passing.pass_(given, Ended(process), live=True) is given


def test_the_end_is_not_waited_for() -> None:
    process = Process()
    _, passing = gate(process)
    process.has(95)
    ended = Ended(process)
    ended.set()
    assert passing.pass_(batch(3), ended, live=False).flows.height == 3


def test_what_was_left_out_lowers_the_completeness_of_what_is_found() -> None:
    refused = flows(
        *(f"{n}s a/x -> b/y:{1 + n} SYN" for n in range(5)),
        *(f"{n}.001s a/x <- b/y:{1 + n} RST" for n in range(5)),
    ).sort("time")
    (whole,) = (one for one in incidents(refused) if one.status == "open")
    process = Process()
    _, passing = gate(process)
    process.has(100)
    passing.pass_(batch(10), Ended(process), live=True)
    process.has(50)
    passed = passing.pass_(Batch(refused, 0), Ended(process), live=True)
    (holed,) = (one for one in incidents(passed.flows) if one.status == "open")
    assert (whole.completeness, holed.completeness) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("key", "close", "waits"),
    [
        ("file:/a.pcap", False, True),
        ("kafka://h:1/flows/3", True, True),
        ("hubble://relay", True, False),
    ],
)
def test_files_and_topics_wait_where_they_are(key: str, close: bool, waits: bool) -> None:
    class Anything:
        name = key
        size_bytes = None
        batches = None

    feed = Feed(key, Anything(), close=(lambda: None) if close else None)  # type: ignore[arg-type]
    assert feed.waits is waits


def test_bounds_grow_with_what_a_process_may_have_and_shrink_with_its_parts() -> None:
    usual = Bounds()
    assert Bounds.within(1_300) == usual
    assert Bounds.within(750).contacts == usual.contacts // 2
    assert Bounds.within(1_300, parts=4).names == usual.names // 4
    assert Bounds.within(256).edges > 0
    assert Bounds.within(100_000).contacts == 4 * usual.contacts


def test_the_kernel_is_asked() -> None:
    before = resident_bytes()
    held = bytearray(64 * MIB)
    held[::4096] = b"x" * len(held[::4096])
    assert resident_bytes() - before > 48 * MIB
    del held
    give_back()
    assert resident_bytes() - before < 32 * MIB


def flooded(room_megabytes: int, seconds: float) -> dict[str, int]:
    ran = subprocess.run(
        [sys.executable, FLOOD, str(room_megabytes), str(seconds)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told: dict[str, int] = json.loads(ran.stdout)
    return told


def test_a_flood_stays_under_the_cap_and_every_flow_left_out_is_counted() -> None:
    told = flooded(96, 8)
    assert told["peak"] < told["limit"]
    assert told["shed"] > 0  # a machine that has other work offers little
    assert told["held"] + told["shed"] == told["offered"]
    assert 0 < told["lost"] <= told["shed"]


def test_settings_of_a_flood_are_those_of_collect() -> None:
    assert CollectSettings().rotate_megabytes > 96  # so the cap is what holds above
