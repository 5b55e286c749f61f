"""The Helm chart: as Helm reads it, and as a real kube-apiserver takes what comes of it."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from peers.go_programs import GoError, built
from peers.kubernetes_peer import ApiError, Kubernetes

from sidelong.config import look_at
from sidelong.measures import MEASURES
from sidelong.service_settings import ROLES

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "compose" / "chart"
NAMESPACE: Final = "watch"

LEAST: Final[dict[str, Any]] = {"image": {"repository": "registry.example/sidelong"}}
MOST: Final[dict[str, Any]] = {
    "image": {
        "repository": "registry.example/sidelong",
        "digest": f"sha256:{'a' * 64}",
        "pullSecrets": [{"name": "pull"}],
    },
    "secrets": [{"name": "hooks", "env": True}, {"name": "kafka-tls"}],
    "state": {"url": "s3://bucket/sidelong", "claim": {"create": False}},
    "autoscaling": {"enabled": True},
    "networkPolicy": {"collectFrom": [{"namespaceSelector": {}}]},
    "listenPorts": [4317, 9001],
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "podAnnotations": {"team": "security"},
    "nodeSelector": {"pool": "infra"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "priorityClassName": "system-cluster-critical",
}
BARE: Final[dict[str, Any]] = {
    **LEAST,
    "kubernetes": False,
    "topics": {"create": False},
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": False,
    "roles": {"collect": {"enabled": False}},
}
VALUES: Final = {"least": LEAST, "most": MOST, "bare": BARE}
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def helm() -> Path:
    """Helm, built of its modules."""
    if os.environ.get("SIDELONG_PEERS") == "off" and os.environ.get("CI") != "true":
        pytest.skip("SIDELONG_PEERS is off: no real Helm")
    try:
        return built("helmpeer", ROOT / "tests" / "peers" / "helm")
    except GoError as error:
        pytest.fail(f"{error}\nor set SIDELONG_PEERS=off to go without", pytrace=False)


class Chart:
    """The chart with values."""

    def __init__(self, helm: Path, folder: Path) -> None:
        self._helm = helm
        self._values = folder / "values.yaml"

    def run(self, command: str, values: Manifest) -> subprocess.CompletedProcess[str]:
        self._values.write_text(yaml.safe_dump(values))
        names = ["sl", NAMESPACE] if command == "template" else []
        return subprocess.run(
            [self._helm, command, CHART, *names, self._values],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def manifests(self, values: Manifest) -> list[Manifest]:
        ran = self.run("template", values)
        assert ran.returncode == 0, ran.stderr
        return [one for one in yaml.safe_load_all(ran.stdout) if one]


@pytest.fixture
def chart(helm: Path, tmp_path: Path) -> Chart:
    return Chart(helm, tmp_path)


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] in kinds}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Of each workload what its pods are, with the claims that a StatefulSet's controller adds."""
    found: dict[str, Manifest] = {}
    for name, workload in of_kind(manifests, "Deployment", "StatefulSet", "Job").items():
        found[name] = workload["spec"]["template"]
        for claim in workload["spec"].get("volumeClaimTemplates", ()):
            volume = claim["metadata"]["name"]
            source = {"claimName": f"{volume}-{name}-0"}
            found[name]["spec"]["volumes"].append({"name": volume, "persistentVolumeClaim": source})
    return found


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_lint_has_nothing_to_say(chart: Chart, values: Manifest) -> None:
    linted = chart.run("lint", values)
    assert linted.returncode == 0, linted.stdout
    assert linted.stdout == "[INFO] Chart.yaml: icon is recommended\n"


@pytest.mark.parametrize(
    ("values", "about"),
    [
        ({}, "repository"),
        ({**LEAST, "replicas": 3}, "replicas"),
        ({**LEAST, "roles": {"deliver": {"replicas": 2}}}, "replicas"),
        ({**LEAST, "roles": {"detect": {"memoryMegabytes": 100}}}, "memoryMegabytes"),
        ({**LEAST, "listenPorts": [80]}, "listenPorts"),
    ],
)
def test_values_that_cannot_work_are_refused(chart: Chart, values: Manifest, about: str) -> None:
    refused = chart.run("template", values)
    assert refused.returncode == 1
    assert about in refused.stderr


def test_every_value_is_known_to_the_schema() -> None:
    def check(values: Any, schema: Any, place: str) -> None:
        if isinstance(values, dict) and "properties" in schema:
            for key, value in values.items():
                assert key in schema["properties"], f"{place}.{key}"
                check(value, schema["properties"][key], f"{place}.{key}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    check(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")


@pytest.fixture(scope="module")
def cluster(kubernetes: Kubernetes) -> Kubernetes:
    """With a namespace in which only restricted pods may be."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubernetes.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})
    return kubernetes


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_kubernetes_takes_all_of_it(
    cluster: Kubernetes, chart: Chart, values: Manifest, tmp_path: Path
) -> None:
    """ServiceMonitor apart, which is not of Kubernetes."""
    manifests = chart.manifests(values)
    known = [one for one in manifests if one["kind"] != "ServiceMonitor"]
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(known))
    # By the server, so that the rules of each field hold; strictly, so that none is unknown.
    said = cluster.kubectl(
        "apply",
        "--dry-run=server",
        "--validate=strict",
        f"--namespace={NAMESPACE}",
        "-f",
        str(file),
    ).decode()
    assert said.count("created (server dry run)") == len(known)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_pods_keep_to_the_restricted_standard(
    cluster: Kubernetes, chart: Chart, values: Manifest
) -> None:
    collection = f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All"
    found = pods(chart.manifests(values))
    for name, template in found.items():
        spec = template["spec"]
        cluster.ask("POST", collection, {"metadata": {"name": name}, "spec": spec})
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
    spec = next(iter(found.values()))["spec"]
    spec["securityContext"] = {}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        cluster.ask("POST", collection, {"metadata": {"name": "loose"}, "spec": spec})


def test_every_role_is_a_workload_with_settings_that_can_be_used(
    chart: Chart, tmp_path: Path
) -> None:
    manifests = chart.manifests(MOST)
    (config,) = of_kind(manifests, "ConfigMap").values()
    file = tmp_path / "sidelong.toml"
    file.write_text(config["data"]["sidelong.toml"])
    done = []
    for template in pods(manifests).values():
        (container,) = template["spec"]["containers"]
        if container["args"][0] != "run":
            continue
        environment = {one["name"]: one.get("value", "pod-0") for one in container["env"]}
        environment = {name: text.replace("$(POD)", "pod-0") for name, text in environment.items()}
        read = look_at(str(file), environment)
        assert read.problems == []
        assert read.config is not None
        done.append(container["args"][-1])
        limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
        assert limit == read.config.service.memory_megabytes * 5 / 4
        grace = template["spec"]["terminationGracePeriodSeconds"]
        assert grace > read.config.service.drain_seconds
    assert sorted(done) == sorted(ROLES)


def test_the_rights_are_those_that_the_watch_needs(chart: Chart) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", page, re.DOTALL)
    manifests = chart.manifests(LEAST)
    (role,) = of_kind(manifests, "ClusterRole").values()
    assert role["rules"] == yaml.safe_load(block)["rules"]
    holders = {
        name
        for name, template in pods(manifests).items()
        if template["spec"]["automountServiceAccountToken"]
    }
    assert holders == {"sl-normalise"}
    bare = chart.manifests(BARE)
    assert not of_kind(bare, "ClusterRole", "ClusterRoleBinding", "Role")
    assert not any(one["spec"]["automountServiceAccountToken"] for one in pods(bare).values())


def allowed(manifests: list[Manifest], role: str, way: str) -> set[int]:
    """At which ports a pod of a role may be talked to, or talk to, by all policies together."""
    labels = pods(manifests)[f"sl-{role}"]["metadata"]["labels"]
    ports: set[int] = set()
    for policy in of_kind(manifests, "NetworkPolicy").values():
        chosen = policy["spec"]["podSelector"]["matchLabels"]
        if chosen.items() <= labels.items():
            for entry in policy["spec"].get(way, ()):
                ports |= {one["port"] for one in entry["ports"]}
    return ports


def test_the_network_policy_lets_through_what_each_role_needs(chart: Chart) -> None:
    manifests = chart.manifests(LEAST)
    dns, kafka, relay, api, webhooks = {53}, {9092}, {4245}, {443, 6443}, {443}
    assert allowed(manifests, "collect", "egress") == dns | kafka | relay
    assert allowed(manifests, "normalise", "egress") == dns | kafka | api
    assert allowed(manifests, "detect", "egress") == dns | kafka
    assert allowed(manifests, "correlate", "egress") == dns | kafka
    assert allowed(manifests, "deliver", "egress") == dns | kafka | webhooks
    assert all(allowed(manifests, role, "ingress") == {9464} for role in ROLES)
    most = chart.manifests(MOST)
    assert allowed(most, "collect", "ingress") == {9464, 4317, 9001}
    assert allowed(most, "detect", "egress") == dns | kafka | {443}
    for policy in of_kind(manifests, "NetworkPolicy").values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_what_scales_and_what_may_be_down(chart: Chart) -> None:
    manifests = chart.manifests(MOST)
    (scaler,) = of_kind(manifests, "HorizontalPodAutoscaler").values()
    target = scaler["spec"]["scaleTargetRef"]
    assert "replicas" not in of_kind(manifests, target["kind"])[target["name"]]["spec"]
    (metric,) = scaler["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in {measure.metric for measure in MEASURES}
    budgets = of_kind(manifests, "PodDisruptionBudget")
    assert set(budgets) == {"sl-normalise", "sl-detect", "sl-correlate"}
    for name, budget in budgets.items():
        chosen = budget["spec"]["selector"]["matchLabels"]
        assert chosen.items() <= pods(manifests)[name]["metadata"]["labels"].items()
    (monitor,) = of_kind(manifests, "ServiceMonitor").values()
    services = of_kind(manifests, "Service").values()
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    ports = [
        one["spec"]["ports"] for one in services if wanted <= one["metadata"]["labels"].items()
    ]
    names = {port["name"] for group in ports for port in group}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= names


def test_notes_are_written(chart: Chart) -> None:
    said = chart.run("template", LEAST).stdout
    assert "# sidelong is installed as sl in watch." in said
    assert "Hubble Relay at 4245" in said
