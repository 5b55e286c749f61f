"""The three laws, over each detector and over the whole pipeline.

1. Batch-split invariance: cut the stream anywhere, the output is the same, byte for byte.
2. Snapshot and restore: going on from a snapshot gives what the uninterrupted run gives.
3. Bounded memory: after a tick nothing is larger than its bound, whatever the stream.
"""

import copy
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from streams import cuts, events, flows_of, pieces

from sidelong.alerts.correlator import Correlator
from sidelong.features.bounds import Bounds
from sidelong.ingest.partitions import partitions
from sidelong.ingest.stream import Stream
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import in_stream_order
from sidelong.pipeline import Pipeline

LAW = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # shrinking would run for longer than CI waits
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TINY = Bounds(
    contacts=12,
    waiting=3,
    edges=5,
    names=6,
    sums=4,
    tried=5,
    windows=3,
    beginnings=4,
    ledger=8,
    incidents=2,
    workloads=2,
)

BOUNDS = st.sampled_from([Bounds(), TINY])

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
    bounds = data.draw(BOUNDS)
    whole = told(Pipeline(baseline, bounds=bounds), [flows])
    assert told(Pipeline(baseline, bounds=bounds), pieces(flows, at)) == whole


@LAW
@given(st.data())
def test_a_pipeline_goes_on_from_a_snapshot_as_if_nothing_had_happened(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    cut = data.draw(st.integers(0, flows.height))
    bounds = data.draw(BOUNDS)
    first = Pipeline(baseline, bounds=bounds)
    first.process(flows[:cut])
    state = first.snapshot()
    after = told(first, [flows[cut:]])
    second = Pipeline(baseline, bounds=bounds)
    second.restore(state)  # taken before `first` went on: it must not have changed since
    assert told(second, [flows[cut:]]) == after


class Judged:
    """The detectors behind a stream, as the pipeline runs them, without correlation."""

    def __init__(self, baseline: Baseline, bounds: Bounds) -> None:
        self.stream = Stream()
        self.detectors = Detectors(baseline, frozenset({"10.0.1"}), bounds)

    def evidence(self, batches: list[pl.DataFrame]) -> pl.DataFrame:
        found = []
        for batch in batches:
            for stretch in self.stream.stretches(batch):
                if stretch.tick_ns is not None:
                    self.detectors.tidy(stretch.tick_ns)
                found.append(self.detectors.observe(stretch.flows, stretch.pulse))
        return pl.concat(found)


@LAW
@given(st.data())
def test_partitions_by_actor_give_together_what_one_stream_gives(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    parts = data.draw(st.integers(2, 5))
    stream, correlator = Stream(), Correlator(Bounds())
    detectors = [Detectors(baseline) for _ in range(parts)]
    told = []
    for at in pieces(flows, data.draw(cuts(flows.height))):
        for _, _, tick_ns, pulse, rows in stream.stretches(at):
            if tick_ns is not None:
                told += correlator.tick(tick_ns)
                for one in detectors:
                    one.tidy(tick_ns)
            of = partitions(rows, parts)
            evidence = [
                one.observe(rows.filter(pl.Series(of == part, dtype=pl.Boolean)), pulse)
                for part, one in enumerate(detectors)
            ]
            told += correlator.consume(in_stream_order(pl.concat(evidence)), pulse)
    last = pl.concat([one.finish(stream.rows) for one in detectors])
    told += correlator.finish(in_stream_order(last), stream.end(3_600_000_000_000))
    whole = Pipeline(baseline)
    assert [one.to_json() for one in told] == [
        one.to_json() for one in whole.process(flows) + whole.finish()
    ]


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
    bounds = data.draw(BOUNDS)
    whole = Judged(baseline, bounds).evidence([flows])
    same(Judged(baseline, bounds).evidence(pieces(flows, at)), whole)


@LAW
@given(st.data())
def test_each_detector_goes_on_from_a_snapshot_as_if_nothing_had_happened(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    cut = data.draw(st.integers(1, flows.height))
    bounds = data.draw(BOUNDS)
    first = Judged(baseline, bounds)
    first.evidence([flows[:cut]])
    second = copy.copy(first)
    second.stream = copy.deepcopy(first.stream)
    second.detectors = Detectors(baseline, frozenset({"10.0.1"}), bounds)
    second.detectors.restore(first.detectors.snapshot())
    if cut < flows.height:
        ours = first.evidence([flows[cut:]])
        same(second.evidence([flows[cut:]]), ours)


BOUND_OF = {
    "contacts/table": "contacts",
    "contacts/waiting": "waiting",
    "edges/table": "edges",
    "scan/failures": "sums",
    "scan/vertical": "sums",
    "scan/horizontal": "sums",
    "guessing/paths": "sums",
    "guessing/services": "sums",
    "tried/table": "tried",
    "windows/edges/rows": "windows",
    "windows/lookups/rows": "windows",
    "windows/names/rows": "names",
    "windows/edge_rhythm": "beginnings",
    "windows/lookup_rhythm": "beginnings",
    "spread/spread": "sums",
    "rollouts/templates": "workloads",
    "rollouts/actors": "workloads",
    "mesh/told": "edges",
    "dns/names": "names",
    "dns/buckets": "sums",
    "anomaly/levels": "sums",
    "anomaly/sums": "sums",
    "joint/support": "sums",
    "joint/near": "sums",
    "ledger/rows": "ledger",
    "chains": "workloads",
    "stories/of": "workloads",
    "stories/kinds": "workloads",
    "outages/seen": "ledger",
    "watermark/waiting": "ledger",
    "shared_domains/names": "names",
    "shared_domains/buckets": "sums",
    "shared_domains/asked": "sums",
    "open": "incidents",
}


def size(state: Any, path: str) -> int:
    """How many rows the part of a snapshot at `path` holds."""
    for name in path.split("/"):
        state = state[name]
    return len(state["key"] if isinstance(state, dict) and "key" in state else state)


@LAW
@given(events)
def test_after_a_tick_no_memory_is_larger_than_its_bound(
    baseline: Baseline, happened: list[tuple[str, int, int, int, int, int]]
) -> None:
    pipeline = Pipeline(baseline, bounds=TINY, windows=True)
    flows = flows_of(happened)
    pipeline.process(flows)
    pipeline.tick(int(flows["time"].to_physical().max()))  # type: ignore[arg-type]
    state = pipeline.snapshot()
    parts = state["detectors"] | state["correlator"]
    for path, bound in BOUND_OF.items():
        assert size(parts, path) <= getattr(TINY, bound), path
    unbounded = {"evicted", "given_up", "lost"}
    named = {path.split("/")[0] for path in BOUND_OF} | unbounded
    assert parts.keys() <= named, "a part without a bound"
