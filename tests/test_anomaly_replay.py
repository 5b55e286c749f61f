"""From traffic to a sentence: a workload that does what it never did, minute after minute."""

from dataclasses import replace

import polars as pl
import pytest
from builders import flows, learnt

from sidelong.alerts.incident import Incident
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.forests import Forests
from sidelong.models.forests_learning import trained
from sidelong.pipeline import Pipeline

CLIENTS = ("shop/web", "shop/cart", "shop/search", "jobs/mail", "jobs/index", "jobs/report")
TWO_HOURS = 7_200


def minutes(count: int, start: int = 0, busy: int = 0) -> pl.DataFrame:
    """Everybody calls the database a few times a minute; `shop/web` fails so often beside that."""
    told: list[tuple[float, str]] = []
    for minute in range(count):
        for number, client in enumerate(CLIENTS):
            for call in range(2 + (minute * 7 + number * 3) % 5):
                at = start + minute * 60 + call * 9.0 + number
                told += [
                    (at, f"{client} -> data/db:5432"),
                    (at + 0.01, f"{client} <- data/db:5432 SYN-ACK"),
                ]
        for call in range(busy):
            at = start + minute * 60 + 10 + call / 10
            told.append((at, "shop/web -> data/db:5432"))
            told.append((at + 0.01, "shop/web <- data/db:5432 RST"))
    return flows(*(f"{at:.3f}s {what}" for at, what in sorted(told)))


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return learnt(minutes(120))


def last(baseline: Baseline, *frames: pl.DataFrame) -> list[Incident]:
    """The last state of every incident."""
    pipeline = Pipeline(baseline)
    told = [one for frame in frames for one in pipeline.process(frame)] + pipeline.finish()
    return list({one.id: one for one in told}.values())


def test_two_hours_of_traffic_teach_forests(baseline: Baseline) -> None:
    assert {"workload", "edge"} <= baseline.forests.scopes.keys()
    assert baseline.description()["forests"]["workload"]["windows"] >= 600


def test_the_same_work_brings_no_anomaly(baseline: Baseline) -> None:
    assert last(baseline, minutes(60, TWO_HOURS)) == []


def test_what_a_workload_never_did_is_told_as_information_and_explained(
    baseline: Baseline,
) -> None:
    (incident,) = last(baseline, minutes(20, TWO_HOURS, busy=60))
    assert (incident.kind, incident.severity) == ("anomaly", "info")
    assert incident.actor.workload == "shop/web"
    assert incident.counts["windows"] >= 5
    assert " was unlike itself" in incident.summary
    assert "it would be ordinary with" in incident.summary
    assert " instead of " in incident.summary
    assert all(part.observed != part.expected for part in incident.evidence)


def test_a_larger_budget_tells_of_it_no_later(baseline: Baseline) -> None:
    strange = minutes(20, TWO_HOURS, busy=60)
    detected = []
    for budget in (0.01, 1.0, 100.0):
        pipeline = Pipeline(baseline, budget=budget)
        told = pipeline.process(strange) + pipeline.finish()
        detected.append(min(one.detected_at for one in told))
    assert detected == sorted(detected, reverse=True)
    assert detected[0] > detected[-1]


def test_strange_windows_do_not_teach(baseline: Baseline) -> None:
    learning = Learning(before=baseline)
    learning.observe(minutes(20, TWO_HOURS, busy=60))
    after = learning.update().baseline
    ours, theirs = (
        one.workload_windows.filter(pl.col("actor") == "shop/web")["refusals"].max()
        for one in (baseline, after)
    )
    assert ours == theirs == 0
    grown = after.workload_windows.height - baseline.workload_windows.height
    assert grown >= 5 * 18  # everybody else's do


def test_a_service_takes_up_a_baseline_with_forests_where_it_had_one_without(
    baseline: Baseline,
) -> None:
    strange = minutes(20, TWO_HOURS, busy=60)
    before = Pipeline(replace(baseline, forests=Forests()))
    assert before.process(strange[:60]) == []
    after = Pipeline(baseline)
    after.restore(before.snapshot())
    told = after.process(strange[60:]) + after.finish()
    assert {one.kind for one in told} == {"anomaly"}


def test_without_scikit_learn_a_baseline_has_no_forests_and_keeps_those_it_had(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidelong.models.forests_learning.can_train", lambda: False)
    assert trained(replace(baseline, forests=Forests())).forests == Forests()
    assert trained(baseline) is baseline
