"""The first use of a DNS server that nobody here uses."""

import polars as pl
import pytest
from builders import flows, incidents, known, observed

from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import ALERT

# Both have been at work for hours, and ask the cluster's resolver.
KNOWN = known(
    {
        "shop/web -> kube-system/coredns:53": 20_000,
        "shop/api -> kube-system/coredns:53": 20_000,
        "shop/api -> shop/search:80": 500,
        "kube-system/coredns -> world:9.9.0.0/16:53": 20_000,
    }
)


def levels(*told: str, baseline: Baseline = KNOWN) -> list[int]:
    evidence = observed(Detectors(baseline), flows(*told))
    return evidence.filter(pl.col("statistic") == "bypass")["level"].to_list()


def asked(server: str, port: int = 53, actor: str = "shop/web") -> list[str]:
    """A connection to a server that answers."""
    return [
        f"0s {actor} -> {server}:{port} SYN",
        f"0.01s {actor} <- {server}:{port} SYN-ACK",
    ]


def test_a_well_known_workload_alarms_on_its_first_answer() -> None:
    (level,) = levels(*asked("world:8.8.0.0/16"))
    assert level >= ALERT


def test_a_query_over_udp_is_a_use_too() -> None:
    told = [
        "0s shop/web -> world:8.8.0.0/16:53 QUERY example.org",
        "0.01s shop/web <- world:8.8.0.0/16:53 NOERROR example.org",
    ]
    assert len(levels(*told)) == 1


@pytest.mark.parametrize("port", [53, 853])
def test_a_server_inside_the_cluster_can_be_a_bypass(port: int) -> None:
    assert len(levels(*asked("tools/dnsmasq", port))) == 1


def test_https_counts_at_the_address_of_a_public_resolver_only() -> None:
    assert len(levels(*asked("ip:1.1.1.1", 443))) == 1
    assert levels(*asked("ip:1.2.3.4", 443)) == []


def test_the_clusters_resolver_is_none_however_new_the_edge() -> None:
    assert levels(*asked("kube-system/coredns", actor="shop/search")) == []


def test_a_resolver_asks_whom_it_likes() -> None:
    assert levels(*asked("world:8.8.0.0/16", actor="kube-system/coredns")) == []


def test_of_a_workload_without_a_history_nothing_is_said() -> None:
    assert levels(*asked("world:8.8.0.0/16", actor="new/comer")) == []
    assert levels(*asked("world:8.8.0.0/16"), baseline=Baseline.empty()) == []


def test_a_server_that_never_answers_is_not_in_use() -> None:
    assert levels("0s shop/web -> world:8.8.0.0/16:53 QUERY example.org") == []


def test_the_incident_names_the_server() -> None:
    opened = [
        incident
        for incident in incidents(flows(*asked("ip:1.1.1.1", 853)), KNOWN)
        if incident.status == "open"
    ]
    (incident,) = opened
    assert incident.kind == "dns_exfiltration"
    (target,) = incident.objects
    assert (target.ip, target.port) == ("1.1.1.1", 853)
    assert incident.counts == {"resolvers": 1}
    assert incident.evidence[0].feature == "unknown_resolver"
