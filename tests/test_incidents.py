"""The life of an incident, from the record that decides to the totals at its close."""

import json
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from builders import START, flows, incidents, known, lookups
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from streams import cuts, events, flows_of, pieces

from sidelong.alerts.incident import Incident
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline

SILENCE = 600

OFFICE = known({"shop/web -> shop/api:80": 20_000, "data/report -> data/db:5432": 500})
CASUAL = known({"shop/web -> shop/api:80": 20, "pay/api -> pay/ledger:80": 20})


def seconds(count: float) -> datetime:
    return START + timedelta(seconds=count)


def refusals(
    count: int,
    *,
    start: float = 0,
    first: int = 1,
    actor: str = "a/x",
    peer: str = "b/y",
    every: float = 1,
) -> list[str]:
    """New ports of one peer, each of which refuses."""
    told = []
    for n in range(count):
        at, port = start + n * every, first + n
        told += [
            f"{at:.3f}s {actor} -> {peer}:{port} SYN",
            f"{at + 0.001:.3f}s {actor} <- {peer}:{port} RST",
        ]
    return told


def idle(at: float) -> str:
    return f"{at}s o/k -> b/y:80 ACK"


def movement(at: float) -> list[str]:
    """shop/web reaches another namespace's database."""
    return [f"{at}s shop/web -> data/db:5432 SYN", f"{at}.1s shop/web <- data/db:5432 SYN-ACK"]


def opened(told: list[str], baseline: Baseline | None = None) -> list[Incident]:
    return [one for one in incidents(flows(*told), baseline) if one.status == "open"]


def statuses(found: list[Incident]) -> list[str]:
    return [one.status for one in found]


def test_it_opens_on_the_record_that_decides() -> None:
    frame = flows(*refusals(9))
    pipeline = Pipeline()
    told = [pipeline.process(row) for row in pieces(frame, list(range(1, frame.height)))]
    (place,) = (n for n, found in enumerate(told) if found)
    assert place == 9  # the fifth refusal
    (incident,) = told[place]
    assert incident.status == "open"
    assert incident.detected_at == incident.last_seen == frame["time"][place]
    assert incident.first_seen == frame["time"][1]


def test_silence_is_dated_one_second_after_the_attempt_whenever_it_was_noticed() -> None:
    told = [f"0.{n}s a/x -> b/y:{n + 1} SYN" for n in range(5)]
    (incident,) = opened([*told, idle(77)])
    assert incident.detected_at == seconds(1.4)


def test_it_is_told_again_whenever_its_evidence_has_grown_fourfold() -> None:
    found = incidents(flows(*refusals(100)))
    assert statuses(found) == ["open", "update", "update", "closed"]
    assert [one.counts["contacts"] for one in found] == [5, 20, 80, 100]
    assert len({one.id for one in found}) == 1


def test_it_closes_at_a_tick_after_ten_silent_minutes() -> None:
    pipeline = Pipeline()
    pipeline.process(flows(*refusals(6)))
    assert pipeline.process(flows(idle(SILENCE))) == []
    (closed,) = pipeline.process(flows(idle(2 * SILENCE)))
    assert (closed.status, closed.last_seen) == ("closed", seconds(5.001))
    assert pipeline.finish() == []


def test_success_does_not_keep_it_open() -> None:
    answers = []
    for n in range(20):
        at = 60 * n + 10
        answers += [f"{at}s a/x -> c/z:{n + 1} SYN", f"{at}.1s a/x <- c/z:{n + 1} SYN-ACK"]
    pipeline = Pipeline()
    assert statuses(pipeline.process(flows(*refusals(6), *answers))) == ["open", "closed"]


def test_what_is_open_closes_at_the_end_of_the_stream() -> None:
    pipeline = Pipeline()
    assert statuses(pipeline.process(flows(*refusals(6)))) == ["open"]
    assert statuses(pipeline.finish()) == ["closed"]


def test_a_stream_of_nothing_ends_without_a_word() -> None:
    pipeline = Pipeline()
    assert pipeline.process(flows(idle(0)).clear()) == []
    assert pipeline.finish() == []


def test_a_second_wave_after_the_close_is_another_incident() -> None:
    waves = refusals(6) + refusals(6, start=2 * SILENCE, first=100)
    first, second = opened(waves)
    assert first.id != second.id
    assert second.counts["contacts"] == 5  # the count begins anew


def test_a_second_wave_after_the_close_counts_its_own_contacts_only() -> None:
    waves = [
        line
        for start in (0, 2_000, 4_000)
        for n in range(6)
        for line in (
            f"{start + n}s a/x -> b/y:{start + n + 1} SYN",
            f"{start + n}.1s a/x <- b/y:{start + n + 1} RST",
        )
    ]
    closed = [one for one in incidents(flows(*waves)) if one.status == "closed"]
    assert [one.counts["contacts"] for one in closed] == [6, 6, 6]
    assert [round((one.first_seen - START).total_seconds()) for one in closed] == [0, 2_000, 4_000]


def test_a_second_wave_before_the_close_is_the_same_incident() -> None:
    waves = refusals(6) + refusals(6, start=SILENCE - 60, first=100)
    assert len(opened(waves)) == 1


def test_the_same_stream_gives_the_same_ids() -> None:
    waves = refusals(6) + refusals(6, start=2 * SILENCE, first=100)
    ids = [[one.id for one in incidents(flows(*waves))] for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


def test_each_actor_and_each_kind_has_its_own() -> None:
    tunnel = lookups("a/x", [f"{n:060}.example.net" for n in range(20)])
    scans = flows(*refusals(6), *refusals(6, start=10, actor="c/z"))
    found = [one for one in incidents(pl.concat([tunnel, scans])) if one.status == "open"]
    assert [(one.actor.workload, one.kind) for one in found] == [
        ("a/x", "dns_exfiltration"),
        ("a/x", "scan"),
        ("c/z", "scan"),
    ]


KEYS = {
    "": "id status kind severity score detected_at first_seen last_seen actor objects counts "
    "techniques completeness evidence story summary policy",
    "actor": "workload pod ip",
    "objects": "workload ip port domain",
    "evidence": "feature observed expected log_evidence",
}


def test_the_json_has_the_keys_of_the_contract_in_order() -> None:
    for incident in incidents(flows(*refusals(30))):
        line = incident.to_json()
        assert "\n" not in line
        plain = json.loads(line)
        assert list(plain) == KEYS[""].split()
        assert list(plain["actor"]) == KEYS["actor"].split()
        assert {tuple(one) for one in plain["objects"]} == {tuple(KEYS["objects"].split())}
        assert {tuple(one) for one in plain["evidence"]} == {tuple(KEYS["evidence"].split())}


def test_its_moments_are_rfc_3339_in_utc() -> None:
    (incident,) = opened(refusals(5))
    plain = json.loads(incident.to_json())
    assert plain["detected_at"] == "2026-11-23T09:00:04.001000Z"
    for name in ("detected_at", "first_seen", "last_seen"):
        assert datetime.fromisoformat(plain[name]) == getattr(incident, name)


def test_the_score_is_one_half_at_the_threshold() -> None:
    baseline = known({"b/y0 -> b/y1:80": 1})
    baseline.networks.vstack(pl.DataFrame({"network": ["10.0.7"]}), in_place=True)
    probes = [f"0.{n}s a/x -> ip:10.0.7.{n + 200}:80 SYN" for n in range(3)]  # 3 ln 100 = ln 1e6
    (incident,) = opened(probes, baseline)
    assert incident.score == 0.5


STREAMS = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@STREAMS
@given(events)
def test_scores_completeness_and_moments_keep_to_their_ranges(
    happened: list[tuple[str, int, int, int, int, int]],
) -> None:
    for incident in incidents(flows_of(happened), OFFICE):
        assert 0.5 <= incident.score <= 1
        assert 0 < incident.completeness <= 1
        assert incident.first_seen <= incident.detected_at <= incident.last_seen


def test_completeness_is_the_share_of_events_that_arrived() -> None:
    (whole,) = opened(refusals(5))
    assert whole.completeness == 1
    (holed,) = opened(["0s LOST 11", *refusals(5)])
    assert holed.completeness == 0.5  # 11 rows, 11 lost


def test_what_is_lost_later_lowers_no_earlier_incident() -> None:
    (incident,) = opened([*refusals(5), "9s LOST 1000"])
    assert incident.completeness == 1


def test_a_scan_and_the_movement_after_it_share_a_story() -> None:
    told = refusals(10, actor="shop/web") + movement(120)
    scan, lateral = opened(told, OFFICE)
    assert (scan.kind, lateral.kind) == ("scan", "lateral_movement")
    assert scan.story == lateral.story == scan.id


def test_what_a_reached_workload_does_is_part_of_the_story() -> None:
    told = movement(0) + refusals(6, start=60, actor="data/db")
    lateral, scan = opened(told, OFFICE)
    assert (lateral.kind, scan.actor.workload) == ("lateral_movement", "data/db")
    assert scan.story == lateral.id


def test_strangers_have_stories_of_their_own() -> None:
    first, second = opened(refusals(6) + refusals(6, start=20, actor="c/z", peer="d/w"))
    assert first.story != second.story


@pytest.mark.parametrize(
    ("actor", "peer"), [("a/other", "d/w"), ("c/z", "b/other"), ("b/y", "d/w")]
)
def test_who_meets_in_a_namespace_within_ten_minutes_shares_a_story(actor: str, peer: str) -> None:
    first, second = opened(refusals(6) + refusals(6, start=300, actor=actor, peer=peer))
    assert second.story == first.id
    later = [idle(900), *refusals(6, start=1_000, actor=actor, peer=peer)]
    first, second = opened(refusals(6) + later)
    assert (second.story == first.id) == (actor == "b/y")  # who was reached is remembered longer


def test_everybody_meets_in_kube_system() -> None:
    told = refusals(6, peer="kube-system/dns")
    first, second = opened(told + refusals(6, start=9, actor="c/z", peer="kube-system/other"))
    assert first.story != second.story


def test_who_sends_data_to_one_domain_shares_a_story() -> None:
    tunnels = [lookups(a, [f"{n:060}.evil.net" for n in range(20)]) for a in ("a/x", "c/z")]
    found = incidents(tunnels)
    assert len({one.actor.workload for one in found}) == 2
    assert len({one.story for one in found}) == 1


def test_an_intrusion_that_goes_on_is_a_step_more_severe() -> None:
    told = refusals(10, actor="shop/web") + movement(120)
    assert [one.severity for one in opened(told, OFFICE)] == ["medium", "critical"]
    assert [one.severity for one in opened(movement(120), OFFICE)] == ["high"]


def test_more_of_the_same_is_no_more_severe() -> None:
    found = opened(refusals(6) + refusals(6, start=20, actor="a/other"))
    assert [one.severity for one in found] == ["medium", "medium"]


def test_a_new_edge_amid_the_actors_own_scan_is_part_of_the_scan() -> None:
    told = refusals(10, actor="shop/web") + movement(20)
    assert [one.kind for one in opened(told, OFFICE)] == ["scan"]
    assert [one.kind for one in opened(movement(10), OFFICE)] == ["lateral_movement"]


def test_a_minute_after_the_scan_it_is_no_longer() -> None:
    told = refusals(10, actor="shop/web") + movement(90)
    assert [one.kind for one in opened(told, OFFICE)] == ["scan", "lateral_movement"]


def test_a_scan_by_somebody_else_excuses_no_edge() -> None:
    told = refusals(6) + movement(10)
    assert [one.kind for one in opened(told, OFFICE)] == ["scan", "lateral_movement"]


OUTCOMES = st.lists(
    st.sampled_from(["answered", "refused", "denied", "unanswered", "late"]), max_size=40
)


def contact(number: int, outcome: str) -> list[tuple[float, str]]:
    """One contact of a/x, with one of four peers, each time another port."""
    server = f"b/y{number % 4}:{number + 1}"
    ends = {"answered": (0.01, "SYN-ACK"), "refused": (0.01, "RST"), "late": (3, "SYN-ACK")}
    if outcome == "denied":
        return [(number, f"a/x -> {server} DENIED")]
    told = [(float(number), f"a/x -> {server} SYN")]
    if outcome in ends:
        after, what = ends[outcome]
        told.append((number + after, f"a/x <- {server} {what}"))
    return told


@STREAMS
@given(OUTCOMES, st.data())
def test_the_totals_are_those_of_the_flows(rest: list[str], data: st.DataObject) -> None:
    outcomes = ["denied"] * 4 + rest  # four denials open the incident
    events = sorted(event for n, outcome in enumerate(outcomes) for event in contact(n, outcome))
    frame = flows(*(f"{at:.2f}s {what}" for at, what in events))
    closed = incidents(pieces(frame, data.draw(cuts(frame.height))))[-1]
    expected = Counter("answered" if one == "late" else one for one in outcomes)
    assert closed.status == "closed"
    assert closed.counts == expected | {"contacts": len(outcomes)} | {
        "peers": 4,
        "ports": len(outcomes),
    }


def test_a_tunnel_counts_its_names_and_their_bytes() -> None:
    asked = lookups("a/x", [f"{n:060}.example.net" for n in range(50)])
    closed = incidents(asked)[-1]
    assert closed.counts == {"queries": 50, "bytes": 3_000, "domains": 1}


def test_a_movement_counts_its_edges() -> None:
    told = movement(0)
    for n in range(3):
        told += [f"{n + 60}s shop/web -> ops/m{n}:22 DENIED"]
    closed = incidents(flows(*told), OFFICE)[-1]
    assert closed.counts == {"edges": 4, "peers": 4}


@pytest.mark.parametrize("hops", [2, 3])
def test_the_workloads_of_a_chain_share_its_story(hops: int) -> None:
    names = ["shop/web", "pay/api", "ops/report", "ops/vault"][: hops + 1]
    told = []
    for n, (actor, peer) in enumerate(pairwise(names)):
        told += [f"{n * 60}s {actor} -> {peer}:80 SYN", f"{n * 60}.1s {actor} <- {peer}:80 SYN-ACK"]
    told += refusals(10, start=600, actor="shop/web")
    found = opened(told, CASUAL)
    assert {one.actor.workload for one in found} == {*names[1:-1], "shop/web"}
    assert len({one.story for one in found}) == 1
