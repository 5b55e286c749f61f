"""Which policy is suggested for an incident, and when none is."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_policy_least import baseline

from sidelong.alerts.incident import Actor, Incident, Kind, Observation, Target
from sidelong.alerts.policy_advice import MOST_TEXT, Advice
from sidelong.alerts.policy_evaluation import passes
from sidelong.alerts.policy_names import Selectors
from sidelong.alerts.policy_needs import Acquaintances
from sidelong.alerts.policy_replay import attempted, habitual
from sidelong.alerts.policy_suggestions import PolicyKind, Suggestion, suggestion
from sidelong.models.baseline import Baseline

SELECTORS: Final = Selectors()
NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)

USUAL: Final = baseline(
    ("shop/a", "shop/b", 80, "TCP"),
    ("shop/a", "kube-system/coredns", 53, "UDP"),
    ("shop/b", "payments/db", 5432, "TCP"),
    ("shop/c", "payments/db", 5432, "TCP"),
    asked=("example.org",),
)


def incident(
    kind: Kind,
    *objects: Target,
    actor: str = "shop/a",
    feature: str = "",
    samples: Any = (),
    **more: Any,
) -> Incident:
    evidence: tuple[Observation, ...] = (Observation(feature, "", "", 14.0),) if feature else ()
    evidence += tuple(Observation("sample", sample, "", 0.0) for sample in samples)
    return Incident(
        id="1234",
        status="open",
        kind=kind,
        severity="high",
        score=0.5,
        detected_at=NOW,
        first_seen=NOW,
        last_seen=NOW,
        actor=Actor(actor),
        objects=objects,
        counts={"peers": len({one.workload for one in objects}), **more},
        evidence=evidence,
        story="1234",
        summary="",
    )


def target(workload: str, port: int, ip: str | None = None) -> Target:
    return Target(workload=workload, ip=ip, port=port)


def suggested(
    one: Incident, kind: PolicyKind = "cilium", known: Baseline = USUAL, *, audit: bool = False
) -> Suggestion:
    return suggestion(one, Acquaintances(known), SELECTORS, kind, audit=audit)


def spec(found: Suggestion) -> dict[str, Any]:
    (policy,) = found.policies
    inside: dict[str, Any] = policy["spec"]
    return inside


LATERAL: Final = incident("lateral_movement", target("payments/db", 5432))


def test_lateral_movement_is_denied_where_it_arrives_and_nothing_else_is() -> None:
    found = suggested(LATERAL)
    assert found.subjects == ("payments/db",)
    assert spec(found)["enableDefaultDeny"] == {"ingress": False, "egress": False}
    assert spec(found).keys() == {"endpointSelector", "enableDefaultDeny", "ingressDeny"}


def test_what_cannot_deny_lists_who_may() -> None:
    found = suggested(LATERAL, "kubernetes")
    assert found.subjects == ("payments/db",)
    assert spec(found)["policyTypes"] == ["Ingress"]


def test_movement_to_several_is_denied_where_it_starts() -> None:
    both = (target("payments/db", 5432), target("other/cache", 6379))
    found = suggested(incident("lateral_movement", *both))
    assert found.subjects == ("shop/a",)
    assert len(spec(found)["egressDeny"]) == 2


def test_movement_from_a_node_is_denied_where_it_arrives() -> None:
    found = suggested(
        incident("lateral_movement", target("payments/db", 5432), actor="reserved:remote-node")
    )
    assert spec(found)["ingressDeny"][0]["fromEntities"] == ["host", "remote-node"]


def test_a_credential_service_outside_is_denied_by_its_address() -> None:
    at = target("169.254.169.254", 80, "169.254.169.254")
    found = suggested(incident("lateral_movement", at))
    assert spec(found)["egressDeny"][0]["toCIDR"] == ["169.254.169.254/32"]


def test_a_scanner_may_go_where_it_used_to_go() -> None:
    probes = [target("payments/db", port) for port in range(20, 40)]
    for kind in ("cilium", "kubernetes"):
        found = suggested(incident("scan", *probes, feature="vertical_first_contacts"), kind)
        assert found.subjects == ("shop/a",)
        assert "egress" in spec(found)


def test_a_scanner_that_nobody_knows_is_denied_what_it_tried() -> None:
    probes = [target("payments/db", port) for port in range(20, 40)]
    unknown = incident("scan", *probes, actor="shop/new")
    assert spec(suggested(unknown))["ingressDeny"][0].keys() == {"fromEndpoints"}


def test_a_scan_wider_than_told_by_a_stranger_has_no_policy() -> None:
    probes = [target("payments/db", port) for port in range(20, 40)]
    found = suggested(replace(incident("scan", *probes, actor="shop/new"), counts={"peers": 900}))
    assert found.policies == ()
    assert found.why_none is not None
    assert "knows nothing of its actor" in found.why_none


def test_a_ping_sweep_is_stopped_too() -> None:
    sweep = incident("scan", *(target(f"payments/p{i}", 0) for i in range(9)))
    assert not passes(
        suggested(sweep).policies, attempted(sweep, Acquaintances(USUAL), SELECTORS), SELECTORS
    ).any()


def test_other_resolvers_are_the_world_at_port_53() -> None:
    asked = target("203.0.113.53", 53, "203.0.113.53")
    found = suggested(incident("dns_exfiltration", asked, resolvers=1))
    (rule,) = spec(found)["egressDeny"]
    assert rule["toEntities"] == ["world"]


def test_another_resolver_alone_is_denied_where_the_baseline_asks_outside() -> None:
    known = baseline(("shop/a", "world:198.51.0.0/16", 53, "UDP", "198.51.100.53"))
    asked = target("203.0.113.53", 53, "203.0.113.53")
    found = suggested(incident("dns_exfiltration", asked, resolvers=1), known=known)
    (rule,) = spec(found)["egressDeny"]
    assert rule["toCIDR"] == ["203.0.113.53/32"]


def test_a_tunnel_leaves_the_names_that_the_workload_knows() -> None:
    found = suggested(incident("dns_exfiltration", Target(domain="evil.example.net")))
    names = spec(found)["egress"][0]["toPorts"][0]["rules"]["dns"]
    assert {"matchPattern": "**.cluster.local"} in names
    assert {"matchPattern": "**.example.org"} in names
    assert "example.net" not in str(names)


def test_a_tunnel_through_a_domain_in_use_has_no_policy() -> None:
    found = suggested(incident("dns_exfiltration", Target(domain="t.example.org")))
    assert found.policies == ()
    assert found.why_none == "whatever stops it would break connections that the baseline holds"


def paths(*samples: str) -> Incident:
    return incident("scan", target("shop/b", 80), feature="paths_first_contacts", samples=samples)


def test_guessed_paths_of_a_service_in_use_are_refused_by_istio() -> None:
    found = suggested(paths("GET /admin", "POST /.env"))
    (policy,) = found.policies
    assert policy["kind"] == "AuthorizationPolicy"
    assert policy["spec"]["action"] == "DENY"
    assert policy["spec"]["rules"][0]["to"] == [{"operation": {"paths": ["/admin", "/.env"]}}]


@pytest.mark.parametrize(
    "path", ["GET /*", "GET /a{b}", "GET nothing", "GET /\n- evil", "GET /\u202e"]
)
def test_a_path_that_would_be_a_pattern_is_not_written(path: str) -> None:
    for policy in suggested(paths(path, "GET /admin")).policies:
        assert path.partition(" ")[2] not in str(policy)


def test_a_service_never_used_is_closed_to_who_guesses() -> None:
    one = incident(
        "scan", target("payments/db", 80), feature="paths_first_contacts", samples=["GET /x"]
    )
    found = suggested(one)
    assert spec(found)["ingressDeny"][0].keys() == {"fromEndpoints", "toPorts"}


def test_on_trial_there_are_lists_only() -> None:
    found = suggested(LATERAL, audit=True)
    assert found.on_trial
    assert "ingress" in spec(found)
    assert spec(found)["enableDefaultDeny"] == {"ingress": False, "egress": False}
    assert (
        suggested(incident("dns_exfiltration", Target(domain="evil.net")), audit=True).policies
        == ()
    )


def test_an_incident_that_names_nothing_has_no_policy() -> None:
    assert suggested(incident("anomaly")).why_none is not None


ends = st.sampled_from(
    ["shop/b", "payments/db", "shop/\n", "reserved:host", "10.1.2.3", "e.org", ""]
)
targets = st.lists(
    st.one_of(
        st.builds(target, ends, st.integers(0, 65_535), st.sampled_from([None, "10.1.2.3"])),
        st.builds(Target, domain=st.sampled_from(["x.net", "example.org", "(no zone)", "\n"])),
    ),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(
    objects=targets,
    kind=st.sampled_from(["scan", "dns_exfiltration", "lateral_movement", "anomaly"]),
    actor=st.sampled_from(
        ["shop/a", "shop/new", "reserved:host", "example.org", "ip:10.0.0.1", "\n"]
    ),
    of=st.sampled_from(["cilium", "kubernetes", "istio"]),
    feature=st.sampled_from(["", "paths_first_contacts", "services_first_contacts"]),
)
def test_whatever_is_suggested_blocks_the_incident_and_breaks_nothing(
    objects: list[Target], kind: Kind, actor: str, of: PolicyKind, feature: str
) -> None:
    one = incident(kind, *objects, actor=actor, feature=feature, samples=["GET /x"])
    known = Acquaintances(USUAL)
    found = suggestion(one, known, SELECTORS, of)
    assert (found.why_none is None) == bool(found.policies)
    if found.policies:
        assert not passes(found.policies, attempted(one, known, SELECTORS), SELECTORS).any()
        for workload in ("shop/a", "shop/b", "shop/c", "payments/db"):
            assert passes(found.policies, habitual(known, workload, SELECTORS), SELECTORS).all()


def test_advice_is_a_function_of_incident_and_baseline() -> None:
    advice = Advice(USUAL)
    first = advice.on(LATERAL)
    assert advice.on(LATERAL) == first == Advice(USUAL).on(LATERAL)
    other = advice.on(replace(LATERAL, id="other"))
    assert other.policy is not None
    assert first.policy is not None
    assert other.policy.replace("other", "1234") == first.policy


def test_advice_is_valid_yaml_below_its_comments() -> None:
    policy = Advice(USUAL).on(LATERAL).policy
    assert policy is not None
    assert policy.startswith("# Suggested by sidelong for incident 1234.\n")
    assert yaml.safe_load(policy)["kind"] == "CiliumNetworkPolicy"


def test_a_policy_too_long_does_not_travel_with_its_incident() -> None:
    edges = [("shop/a", f"far/away-{i:05}", 1_000 + i, "TCP") for i in range(400)]
    scan = incident("scan", target("payments/db", 22), feature="vertical_first_contacts")
    told = Advice(baseline(*edges)).on(scan)
    assert told.policy is None
    assert MOST_TEXT < 100_000


def test_advice_remembers_a_bounded_number() -> None:
    advice = Advice(USUAL)
    for i in range(300):
        advice.on(incident("lateral_movement", target(f"payments/db-{i}", 5432)))
    assert len(advice._last) <= 256
