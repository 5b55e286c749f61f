"""Our model of policies against Cilium's own engine: the same verdict on every connection."""

import json
from typing import Any, Final

import polars as pl
from hypothesis import HealthCheck, given, settings
from peers.policy_peer import Engine
from peers.policy_peer import engine as engine
from policy_strategies import cilium_policies, connections, kubernetes_policies

from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_names import Selectors, workload_parts

SELECTORS: Final = Selectors()
_ECHO: Final = 8  # the engine takes ICMP's type for a port

many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def asked(engine: Engine, policies: list[dict[str, Any]], rows: pl.DataFrame) -> list[bool]:
    """What Cilium says of each connection."""
    ends: list[list[str]] = []
    flows = []
    for actor, peer, address, port, protocol in rows.iter_rows():
        both = []
        for identity, at in ((actor, None), (peer, address)):
            labels = cilium_labels(identity, at)
            if labels not in ends:
                ends.append(labels)
            both.append(ends.index(labels))
        flows.append((both[0], both[1], protocol, port or _ECHO))
    return engine.passes([without_names(policy) for policy in policies], ends, flows)


def without_names(policy: dict[str, Any]) -> dict[str, Any]:
    """The policy as far as ports go: names are judged by the DNS proxy, not by the engine."""
    stripped: dict[str, Any] = json.loads(
        json.dumps(policy), object_hook=lambda one: {k: v for k, v in one.items() if k != "rules"}
    )
    return stripped


def cilium_labels(identity: str, address: str | None) -> list[str]:
    """The labels by which Cilium knows an end."""
    if parts := workload_parts(identity):
        told = [f"k8s:{key}={value}" for key, value in (SELECTORS.of(identity) or {}).items()]
        space = parts[0]
        return [
            f"k8s:io.kubernetes.pod.namespace={space}",
            f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={space}",
            "k8s:io.cilium.k8s.policy.cluster=default",
            *told,
        ]
    if identity.startswith("reserved:"):
        return [identity]
    network = f"{address}/32" if address else identity.removeprefix("world:").removeprefix("ip:")
    if "/" not in network:
        network += "/32"
    return [f"cidr:{network}", "reserved:world-ipv4"]


@many
@given(policies=cilium_policies(), rows=connections())
def test_cilium_policies_mean_what_cilium_does(
    engine: Engine, policies: list[dict[str, Any]], rows: pl.DataFrame
) -> None:
    assert passes(policies, rows, SELECTORS).to_list() == asked(engine, policies, rows)


@many
@given(policies=kubernetes_policies(), rows=connections(nodes=False))
def test_network_policies_mean_what_cilium_does(
    engine: Engine, policies: list[dict[str, Any]], rows: pl.DataFrame
) -> None:
    assert passes(policies, rows, SELECTORS).to_list() == asked(engine, policies, rows)
