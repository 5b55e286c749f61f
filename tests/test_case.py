"""A case answers what somebody with an incident id and half an hour asks."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from doc_blocks import blocks
from polars.testing import assert_frame_equal
from shop_case import TEST, shop_baseline, shop_case

import sidelong
from sidelong.alerts.incident import Actor, Incident, Target
from sidelong.alerts.sample import sample_incident
from sidelong.case import Case
from sidelong.case_flows import FLOWS_SCHEMA
from sidelong.case_opening import told_case
from sidelong.cli import run
from sidelong.errors import ConfigError
from sidelong.models.baseline import Baseline

HOSTILE = "shop/<script>alert(1)</script>\x1b[2J"


@pytest.fixture(scope="module")
def case() -> Case:
    return shop_case()


def of_kind(case: Case, kind: str) -> Incident:
    return next(one for one in case.incidents if one.kind == kind)


def test_four_lines_lead_from_an_id_to_flows_graph_and_policy() -> None:
    """Exactly those of the page."""
    page = "docs/investigating.md"
    (lines,) = [one.content for one in blocks(page) if "policy = case.policy" in one.content]
    assert len([line for line in lines.splitlines() if line]) == 4
    found: dict[str, Any] = {}
    exec(lines.replace('"shop.baseline"', repr(shop_baseline())), found)
    assert len(found["flows"]) > 60
    assert "payments/payments" in found["graph"].nodes["name"]
    assert found["graph"].edges["strange"].any()
    assert "kind: CiliumNetworkPolicy" in found["policy"].text


def test_a_case_finds_what_replay_finds(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    run(["replay", TEST, "--baseline", shop_baseline(), "--output", "json"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    last = {event["id"]: event for event in events}
    assert [one.to_dict() for one in case.incidents] == [
        Incident.of(event).to_dict() for event in last.values()
    ]


def test_an_incident_is_known_by_how_its_id_begins(case: Case) -> None:
    id = case.incidents[0].id
    assert case.incident(id[:4]) is case.incidents[0]
    assert case.incident(case.incidents[0]).id == id


@pytest.mark.parametrize("id", ["zzzz", "", "a5"])
def test_an_id_that_nobody_has_is_told_with_those_that_are_there(case: Case, id: str) -> None:
    with pytest.raises(ConfigError, match="there is no incident"):
        case.incident(id)


def test_flows_are_those_of_the_actor_in_its_time(case: Case) -> None:
    incident = of_kind(case, "dns_exfiltration")
    flows = case.flows(incident).frame
    who = incident.actor.workload
    assert ((flows["src"] == who) | (flows["dst"] == who)).all()
    asked = flows.filter(pl.col("dns_name").str.ends_with(".cdn-metrics.example.net"))
    assert asked.filter(~pl.col("reply")).height == incident.counts["queries"]
    assert asked["about"].all()
    assert flows["row"].is_sorted()


def test_a_limit_keeps_what_is_about_the_incident_and_says_so(case: Case) -> None:
    incident = of_kind(case, "scan")
    whole = case.flows(incident, limit=None)
    assert whole.note == ""
    some = case.flows(incident, limit=40)
    assert len(some) == 40
    assert some.total == len(whole)
    assert some.frame["about"].all()
    assert f"40 of {len(whole):,} flows" in some.note


def test_the_deciding_flows_of_every_incident_are_among_its_flows(case: Case) -> None:
    for incident in case.incidents:
        deciding = case.parts.recording.samples[incident.id].filter("decisive")["row"]
        assert set(deciding) <= set(case.flows(incident, limit=None).frame["row"])


def test_the_graph_of_an_incident_is_around_its_actor(case: Case) -> None:
    incident = of_kind(case, "lateral_movement")
    near, whole = case.graph(incident), case.graph()
    assert len(near.nodes) < len(whole.nodes)
    strange = near.edges.filter("strange", src="shop/catalog", dst="payments/postgres")
    assert strange["incident"].to_list() == [incident.id]


def test_a_graph_is_told_as_a_tree(case: Case) -> None:
    told = repr(case.graph(of_kind(case, "lateral_movement")))
    assert told.startswith("shop/catalog")
    assert "!!" in told
    assert len(repr(case.graph()).splitlines()) < 100


def test_a_timeline_marks_the_moment_and_draws_offline(case: Case) -> None:
    incident = of_kind(case, "dns_exfiltration")
    timeline = case.timeline(incident)
    assert timeline.frame["signals"].sum() == incident.counts["queries"]
    assert timeline.svg().startswith("<svg")
    assert "evidence, nats" in timeline.svg()
    assert case.timeline().frame["events"].sum() > timeline.frame["events"].sum()


def test_the_baseline_tells_what_a_workload_does_and_may(case: Case) -> None:
    known = case.baseline("shop/orders")
    calls = known.frame.filter(direction="calls")
    assert ("payments/payments", 8443) in calls.select("peer", "port").rows()
    assert "example.org" in known.domains["domain"].to_list()
    assert known.domains["limit_bytes"].to_list()[0] >= 1_024
    assert (known.state, known.active_seconds > 0) == ("learning", True)
    assert case.baseline("nobody/here").state == "unknown"


def test_a_policy_is_tried_on_the_incident_and_on_the_baseline(case: Case) -> None:
    for incident in case.incidents:
        policy = case.policy(incident)
        assert policy.text == incident.policy
        assert (policy.stopped, policy.broken) == (policy.tried, 0)
    assert "kind: NetworkPolicy" in case.policy(case.incidents[0], kind="kubernetes").text


def test_what_if_tells_what_replay_tells_with_that_configuration(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "other.toml"
    config.write_text('[policy]\nkind = "kubernetes"\n[anomaly]\nalarms_per_day = 5\n')
    run(
        ["replay", TEST, "--baseline", shop_baseline(), "--output", "json", "--config", str(config)]
    )
    replayed = capsys.readouterr().out
    by_file = case.what_if(config)
    by_section = case.what_if(policy={"kind": "kubernetes"}, anomaly={"alarms_per_day": 5})
    assert by_file.to_jsonl() == replayed
    assert by_section.to_jsonl() == replayed


def test_what_if_compares_with_another_baseline(case: Case) -> None:
    changed = case.what_if(baseline=Baseline.empty())
    assert changed.counts["lost"] >= 1
    lost = changed.frame.filter(change="lost")
    assert "lateral_movement" in lost["kind"].to_list()
    same = case.what_if()
    assert same.counts["same"] == len(case.incidents)


def test_what_if_tells_what_a_suppression_keeps_back(case: Case, tmp_path: Path) -> None:
    rules = tmp_path / "known.yaml"
    rules.write_text(
        "suppressions:\n- id: nightly-scan\n  match: {kind: scan}\n  owner: platform\n"
        "  reason: our own scanner\n  expires: 2099-01-01\n"
    )
    changed = case.what_if(alerts={"suppressions": [str(rules)]})
    kept_back = changed.frame.filter(change="suppressed")
    assert kept_back["suppressed_by"].to_list() == ["nightly-scan"]
    assert kept_back["kind"].to_list() == ["scan"]


def test_a_setting_that_does_not_exist_is_named(case: Case) -> None:
    with pytest.raises(ConfigError, match="alarm_per_day"):
        case.what_if(anomaly={"alarm_per_day": 5})


def test_frames_are_there_for_pandas_too(case: Case) -> None:
    incident = case.incidents[0]
    for told in (
        case.incidents,
        case.flows(incident),
        case.timeline(incident),
        case.baseline("shop/orders"),
        case.what_if(),
    ):
        assert len(told.to_pandas()) == len(told.frame)


def test_what_comes_from_standard_input_keeps_the_flows_of_its_evidence(
    tmp_path: Path,
) -> None:
    program = (
        "import sidelong, sys; case = sidelong.open('-', baseline=sys.argv[1]); "
        "case.bundle(sys.argv[2])"
    )
    kept = tmp_path / "kept"
    with open(TEST, "rb") as stream:
        command = [sys.executable, "-c", program, shop_baseline(), str(kept)]
        subprocess.run(command, stdin=stream, check=True, timeout=120)
    case = sidelong.open(kept)
    flows = case.flows(case.incidents[0])
    assert len(flows) >= 1
    assert "cannot be read again" in flows.note
    with pytest.raises(ConfigError, match="no stream that could be replayed"):
        case.what_if()


def test_told_incidents_find_their_flows_in_the_traffic_that_is_named(
    case: Case, tmp_path: Path
) -> None:
    found = tmp_path / "found.jsonl"
    found.write_text(case.incidents.to_jsonl())
    told = sidelong.open(found, flows=TEST, baseline=shop_baseline())
    assert list(told.incidents) == list(case.incidents)
    incident = of_kind(case, "scan")
    assert_frame_equal(told.flows(incident).frame, case.flows(incident).frame)
    alone = sidelong.open(found)
    with pytest.raises(ConfigError, match="incidents without their flows"):
        alone.flows(incident)
    assert "no flows" in str(alone.explain(incident))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("http://127.0.0.1:9464", "cannot be opened"),
        ("hubble://127.0.0.1:4245", "is live"),
        ("kafka://127.0.0.1:1/flows.raw?follow", "is live"),
    ],
)
def test_what_has_no_end_or_no_flows_is_refused(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        sidelong.open(name)


def test_a_case_without_a_baseline_says_what_it_cannot_tell(tmp_path: Path) -> None:
    case = told_case([sample_incident()], "samples", None, None, None)
    with pytest.raises(ConfigError, match="without a baseline"):
        case.baseline("shop/orders")


def test_hostile_names_are_harmless_in_html_and_text() -> None:
    incident = replace(
        sample_incident(),
        actor=Actor(HOSTILE, f"{HOSTILE}-1", "192.0.2.1"),
        objects=(Target(domain="<img src=x onerror=alert(1)>"),),
        summary=f"{HOSTILE} did <b>something</b>",
        policy="# <script>alert(2)</script>\n",
    )
    case = told_case([incident], "<i>samples</i>", None, Baseline.empty(), None)
    shown = [case, case.incidents, case.explain(incident), case.policy(incident)]
    shown += [case.baseline(HOSTILE), case.timeline(incident)]
    for one in shown:
        html = one._repr_html_()  # type: ignore[attr-defined]
        assert "<script" not in html
        assert "<img" not in html
        assert "\x1b" not in html + repr(one)
    assert not any("kubectl" in (step.command or "") for step in case.explain(incident).next)


def test_tables_in_html_are_short(case: Case) -> None:
    flows = case.flows(of_kind(case, "scan"))
    assert len(flows) > 1_000
    assert len(flows._repr_html_()) < 20_000
    assert len(repr(flows)) < 5_000
    assert f"25 of {len(flows):,} rows" in flows._repr_html_()


def test_flows_have_the_columns_of_flows(case: Case) -> None:
    assert case.flows(case.incidents[0]).frame.schema == FLOWS_SCHEMA
