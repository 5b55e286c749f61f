"""Partitions that crash, repeat themselves and lag, and what is correlated of them all the same."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from streams import cuts, events, flows_of, pieces

from sidelong.alerts.correlator import Correlator
from sidelong.alerts.evidence_merge import EvidenceMerge
from sidelong.alerts.incident import Incident
from sidelong.features.bounds import Bounds
from sidelong.ingest.partitions import partitions
from sidelong.ingest.stream import Stream
from sidelong.judged_partition import JudgedPartition
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import as_evidence
from sidelong.models.evidence_messages import (
    DamagedEvidence,
    EvidencePart,
    Tick,
    decode,
    encode,
)
from sidelong.pipeline import Pipeline

LAW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MINUTE = 60_000


class Sent(NamedTuple):
    """A message of the sequencer to one partition."""

    stream: str
    partition: int
    partitions: int
    low: int
    high: int
    tick_ns: int | None
    pulse: pl.DataFrame
    flows: pl.DataFrame
    at: int | None = None


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    ordinary = [
        (kind, client, server, port, 25, 0)
        for _ in range(400)
        for client, server, port in ((0, 1, 1), (1, 3, 2), (2, 3, 3))
        for kind in ("syn", "answered")
    ]
    learning = Learning()
    learning.observe(flows_of(ordinary))
    return learning.finish()


def sequenced(batches: Sequence[pl.DataFrame], parts: int, name: str = "one") -> list[list[Sent]]:
    """What each partition is sent of a stream."""
    stream = Stream()
    sent: list[list[Sent]] = [[] for _ in range(parts)]
    for batch in batches:
        for low, high, tick_ns, pulse, flows in stream.stretches(batch):
            of = partitions(flows, parts)
            for part, to in enumerate(sent):
                mine = flows.filter(pl.Series(of == part, dtype=pl.Boolean))
                to.append(Sent(name, part, parts, low, high, tick_ns, pulse, mine))
    return sent


def judged(
    sent: Sequence[Sent], build: Callable[[], Detectors], die: random.Random
) -> list[EvidencePart]:
    """What a process tells of one partition that dies now and then, and goes on from its last
    snapshot, with whatever cut of the messages."""
    partition = JudgedPartition(build)
    told: list[EvidencePart] = []
    saved, at, kept = partition.snapshot(), 0, 0
    while at < len(sent):
        if die.random() < 0.3:
            partition, at = JudgedPartition(build), kept
            partition.restore(saved)
        if die.random() < 0.4:
            saved, kept = partition.snapshot(), at
        took = die.randint(1, 4)
        told += partition.judge(sent[at : at + took])
        at += took
    return told


class Correlation:
    """The correlator behind the merge, as the role runs them."""

    def __init__(self, baseline: Baseline, straggler_ms: int = MINUTE) -> None:
        self.merge = EvidenceMerge(straggler_ms)
        self.correlator = Correlator(Bounds())
        self.told: list[Incident] = []

    def add(self, part: EvidencePart, at_ms: int = 0) -> None:
        for portion in self.merge.add(part, at_ms):
            if portion.tick_ns is not None:
                self.told += self.correlator.tick(portion.tick_ns)
            self.told += self.correlator.consume(portion.evidence, portion.pulse)


@LAW
@given(st.data())
def test_partitions_that_crash_and_interleave_anyhow_tell_what_one_process_tells(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    parts = data.draw(st.integers(1, 4))
    die = random.Random(data.draw(st.integers(0, 2**32)))
    batches = pieces(flows, data.draw(cuts(flows.height)))
    queues = [judged(sent, lambda: Detectors(baseline), die) for sent in sequenced(batches, parts)]
    correlation = Correlation(baseline)
    while queues := [queue for queue in queues if queue]:
        part = die.choice(queues).pop(0)
        correlation.add(decode(*encode(part)))
        if die.random() < 0.2:
            other = Correlation(baseline)
            other.merge.restore(correlation.merge.snapshot())
            other.correlator.restore(correlation.correlator.snapshot())
            other.told = correlation.told
            correlation = other
    whole = Pipeline(baseline).process(flows)
    assert [one.to_json() for one in correlation.told] == [one.to_json() for one in whole]
    assert correlation.merge.counters["gaps"] == correlation.merge.counters["late"] == 0


def evidence_at(*rows: int) -> pl.DataFrame:
    return as_evidence(pl.DataFrame({"row": rows, "actor": [f"shop/{row}" for row in rows]}))


def part(partition: int, low: int, high: int, *rows: int, stream: str = "one") -> EvidencePart:
    return EvidencePart(stream, partition, 2, low, high, evidence_at(*rows))


def rows_of(portions: Sequence[object]) -> list[int]:
    return [row for one in portions for row in one.evidence["row"]]  # type: ignore[attr-defined]


def test_nothing_is_released_before_every_partition_has_told_of_it() -> None:
    merge = EvidenceMerge(MINUTE)
    assert merge.add(part(0, 0, 10, 3), 0) == []
    assert rows_of(merge.add(part(1, 0, 5, 1), 1)) == [1, 3]
    assert merge.done == 5
    assert merge.waiting == 0


def test_rows_that_are_told_again_are_dropped() -> None:
    merge = EvidenceMerge(MINUTE)
    merge.add(part(0, 0, 10, 3), 0)
    merge.add(part(0, 0, 10, 3), 0)
    merge.add(part(0, 5, 12, 7, 11), 0)  # 7 was not there before: nothing changes what was told
    assert rows_of(merge.add(part(1, 0, 12), 0)) == [3, 11]
    assert merge.counters["duplicates"] == 2


def test_ticks_cut_what_is_released() -> None:
    merge = EvidenceMerge(MINUTE)
    merge.add(part(0, 0, 10, 2, 6)._replace(ticks=(Tick(0, 70), Tick(6, 80))), 0)
    portions = merge.add(part(1, 0, 10, 7)._replace(ticks=(Tick(0, 70), Tick(6, 80))), 0)
    assert [(one.tick_ns, one.evidence["row"].to_list()) for one in portions] == [
        (70, [2]),
        (80, [6, 7]),
    ]


def test_a_partition_that_lags_for_too_long_is_no_longer_waited_for() -> None:
    merge = EvidenceMerge(MINUTE)
    assert merge.add(part(0, 0, 10, 3), 0) == []
    assert merge.add(part(0, 10, 20, 13), MINUTE) == []
    assert rows_of(merge.add(part(0, 20, 30, 23), MINUTE + 1_000)) == [3, 13, 23]
    assert merge.counters["stragglers"] == 1


def test_what_a_straggler_tells_counts_when_it_comes() -> None:
    merge = EvidenceMerge(MINUTE)
    merge.add(part(0, 0, 10, 3), 0)
    merge.add(part(0, 10, 20, 13), 2 * MINUTE)
    assert merge.add(part(1, 0, 15, 4), 2 * MINUTE) == []
    assert merge.add(part(0, 20, 30), 2 * MINUTE) == []  # for it is waited again
    assert rows_of(merge.add(part(1, 15, 30, 21), 2 * MINUTE)) == [4, 21]
    assert merge.counters["late"] == 1


def test_more_evidence_than_may_wait_makes_stragglers() -> None:
    merge = EvidenceMerge(MINUTE, capacity=2)
    assert merge.add(part(0, 0, 10, 3, 4), 0) == []
    assert rows_of(merge.add(part(0, 10, 20, 13), 0)) == [3, 4, 13]


def test_a_new_stream_ends_the_one_before_and_is_begun_anew() -> None:
    merge = EvidenceMerge(MINUTE)
    merge.add(part(0, 0, 10, 3), 0)
    portions = merge.add(part(1, 0, 2, 1, stream="two"), 0)
    assert (rows_of(portions), portions[0].begins) == ([3], True)
    assert merge.add(part(1, 0, 10, 4), 0) == []  # of the stream that has ended
    (portion,) = merge.add(part(0, 0, 2, 0, stream="two"), 0)
    assert (portion.evidence["row"].to_list(), portion.begins) == ([0, 1], True)
    assert merge.counters["stale"] == 1


def test_a_gap_is_counted_and_passed() -> None:
    merge = EvidenceMerge(MINUTE)
    merge.add(part(0, 4, 10, 5), 0)
    assert rows_of(merge.add(part(1, 0, 10, 3), 0)) == [3, 5]
    assert merge.counters["gaps"] == 1


def test_a_partition_that_does_not_exist_is_refused() -> None:
    merge = EvidenceMerge(MINUTE)
    merge.add(part(0, 0, 10), 0)
    with pytest.raises(DamagedEvidence, match="one of 3 partitions, and there are 2"):
        merge.add(EvidencePart("one", 2, 3, 0, 10), 0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": b"other/7"}, "its schema is 'other/7', not"),
        ({"low": b"4"}, "its digest is not that of its content"),
        ({"digest": b""}, "its digest is not that of its content"),
    ],
)
def test_a_damaged_message_says_what_is_wrong(change: dict[str, bytes], why: str) -> None:
    value, headers = encode(part(0, 0, 10, 3))
    with pytest.raises(DamagedEvidence, match=why):
        decode(value, headers | change)
    with pytest.raises(DamagedEvidence, match="digest"):
        decode(value[:-1], headers)
    with pytest.raises(DamagedEvidence, match="no value"):
        decode(None, headers)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (part(0, 0, 10, 12), "rows outside of 0 to 10"),
        (part(0, 10, 0), "rows 10 to 0 of partition 0 of 2"),
        (part(3, 0, 10), "rows 0 to 10 of partition 3 of 2"),
        (part(0, 0, 10, 3, stream=""), "its stream is ''"),
        (part(0, 0, 10, 3)._replace(evidence=pl.DataFrame({"row": [3]})), "other columns"),
    ],
)
def test_a_message_that_cannot_be_true_is_refused(wrong: EvidencePart, why: str) -> None:
    with pytest.raises(DamagedEvidence, match=why):
        decode(*encode(wrong))
