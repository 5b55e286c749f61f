"""What each piece of evidence means, in words for somebody who reads it for the first time."""

from typing import Final

from sidelong.features.catalogue import CATALOGUE

__all__ = ["limits_of", "meaning_of"]

_MEANINGS: Final = {
    "new_edge": "how seldom this workload opens a new connection, and how seldom one leads there",
    "sensitive_service": "of new connections seldom one in a hundred leads to such a service",
    "only_a_client": "the target was never seen to serve anybody",
    "other_namespace": "seldom one new connection in ten crosses namespaces",
    "policy_denied": "a policy dropped it: seldom one new connection in twenty is denied",
    "policy_ignored": "policies that were declared deny it, and yet it passed",
    "identity": "the mesh saw an identity that the workload never bore before",
    "confirmed_before": "a person called an incident with this connection an attack",
    "declared": "a declared policy expects it, which takes evidence away",
    "still_learning": "the workload is known for minutes only, which takes evidence away",
    "via_node": "the address of a node stands for all pods behind it, which takes evidence away",
    "chain": "new connections one after the other: whoever was reached reached out in turn",
    "mesh_bypass": "what was always encrypted came in plain text",
    "unknown_resolver": "a DNS server that nobody here uses, past the cluster's own",
    "new_name_bytes": "text in names that were never asked before: all that a tunnel can say",
    "name": "one of the names, as it was asked",
    "sample": "one of the requests, as it was seen",
    "vertical_first_contacts": "ports of one peer that were tried for the first time, and failed",
    "horizontal_first_contacts": "peers that were tried for the first time, and failed",
    "paths_first_contacts": "paths that were tried for the first time, and refused or missing",
    "services_first_contacts": "services that DNS was asked for, and that do not exist",
    "spread_first_contacts": "new connections within the cluster, faster than a deployment opens",
}

_LIMITS: Final = {
    "scan": (
        "A scan by whoever only asks for what exists and is allowed to answer looks like work.",
    ),
    "dns_exfiltration": (
        "Below 4,096 bytes a day and domain a tunnel stays unseen.",
        "Encrypted DNS shows the connection to its resolver, never the names.",
    ),
    "lateral_movement": (
        "What was said over the connection is not seen, only that it was opened.",
        "A connection that the baseline knows is not new, whoever uses it now.",
    ),
    "anomaly": ("It says that a minute was unlike the others, never that it was wrong.",),
}


def meaning_of(feature: str) -> str:
    """What a feature of the evidence means; "" for one that says it itself."""
    return _MEANINGS.get(feature) or _measured().get(feature, "")


def limits_of(kind: str) -> tuple[str, ...]:
    """What sidelong cannot see of incidents of a kind, wherever its flows come from."""
    return _LIMITS.get(kind, ())


def _measured() -> dict[str, str]:
    return {one.name: one.meaning for features in CATALOGUE.values() for one in features}
