"""Simulated traffic: repeatable, in order, true to itself, ordinary but for what is injected."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from sidelong.alerts.incident import Incident
from sidelong.cli import run
from sidelong.declared import declared
from sidelong.errors import ConfigError
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.podmap import PodMap
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.learning import Learning
from sidelong.pipeline import Pipeline
from sidelong.simulation import START, Simulation
from sidelong.simulation_attacks import ATTACKS, Attack
from sidelong.simulation_hubble import hubble_lines
from sidelong.simulation_load import load

MORNING: Final = datetime(2026, 11, 23, 9, tzinfo=UTC)
QUIET: Final = timedelta(minutes=20)


def small(**settings: Any) -> Simulation:
    given: dict[str, Any] = {"workloads": 30, "rate": 200.0, "hours": 0.1, "start": MORNING}
    return Simulation(**(given | settings))


def whole(simulation: Simulation) -> pl.DataFrame:
    return pl.concat(list(simulation.frames()))


def read(*paths: Path) -> pl.DataFrame:
    batches = merged(open_inputs([str(path) for path in paths]))
    return pl.concat([batch.flows for batch in batches if batch.flows.height])


def test_the_same_settings_give_the_same_flows_however_they_are_cut() -> None:
    flows = whole(small())
    assert flows.schema == FLOW_SCHEMA
    assert flows.equals(pl.concat(list(small().frames(rows=777))))


def test_another_seed_gives_other_flows() -> None:
    assert not whole(small(seed=1)).equals(whole(small(seed=2)))


def test_it_goes_on_after_any_position() -> None:
    busy = partial(small, rate=1_000.0)
    positions = [batch.position for batch in busy().batches()]
    assert len(positions) > 1
    after = [batch.flows for batch in busy().batches(since=positions[0] + 5)]
    assert pl.concat(after).equals(whole(busy())[positions[0] + 5 :])


def test_flows_come_in_order_of_time_and_end_with_the_simulation() -> None:
    times = whole(small(hours=0.2))["time"]
    assert times.is_sorted()
    assert times[0] >= MORNING
    assert times[-1] < MORNING + timedelta(hours=0.2)


def test_a_working_day_has_the_rate_that_was_asked_for() -> None:
    day = Simulation(workloads=12, rate=10.0, hours=24)
    found = sum(flows.height for flows in day.frames())
    assert found == pytest.approx(10 * 86_400, rel=0.05)


def test_there_is_more_to_do_by_day_than_by_night_or_on_a_sunday() -> None:
    night, noon = START + timedelta(hours=2), START + timedelta(hours=14)
    sunday = noon - timedelta(days=1)
    assert load(noon.timestamp()) > 3 * load(night.timestamp())
    assert load(sunday.timestamp()) == pytest.approx(0.6 * load(noon.timestamp()))


def test_an_address_belongs_to_whom_the_pod_map_says_at_the_time(tmp_path: Path) -> None:
    moved = small(hours=4.0, rate=10.0)
    (tmp_path / "pods.json").write_text(json.dumps(moved.holders()))
    flows = whole(moved).filter(pl.col("src_pod").is_not_null())
    told = PodMap.read(tmp_path / "pods.json").holders(flows.select("time", ip="src_ip"))
    assert len(moved.schedule.rollouts) > 0
    wrong = (told["name"] != flows["src"]).fill_null(True).sum()
    assert wrong < 0.001 * flows.height  # an exchange may outlive its pod by a moment


def test_a_question_is_asked_along_the_search_path() -> None:
    asked = whole(small()).filter(pl.col("dns_rcode").is_not_null(), dns_type="A")
    outside = asked.filter(pl.col("dns_name").str.contains("vendor"))
    one = outside.filter(
        pl.col("dst_pod") == outside["dst_pod"][0], pl.col("dst_port") == outside["dst_port"][0]
    )
    assert (outside["dns_rcode"] == 3).sum() == 3 * (outside["dns_rcode"] == 0).sum()
    assert one["dns_name"][0].endswith(".svc.cluster.local")


def test_what_is_written_as_hubble_s_lines_is_read_back_the_same(tmp_path: Path) -> None:
    every = [Attack(kind, 20, 100) for kind in ATTACKS]
    flows = whole(small(hours=0.02, attacks=every))
    path = tmp_path / "flows.jsonl"
    path.write_text("\n".join(hubble_lines(flows).to_list()) + "\n")
    assert read(path).equals(flows)


def test_an_attack_adds_flows_and_changes_no_other() -> None:
    quiet = whole(small())
    attacked = whole(small(attacks=[Attack("flood", 60, 50)]))
    assert attacked.height == quiet.height + 50 * 300
    assert attacked.join(quiet, on=["time", "src_ip", "src_port", "dst_port"], how="semi").equals(
        quiet
    )


def test_a_flood_comes_in_pieces_that_fit_into_memory() -> None:
    frames = small(hours=0.05, attacks=[Attack("flood", 60)]).frames()
    assert max(flows.height for flows in frames) < 500_000


@pytest.mark.parametrize("text", ["scan", "scan@", "sing@5m", "scan@5x", "scan@5m:0", "scan@5m:-1"])
def test_what_is_no_attack_is_said(text: str) -> None:
    with pytest.raises(ConfigError):
        Attack.parsed(text)


def test_an_attack_after_the_end_is_said() -> None:
    with pytest.raises(ConfigError, match="begins after 600 s"):
        small(attacks=[Attack("scan", 600)])


def test_a_cluster_too_small_is_said() -> None:
    with pytest.raises(ConfigError, match="7 workloads"):
        small(workloads=7)


ATTACKED: Final = [
    Attack("scan", 1_500),
    Attack("slow-scan", 1_560),
    Attack("dns-tunnel", 1_800),
    Attack("lateral", 2_100),
    Attack("flood", 2_400, 200),
]


@pytest.fixture(scope="module")
def found() -> tuple[list[Incident], Sequence[dict[str, Any]]]:
    """Twenty quiet minutes learnt, then half an hour with every attack; the last states."""
    scene = Simulation(
        workloads=40, rate=120.0, hours=50 / 60, seed=5, start=MORNING, attacks=ATTACKED
    )
    learning, latest, pipeline = Learning(), {}, None
    quiet = pl.col("time") < MORNING + QUIET

    def told() -> Iterator[Incident]:
        nonlocal pipeline
        for flows in scene.frames(rows=30_000):
            if pipeline is None:
                learning.observe(flows.filter(quiet))
                if flows.filter(~quiet).is_empty():
                    continue
                pipeline = Pipeline(learning.finish())
            yield from pipeline.process(flows.filter(~quiet))
        assert pipeline is not None
        yield from pipeline.finish()

    for incident in told():
        latest[incident.id] = incident
    assert not [one for one in learning.incidents.values() if one.severity != "info"]
    return [one for one in latest.values() if one.severity != "info"], scene.labels()


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKED, ids=lambda attack: attack.kind)
def test_each_attack_is_found(attack: Attack, found: tuple[list[Incident], Any]) -> None:
    incidents, labels = found
    (label,) = (one for one in labels if one["name"] == f"{attack.kind}-{attack.at:g}")
    named = {(one.kind, one.actor.workload) for one in incidents}
    assert named & {(label["kind"], actor) for actor in label["actors"]}


@pytest.mark.slow
def test_ordinary_traffic_raises_nothing_above_info(found: tuple[list[Incident], Any]) -> None:
    incidents, labels = found
    guilty = {actor for one in labels if one["kind"] != "benign" for actor in one["actors"]}
    assert [one.summary for one in incidents if one.actor.workload not in guilty] == []
    assert len(incidents) < 2 * len(ATTACKED)


def test_the_command_writes_a_folder_by_hour_that_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "day"
    options = ["--workloads", "12", "--rate", "5", "--start", "2026-11-23T08:30:00Z"]
    assert run(["simulate", "--to", str(folder), *options]) == 0
    hours = sorted(path.relative_to(folder).as_posix() for path in folder.glob("date=*/hour=*"))
    assert hours == ["date=2026-11-23/hour=08", "date=2026-11-23/hour=09"]
    start = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
    assert read(folder).equals(whole(Simulation(workloads=12, rate=5.0, start=start)))


def test_the_command_gives_the_same_bytes_again(tmp_path: Path) -> None:
    options = ["--workloads", "12", "--rate", "50", "--for", "1m"]
    written = []
    for suffix in ("parquet", "jsonl.zst", "jsonl.gz"):
        for n in range(2):
            path = tmp_path / f"{n}.{suffix}"
            assert run(["simulate", "--to", str(path), *options]) == 0
            written.append(path.read_bytes())
    assert written[::2] == written[1::2]


def test_a_pipe_gets_lines_of_json(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["simulate", "--to", "-", "--workloads", "12", "--rate", "50", "--for", "1m"]) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    assert len(lines) > 500
    assert all(json.loads(line)["flow"]["verdict"] == "FORWARDED" for line in lines)


def test_what_is_declared_allows_what_happens(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    options = ["--workloads", "30", "--for", "1m", "--declared", str(path)]
    assert run(["simulate", "--to", str(tmp_path / "flows.parquet"), *options]) == 0
    intent = declared([str(path)])
    guarded = intent.guarded.filter("ingress")["workload"].implode()
    happened = whole(small(workloads=30)).filter(
        ~pl.col("reply"), pl.col("dst").is_in(guarded), pl.col("src").str.contains("/")
    )
    used = happened.select(actor="src", peer="dst", port="dst_port").unique()
    assert not used.is_empty()
    allowed = used.join(intent.edges, on=["actor", "peer"]).filter(
        pl.col("port").is_between("low", "high")
    )
    against = used.join(allowed, on=used.columns, how="anti")
    assert against.is_empty(), against


@pytest.mark.parametrize("to", ["flows.foo", "there"])
def test_a_place_that_cannot_be_is_said(to: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert run(["simulate", "--to", str(tmp_path / to)]) == 2
