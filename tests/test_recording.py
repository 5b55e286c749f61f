"""What a recording keeps of a run, that it is the same each time, and that it stays small."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from streams import START_NS, cuts, events, flows_of, pieces

from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.source import Batch
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline
from sidelong.recording import Recorder, Recording, RecordingBounds
from sidelong.tally import Tally

SHOP = "examples/shop-incident"
TINY = RecordingBounds(
    incidents=2, contacts=3, names=2, samples=3, waiting=2, recent=3, activity=4, buckets=4
)

ORDINARY = [
    (kind, client, server, port, 25, 0)
    for _ in range(400)
    for client, server, port in ((0, 1, 1), (1, 3, 2), (2, 3, 3))
    for kind in ("syn", "answered")
]


def recorded(
    batches: Sequence[pl.DataFrame],
    baseline: Baseline | None = None,
    bounds: RecordingBounds | None = None,
) -> Recording:
    pipeline, recorder, tally = Pipeline(baseline), Recorder(bounds or RecordingBounds()), Tally()
    for flows in batches:
        tally.add(Batch(flows, 0))
        for step in pipeline.steps(flows):
            recorder.observe(step)
    recorder.observe(pipeline.end())
    return recorder.finish(tally=tally)


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    learning = Learning()
    learning.observe(flows_of(ORDINARY))
    return learning.finish()


@pytest.fixture(scope="module")
def shop() -> Recording:
    learning = Learning()
    for batch in open_inputs([f"{SHOP}/train.hubble.jsonl.zst"])[0].batches():
        learning.observe(batch.flows)
    test = open_inputs([f"{SHOP}/test.hubble.jsonl.zst"])[0].batches()
    return recorded([batch.flows for batch in test], learning.finish())


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_where_a_stream_is_cut_changes_nothing_that_is_recorded(
    baseline: Baseline, data: st.DataObject
) -> None:
    flows = flows_of(data.draw(events))
    at = data.draw(cuts(flows.height))
    bounds = data.draw(st.sampled_from([RecordingBounds(), TINY]))
    whole = recorded([flows], baseline, bounds)
    cut = recorded(pieces(flows, at), baseline, bounds)
    assert cut.incidents == whole.incidents
    assert_frame_equal(cut.contacts, whole.contacts)
    assert_frame_equal(cut.names, whole.names)
    assert_frame_equal(cut.timeline, whole.timeline)
    assert cut.sight == whole.sight
    assert cut.samples.keys() == whole.samples.keys()
    for incident, flows_of_it in whole.samples.items():
        assert_frame_equal(cut.samples[incident], flows_of_it)


def test_an_incident_is_recorded_in_its_last_state(shop: Recording) -> None:
    assert [one.kind for one in shop.incidents] == [
        "lateral_movement",
        "scan",
        "dns_exfiltration",
        "dns_exfiltration",
    ]
    assert {one.status for one in shop.incidents} == {"closed"}


def test_contacts_count_every_event_once(shop: Recording) -> None:
    scan = shop.contacts.filter(src="shop/frontend", dst="payments/payments")
    assert scan.height == 1_000
    assert scan["failed"].sum() == 1_000
    whole = shop.timeline.filter(pl.col("incident").is_null())
    assert shop.contacts["events"].sum() == whole["events"].sum()


def test_bytes_are_null_where_no_source_saw_any(shop: Recording) -> None:
    assert shop.contacts["bytes"].null_count() == shop.contacts.height


def test_names_tell_how_much_text_went_below_a_domain(shop: Recording) -> None:
    top = shop.names.row(0, named=True)
    assert (top["workload"], top["domain"], top["types"]) == ("jobs/batch", "example.net", ["TXT"])
    assert top["names"] == 33
    assert top["name_bytes"] > 3_845


def test_many_names_are_counted_within_a_tenth_or_two() -> None:
    flows = flows_of([("lookup", 0, 3, number, 1, 0) for number in range(41)])
    many = pl.concat([flows] * 100).with_columns(
        dns_name=pl.format("n{}.example.com", pl.int_range(pl.len()))
    )
    names = recorded([many]).names.filter(domain="example.com")
    assert names["names"].item() == pytest.approx(4_100, rel=0.25)


def test_samples_are_flows_of_the_evidence_and_the_deciding_one_is_among_them(
    shop: Recording,
) -> None:
    for incident in shop.incidents:
        flows = shop.samples[incident.id]
        assert 0 < flows.height <= 50
        assert flows["decisive"].any()
        assert flows["row"].is_sorted()
        sides = flows["src"].to_list() + flows["dst"].to_list()
        assert incident.actor.workload in sides


def test_what_nobody_answered_is_shown_by_its_attempt() -> None:
    silent = [("syn", 0, 3, port, 20, 0) for port in range(40)]
    run = recorded([flows_of([*silent, ("answered", 1, 3, 0, 5_000, 0)])])
    (incident,) = run.incidents
    assert incident.counts["unanswered"] > 0
    flows = run.samples[incident.id].filter(reason="UNANSWERED")
    assert flows.height > 5
    assert set(flows["src"]) == {incident.actor.workload}
    assert not flows["reply"].any()


def test_the_timeline_of_an_incident_begins_a_minute_before_it(shop: Recording) -> None:
    tunnel = next(one for one in shop.incidents if one.actor.workload == "payments/payments")
    drawn = shop.timeline.filter(incident=tunnel.id)
    begins = drawn["time"].to_list()[0]
    assert timedelta(0) < tunnel.first_seen - begins <= timedelta(seconds=61)
    assert drawn["signals"].sum() == tunnel.counts["queries"]


def test_a_long_incident_is_drawn_in_few_stretches() -> None:
    calls = [("syn", 0, 1, number % 3, 400, 0) for number in range(900)]
    silent = [("syn", 0, 3, port, 20, 0) for port in range(40)]
    bounds = RecordingBounds(buckets=10)
    run = recorded([flows_of([*silent, *calls])], bounds=bounds)
    assert all(of.height <= 11 for of in run.timeline.partition_by("incident"))


def test_what_is_beyond_the_bounds_is_counted() -> None:
    flows = flows_of([("answered", 0, 1, port, 9_000, 0) for port in range(41)] * 3)
    run = recorded([flows], bounds=RecordingBounds(contacts=5))
    assert run.contacts.height == 5
    assert run.sight.dropped["contacts"] > 0


def test_an_empty_stream_is_an_empty_recording() -> None:
    run = recorded([])
    assert run.incidents == ()
    assert [run.contacts.height, run.names.height, run.timeline.height] == [0, 0, 0]
    assert (run.sight.flows, run.sight.first) == (0, None)


def test_a_recording_says_what_it_could_see() -> None:
    flows = flows_of([("syn", 0, 1, 1, 10, 0), ("lost", 0, 1, 1, 10, 0)])
    sight = recorded([flows]).sight
    assert (sight.flows, sight.lost, sight.completeness) == (1, 7, 0.125)
    assert sight.first == datetime.fromtimestamp(START_NS / 1e9, UTC) + timedelta(milliseconds=10)
