"""Least privilege from a baseline: everything that it holds passes, DNS always, little else."""

from datetime import UTC, datetime
from typing import Any, Final

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers.policy_peer import Engine
from peers.policy_peer import engine as engine
from peers.policy_peer import manifest_schemas as manifest_schemas
from policy_manifests import check_text
from test_policy_engine import asked

from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_kubernetes import widened
from sidelong.alerts.policy_names import Selectors
from sidelong.alerts.policy_needs import Acquaintances
from sidelong.alerts.policy_replay import habitual
from sidelong.alerts.policy_suggestions import PolicyKind, allow_list, on_trial
from sidelong.alerts.policy_text import policy_text
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import CONTACTS_SCHEMA, DOMAINS_SCHEMA, NETWORKS_SCHEMA

KINDS: Final[tuple[PolicyKind, ...]] = ("cilium", "kubernetes", "istio")
SELECTORS: Final = Selectors()
NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)

Edge = tuple[str, str, int, str]
Addressed = tuple[str, str, int, str, str]


def baseline(
    *edges: Edge | tuple[str, str, int, str, str], asked: tuple[str, ...] = ()
) -> Baseline:
    """A baseline of edges (actor, peer, port, protocol, and the address where that is the object),
    and of domains that shop/a asked for."""
    rows = [
        {
            "actor": actor,
            "peer": peer,
            "object": rest[0] if rest else peer,
            "port": port,
            "edge_port": port if port < 32_768 else 0,
            "protocol": protocol,
            "first": NOW,
            "last": NOW,
            "active_seconds": 1,
        }
        for actor, peer, port, protocol, *rest in edges
    ]
    empty = Baseline.empty()
    nothing = dict.fromkeys(("level", "names", "bytes", "seconds"), 0)
    domains = [{"actor": "shop/a", "domain": domain, **nothing} for domain in asked]
    return Baseline(
        contacts=pl.DataFrame(rows, schema=CONTACTS_SCHEMA),
        workloads=empty.workloads,
        names=empty.names,
        domains=pl.DataFrame(domains, schema=DOMAINS_SCHEMA),
        networks=pl.DataFrame({"network": ["10.244.1"]}, schema=NETWORKS_SCHEMA),
    )


def least(
    known: Baseline, kind: PolicyKind = "cilium", selectors: Selectors = SELECTORS
) -> dict[str, Any]:
    return allow_list(Acquaintances(known).needs("shop/a", selectors), selectors, kind)


def goes(policy: dict[str, Any], *edge: Any, selectors: Selectors = SELECTORS, **more: Any) -> bool:
    actor, peer, port, protocol = edge
    row = {"actor": actor, "peer": peer, "object": more.pop("object", peer), "port": port}
    types = {"port": pl.UInt16, "name": pl.String}
    rows = pl.DataFrame([{**row, "protocol": protocol, **more}], schema_overrides=types)
    return bool(passes([policy], rows, selectors).item())


RESOLVER: Final = "kube-system/coredns"


@pytest.mark.parametrize("kind", ["cilium", "kubernetes"])
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_dns_is_allowed_though_the_baseline_never_asked(kind: PolicyKind, protocol: str) -> None:
    policy = least(baseline(("shop/a", "shop/b", 80, "TCP")), kind)
    assert goes(policy, "shop/a", RESOLVER, 53, protocol, name="anything.example.org")


def test_the_resolver_is_selected_by_the_label_it_has_and_not_by_its_name() -> None:
    text = policy_text([least(baseline(("shop/a", RESOLVER, 53, "UDP")))])
    assert "k8s-app: kube-dns" in text
    assert "coredns" not in text


def test_another_resolver_is_asked_as_before() -> None:
    selectors = Selectors(resolver="dns/unbound", resolver_labels={"app": "unbound"})
    policy = least(baseline(("shop/a", "shop/b", 80, "TCP")), selectors=selectors)
    assert goes(policy, "shop/a", "dns/unbound", 53, "UDP", selectors=selectors, name="a.org")
    known = baseline(("shop/a", "reserved:host", 53, "UDP"), ("shop/a", "example.org", 443, "TCP"))
    assert goes(least(known), "shop/a", "reserved:host", 53, "UDP", name="a.org")
    assert goes(least(known), "shop/a", "example.org", 443, "TCP")


def test_the_resolver_itself_may_ask_anybody() -> None:
    known = Acquaintances(baseline(("shop/a", RESOLVER, 53, "UDP")))
    for kind in ("cilium", "kubernetes"):
        policy = allow_list(known.needs(RESOLVER, SELECTORS), SELECTORS, kind)
        assert goes(policy, RESOLVER, "world:203.0.0.0/16", 53, "UDP", object="203.0.113.53")


def test_a_domain_is_a_rule_for_its_names_in_cilium() -> None:
    policy = least(baseline(("shop/a", "example.org", 443, "TCP")))
    (rule,) = [rule for rule in policy["spec"]["egress"] if "toFQDNs" in rule]
    assert rule["toFQDNs"] == [{"matchName": "example.org"}, {"matchPattern": "**.example.org"}]
    assert rule["toPorts"] == [{"ports": [{"port": "443", "protocol": "TCP"}]}]


def test_a_domain_is_any_public_address_in_kubernetes_and_that_is_said() -> None:
    known = baseline(("shop/a", "example.org", 443, "TCP"))
    policy = least(known, "kubernetes")
    assert goes(policy, "shop/a", "example.org", 443, "TCP")
    assert not goes(policy, "shop/a", "ip:10.0.0.9", 443, "TCP")
    needs = Acquaintances(known).needs("shop/a", SELECTORS)
    assert widened(needs, SELECTORS) == ["example.org (443/TCP): any public address"]


def test_nodes_are_all_nodes_for_a_pod_may_move() -> None:
    policy = least(baseline(("shop/a", "reserved:remote-node", 9100, "TCP")))
    (rule,) = [rule for rule in policy["spec"]["egress"] if "toEntities" in rule]
    assert rule["toEntities"] == ["host", "remote-node"]


def test_workloads_on_the_network_of_their_node_are_nodes() -> None:
    selectors = Selectors(host_network=frozenset({"monitoring/node-exporter"}))
    known = baseline(("shop/a", "monitoring/node-exporter", 9100, "TCP"))
    policy = least(known, selectors=selectors)
    assert "node-exporter" not in policy_text([policy])
    edge = ("shop/a", "monitoring/node-exporter", 9100, "TCP")
    assert goes(policy, *edge, selectors=selectors)


def test_nodes_are_their_networks_in_kubernetes_where_those_are_known() -> None:
    known = baseline(("shop/a", "reserved:kube-apiserver", 6443, "TCP"))
    narrow = Selectors(nodes=("192.168.7.0/24",))
    text = policy_text([least(known, "kubernetes", narrow)])
    assert "192.168.7.0/24" in text
    assert "0.0.0.0/0" not in text
    edge = ("shop/a", "reserved:kube-apiserver", 6443, "TCP")
    assert goes(least(known, "kubernetes", narrow), *edge, selectors=narrow)
    assert goes(least(known, "kubernetes"), *edge)


def test_ports_that_change_are_one_range() -> None:
    known = baseline(*(("shop/a", "shop/b", port, "TCP") for port in (40_000, 40_001, 51_234)))
    (rule,) = [rule for rule in least(known)["spec"]["egress"] if "32768" in str(rule)]
    assert rule["toPorts"] == [{"ports": [{"port": "32768", "endPort": 65_535, "protocol": "TCP"}]}]
    assert goes(least(known), "shop/a", "shop/b", 60_000, "TCP")
    assert not goes(least(known), "shop/a", "shop/b", 8_080, "TCP")


def test_a_ping_is_an_echo() -> None:
    policy = least(baseline(("shop/a", "shop/b", 0, "ICMP")))
    assert goes(policy, "shop/a", "shop/b", 0, "ICMP")
    assert not goes(policy, "shop/a", "shop/b", 80, "TCP")


def test_a_few_addresses_are_listed_and_many_are_their_network() -> None:
    few = [("shop/a", "world:203.0.0.0/16", 443, "TCP", f"203.0.113.{i}") for i in range(3)]
    many = [("shop/a", "world:198.51.0.0/16", 443, "TCP", f"198.51.100.{i}") for i in range(40)]
    text = policy_text([least(baseline(*few, *many))])
    assert text.count("203.0.113.") == 3
    assert text.count("198.51.") == text.count("198.51.0.0/16") == 1


def test_clients_from_all_over_are_the_world() -> None:
    edges = [(f"world:{i}.0.0.0/16", "shop/a", 443, "TCP") for i in range(20, 40)]
    policy = least(baseline(*edges))
    assert {"fromEntities": ["world"]}.items() <= policy["spec"]["ingress"][1].items()


def test_pods_of_one_workload_may_talk() -> None:
    for kind in KINDS:
        policy = least(baseline(("shop/b", "shop/a", 80, "TCP")), kind)
        assert goes(policy, "shop/a", "shop/a", 7946, "TCP")


def test_what_no_policy_can_name_is_counted() -> None:
    known = baseline(
        ("shop/a", 'shop/"\n- evil', 80, "TCP"),
        ("shop/a", "shop/b", 0, "OTHER"),
        ("shop/a", "reserved:unknown", 80, "TCP"),
    )
    needs = Acquaintances(known).needs("shop/a", SELECTORS)
    assert needs.left_out == 3
    assert "evil" not in policy_text([least(known)])


def test_more_ports_than_a_list_may_hold_are_several_lists() -> None:
    known = baseline(*(("shop/a", "shop/b", port, "TCP") for port in range(1_000, 1_100)))
    (rule,) = [rule for rule in least(known)["spec"]["egress"] if "1099" in str(rule)]
    assert [len(ports["ports"]) for ports in rule["toPorts"]] == [40, 40, 20]


def test_a_trial_denies_nothing() -> None:
    known = baseline(("shop/a", "shop/b", 80, "TCP"), ("shop/b", "shop/a", 80, "TCP"))
    assert goes(on_trial(least(known)), "shop/a", "shop/c", 22, "TCP")
    metadata = on_trial(least(known, "istio"))["metadata"]
    assert metadata["annotations"] == {"istio.io/dry-run": "true"}
    with pytest.raises(ValueError, match="as soon as it is there"):
        on_trial(least(known, "kubernetes"))


PEERS: Final = (
    "shop/b",
    "shop/c",
    "payments/a",
    RESOLVER,
    "reserved:host",
    "reserved:remote-node",
    "reserved:kube-apiserver",
    "reserved:world",
    "example.org",
    "cdn.example.co.uk",
    "world:203.0.0.0/16",
    "ip:10.9.9.9",
    "169.254.169.254",
)
peers = st.sampled_from(PEERS)
ports = st.sampled_from([(53, "UDP"), (80, "TCP"), (443, "UDP"), (9_090, "SCTP"), (45_000, "TCP")])
edges = st.one_of(
    st.tuples(peers, ports).map(lambda one: ("shop/a", one[0], *one[1])),
    st.tuples(peers, ports).map(lambda one: (one[0], "shop/a", *one[1])),
)
ADDRESSES: Final = {"world:203.0.0.0/16": "203.0.113.9", "ip:10.9.9.9": "10.9.9.9"}
addressed = edges.map(lambda edge: (*edge, ADDRESSES.get(edge[1], edge[1])))
baselines = st.lists(addressed, min_size=1, max_size=12, unique=True)


@settings(max_examples=150, deadline=None)
@given(edges=baselines, kind=st.sampled_from(KINDS))
def test_nothing_of_the_baseline_breaks(edges: list[Any], kind: PolicyKind) -> None:
    known = Acquaintances(baseline(*edges, asked=("example.net",)))
    policy = allow_list(known.needs("shop/a", SELECTORS), SELECTORS, kind)
    habits = habitual(known, "shop/a", SELECTORS)
    if kind == "istio":  # it knows no ranges, and callers without a certificate by address only
        nameless = ~pl.col("actor").str.contains("^(?:[^:]+/|world:203|ip:|169)")
        habits = habits.filter(~(nameless & (pl.col("port") > 32_768)))
    assert habits.filter(~passes([policy], habits, SELECTORS)).is_empty()


@settings(max_examples=100, deadline=None)
@given(edges=baselines, port=st.sampled_from([22, 80, 3_306]))
def test_a_stranger_gets_in_nowhere_and_nothing_gets_out_to_one(
    edges: list[Any], port: int
) -> None:
    for kind in ("cilium", "kubernetes"):
        policy = least(baseline(*edges), kind)
        wide = kind == "kubernetes" and "0.0.0.0/0" in policy_text([policy])
        assert wide or not goes(policy, "other/stranger", "shop/a", port, "TCP")
        assert wide or not goes(policy, "shop/a", "other/stranger", port, "TCP")
    assert not goes(least(baseline(*edges), "istio"), "other/stranger", "shop/a", 22, "TCP")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edges=baselines)
def test_cilium_takes_the_policy_and_agrees(engine: Engine, edges: list[Any]) -> None:
    policy = least(baseline(*edges))
    rows = habitual(Acquaintances(baseline(*edges)), "shop/a", SELECTORS).filter(
        # Domains come by way of the DNS proxy, which is no part of the engine.
        pl.col("name").is_null(),
        ~pl.any_horizontal(pl.col("actor", "peer").str.contains(r"^[a-z.]+\.(org|uk)$")),
        ~pl.any_horizontal(pl.col("actor", "peer") == "reserved:world"),
        ~pl.any_horizontal(pl.col("actor").str.starts_with("world:")),
    )
    rows = rows.select("actor", "peer", "object", "port", "protocol")
    assert all(asked(engine, [policy], rows))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edges=baselines, kind=st.sampled_from(KINDS))
def test_an_api_server_takes_the_policy(
    manifest_schemas: dict[str, dict[str, Any]], edges: list[Any], kind: PolicyKind
) -> None:
    policy = least(baseline(*edges), kind)
    assert check_text(policy_text([policy]), manifest_schemas) == [policy]


names = st.text(min_size=1, max_size=300)


@settings(max_examples=200, deadline=None)
@given(hostile=names, note=names, kind=st.sampled_from(KINDS))
def test_a_hostile_name_stays_a_value(hostile: str, note: str, kind: PolicyKind) -> None:
    known = baseline(
        ("shop/a", f"shop/{hostile}", 80, "TCP"),
        ("shop/a", hostile, 80, "TCP"),
        (f"{hostile}/b", "shop/a", 80, "TCP"),
        asked=(hostile,),
    )
    labels = {"shop/b": {"app": hostile}, "shop/a": {"app": "a"}}
    selectors = Selectors(labels=labels)
    policy = least(known, kind, selectors)
    text = policy_text([policy, policy], [note, hostile])
    assert list(yaml.safe_load_all(text)) == [policy, policy]
    assert policy.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert all(character.isprintable() or character == "\n" for character in text)
