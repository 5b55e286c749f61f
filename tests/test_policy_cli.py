"""`sidelong policy` from end to end: YAML on standard output, what it does on standard error."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from sidelong.cli import run

Captured = pytest.CaptureFixture[str]

LATERAL: Final = """\
# Suggested by sidelong for incident {id}.
# It selects pods by label; this must list them:
#   kubectl get pods -n payments -l app.kubernetes.io/name=postgres
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: sidelong-postgres-deny-ingress-{digest}
  namespace: payments
spec:
  endpointSelector:
    matchLabels:
      app.kubernetes.io/name: postgres
  enableDefaultDeny:
    ingress: false
    egress: false
  ingressDeny:
  - fromEndpoints:
    - matchLabels:
        k8s:io.kubernetes.pod.namespace: shop
        app.kubernetes.io/name: catalog
    toPorts:
    - ports:
      - port: '5432'
        protocol: ANY
"""

BATCH: Final = """\
# What jobs/batch needs, by the baseline shop.baseline: sidelong policy.
# What it does not name in its direction is denied: try it first with --audit.
# It selects pods by label; this must list them:
#   kubectl get pods -n jobs -l app=batch
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: sidelong-batch-needs
  namespace: jobs
spec:
  podSelector:
    matchLabels:
      app: batch
  policyTypes:
  - Ingress
  - Egress
  ingress:
  - from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: jobs
      podSelector:
        matchLabels:
          app: batch
  - from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: monitoring
      podSelector:
        matchLabels:
          app: prometheus
    ports:
    - port: 9090
      protocol: TCP
  egress:
  - to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: jobs
      podSelector:
        matchLabels:
          app: batch
  - to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
    ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  - to:
    - ipBlock:
        cidr: 203.0.113.10/32
    ports:
    - port: 443
      protocol: TCP
  - to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: payments
      podSelector:
        matchLabels:
          app: postgres
    ports:
    - port: 5432
      protocol: TCP
"""


@pytest.fixture(scope="module")
def learnt(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("policy") / "shop.baseline")
    assert run(["learn", str(shop / "train.hubble.jsonl.zst"), "--baseline", folder]) == 0
    return folder


@pytest.fixture(scope="module")
def found(
    shop: Path, learnt: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, dict[str, Any]]]:
    """What replay printed: the file, and the last line of each incident by its actor."""
    from contextlib import redirect_stdout
    from io import StringIO

    told = StringIO()
    with redirect_stdout(told):
        attacked = str(shop / "test.hubble.jsonl.zst")
        assert run(["replay", attacked, "--baseline", learnt, "--output", "json"]) == 1
    file = tmp_path_factory.mktemp("found") / "found.jsonl"
    file.write_text(told.getvalue())
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    return str(file), {line["actor"]["workload"]: line for line in lines}


Found = tuple[str, dict[str, dict[str, Any]]]


def policy(*arguments: str, capsys: Captured) -> tuple[int, str, str]:
    status = run(["policy", *arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_policy_of_a_workload(learnt: str, capsys: Captured) -> None:
    options = ("--kind", "kubernetes", "--label", "app")
    status, out, err = policy("jobs/batch", "--baseline", learnt, *options, capsys=capsys)
    assert status == 0
    assert out == BATCH
    first, *listed = err.splitlines()
    assert first.startswith("tried on ")
    assert first.endswith(" connections of the baseline: lets all of them through")
    assert sorted(listed) == [
        "  allows  jobs/batch -> 203.0.113.10:443/TCP",
        "  allows  jobs/batch -> kube-system/coredns:53/UDP",
        "  allows  jobs/batch -> payments/postgres:5432/TCP",
        "  allows  monitoring/prometheus -> jobs/batch:9090/TCP",
    ]


def test_the_policy_against_an_incident(learnt: str, found: Found, capsys: Captured) -> None:
    file, incidents = found
    id_ = incidents["shop/catalog"]["id"]
    status, out, err = policy(
        "--incident", id_, "--incidents", file, "--baseline", learnt, capsys=capsys
    )
    assert status == 0
    name = yaml.safe_load(out)["metadata"]["name"]
    assert out == LATERAL.format(id=id_, digest=name.rpartition("-")[2])
    assert f"  blocks  {id_}  " in err
    assert "misses" not in err


def test_an_incident_carries_what_the_command_would_print(
    learnt: str, found: Found, capsys: Captured
) -> None:
    file, incidents = found
    for incident in incidents.values():
        _, out, _ = policy(
            "--incident", incident["id"], "--incidents", file, "--baseline", learnt, capsys=capsys
        )
        assert out == incident["policy"]


def test_a_policy_of_a_workload_tells_which_incidents_it_stops(
    learnt: str, found: Found, capsys: Captured
) -> None:
    file, incidents = found
    arguments = ("--baseline", learnt, "--incidents", file)
    _, _, err = policy("payments/payments", *arguments, capsys=capsys)
    told = dict(line.split()[:2][::-1] for line in err.splitlines() if "2026-11-23" in line)
    scan, tunnel = (incidents[name]["id"] for name in ("shop/frontend", "payments/payments"))
    assert told == {scan: "blocks", tunnel: "misses"}


def test_where_a_kind_has_no_word_nothing_is_printed(
    learnt: str, found: Found, capsys: Captured
) -> None:
    file, incidents = found
    arguments = ("--incident", incidents["jobs/batch"]["id"], "--incidents", file)
    status, out, err = policy(
        *arguments, "--baseline", learnt, "--kind", "kubernetes", capsys=capsys
    )
    assert (status, out) == (1, "")
    assert "no NetworkPolicy or AuthorizationPolicy knows DNS names" in err


def test_a_policy_on_trial_is_tried_as_it_will_be(learnt: str, capsys: Captured) -> None:
    status, out, err = policy("shop/orders", "--baseline", learnt, "--audit", capsys=capsys)
    assert status == 0
    assert yaml.safe_load(out)["spec"]["enableDefaultDeny"] == {"ingress": False, "egress": False}
    assert "lets all of them through" in err


def test_labels_come_from_manifests(learnt: str, tmp_path: Path, capsys: Captured) -> None:
    deployment = {
        "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": "orders"},
        "spec": {
            "selector": {"matchLabels": {"tier": "backend", "part": "orders"}},
            "template": {"metadata": {"labels": {"part": "orders", "pod-template-hash": "7"}}},
        },
    }
    for name, text in (
        ("all.json", json.dumps({"kind": "List", "items": [deployment]})),
        ("all.yaml", yaml.safe_dump_all([deployment, {"kind": "Service"}], sort_keys=False)),
    ):
        (tmp_path / name).write_text(text)
        _, out, _ = policy(
            "shop/orders", "--baseline", learnt, "--manifests", str(tmp_path / name), capsys=capsys
        )
        selected = yaml.safe_load(out)["spec"]["endpointSelector"]["matchLabels"]
        assert selected == {"tier": "backend", "part": "orders"}
        assert "kubectl get pods -n shop -l tier=backend,part=orders" in out


def test_a_workload_on_the_network_of_its_node_is_refused(
    learnt: str, tmp_path: Path, capsys: Captured
) -> None:
    spec = {"template": {"spec": {"hostNetwork": True}}}
    item = {
        "kind": "DaemonSet",
        "metadata": {"namespace": "shop", "name": "orders"},
        "spec": spec,
    }
    (tmp_path / "all.json").write_text(json.dumps(item))
    arguments = ("--baseline", learnt, "--manifests", str(tmp_path / "all.json"))
    status, out, err = policy("shop/orders", *arguments, capsys=capsys)
    assert (status, out) == (2, "")
    assert "on the network of its node" in err


def test_settings_come_from_the_configuration(
    learnt: str, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "sidelong.toml").write_text('[policy]\nkind = "istio"\nlabel = "app"\n')
    arguments = ("--baseline", learnt, "--config", str(tmp_path / "sidelong.toml"))
    _, out, _ = policy("shop/orders", *arguments, capsys=capsys)
    assert yaml.safe_load(out)["kind"] == "AuthorizationPolicy"
    assert yaml.safe_load(out)["spec"]["selector"]["matchLabels"] == {"app": "orders"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "a policy is for one workload or against one incident"),
        (("shop/orders", "--incident", "1"), "one workload or against one incident"),
        (("--incident", "1"), "there is no incident to choose from"),
        (("orders",), "'orders' is no workload"),
        (("shop/nobody",), "the baseline knows nothing of shop/nobody"),
        (("shop/orders", "--kind", "kubernetes", "--audit"), "has no --audit"),
        (("shop/orders", "--label", "a b"), "'a b' is not the key of a label"),
        (("shop/orders", "--nodes", "node-1"), "'node-1' is not a network"),
        (("shop/orders", "--incidents", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("shop/orders", "--manifests", "nowhere.json"), "nowhere.json cannot be read"),
        (("shop/" + "x" * 70,), "too long to be the value of a label"),
    ],
)
def test_options_that_cannot_be_used(
    arguments: tuple[str, ...], problem: str, learnt: str, capsys: Captured
) -> None:
    status, out, err = policy(*arguments, "--baseline", learnt, capsys=capsys)
    assert (status, out) == (2, "")
    assert problem in err


def test_an_unknown_incident_is_told_beside_those_that_are_there(
    learnt: str, found: Found, capsys: Captured
) -> None:
    arguments = ("--incident", "nope", "--incidents", found[0], "--baseline", learnt)
    status, out, err = policy(*arguments, capsys=capsys)
    assert (status, out) == (2, "")
    assert "no incident 'nope' is there" in err


@pytest.mark.parametrize("line", ["{", '{"id": 7}', '"text"', "null"])
def test_a_line_that_is_no_incident_is_named(
    line: str, learnt: str, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "found.jsonl"
    file.write_text(f"\n{line}\n")
    arguments = ("shop/orders", "--incidents", str(file), "--baseline", learnt)
    status, out, err = policy(*arguments, capsys=capsys)
    assert (status, out) == (2, "")
    assert f"line 2 of {file} is no incident" in err


def test_the_table_works_out_no_policies(shop: Path, learnt: str, capsys: Captured) -> None:
    run(["replay", str(shop / "test.hubble.jsonl.zst"), "--baseline", learnt, "--output", "table"])
    assert "apiVersion" not in capsys.readouterr().out
