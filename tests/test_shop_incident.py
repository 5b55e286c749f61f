"""What the shipped incident must give, from its Hubble flows and from the packets of the same time.

Expectations come from `labels.json`, written by whoever drove the attacks, not from our own output.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl
import pytest

from sidelong.alerts.incident import Incident
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.podmap import PodMap
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline

TUNNEL: Final = "cdn-metrics.example.net"


@dataclass(frozen=True)
class Attack:
    """One labelled attack."""

    kind: str
    actor: str
    towards: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Shop:
    """One recording of the shop: what to learn from, what to watch, who holds which address."""

    train: tuple[pl.DataFrame, ...]
    test: tuple[pl.DataFrame, ...]
    pods: PodMap | None

    def incidents(self, baseline: Baseline | None) -> list[Incident]:
        """The last state of each incident in the two minutes under attack."""
        return final_states(Pipeline(baseline=baseline, pods=self.pods), self.test)

    def learnt(self, frames: Sequence[pl.DataFrame]) -> Baseline:
        learning = Learning(pods=self.pods)
        for frame in frames:
            learning.observe(frame)
        return learning.finish()


def final_states(pipeline: Pipeline, frames: Iterable[pl.DataFrame]) -> list[Incident]:
    latest: dict[str, Incident] = {}
    for frame in frames:
        latest.update((event.id, event) for event in pipeline.process(frame))
    latest.update((event.id, event) for event in pipeline.finish())
    return list(latest.values())


def flows(path: Path) -> tuple[pl.DataFrame, ...]:
    return tuple(batch.flows for batch in merged(open_inputs([str(path)])))


def alarming(incidents: Iterable[Incident]) -> list[Incident]:
    return [incident for incident in incidents if incident.severity != "info"]


def named(incidents: Iterable[Incident]) -> set[tuple[str, str]]:
    return {(incident.kind, incident.actor.workload) for incident in incidents}


@pytest.fixture(scope="module")
def attacks(shop: Path) -> list[Attack]:
    pods = json.loads((shop / "pods.json").read_text())
    workload: dict[str, str] = {
        pod["ip"]: f"{pod['namespace']}/{pod['workload']}" for pod in pods.values()
    }
    return [
        Attack(
            kind=label["kind"],
            actor=workload[label["src"]],
            towards=workload.get(label["dst"]) or label["dst"],
            start=datetime.fromtimestamp(label["start"], UTC),
            end=datetime.fromtimestamp(label["end"], UTC),
        )
        for label in json.loads((shop / "labels.json").read_text())
        if label["kind"] != "benign"
    ]


@pytest.fixture(scope="module")
def hubble(shop: Path) -> Shop:
    train, test = (flows(shop / f"{part}.hubble.jsonl.zst") for part in ("train", "test"))
    return Shop(train, test, pods=None)


@pytest.fixture(scope="module")
def packets(shop: Path, data: Path) -> Shop:
    train, test = (flows(data / "cluster-lab" / f"{part}.pcap") for part in ("train", "test"))
    return Shop(train, test, pods=PodMap.read(shop / "pods.json"))


@pytest.fixture(scope="module", params=["hubble", "packets"])
def recording(request: pytest.FixtureRequest) -> Shop:
    recording: Shop = request.getfixturevalue(request.param)
    return recording


@pytest.fixture(scope="module")
def found(recording: Shop) -> list[Incident]:
    return recording.incidents(recording.learnt(recording.train))


def test_the_four_attacks_are_found_and_nothing_else(
    found: list[Incident], attacks: list[Attack]
) -> None:
    assert named(alarming(found)) == {(attack.kind, attack.actor) for attack in attacks}
    assert len(alarming(found)) == len(attacks) == 4


def test_the_attacks_are_one_story_that_grows_more_severe(
    found: list[Incident], attacks: list[Attack]
) -> None:
    told = sorted(alarming(found), key=lambda incident: incident.detected_at)
    began = sorted(attacks, key=lambda attack: attack.start)
    assert [one.kind for one in told] == [attack.kind for attack in began]
    assert {one.story for one in told} == {told[0].id}
    assert [one.severity for one in told] == ["high", "high", "critical", "critical"]


def test_an_attack_is_detected_while_it_happens(
    found: list[Incident], attacks: list[Attack]
) -> None:
    late = [
        (attack, incident.detected_at)
        for attack, incident in pairs(attacks, found)
        if not attack.start <= incident.detected_at <= attack.end
    ]
    assert late == []


def test_an_incident_names_what_was_attacked(found: list[Incident], attacks: list[Attack]) -> None:
    for attack, incident in pairs(attacks, found):
        towards = {target.workload for target in incident.objects}
        towards |= {target.domain for target in incident.objects}
        # A tunnel is named by the domain that somebody registered.
        assert towards & {attack.towards, attack.towards.partition(".")[2]}, incident.objects


def test_the_scan_is_named_within_twelve_first_contacts(
    recording: Shop, found: list[Incident], attacks: list[Attack]
) -> None:
    ((scan, incident),) = ofkind("scan", attacks, found)
    probes = upto(recording, scan, incident).filter(
        pl.col("src_ip") == incident.actor.ip, pl.col("tcp_flags") == 0x02
    )
    assert 5 <= probes.select("dst_ip", "dst_port").n_unique() <= 12


def test_a_tunnel_is_named_before_1500_bytes_of_names_have_left(
    recording: Shop, found: list[Incident], attacks: list[Attack]
) -> None:
    for tunnel, incident in ofkind("dns_exfiltration", attacks, found):
        asked = upto(recording, tunnel, incident).filter(
            pl.col("src_ip") == incident.actor.ip, pl.col("dns_name").str.ends_with(TUNNEL)
        )
        names = asked["dns_name"].unique().str.strip_suffix(f".{TUNNEL}")
        assert 0 < int(names.str.len_bytes().sum()) < 1_500


def test_the_lateral_movement_is_named_on_its_first_record(
    recording: Shop, found: list[Incident], attacks: list[Attack]
) -> None:
    ((movement, incident),) = ofkind("lateral_movement", attacks, found)
    (target,) = incident.objects
    assert target.port == 5432
    opened = upto(recording, movement, incident).filter(
        pl.col("src_ip") == incident.actor.ip, pl.col("dst_port") == 5432
    )
    assert opened["time"].min() == opened["time"].max() == incident.detected_at


def test_the_second_half_of_the_quiet_minutes_is_quiet_to_whom_knows_the_first(
    recording: Shop,
) -> None:
    middle = pl.concat(recording.train)["time"].median()
    first = [frame.filter(pl.col("time") < middle) for frame in recording.train]
    pipeline = Pipeline(baseline=recording.learnt(first), pods=recording.pods)
    assert alarming(final_states(pipeline, recording.train)) == []


def test_scans_and_tunnels_need_no_baseline(recording: Shop, attacks: list[Attack]) -> None:
    needless = {(attack.kind, attack.actor) for attack in attacks} - {
        ("lateral_movement", "shop/catalog")
    }
    assert needless <= named(alarming(recording.incidents(None)))


def pairs(
    attacks: Iterable[Attack], found: Sequence[Incident]
) -> Iterator[tuple[Attack, Incident]]:
    """Each attack with the incident about it; fails if there is none or several."""
    for attack in attacks:
        (incident,) = (
            incident
            for incident in alarming(found)
            if (incident.kind, incident.actor.workload) == (attack.kind, attack.actor)
        )
        yield attack, incident


def ofkind(
    kind: str, attacks: Iterable[Attack], found: Sequence[Incident]
) -> list[tuple[Attack, Incident]]:
    return list(pairs([attack for attack in attacks if attack.kind == kind], found))


def upto(recording: Shop, attack: Attack, incident: Incident) -> pl.DataFrame:
    """The flows between the start of an attack and the record that gave it away."""
    seen = pl.concat(recording.test)
    return seen.filter(pl.col("time") >= attack.start, pl.col("time") <= incident.detected_at)
