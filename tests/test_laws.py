"""The three laws, over each detector and over the whole pipeline.

1. Batch-split invariance: cut the stream anywhere, the output is the same, byte for byte.
2. Snapshot and restore: going on from a snapshot gives what the uninterrupted run gives.
3. Bounded memory: after a tick nothing is larger than its bound, whatever the stream.
"""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sidelong.features.bounds import Bounds
from sidelong.ingest.clock import Clock
from sidelong.ingest.normalise import Normaliser
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.pipeline import Pipeline
from streams import cuts, events, flows_of, pieces

LAW = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # shrinking would run for longer than CI waits
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TINY = Bounds(
    contacts=12, waiting=3, edges=5, names=6, sums=4, tried=5, ledger=8, incidents=2, workloads=2
)

# A morning of ordinary work, so that some workloads are known and lateral movement has a meaning.
ORDINARY = [
    (kind, client, server, port, 25, 0)
    for _ in range(400)
    for client, server, port in ((0, 1, 1), (1, 3, 2), (2, 3, 3))
    for kind in ("syn", "answered")
]


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    learning = Learning()
    learning.observe(flows_of(ORDINARY))
    return learning.finish()


def told(pipeline: Pipeline, batches: list[pl.DataFrame]) -> list[str]:
    incidents = [incident for batch in batches for incident in pipeline.process(batch)]
    return [incident.to_json() for incident in incidents + pipeline.finish()]


@LAW
@given(st.data())
def test_where_a_stream_is_cut_changes_no_byte_of_the_output(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    at = data.draw(cuts(flows.height))
    for bounds in (Bounds(), TINY):
        whole = told(Pipeline(baseline, bounds=bounds), [flows])
        assert told(Pipeline(baseline, bounds=bounds), pieces(flows, at)) == whole


@LAW
@given(st.data())
def test_a_pipeline_goes_on_from_a_snapshot_as_if_nothing_had_happened(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    cut = data.draw(st.integers(0, flows.height))
    for bounds in (Bounds(), TINY):
        first = Pipeline(baseline, bounds=bounds)
        before = first.process(flows[:cut])
        state = first.snapshot()
        kept = copy.deepcopy(state)
        after = told(first, [flows[cut:]])
        second = Pipeline(baseline, bounds=bounds)
        second.restore(state)
        assert told(second, [flows[cut:]]) == after
        third = Pipeline(baseline, bounds=bounds)
        third.restore(kept)
        assert told(third, [flows[cut:]]) == after, "the snapshot changed with the pipeline"
        whole = told(Pipeline(baseline, bounds=bounds), [flows])
        assert [incident.to_json() for incident in before] + after == whole


class Judged:
    """The detectors behind a clock, as the pipeline runs them, without correlation."""

    def __init__(self, baseline: Baseline, bounds: Bounds) -> None:
        self.clock, self.normaliser = Clock(), Normaliser()
        self.detectors = Detectors(baseline, frozenset({"10.0.1"}), bounds)

    def evidence(self, batches: list[pl.DataFrame]) -> pl.DataFrame:
        found = []
        for batch in batches:
            for piece, tick_ns in self.clock.cut(batch):
                if tick_ns is not None:
                    self.normaliser.tick(tick_ns)
                    self.detectors.tidy(tick_ns)
                found.append(self.detectors.observe(self.normaliser.normalise(piece)))
        return pl.concat(found)


KINDS = ["scan", "dns_exfiltration", "lateral_movement"]


def same(one: pl.DataFrame, other: pl.DataFrame) -> None:
    """Equal evidence of every detector; of one row, the order of its sums has no meaning."""
    for kind in KINDS:
        ours, theirs = (frame.filter(pl.col("kind") == kind) for frame in (one, other))
        assert ours.equals(theirs), f"{kind}\n{ours}\n{theirs}"


@LAW
@given(st.data())
def test_where_a_stream_is_cut_changes_no_evidence_of_any_detector(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    at = data.draw(cuts(flows.height))
    for bounds in (Bounds(), TINY):
        whole = Judged(baseline, bounds).evidence([flows])
        same(Judged(baseline, bounds).evidence(pieces(flows, at)), whole)


@LAW
@given(st.data())
def test_each_detector_goes_on_from_a_snapshot_as_if_nothing_had_happened(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    cut = data.draw(st.integers(1, flows.height))
    for bounds in (Bounds(), TINY):
        first = Judged(baseline, bounds)
        first.evidence([flows[:cut]])
        state = first.detectors.snapshot()
        second = copy.copy(first)
        second.clock, second.normaliser = copy.deepcopy((first.clock, first.normaliser))
        second.detectors = Detectors(baseline, frozenset({"10.0.1"}), bounds)
        second.detectors.restore(state)
        if cut < flows.height:
            same(second.evidence([flows[cut:]]), first.evidence([flows[cut:]]))


def sizes(state: Any, name: str = "") -> list[tuple[str, int]]:
    """The length of every table in a snapshot, with the path to it."""
    if isinstance(state, dict):
        return [found for key, value in state.items() for found in sizes(value, f"{name}/{key}")]
    return [(name, len(state))] if hasattr(state, "__len__") and not isinstance(state, str) else []


@LAW
@given(events)
def test_after_a_tick_no_memory_is_larger_than_its_bound(
    baseline: Baseline, happened: list[tuple[str, int, int, int, int, int]]
) -> None:
    pipeline = Pipeline(baseline, bounds=TINY)
    flows = flows_of(happened)
    pipeline.process(flows)
    later = flows.tail(1).with_columns(pl.col("time") + pl.duration(seconds=9))
    pipeline.process(pl.concat([later, later]))
    state = pipeline.snapshot()
    state["detectors"] = pipeline_tidied(pipeline)
    largest = max(vars_of(TINY))
    assert all(size <= largest for name, size in sizes(state["detectors"]) if "key" in name)


def vars_of(bounds: Bounds) -> list[int]:
    return [getattr(bounds, name) for name in bounds.__slots__]


def pipeline_tidied(pipeline: Pipeline) -> dict[str, Any]:
    """The detectors' state right after a tick."""
    later = int(datetime(2026, 11, 23, 9, 30, tzinfo=UTC).timestamp()) * 1_000_000_000
    pipeline._detectors.tidy(later)
    return pipeline._detectors.snapshot()
