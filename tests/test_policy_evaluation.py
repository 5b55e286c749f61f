"""What policies do to connections: rules one by one, and against an oracle that reads naively."""

from ipaddress import ip_network
from typing import Any, Final

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_strategies import cilium_policies, connections, istio_policies, kubernetes_policies

from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_names import Selectors

SELECTORS: Final = Selectors()
_TRANSPORTS: Final = ("TCP", "UDP", "SCTP")

many = settings(max_examples=200, deadline=None)


def one(
    actor: str, peer: str, port: int = 443, protocol: str = "TCP", **more: str | None
) -> pl.DataFrame:
    row = {"actor": actor, "peer": peer, "object": more.pop("object", None) or peer, "port": port}
    return pl.DataFrame([{**row, "protocol": protocol, **more}], schema_overrides=TYPES)


TYPES: Final = {"port": pl.UInt16, "name": pl.String, "path": pl.String}


def cilium(namespace: str = "shop", name: str = "a", **spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/name": name}}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "x", "namespace": namespace},
        "spec": {"endpointSelector": selector, **spec},
    }


def goes(policy: dict[str, Any], connection: pl.DataFrame) -> bool:
    return bool(passes([policy], connection, SELECTORS).item())


def pods(namespace: str, name: str) -> dict[str, Any]:
    return {
        "matchLabels": {
            "k8s:io.kubernetes.pod.namespace": namespace,
            "app.kubernetes.io/name": name,
        }
    }


def dns(*patterns: str) -> list[dict[str, Any]]:
    ports = [{"port": "53", "protocol": "ANY"}]
    return [{"ports": ports, "rules": {"dns": [{"matchPattern": one} for one in patterns]}}]


NAMED: Final = {"toFQDNs": [{"matchName": "example.org"}]}
RESOLVER: Final = {"toEndpoints": [{"matchLabels": {"k8s-app": "kube-dns"}}]}


def test_without_policies_everything_passes() -> None:
    assert passes([], one("shop/a", "shop/b"), SELECTORS).to_list() == [True]


def test_policies_of_two_kinds_are_not_judged_together() -> None:
    other = {**cilium(), "kind": "NetworkPolicy"}
    with pytest.raises(ValueError, match="one kind"):
        passes([cilium(), other], one("shop/a", "shop/b"), SELECTORS)


def test_a_denial_wins_over_what_is_allowed() -> None:
    policy = cilium(
        egress=[{"toEntities": ["all"]}], egressDeny=[{"toEndpoints": [pods("shop", "b")]}]
    )
    assert not goes(policy, one("shop/a", "shop/b"))
    assert goes(policy, one("shop/a", "shop/c"))


def test_a_denial_without_the_default_to_deny_leaves_the_rest_alone() -> None:
    policy = cilium(
        enableDefaultDeny={"ingress": False, "egress": False},
        egressDeny=[{"toEndpoints": [pods("shop", "b")]}],
    )
    assert not goes(policy, one("shop/a", "shop/b"))
    assert goes(policy, one("shop/a", "example.org"))


def test_the_kubelet_reaches_a_pod_whatever_its_policy() -> None:
    policy = cilium(ingress=[{"fromEndpoints": [pods("shop", "b")]}])
    assert goes(policy, one("reserved:host", "shop/a"))
    assert not goes(policy, one("reserved:remote-node", "shop/a"))


def test_a_pod_on_the_network_of_its_node_is_not_selected() -> None:
    selectors = Selectors(host_network=frozenset({"shop/a"}))
    policy = cilium(egress=[{"toEndpoints": [pods("shop", "b")]}])
    assert passes([policy], one("shop/a", "example.org"), selectors).item()
    assert not goes(policy, one("shop/a", "example.org"))


def test_a_domain_is_reached_only_if_its_lookup_may_be_seen() -> None:
    blind = cilium(egress=[NAMED])
    seeing = cilium(egress=[NAMED, {**RESOLVER, "toPorts": dns("*")}])
    elsewhere = cilium(egress=[NAMED, {**RESOLVER, "toPorts": dns("*.example.net")}])
    connection = one("shop/a", "example.org")
    assert [goes(one, connection) for one in (blind, seeing, elsewhere)] == [False, True, False]


def test_a_dns_rule_refuses_other_names_even_without_the_default_to_deny() -> None:
    policy = cilium(
        enableDefaultDeny={"ingress": False, "egress": False},
        egress=[{**RESOLVER, "toPorts": dns("**.example.org")}],
    )

    def asks(name: str | None) -> bool:
        return goes(policy, one("shop/a", "kube-system/coredns", 53, "UDP", name=name))

    assert [asks(name) for name in ("a.b.example.org", "x.example.net", None)] == [
        True,
        False,
        True,
    ]
    assert goes(policy, one("shop/a", "shop/b"))


def test_two_dns_rules_let_the_names_of_both_through() -> None:
    first = cilium(egress=[{**RESOLVER, "toPorts": dns("*.example.org")}])
    second = cilium(egress=[{**RESOLVER, "toPorts": dns("*.example.net")}])
    for name in ("a.example.org", "a.example.net"):
        asked = one("shop/a", "kube-system/coredns", 53, "UDP", name=name)
        assert passes([first, second], asked, SELECTORS).item()


def kubernetes(**spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/name": "a"}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": {"podSelector": selector, **spec},
    }


def test_a_network_policy_lets_a_pod_talk_with_its_node() -> None:
    policy = kubernetes(policyTypes=["Ingress", "Egress"])
    assert goes(policy, one("reserved:host", "shop/a"))
    assert goes(policy, one("shop/a", "reserved:host"))
    assert not goes(policy, one("shop/a", "reserved:remote-node"))


def test_a_block_of_every_address_counts_for_pods_too() -> None:
    policy = kubernetes(
        policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]
    )
    assert goes(policy, one("shop/a", "shop/b"))


def test_a_block_with_exceptions_is_public_and_holds_no_pod() -> None:
    block = {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}
    policy = kubernetes(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}])
    assert goes(policy, one("shop/a", "example.org"))
    assert not goes(policy, one("shop/a", "shop/b"))
    assert not goes(policy, one("shop/a", "ip:10.9.9.9", object="10.9.9.9"))


def test_nodes_are_where_they_are_said_to_be() -> None:
    policy = kubernetes(
        policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "192.168.7.0/24"}}]}]
    )
    connection = one("shop/a", "reserved:remote-node")
    assert not goes(policy, connection)
    assert passes([policy], connection, Selectors(nodes=("192.168.7.0/24",))).item()


def istio(action: str, *rules: dict[str, Any]) -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/name": "a"}}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "x", "namespace": "shop"},
        "spec": {"selector": selector, "action": action, "rules": list(rules)},
    }


def test_a_refused_path_is_refused_and_no_other() -> None:
    source = {"source": {"principals": ["*/ns/shop/sa/b"]}}
    policy = istio("DENY", {"from": [source], "to": [{"operation": {"paths": ["/admin"]}}]})
    assert not goes(policy, one("shop/b", "shop/a", path="/admin"))
    assert goes(policy, one("shop/b", "shop/a", path="/"))
    assert goes(policy, one("shop/b", "shop/a", path=None))
    assert goes(policy, one("shop/c", "shop/a", path="/admin"))


def test_an_authorization_policy_leaves_udp_alone() -> None:
    assert goes(istio("ALLOW"), one("shop/b", "shop/a", 53, "UDP"))
    assert not goes(istio("ALLOW"), one("shop/b", "shop/a", 53, "TCP"))


def test_a_service_account_has_its_own_name() -> None:
    source = {"source": {"principals": ["*/ns/shop/sa/robot"]}}
    policy = istio("ALLOW", {"from": [source]})
    selectors = Selectors(accounts={"shop/b": "robot"})
    assert passes([policy], one("shop/b", "shop/a"), selectors).item()
    assert not goes(policy, one("shop/b", "shop/a"))


@many
@given(
    policies=cilium_policies(),
    rows=connections(),
    name=st.sampled_from([None, "a.example.org", "b.net"]),
)
def test_cilium_policies_agree_with_the_oracle(
    policies: list[dict[str, Any]], rows: pl.DataFrame, name: str | None
) -> None:
    asked = rows.with_columns(name=pl.lit(name, pl.String))
    told = [naive_cilium(policies, row) for row in asked.iter_rows(named=True)]
    assert passes(policies, asked, SELECTORS).to_list() == told


@many
@given(policies=kubernetes_policies(), rows=connections())
def test_network_policies_agree_with_the_oracle(
    policies: list[dict[str, Any]], rows: pl.DataFrame
) -> None:
    told = [naive_kubernetes(policies, row) for row in rows.iter_rows(named=True)]
    assert passes(policies, rows, SELECTORS).to_list() == told


@many
@given(policies=istio_policies(), rows=connections())
def test_authorization_policies_agree_with_the_oracle(
    policies: list[dict[str, Any]], rows: pl.DataFrame
) -> None:
    told = [naive_istio(policies, row) for row in rows.iter_rows(named=True)]
    assert passes(policies, rows, SELECTORS).to_list() == told


@given(cuts=st.integers(1, 5), rows=connections(), policies=cilium_policies())
def test_a_connection_is_judged_by_itself(
    cuts: int, rows: pl.DataFrame, policies: list[dict[str, Any]]
) -> None:
    parts = [passes(policies, part, SELECTORS) for part in rows.iter_slices(cuts)]
    assert pl.concat(parts).to_list() == passes(policies, rows, SELECTORS).to_list()


# The oracle: one connection and one policy at a time, straight from the documents.


def labels_of(identity: str) -> dict[str, str] | None:
    if "/" not in identity or identity.startswith("world:"):
        return None
    namespace, name = identity.split("/")
    own = {"k8s-app": "kube-dns"} if name == "coredns" else {"app.kubernetes.io/name": name}
    return {
        **own,
        "k8s:io.kubernetes.pod.namespace": namespace,
        "kubernetes.io/metadata.name": namespace,
    }


def has(identity: str, wanted: dict[str, str]) -> bool:
    labels = labels_of(identity)
    return labels is not None and all(labels.get(key) == value for key, value in wanted.items())


def address_of(identity: str, address: str | None) -> Any:
    if identity.startswith("ip:"):
        return ip_network(identity[3:])
    if identity.startswith("world:"):
        return ip_network(address if address else identity[6:])
    return None


def is_in(identity: str, address: str | None, cidr: str) -> bool:
    network = address_of(identity, address)
    return network is not None and network.subnet_of(ip_network(cidr))


def naive_cilium(policies: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    out = cilium_direction(policies, row, "egress", row["actor"], row["peer"], row["object"])
    into = cilium_direction(policies, row, "ingress", row["peer"], row["actor"], None)
    return out and into


def cilium_direction(
    policies: list[dict[str, Any]],
    row: dict[str, Any],
    direction: str,
    subject: str,
    far: str,
    address: str | None,
) -> bool:
    side = "to" if direction == "egress" else "from"
    closed = False
    reasons: list[dict[str, Any]] = []
    refusals: list[dict[str, Any]] = []
    for policy in policies:
        spec = policy["spec"]
        wanted = dict(spec["endpointSelector"]["matchLabels"])
        wanted["k8s:io.kubernetes.pod.namespace"] = policy["metadata"]["namespace"]
        if not has(subject, wanted):
            continue
        if direction in spec or f"{direction}Deny" in spec:
            closed = closed or spec.get("enableDefaultDeny", {}).get(direction, True)
        for rule in spec.get(f"{direction}Deny", []):
            if cilium_far(rule, side, far, address) and cilium_carried(rule, row):
                return False
        for rule in spec.get(direction, []):
            if cilium_far(rule, side, far, address) and cilium_carried(rule, row):
                asked = [
                    one
                    for ports in rule.get("toPorts", [])
                    for one in ports.get("rules", {}).get("dns", [])
                ]
                refused = (
                    asked and row["name"] is not None and not row["name"].endswith(".example.org")
                )
                (refusals if refused else reasons).append(rule)
    if direction == "ingress" and far == "reserved:host":
        return True
    return bool(reasons) or not (closed or refusals)


def cilium_far(rule: dict[str, Any], side: str, far: str, address: str | None) -> bool:
    classes = [key for key in rule if key.startswith(side) and key != "toPorts"]
    if not classes:
        return True
    for key in classes:
        for value in rule[key]:
            if key.endswith("Endpoints") and has(far, value["matchLabels"]):
                return True
            if key.endswith("CIDR") and is_in(far, address, value):
                return True
            if key.endswith("Entities") and is_entity(far, value):
                return True
    return False


def is_entity(far: str, entity: str) -> bool:
    outside = far.startswith(("ip:", "world:"))
    if entity in ("all", "world", "cluster"):
        return entity == "all" or outside == (entity == "world")
    return far == f"reserved:{entity}"


def cilium_carried(rule: dict[str, Any], row: dict[str, Any]) -> bool:
    if "icmps" in rule:
        return bool(row["protocol"] == "ICMP")
    if "toPorts" not in rule:
        return True
    for one in (port for ports in rule["toPorts"] for port in ports["ports"]):
        carried = _TRANSPORTS if one["protocol"] == "ANY" else (one["protocol"],)
        within = int(one["port"]) <= row["port"] <= int(one.get("endPort", one["port"]))
        if row["protocol"] in carried and within:
            return True
    return False


def naive_kubernetes(policies: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    ends = (
        ("Egress", "to", row["actor"], row["peer"], row["object"]),
        ("Ingress", "from", row["peer"], row["actor"], None),
    )
    for kind, side, subject, far, address in ends:
        if far == "reserved:host":
            continue
        told = [
            policy
            for policy in policies
            if kind in policy["spec"]["policyTypes"]
            and has(
                subject,
                {
                    **policy["spec"]["podSelector"]["matchLabels"],
                    "kubernetes.io/metadata.name": policy["metadata"]["namespace"],
                },
            )
        ]
        rules = [(policy, rule) for policy in told for rule in policy["spec"].get(kind.lower(), [])]
        if told and not any(
            kubernetes_rule(rule, side, policy["metadata"]["namespace"], far, address, row)
            for policy, rule in rules
        ):
            return False
    return True


def kubernetes_rule(
    rule: dict[str, Any],
    side: str,
    namespace: str,
    far: str,
    address: str | None,
    row: dict[str, Any],
) -> bool:
    ports = rule.get("ports", [])
    if ports and not any(
        one["protocol"] == row["protocol"]
        and one["port"] <= row["port"] <= one.get("endPort", one["port"])
        for one in ports
    ):
        return False
    if side not in rule:
        return True
    for peer in rule[side]:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            but = [ip_network(text) for text in block.get("except", [])]
            if is_in(far, address, block["cidr"]):
                network = address_of(far, address)
                if not any(network.overlaps(text) for text in but):
                    return True
            continue
        space = peer.get("namespaceSelector", {}).get(
            "matchLabels", {"kubernetes.io/metadata.name": namespace}
        )
        if has(far, {**peer["podSelector"]["matchLabels"], **space}):
            return True
    return False


def naive_istio(policies: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    if row["protocol"] != "TCP":
        return True
    here = [
        policy["spec"]
        for policy in policies
        if has(
            row["peer"],
            {
                **policy["spec"]["selector"]["matchLabels"],
                "kubernetes.io/metadata.name": policy["metadata"]["namespace"],
            },
        )
    ]
    hit = {
        action: [
            any(istio_rule(rule, row) for rule in spec["rules"])
            for spec in here
            if spec["action"] == action
        ]
        for action in ("ALLOW", "DENY")
    }
    return not any(hit["DENY"]) and (any(hit["ALLOW"]) or not hit["ALLOW"])


def istio_rule(rule: dict[str, Any], row: dict[str, Any]) -> bool:
    if "to" in rule and str(row["port"]) not in rule["to"][0]["operation"]["ports"]:
        return False
    if "from" not in rule:
        return True
    source = rule["from"][0]["source"]
    if "ipBlocks" in source:
        return any(is_in(row["actor"], None, cidr) for cidr in source["ipBlocks"])
    if labels_of(row["actor"]) is None:
        return False
    namespace, name = row["actor"].split("/")
    return f"*/ns/{namespace}/sa/{name}" in source["principals"]
