"""Anomalies: what windows say, how they explain themselves, what they support, what they do not."""

from dataclasses import replace

import polars as pl
import pytest
from forest_builders import windows

from sidelong.features.bounds import Bounds
from sidelong.features.windows import NOTHING_CLOSED, Closed
from sidelong.models.anomaly import NO_ANOMALIES, AnomalyDetector
from sidelong.models.evidence import ALERT, INFO, NO_EVIDENCE, as_evidence
from sidelong.models.forests import Forests, groups_of
from sidelong.models.forests_learning import learn_scope
from sidelong.models.joint import JOINT, Joint
from sidelong.models.window_sample import WindowSample

ACTORS = ["shop/web", "shop/api", "data/db"]


@pytest.fixture(scope="module")
def forests() -> Forests:
    scopes = {}
    for scope in ("workload",):
        sample = WindowSample()
        sample.add(scope, windows(scope, ACTORS, 2_100))
        scopes[scope] = learn_scope(scope, sample.windows(scope), 3 * 1_440.0)
    return Forests(scopes)


def closed(workload: pl.DataFrame) -> Closed:
    return NOTHING_CLOSED._replace(workload=workload)


def strange(count: int = 1, actor: str = "shop/web") -> pl.DataFrame:
    """Windows of one actor in which it does a hundred times as much of everything."""
    ordinary = windows("workload", [actor], count, seed=9)
    more = [pl.col(name) * 100 for name in ("peers", "ports", "attempts", "first_contacts")]
    silent = [pl.lit(5_000.0).alias(name) for name in ("refusals", "first_refused", "new_edges")]
    return ordinary.with_columns(*more, *silent, refused_share=1.0, first_answered_share=0.0)


def test_ordinary_windows_raise_no_alarm(forests: Forests) -> None:
    found = AnomalyDetector(forests, Bounds()).judge(
        closed(windows("workload", ACTORS, 60, seed=4))
    )
    assert not found["decisive"].any()


def test_strange_windows_add_up_to_an_anomaly(forests: Forests) -> None:
    found = AnomalyDetector(forests, Bounds()).judge(closed(strange(8)))
    assert found["decisive"].any()
    assert (found["kind"] == "anomaly").all()
    assert (found["level"] > 0).all()


def test_a_single_window_is_no_anomaly_however_strange(forests: Forests) -> None:
    found = AnomalyDetector(forests, Bounds(), budget=1e9).judge(closed(strange(1)))
    assert found.height == 1
    assert not found["decisive"].any()
    assert found["level"].max() < INFO  # type: ignore[operator]


def test_windows_say_with_what_they_would_be_ordinary(forests: Forests) -> None:
    found = AnomalyDetector(forests, Bounds()).judge(closed(strange(8)))["parts"].to_list()
    more = {"peers", "ports", "attempts", "first_contacts", "refusals", "first_refused"}
    more |= {"new_edges", "refused_share", "first_answered_share"}
    named = [part["feature"] in more for parts in found for part in parts]
    assert sum(named) > 0.8 * len(named)
    for parts in found:
        assert 1 <= len(parts) <= 3
        assert all(part["observed"] != part["expected"] for part in parts)
        assert all(part["log_evidence"] >= 0 for part in parts)


def test_a_window_that_lost_events_is_not_judged(forests: Forests) -> None:
    lossy = strange(8).with_columns(completeness=0.8)
    assert AnomalyDetector(forests, Bounds()).judge(closed(lossy)).is_empty()


def test_what_a_source_cannot_see_makes_nothing_strange(forests: Forests) -> None:
    ordinary = windows("workload", ["shop/web"], 200, seed=5)
    seen = forests.scopes["workload"].judge(ordinary).p
    blind = ordinary.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in ("bytes_out", "bytes_in", "lookups")
    )
    assert forests.scopes["workload"].judge(blind).p.mean() >= seen.mean()


def test_who_is_unknown_is_held_against_its_role_or_namespace(forests: Forests) -> None:
    found = forests.scopes["workload"]
    assert found.habit("shop/web").own
    assert not found.habit("shop/new").own
    assert found.habit("shop/new").forest == found.groups["namespace:shop"]
    assert found.habit("other/thing").forest == found.groups["cluster"]


@pytest.mark.parametrize(
    ("actor", "groups"),
    [
        ("shop/cache-2", ("workload:shop/cache-2", "role:cache", "namespace:shop", "cluster")),
        ("ip:10.0.0.7", ("workload:ip:10.0.0.7", "role:ip:", "cluster")),
        ("world:203.0.0.0/16", ("workload:world:203.0.0.0/16", "role:world:", "cluster")),
        ("example.org", ("workload:example.org", "role:example.org:", "cluster")),
    ],
)
def test_the_groups_of_an_actor(actor: str, groups: tuple[str, ...]) -> None:
    assert groups_of(actor) == groups


def nearly(level: int, kind: str = "scan", **more: object) -> pl.DataFrame:
    """Evidence by which a sum rose to `level`, at row 10."""
    row = {"row": 10, "sub": 0, "kind": kind, "statistic": "vertical", "group": 7} | more
    time = windows("workload", ["shop/web"], 1)["last"]
    told = pl.DataFrame(row).with_columns(
        time=time,
        actor=pl.lit("shop/web"),
        reason=pl.lit("REFUSED"),
        log_evidence=2_770_000,
        level=pl.lit(level),
        decisive=False,
    )
    return as_evidence(told)


def window(p: int = 1, **more: object) -> pl.DataFrame:
    """An anomaly of an old edge, which closes at row 20."""
    place = {"row": 20, "sub": 0, "kind": "anomaly", "statistic": "edge", "group": 9} | more
    time = windows("workload", ["shop/web"], 1)["last"]
    told = pl.DataFrame(place).with_columns(
        time=time,
        actor=pl.lit("shop/web"),
        log_evidence=3_500_000,
        level=3_500_000,
        decisive=False,
    )
    extra = pl.DataFrame({"p": [p], "own": [True], "old": [True]})
    return as_evidence(told).hstack(extra).match_to_schema(NO_ANOMALIES.schema)


@pytest.mark.parametrize(
    ("level", "alarms"), [(ALERT - 3_000_000, True), (ALERT - 3_000_001, False)]
)
def test_a_strange_edge_supports_a_scan_with_three_nats_at_most(level: int, alarms: bool) -> None:
    found = Joint(Bounds()).judge(nearly(level), window())
    assert found["decisive"].to_list() == ([False, True] if alarms else [False])
    if alarms:
        assert found["reason"].to_list() == ["REFUSED", JOINT]
        assert found["row"].to_list() == [10, 20]
        assert found["level"].to_list()[1] == ALERT


def test_a_scan_is_supported_by_a_window_that_closed_before_it() -> None:
    joint = Joint(Bounds())
    assert joint.judge(NO_EVIDENCE, window()).is_empty()
    later = nearly(ALERT - 2_000_000).with_columns(row=pl.lit(30, pl.UInt64))
    found = joint.judge(later, NO_ANOMALIES)
    assert found["decisive"].to_list() == [True]
    assert found["level"].to_list() == [ALERT + 1_000_000]


def test_support_lasts_ten_minutes() -> None:
    joint = Joint(Bounds())
    joint.judge(NO_EVIDENCE, window())
    later = nearly(ALERT - 1).with_columns(
        pl.col("time") + pl.duration(seconds=601, time_unit="ns"), row=pl.lit(30, pl.UInt64)
    )
    assert not joint.judge(later, NO_ANOMALIES)["decisive"].any()


@pytest.mark.parametrize(
    "other",
    [
        {"p": 1_000_000_000},
        {"statistic": "workload"},
        {"own": False},
        {"old": False},
        {"actor": "shop/api"},
    ],
    ids=str,
)
def test_nothing_else_supports(other: dict[str, object]) -> None:
    anomaly = window().with_columns(
        pl.lit(value).cast(NO_ANOMALIES.schema[name]).alias(name) for name, value in other.items()
    )
    assert not Joint(Bounds()).judge(nearly(ALERT - 1), anomaly)["decisive"].any()


def test_a_bucket_half_full_alarms_when_its_windows_are_strange() -> None:
    name = {"statistic": "bucket", "domain": "example.org"}
    strange = window(statistic="domain", domain="example.org")
    for level, alarms in ((ALERT // 2, True), (ALERT // 2 - 1, False)):
        found = Joint(Bounds()).judge(nearly(level, "dns_exfiltration", **name), strange)
        assert found["decisive"].any() == alarms
    other = window(statistic="domain", domain="example.net")
    assert (
        not Joint(Bounds())
        .judge(nearly(ALERT - 1, "dns_exfiltration", **name), other)["decisive"]
        .any()
    )


def test_a_sum_that_fell_again_is_not_supported() -> None:
    fell = nearly(ALERT - 5_000_000).with_columns(row=pl.lit(11, pl.UInt64))
    evidence = pl.concat([nearly(ALERT - 1), fell])
    assert not Joint(Bounds()).judge(evidence, window())["decisive"].any()


def test_forests_judge_alike_whatever_the_batch(forests: Forests) -> None:
    rows = windows("workload", ACTORS, 50, seed=6)
    whole = forests.scopes["workload"].judge(rows).depth.tolist()
    single = [int(forests.scopes["workload"].judge(rows[at]).depth[0]) for at in range(rows.height)]
    assert single == whole


def test_a_forest_can_be_replaced_without_touching_what_is_remembered(forests: Forests) -> None:
    first = AnomalyDetector(forests, Bounds())
    first.judge(closed(strange(2)))
    again = AnomalyDetector(
        Forests({name: replace(one) for name, one in forests.scopes.items()}), Bounds()
    )
    again.restore(first.snapshot())
    rest = strange(8)[2:].with_columns(pl.col("row") + 1_000)
    assert again.judge(closed(rest)).equals(first.judge(closed(rest)))
