"""Three speeds of learning: what joins a baseline, when, and what is forgotten."""

import polars as pl
import pytest
from builders import START, flows, incidents, known, learnt

from sidelong.alerts.incident import Incident
from sidelong.features.edges import EDGE
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.models.learning_speeds import Updated

HOUR, DAY = 3_600, 86_400

# A cluster in which shop/web is well known, and data/db is served by others' calls.
ORDINARY = {
    "shop/web -> shop/api:80": 20_000,
    "data/report -> data/db:5432": 20_000,
    **{f"misc/c{n} -> misc/s{n}:80": 20_000 for n in range(20)},
}
BEFORE = known(ORDINARY)


def use(at: float, client: str, server: str) -> tuple[str, str]:
    """A connection that is answered."""
    return f"{at}s {client} -> {server} SYN", f"{at + 0.01}s {client} <- {server} SYN-ACK"


def update(before: Baseline, *told: str) -> Updated:
    learning = Learning(before=before)
    learning.observe(flows(*told))
    return learning.update()


def every(gap: float, times: int, client: str, server: str, *, start: float = 0) -> list[str]:
    return [line for n in range(times) for line in use(start + n * gap, client, server)]


def edges(frame: pl.DataFrame) -> set[str]:
    rows = frame.select(EDGE).iter_rows()
    return {f"{actor} -> {peer}:{port}" for actor, peer, port, _ in rows}


def opened(found: list[Incident]) -> list[str]:
    return [one.actor.workload for one in found if one.status == "open"]


def test_what_a_person_vouches_for_is_learnt_at_once() -> None:
    assert edges(learnt(flows(*use(0, "a/x", "b/y:80"))).contacts) == {"a/x -> b/y:80"}


def test_what_is_only_seen_is_on_trial_first() -> None:
    after = update(BEFORE, *use(0, "shop/web", "shop/search:80"))
    assert edges(after.trial) == {"shop/web -> shop/search:80"} == edges(after.baseline.trial)
    assert edges(after.baseline.contacts) == edges(BEFORE.contacts)


@pytest.mark.parametrize(
    ("gap", "times", "joins"),
    [
        (60, 30, False),  # often, but within an hour
        (HOUR, 2, False),
        (HOUR, 3, True),  # three separate hours
        (DAY, 2, True),  # over a day
    ],
)
def test_an_edge_joins_after_three_separate_hours_or_a_day(
    gap: int, times: int, joins: bool
) -> None:
    after = update(BEFORE, *every(gap, times, "shop/web", "shop/search:80"))
    assert ("shop/web -> shop/search:80" in edges(after.baseline.contacts)) is joins
    assert (after.joined.height, after.trial.height) == (int(joins), int(not joins))


def test_the_hours_of_several_updates_add_up() -> None:
    after = BEFORE
    for n in range(3):
        assert edges(after.contacts) == edges(BEFORE.contacts)
        after = update(after, *use(n * HOUR, "shop/web", "shop/search:80")).baseline
    assert "shop/web -> shop/search:80" in edges(after.contacts)
    assert after.trial.is_empty()


def test_an_hour_that_two_updates_share_counts_once() -> None:
    after = BEFORE
    for n in range(5):
        after = update(after, *use(n * 600, "shop/web", "shop/search:80")).baseline
    assert after.trial["hours_seen"].to_list() == [1]


def test_an_edge_to_a_sensitive_service_takes_three_separate_days() -> None:
    # Not known enough to alarm by itself: 4.6 for SSH is all it has.
    told = every(HOUR, 30, "new/comer", "shop/api:22")
    after = update(BEFORE, *told)
    assert edges(after.trial) == {"new/comer -> shop/api:22"}
    again = update(after.baseline, *every(DAY, 1, "new/comer", "shop/api:22", start=2 * DAY))
    assert edges(again.joined) == {"new/comer -> shop/api:22"}


def test_an_attacker_who_repeats_an_edge_for_a_day_does_not_make_it_normal() -> None:
    attack = every(HOUR, 24, "shop/web", "data/db:5432")
    work = every(HOUR, 24, "shop/web", "shop/api:80", start=1)
    stream = flows(*sorted(attack + work, key=lambda told: float(told.partition("s ")[0])))
    learning = Learning(before=BEFORE)
    learning.observe(stream)
    assert [one.actor.workload for one in learning.incidents.values()] == ["shop/web"]
    after = learning.update()
    assert edges(after.baseline.contacts) == edges(BEFORE.contacts)
    assert after.baseline.trial.is_empty()
    # What alarmed yesterday alarms today.
    assert opened(incidents(flows(*use(0, "shop/web", "data/db:5432")), after.baseline)) == [
        "shop/web"
    ]


def test_an_attacker_who_is_learnt_every_hour_does_not_become_normal_either() -> None:
    after = BEFORE
    for n in range(6):
        told = [*use(n * HOUR, "shop/web", "data/db:5432"), *use(n * HOUR + 1, "a/x", "b/y:80")]
        after = update(after, *told).baseline
    assert "shop/web -> data/db:5432" not in edges(after.contacts) | edges(after.trial)
    assert "a/x -> b/y:80" in edges(after.contacts)  # others are not held up


def test_nothing_new_of_an_actor_in_trouble_counts() -> None:
    told = [
        *every(HOUR, 4, "shop/web", "shop/search:80"),
        *use(4 * HOUR, "shop/web", "data/db:5432"),
    ]
    after = update(BEFORE, *told)
    assert edges(after.withheld) == {"shop/web -> shop/search:80"}
    assert edges(after.baseline.contacts) == edges(BEFORE.contacts)


def test_what_is_used_by_several_pods_of_a_workload_is_one_edge() -> None:
    told = flows(*use(0, "shop/web", "shop/search:80"), *use(2, "shop/web", "shop/search:80"))
    pods = pl.Series(["shop/web-7d9f8c6b5-x2x4z"] * 2 + ["shop/web-7d9f8c6b5-q7w4z"] * 2)
    client = pl.col("src") == "shop/web"
    told = told.with_columns(
        src_pod=pl.when(client).then(pods), dst_pod=pl.when(~client).then(pods)
    )
    (row,) = learnt(told).contacts.iter_rows(named=True)
    assert (row["pods"], row["active_seconds"]) == (2, 2)


def test_experience_fades_by_its_half_life() -> None:
    seconds = {"shop/web -> shop/api:80": 1_000, "shop/web -> example.org:443": 1_000}
    before = known(seconds | {"shop/web -> shop/api:22": 1_000})
    after = update(before, *use(7 * DAY, "a/x", "b/y:80")).baseline
    left = dict(after.contacts.select("port", "active_seconds").iter_rows())
    assert left.pop(80) == pytest.approx(500, abs=2)  # normal: half in a week
    assert left.pop(22) == pytest.approx(850, abs=2)  # slow: half in a month
    assert left.pop(443) == pytest.approx(8, abs=1)  # fast: half in a day


def test_what_was_done_once_stays_so_until_it_is_forgotten() -> None:
    before = known({"shop/web -> shop/api:80": 1, "shop/web -> shop/s:80": 9})
    after = update(before, *use(25 * DAY, "shop/web", "shop/s:80")).baseline
    assert sorted(after.contacts["active_seconds"]) == [1, 2]
    assert after.workloads.filter(pl.col("actor") == "shop/web")["singletons"].item() == 1


def test_a_peer_outside_is_forgotten_in_a_week_and_a_workload_in_a_month() -> None:
    before = known({"shop/web -> shop/api:80": 1_000, "shop/web -> example.org:443": 1_000})
    after = update(before, *use(8 * DAY, "a/x", "b/y:80"))
    assert edges(after.forgotten) == {"shop/web -> example.org:443"}
    later = update(before, *use(31 * DAY, "a/x", "b/y:80"))
    assert later.forgotten.height == 2


@pytest.mark.parametrize(
    ("owner", "days", "known_still"), [(None, 31, False), ("CronJob", 31, True)]
)
def test_a_cron_job_is_remembered_for_months(
    owner: str | None, days: int, known_still: bool
) -> None:
    before = known({"shop/backup -> data/store:9000": 5})
    before.workloads.replace_column(
        before.workloads.get_column_index("owner"), pl.Series("owner", [owner], dtype=pl.String)
    )
    after = update(before, *use(days * DAY, "a/x", "b/y:80"))
    assert ("shop/backup -> data/store:9000" in edges(after.baseline.contacts)) is known_still
    assert after.forgotten.is_empty() is known_still


def test_what_a_weekly_job_always_does_is_new_at_no_hour() -> None:
    """For weeks it ran on Mondays; now it does again, and once by hand on a Thursday."""
    baseline = BEFORE
    for week in range(3):
        run = flows(*use(week * 7 * DAY, "data/weekly", "pay/ledger:5432")).with_columns(
            src_pod=pl.lit(f"data/weekly-{29_000_000 + week}-x2x4z")
        )
        learning = Learning(before=baseline)
        learning.observe(run)
        baseline = learning.update().baseline
    assert "data/weekly -> pay/ledger:5432" in edges(baseline.contacts)
    monday = flows(*use(28 * DAY, "data/weekly", "pay/ledger:5432"))
    thursday = flows(*use(31 * DAY + 5 * HOUR, "data/weekly", "pay/ledger:5432"))
    assert incidents([monday, thursday], baseline) == []


def test_an_update_makes_a_workload_no_younger() -> None:
    after = update(BEFORE, *use(20 * DAY, "shop/web", "shop/api:80")).baseline
    row = after.workloads.filter(pl.col("actor") == "shop/web")
    assert row["first"].item() < START < row["last"].item()


def test_an_update_with_nothing_in_it_changes_nothing() -> None:
    after = update(BEFORE, "0s LOST 3").baseline
    assert after.contacts.sort(EDGE).equals(BEFORE.contacts.sort(EDGE))
    assert after.workloads["actor"].to_list() == sorted(BEFORE.workloads["actor"])
