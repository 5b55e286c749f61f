"""Cold start from declared intent: what policies expect, and what should not have passed."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
import yaml
from builders import flows, known, observed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from policy_strategies import PODS, cilium_policies, istio_policies, kubernetes_policies

from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_names import Selectors
from sidelong.cli import run
from sidelong.declared import Declared, declared
from sidelong.errors import ConfigError
from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors

PORTS: Final = (53, 80, 443, 444, 5432, 40_000, 65_535)


def workload(name: str, labels: Mapping[str, str], *ports: int, **spec: Any) -> dict[str, Any]:
    namespace, _, own = name.partition("/")
    container = {"ports": [{"containerPort": port, "name": f"p{port}"} for port in ports]}
    return {
        "kind": "Deployment",
        "metadata": {"name": own, "namespace": namespace},
        "spec": {
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": {"serviceAccountName": own, "containers": [container], **spec},
            }
        },
    }


SHOP: Final = (
    {"kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "red"}}},
    {"kind": "Namespace", "metadata": {"name": "data"}},
    workload("shop/web", {"app": "web"}, 8080),
    workload("shop/api", {"app": "api", "tier": "back"}, 8080),
    workload("shop/jobs", {"app": "jobs", "tier": "back"}),
    workload("data/db", {"app": "db"}, 5432),
)
DATABASE: Final = {
    "kind": "NetworkPolicy",
    "metadata": {"name": "db", "namespace": "data"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [
            {
                "from": [
                    {
                        "namespaceSelector": {"matchLabels": {"team": "red"}},
                        "podSelector": {
                            "matchExpressions": [
                                {"key": "tier", "operator": "In", "values": ["back"]}
                            ]
                        },
                    }
                ],
                "ports": [{"port": "p5432"}],
            }
        ],
    },
}


@pytest.fixture
def say(tmp_path: Path) -> Any:
    """What is declared by some objects."""

    def read(*objects: Mapping[str, Any]) -> Declared:
        text = yaml.safe_dump_all([dict(one) for one in objects])
        (tmp_path / "all.yaml").write_text(text, encoding="utf-8")
        return declared([str(tmp_path)])

    return read


def edges(of: Declared) -> dict[str, int]:
    """The edges that are allowed, and of how many they are one."""
    return {
        f"{actor} -> {peer}:{low}" + (f"-{high}" if high > low else ""): breadth
        for actor, peer, _, low, high, breadth in of.edges.drop_nulls("breadth").iter_rows()
    }


def guarded(of: Declared) -> set[str]:
    rows = of.guarded.unpivot(["ingress", "egress"], index="workload").filter("value")
    return {f"{name} {side}" for name, side, _ in rows.iter_rows()}


def test_a_policy_expects_the_workloads_that_it_lets_in(say: Any) -> None:
    found = say(*SHOP, DATABASE)
    assert edges(found) == {"shop/api -> data/db:5432": 2, "shop/jobs -> data/db:5432": 2}
    assert guarded(found) == {"data/db ingress"}
    assert found.guarded.height == 4


def test_without_a_policy_nothing_is_expected_and_nothing_unlawful(say: Any) -> None:
    found = say(*SHOP)
    assert (edges(found), guarded(found)) == ({}, set())


def test_a_policy_without_rules_lets_nobody_in(say: Any) -> None:
    found = say(*SHOP, {**DATABASE, "spec": {"podSelector": {}}})
    assert (edges(found), guarded(found)) == ({}, {"data/db ingress"})


def test_what_lives_in_the_network_of_its_node_is_selected_by_nothing(say: Any) -> None:
    agent = workload("data/agent", {"app": "db"}, 9100, hostNetwork=True)
    assert "data/agent" not in say(*SHOP, agent, DATABASE).guarded["workload"]


def test_what_another_object_runs_is_no_workload_of_its_own(say: Any) -> None:
    owned = workload("shop/web-7d9f8c6b5", {"app": "web"})
    owned["kind"] = "ReplicaSet"
    owned["metadata"]["ownerReferences"] = [{"kind": "Deployment", "controller": True}]
    assert say(*SHOP, owned).guarded.height == 4


def test_a_controller_by_its_account_may_reach_the_api_server(say: Any) -> None:
    binding = {
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "api"},
        "subjects": [{"kind": "ServiceAccount", "name": "api", "namespace": "shop"}],
    }
    assert edges(say(*SHOP, binding)) == {
        "shop/api -> reserved:kube-apiserver:443": 2,
        "shop/api -> reserved:kube-apiserver:6443": 2,
    }


def test_a_policy_of_cilium_means_its_own_namespace_unless_it_names_one(say: Any) -> None:
    def policy(**selector: str) -> dict[str, Any]:
        return {
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "db", "namespace": "data"},
            "spec": {
                "endpointSelector": {"matchLabels": {"k8s:app": "db"}},
                "ingress": [
                    {
                        "fromEndpoints": [{"matchLabels": {"any:app": "web", **selector}}],
                        "toPorts": [{"ports": [{"port": "5432", "protocol": "TCP"}]}],
                    }
                ],
            },
        }

    assert edges(say(*SHOP, policy())) == {}
    elsewhere = policy(**{"k8s:io.kubernetes.pod.namespace": "shop"})
    assert edges(say(*SHOP, elsewhere)) == {"shop/web -> data/db:5432": 1}


def test_a_mesh_policy_lets_in_whom_it_names(say: Any) -> None:
    policy = {
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "db", "namespace": "data"},
        "spec": {
            "rules": [
                {
                    "from": [{"source": {"principals": ["cluster.local/ns/shop/sa/api"]}}],
                    "to": [{"operation": {"ports": ["5432"], "methods": ["GET"]}}],
                }
            ]
        },
    }
    assert edges(say(*SHOP, policy)) == {"shop/api -> data/db:5432": 1}


@pytest.mark.parametrize(
    "policies", [cilium_policies(), kubernetes_policies(), istio_policies()], ids=str
)
def test_what_may_pass_is_what_the_model_of_policies_lets_pass(
    policies: st.SearchStrategy[list[dict[str, Any]]], tmp_path: Path
) -> None:
    """The model in alerts/policy_evaluation.py, which is tested against real engines."""
    selectors = Selectors()
    people = [workload(one, selectors.of(one) or {}, 80) for one in PODS]
    asked = pl.DataFrame(
        [
            (actor, peer, peer, port, protocol)
            for actor in PODS
            for peer in PODS
            for port in PORTS
            for protocol in ("TCP", "UDP")
            if actor != peer
        ],
        schema={
            "actor": pl.String,
            "peer": pl.String,
            "object": pl.String,
            "port": pl.UInt16,
            "protocol": pl.String,
        },
        orient="row",
    )

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(policies)
    def holds(drawn: list[dict[str, Any]]) -> None:
        (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*people, *drawn]), encoding="utf-8")
        found = declared([str(tmp_path)])
        sides = {side: found.guarded.filter(side)["workload"] for side in ("ingress", "egress")}
        lawful = (
            asked.with_row_index("at")
            .join(
                found.edges.with_columns(pl.col("protocol").cast(pl.String)),
                on=["actor", "peer", "protocol"],
            )
            .filter(pl.col("port").is_between("low", "high"))["at"]
        )
        free = ~(
            asked["peer"].is_in(sides["ingress"].implode())
            | asked["actor"].is_in(sides["egress"].implode())
        )
        ours = free | pl.Series([at in set(lawful) for at in range(asked.height)])
        theirs = passes(drawn, asked, selectors)
        assert ours.to_list() == theirs.to_list()

    holds()


def test_files_without_a_workload_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(DATABASE), encoding="utf-8")
    with pytest.raises(ConfigError, match="there is no workload in"):
        declared([str(tmp_path)])
    with pytest.raises(ConfigError, match="cannot be read"):
        declared([str(tmp_path / "absent.yaml")])


def seeded(say: Any, *objects: Mapping[str, Any]) -> Baseline:
    """A cluster that is known, with what is declared of it."""
    busy = {
        "shop/web -> shop/api:8080": 20_000,
        "shop/jobs -> shop/api:8080": 20_000,
        "other/x -> data/db:5432": 20_000,
    }
    intent = say(*objects)
    return replace(known(busy), declared=intent.edges, guarded=intent.guarded)


def weighed(baseline: Baseline, *told: str) -> dict[str, float]:
    evidence = observed(Detectors(baseline), flows(*told)).filter(kind="lateral_movement")
    if evidence.is_empty():
        return {}
    parts = {
        part["feature"]: round(part["log_evidence"] / 1e6, 1) for part in evidence["parts"].item()
    }
    total = evidence["level"].item() / 1e6
    assert sum(parts.values()) == pytest.approx(total, abs=0.3)
    return {**parts, "total": round(total, 1)}


def test_what_is_declared_surprises_as_little_as_its_rule_is_narrow(say: Any) -> None:
    opened = "0s shop/jobs -> data/db:5432 SYN"
    before = weighed(seeded(say, *SHOP), opened)
    after = weighed(seeded(say, *SHOP, DATABASE), opened)
    assert before["total"] > 14
    assert after["total"] == pytest.approx(0.7)  # ln 2: two are let in
    assert after["declared"] < -13


def test_what_policies_forbid_and_passes_is_evidence(say: Any) -> None:
    opened = "0s shop/web -> data/db:5432 SYN"
    assert weighed(seeded(say, *SHOP, DATABASE), opened)["policy_ignored"] == 4.6
    assert "policy_ignored" not in weighed(seeded(say, *SHOP), opened)


def test_what_policies_forbid_and_is_denied_is_no_policy_ignored(say: Any) -> None:
    found = weighed(seeded(say, *SHOP, DATABASE), "0s shop/web -> data/db:5432 DENIED")
    assert found["policy_denied"] == 3.0
    assert "policy_ignored" not in found


def test_of_strangers_policies_say_nothing(say: Any) -> None:
    found = weighed(seeded(say, *SHOP, DATABASE), "0s other/y -> data/db:5432 SYN")
    assert "policy_ignored" not in found


@pytest.mark.parametrize(("account", "impostor"), [("jobs", False), ("web", True)])
def test_a_workload_should_bear_the_account_that_was_declared(
    say: Any, account: str, impostor: bool
) -> None:
    told = flows("0s shop/jobs -> data/db:5432 SYN").with_columns(
        src_principal=pl.lit(f"spiffe://td/ns/shop/sa/{account}")
    )
    evidence = observed(Detectors(seeded(say, *SHOP)), told).filter(kind="lateral_movement")
    parts = {part["feature"]: part for part in evidence["parts"].item()}
    assert ("identity" in parts) is impostor
    if impostor:
        assert parts["identity"]["expected"] == "/ns/shop/sa/jobs"


@pytest.mark.parametrize(("account", "impostor"), [("worker", False), ("web", True)])
def test_a_workload_should_bear_the_account_of_its_pods(
    tmp_path: Path, account: str, impostor: bool
) -> None:
    pods, seen, folder = (str(tmp_path / name) for name in ("pods.json", "f.parquet", "b"))
    one = {"metadata": {"namespace": "shop", "name": "jobs"}, "kind": "Pod"}
    one |= {"spec": {"serviceAccountName": "worker"}, "status": {"podIP": "10.0.0.1"}}
    Path(pods).write_text(json.dumps({"kind": "PodList", "items": [one]}))
    flows(*(f"{n}s shop/jobs <- shop/api:80 SYN-ACK" for n in range(9))).write_parquet(seen)
    assert run(["learn", seen, "--pods", pods, "--baseline", folder]) == 0
    told = flows("0s shop/jobs -> data/db:5432 DENIED").with_columns(
        src_principal=pl.lit(f"spiffe://td/ns/shop/sa/{account}")
    )
    evidence = observed(Detectors(Baseline.load(Path(folder))), told)
    parts = {p["feature"]: p for p in evidence.filter(kind="lateral_movement")["parts"].item()}
    assert ("identity" in parts) is impostor
    if impostor:
        assert parts["identity"]["expected"] == "/ns/shop/sa/worker"


def test_a_baseline_can_be_learnt_from_declarations_alone(
    say: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(*SHOP, DATABASE)
    folder = tmp_path / "shop.baseline"
    asked = ["learn", "--declared", str(tmp_path / "all.yaml"), "--baseline", str(folder)]
    assert run(asked) == 0
    told = "1 policy of 4 workloads expressly allow 2 edges and guard 1 workload"
    assert told in capsys.readouterr().out
    assert Baseline.load(folder).declared.height == 2
    shown = ["baseline", "show", "data/db", "--baseline", str(folder), "--output", "table"]
    assert run(shown) == 0
    assert "declared  shop/api -> data/db:5432/TCP, one of 2" in capsys.readouterr().out


def test_without_traffic_and_declarations_there_is_nothing_to_learn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["learn", "--baseline", str(tmp_path / "x")]) == 2
    assert "there is nothing to learn from" in capsys.readouterr().err
