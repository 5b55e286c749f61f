"""The three laws and the law of partitions, over what forests say, support and remember."""

from dataclasses import replace

import polars as pl
import pytest
from forest_builders import jumpy_forests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from streams import cuts, events, flows_of, pieces

from sidelong.features.bounds import Bounds
from sidelong.ingest.partitions import partitions
from sidelong.ingest.stream import Stream
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import in_stream_order
from sidelong.pipeline import Pipeline

LAW = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
BOUNDS = st.sampled_from([Bounds(), Bounds(sums=4, ledger=8, incidents=2)])
ACTORS = ["shop/web", "shop/api", "data/db", "data/cache", "ip:10.0.1.99"]
ORDINARY = [
    (kind, client, server, port, 25, 0)
    for _ in range(60)
    for client, server, port in ((0, 1, 1), (1, 3, 2), (2, 3, 3))
    for kind in ("syn", "answered")
]
# Minutes of failures on edges that are known, a scan that stops just short of an alert, a tunnel.
BUSY = [
    event
    for minute in range(6)
    for event in (
        *(("syn", 0, 1, 1, 50, 0), ("refused", 0, 1, 1, 50, 0)) * 3,
        *(("lookup", 1, 3, minute * 5 + number, 50, 0) for number in range(3)),
        ("syn", 0, 3, 20 + minute, 50, 0),
        ("refused", 0, 3, 20 + minute, 61_000, 0),
    )
]


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    learning = Learning()
    learning.observe(flows_of(ORDINARY))
    return replace(learning.finish(), forests=jumpy_forests(ACTORS))


class Judged:
    """The detectors of some parts behind a stream, their evidence together."""

    def __init__(self, baseline: Baseline, bounds: Bounds, parts: int = 1) -> None:
        self.stream = Stream()
        self.detectors = [Detectors(baseline, bounds=bounds) for _ in range(parts)]

    def evidence(self, batches: list[pl.DataFrame]) -> pl.DataFrame:
        found = []
        for batch in batches:
            for _, _, tick_ns, pulse, rows in self.stream.stretches(batch):
                of = pl.Series(partitions(rows, len(self.detectors)))
                told = []
                for part, one in enumerate(self.detectors):
                    if tick_ns is not None:
                        one.tidy(tick_ns)
                    told.append(one.observe(rows.filter(of == part), pulse))
                found.append(in_stream_order(pl.concat(told)))
        found.append(
            in_stream_order(pl.concat([one.finish(self.stream.rows) for one in self.detectors]))
        )
        return pl.concat(found)


def test_these_streams_bring_anomalies_and_support(baseline: Baseline) -> None:
    evidence = Judged(baseline, Bounds()).evidence([flows_of(BUSY)])
    anomalies = evidence.filter(pl.col("kind") == "anomaly")
    assert set(anomalies["statistic"]) == {"workload", "edge", "domain"}
    assert anomalies["decisive"].any()
    assert (evidence["reason"] == "ANOMALY").any()


@LAW
@given(st.data())
def test_neither_cuts_nor_partitions_by_actor_change_an_anomaly(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events) + BUSY)
    at = data.draw(cuts(flows.height))
    # A bound holds for each part by itself, so that what goes beyond it depends on how many.
    bounds = data.draw(BOUNDS)
    parts = data.draw(st.integers(2, 5)) if bounds == Bounds() else 1
    whole = Judged(baseline, bounds).evidence([flows])
    assert Judged(baseline, bounds, parts).evidence(pieces(flows, at)).equals(whole)


@LAW
@given(st.data())
def test_anomalies_go_on_from_a_snapshot_as_if_nothing_had_happened(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events) + BUSY)
    cut = data.draw(st.integers(0, flows.height))
    bounds = data.draw(BOUNDS)
    first, second = (Pipeline(baseline, bounds=bounds) for _ in range(2))
    first.process(flows[:cut])
    second.restore(first.snapshot())
    ours = first.process(flows[cut:]) + first.finish()
    theirs = second.process(flows[cut:]) + second.finish()
    assert [one.to_json() for one in theirs] == [one.to_json() for one in ours]


def test_anomalies_alone_are_told_as_information_only(baseline: Baseline) -> None:
    pipeline = Pipeline(baseline)
    told = pipeline.process(flows_of(BUSY)) + pipeline.finish()
    anomalies = [one for one in told if one.kind == "anomaly"]
    assert anomalies
    assert {one.severity for one in anomalies} == {"info"}
    assert {one.techniques for one in anomalies} == {()}
