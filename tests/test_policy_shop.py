"""The policies against the four incidents of the shop, tried on its real traffic.

What an attack was is told by `labels.json`; every other flow of the seven minutes must pass.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
import yaml
from peers.policy_peer import manifest_schemas as manifest_schemas
from policy_manifests import check_text

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_advice import Advice
from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_names import Selectors
from sidelong.alerts.policy_needs import CONNECTIONS, Acquaintances
from sidelong.alerts.policy_suggestions import PolicyKind, allow_list, suggestion
from sidelong.alerts.policy_text import policy_text
from sidelong.features.contacts import contact_object
from sidelong.features.sides import sides
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline
from sidelong.pipeline import Pipeline

KINDS: Final[tuple[PolicyKind, ...]] = ("cilium", "kubernetes", "istio")
SELECTORS: Final = Selectors()

# What has no name in Kubernetes' own policy, nor in Istio's: a question to the usual resolver.
UNSPOKEN: Final = {("kubernetes", "dns_exfiltration"), ("istio", "dns_exfiltration")}


@dataclass(frozen=True)
class Replayed:
    """The shop's baseline, what was found in its two minutes, and all connections of both parts."""

    baseline: Baseline
    incidents: tuple[Incident, ...]
    quiet: pl.DataFrame
    attacked: pl.DataFrame


@pytest.fixture(scope="module")
def replayed(shop: Path) -> Replayed:
    learning, quiet = Learning(), []
    for flows in batches(shop / "train.hubble.jsonl.zst"):
        learning.observe(flows)
    baseline = learning.finish()
    for step in steps(Pipeline(), shop / "train.hubble.jsonl.zst"):
        quiet.append(connections(step.flows))
    pipeline = Pipeline(baseline, advice=Advice(baseline))
    attacked: list[pl.DataFrame] = []
    last: dict[str, Incident] = {}
    for step in steps(pipeline, shop / "test.hubble.jsonl.zst"):
        attacked.append(connections(step.flows))
        last.update((incident.id, incident) for incident in step.incidents)
    last.update((incident.id, incident) for incident in pipeline.finish())
    return Replayed(baseline, tuple(last.values()), pl.concat(quiet), pl.concat(attacked))


def batches(path: Path) -> Any:
    return (batch.flows for batch in merged(open_inputs([str(path)])))


def steps(pipeline: Pipeline, path: Path) -> Any:
    return (step for flows in batches(path) for step in pipeline.steps(flows))


def connections(flows: pl.DataFrame) -> pl.DataFrame:
    rows = sides(flows).with_columns(object=contact_object(), name=pl.col("dns_name"))
    return rows.drop_nulls("port").select("time", *CONNECTIONS, "name")


def labelled(shop: Path, incident: Incident) -> pl.Expr:
    """The connections of the attack that an incident is about, by the labels."""
    pods = json.loads((shop / "pods.json").read_text())
    workload = {pod["ip"]: f"{pod['namespace']}/{pod['workload']}" for pod in pods.values()}
    (label,) = (
        one
        for one in json.loads((shop / "labels.json").read_text())
        if (one["kind"], workload[one["src"]]) == (incident.kind, incident.actor.workload)
    )
    actor = pl.col("actor") == incident.actor.workload
    if incident.kind == "dns_exfiltration":
        return actor & pl.col("name").str.ends_with("cdn-metrics.example.net").fill_null(False)
    return actor & (pl.col("peer") == workload[label["dst"]])


def pairs() -> list[tuple[PolicyKind, str, str]]:
    found = (
        ("lateral_movement", "shop/catalog"),
        ("scan", "shop/frontend"),
        ("dns_exfiltration", "payments/payments"),
        ("dns_exfiltration", "jobs/batch"),
    )
    return [(kind, *one) for kind in KINDS for one in found if (kind, one[0]) not in UNSPOKEN]


def of(replayed: Replayed, kind: str, actor: str) -> Incident:
    (incident,) = (
        one for one in replayed.incidents if (one.kind, one.actor.workload) == (kind, actor)
    )
    return incident


@pytest.mark.parametrize(("kind", "what", "actor"), pairs())
def test_a_policy_stops_every_flow_of_its_incident_and_no_other(
    replayed: Replayed, shop: Path, kind: PolicyKind, what: str, actor: str
) -> None:
    incident = of(replayed, what, actor)
    found = suggestion(incident, Acquaintances(replayed.baseline), SELECTORS, kind)
    attack = replayed.attacked.filter(labelled(shop, incident))
    rest = pl.concat([replayed.quiet, replayed.attacked.filter(~labelled(shop, incident))])
    # What one policy is for, another incident's is not; and the scanner's probes come in both.
    rest = rest.filter(~labelled_any(replayed, shop))
    assert attack.height > 0
    assert not passes(found.policies, attack, SELECTORS).any()
    assert rest.filter(~passes(found.policies, rest, SELECTORS)).is_empty()


def labelled_any(replayed: Replayed, shop: Path) -> pl.Expr:
    return pl.any_horizontal(labelled(shop, incident) for incident in replayed.incidents)


@pytest.mark.parametrize(("kind", "what"), sorted(UNSPOKEN))
def test_where_a_kind_has_no_word_the_reason_is_said(
    replayed: Replayed, kind: PolicyKind, what: str
) -> None:
    incident = of(replayed, what, "jobs/batch")
    found = suggestion(incident, Acquaintances(replayed.baseline), SELECTORS, kind)
    assert found.policies == ()
    assert found.why_none == "no NetworkPolicy or AuthorizationPolicy knows DNS names"


def test_every_incident_carries_its_policy(
    replayed: Replayed, manifest_schemas: dict[str, dict[str, Any]]
) -> None:
    assert len(replayed.incidents) == 4
    for incident in replayed.incidents:
        assert incident.policy is not None
        (policy,) = check_text(incident.policy, manifest_schemas)
        assert policy["kind"] == "CiliumNetworkPolicy"


@pytest.mark.parametrize("kind", KINDS)
def test_least_privilege_lets_the_quiet_minutes_and_the_rollout_through(
    replayed: Replayed, shop: Path, kind: PolicyKind
) -> None:
    known = Acquaintances(replayed.baseline)
    ordinary = pl.concat([replayed.quiet, replayed.attacked.filter(~labelled_any(replayed, shop))])
    for workload in sorted(workloads(replayed)):
        policy = allow_list(known.needs(workload, SELECTORS), SELECTORS, kind)
        broken = ordinary.filter(~passes([policy], ordinary, SELECTORS))
        assert broken.is_empty(), (workload, broken)


@pytest.mark.parametrize("kind", KINDS)
def test_least_privilege_of_everybody_stops_what_is_no_question_of_names(
    replayed: Replayed, shop: Path, kind: PolicyKind
) -> None:
    known = Acquaintances(replayed.baseline)
    policies = [
        allow_list(known.needs(workload, SELECTORS), SELECTORS, kind)
        for workload in sorted(workloads(replayed))
    ]
    for incident in replayed.incidents:
        attack = replayed.attacked.filter(labelled(shop, incident))
        stopped = not passes(policies, attack, SELECTORS).any()
        assert stopped == (incident.kind != "dns_exfiltration"), incident.summary


@pytest.mark.parametrize("kind", KINDS)
def test_least_privilege_is_what_an_api_server_takes(
    replayed: Replayed, kind: PolicyKind, manifest_schemas: dict[str, dict[str, Any]]
) -> None:
    known = Acquaintances(replayed.baseline)
    for workload in sorted(workloads(replayed)):
        policy = allow_list(known.needs(workload, SELECTORS), SELECTORS, kind)
        text = policy_text([policy], [f"for {workload}"])
        assert check_text(text, manifest_schemas) == [policy]
        assert "&" not in yaml.safe_dump(policy["metadata"])


def test_incidents_with_policies_do_not_depend_on_the_cuts(shop: Path, replayed: Replayed) -> None:
    frames = [batch for batch in batches(shop / "test.hubble.jsonl.zst")]
    whole = pl.concat(frames)
    lines = []
    for size in (whole.height, 1_777):
        pipeline = Pipeline(replayed.baseline, advice=Advice(replayed.baseline))
        told = [
            incident.to_json()
            for at in range(0, whole.height, size)
            for incident in pipeline.process(whole[at : at + size])
        ]
        lines.append(told + [incident.to_json() for incident in pipeline.finish()])
    assert lines[0] == lines[1]


def workloads(replayed: Replayed) -> set[str]:
    ends = replayed.baseline.contacts.select(pl.concat_list("actor", "peer").explode()).to_series()
    return {end for end in ends.to_list() if "/" in end and not end.startswith("world:")}
