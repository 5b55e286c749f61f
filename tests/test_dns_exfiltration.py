"""DNS exfiltration: what is charged, what is free, and when it is too much."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from builders import flows, incidents, learnt, lookups, observed

from sidelong.alerts.incident import Incident
from sidelong.features.names import NO_ZONE
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import DOMAINS_SCHEMA
from sidelong.models.detectors import Detectors


def names(count: int, *, size: int = 64, zone: str = "t.example.net", start: int = 0) -> list[str]:
    """Never-seen names that hold `size` bytes below the registered domain each."""
    label = zone.removesuffix("example.net")
    return [f"{n:0{size - len(label)}}.{zone}" for n in range(start, start + count)]


def evidence(frame: pl.DataFrame, baseline: Baseline | None = None) -> pl.DataFrame:
    found = observed(Detectors(baseline or Baseline.empty()), frame)
    return found.filter(pl.col("statistic") == "bucket")


def alarms_after(frame: pl.DataFrame, baseline: Baseline | None = None) -> int | None:
    """How many names it took."""
    found = evidence(frame, baseline).with_row_index("n", offset=1).filter(pl.col("decisive"))
    return int(found["n"][0]) if found.height else None


def tunnels(frame: pl.DataFrame, baseline: Baseline | None = None) -> list[Incident]:
    """The incidents about DNS, as they opened."""
    return [
        incident
        for incident in incidents(frame, baseline)
        if (incident.kind, incident.status) == ("dns_exfiltration", "open")
    ]


def charged(*asked: str) -> list[int]:
    """The bytes that each of these names is charged."""
    return evidence(lookups("a/x", list(asked)))["bytes"].to_list()


def test_it_fires_on_the_query_that_crosses_1024_bytes() -> None:
    assert alarms_after(lookups("a/x", names(20), gap_seconds=0)) == 1_024 // 64


def test_one_byte_less_does_not() -> None:
    asked = [*names(15), *names(1, size=63)]
    assert alarms_after(lookups("a/x", asked, gap_seconds=0)) is None


def test_the_incident_names_the_zone_and_the_moment() -> None:
    asked = lookups("a/x", names(20))
    (incident,) = tunnels(asked)
    assert incident.actor.workload == "a/x"
    assert [target.domain for target in incident.objects] == ["t.example.net"]
    assert incident.counts == {"queries": 17, "bytes": 17 * 64, "domains": 1}
    assert incident.detected_at == asked["time"][16]  # a little leaked away, so one more


def test_a_name_asked_again_is_free() -> None:
    assert alarms_after(lookups("a/x", names(15) * 50)) is None


def test_a_name_that_the_baseline_saw_is_free() -> None:
    ordinary = learnt(lookups("a/x", names(8)))
    assert evidence(lookups("a/x", names(8)), ordinary).is_empty()
    assert evidence(lookups("b/y", names(8)), ordinary).height == 8


def test_an_allowance_is_twice_what_training_reached() -> None:
    ordinary = learnt(lookups("a/x", names(15), gap_seconds=0))  # 960 bytes
    fresh = lookups("a/x", names(40, start=100), gap_seconds=0)
    assert alarms_after(fresh, ordinary) == 2 * 15


def test_an_allowance_never_narrows() -> None:
    ordinary = learnt(lookups("a/x", names(2), gap_seconds=0))
    assert alarms_after(lookups("a/x", names(20, start=100), gap_seconds=0), ordinary) == 16


def test_an_allowance_is_one_workloads_at_one_domain() -> None:
    row = ("a/x", "example.net", 900_000, 0, 0, 0)
    level = pl.DataFrame([row], schema=DOMAINS_SCHEMA, orient="row")
    ordinary = replace(Baseline.empty(), domains=level)
    elsewhere = [name.replace("example.net", "example.org") for name in names(20)]
    assert alarms_after(lookups("a/x", names(20), gap_seconds=0), ordinary) is None
    assert alarms_after(lookups("b/y", names(20), gap_seconds=0), ordinary) == 16
    assert alarms_after(lookups("a/x", elsewhere, gap_seconds=0), ordinary) == 16


def test_a_name_that_spells_an_address_is_charged_the_address() -> None:
    nibbles = ".".join("2001" + "0" * 28)
    assert charged("1.2.0.192.in-addr.arpa", f"{nibbles}.ip6.arpa") == [4, 16]
    assert charged("1.2.0.192.blacklist.org") == [4]


@pytest.mark.parametrize(
    "private",
    [
        "7.0.0.10.in-addr.arpa",
        "7.0.16.172.in-addr.arpa",
        "7.0.168.192.in-addr.arpa",
        "1.0.0.127.in-addr.arpa",
        ".".join("1" + "0" * 29 + "df") + ".ip6.arpa",
        ".".join("1" + "0" * 28 + "8ef") + ".ip6.arpa",
    ],
)
def test_reverse_names_of_private_addresses_are_free(private: str) -> None:
    assert charged(private) == []


def test_names_of_the_clusters_own_zone_are_free() -> None:
    assert charged("web.shop.svc.cluster.local", "10-0-0-7.shop.pod.cluster.local") == []


def test_what_the_search_path_makes_of_a_name_is_the_same_name() -> None:
    assert charged(
        "www.example.org.shop.svc.cluster.local",
        "www.example.org.svc.cluster.local",
        "www.example.org.cluster.local",
        "www.example.org",
    ) == [3]


def test_the_registered_domain_itself_says_nothing() -> None:
    assert charged("example.net") == []


@pytest.mark.parametrize("qtype", ["NULL", "KEY", "TYPE65399"])
def test_types_that_only_tunnels_ask_for_count_double(qtype: str) -> None:
    asked = lookups("a/x", names(20), gap_seconds=0).with_columns(dns_type=pl.lit(qtype))
    assert alarms_after(asked) == 8


def test_each_domain_has_its_own_bucket() -> None:
    two = [name.replace("example", f"example{n % 2}") for n, name in enumerate(names(30))]
    assert alarms_after(lookups("a/x", two, gap_seconds=0)) is None


def test_customers_of_one_provider_are_strangers() -> None:
    many = [f"{'x' * 60}.customer{n}.github.io" for n in range(40)]
    assert alarms_after(lookups("a/x", many, gap_seconds=0)) is None


def test_names_without_a_zone_share_one_bucket() -> None:
    asked = lookups("a/x", [f"{n:060}.{n % 10}xy" for n in range(20)], gap_seconds=0)
    assert evidence(asked)["domain"].unique().to_list() == [NO_ZONE]
    assert alarms_after(asked) == 16  # 64 bytes each, the top level included


def test_a_resolver_that_passes_a_question_on_is_not_charged() -> None:
    told = []
    for n, name in enumerate(names(20)):
        told.append(f"{n}s a/x -> kube-system/coredns:53 QUERY {name}")
        told.append(f"{n}.01s kube-system/coredns -> world:8.8.0.0/16:53 QUERY {name}")
    assert [incident.actor.workload for incident in tunnels(flows(*told))] == ["a/x"]


def test_what_a_resolver_asks_of_its_own_accord_is_charged() -> None:
    told = [
        f"{n}s kube-system/coredns -> world:8.8.0.0/16:53 QUERY {name}"
        for n, name in enumerate(names(20))
    ]
    assert [incident.actor.workload for incident in tunnels(flows(*told))] == [
        "kube-system/coredns"
    ]


def test_90_bytes_every_32_minutes_leak_away_as_fast_as_they_come() -> None:
    two_days = names(2 * 45, size=90, zone="a-long-label-of-a-tunnel-domain.example.net")
    assert tunnels(lookups("a/x", two_days, gap_seconds=32 * 60)) == []


def test_90_bytes_every_ten_minutes_do_not() -> None:
    four_hours = names(24, size=90, zone="a-long-label-of-a-tunnel-domain.example.net")
    (incident,) = tunnels(lookups("a/x", four_hours, gap_seconds=10 * 60))
    # Each time 28 of the 90 bytes have leaked away: 90 + 15 * 61.6 = 1,013 < 1,024.
    assert incident.counts["queries"] == 17


def test_a_site_with_a_few_hosts_can_be_asked_for_all_day() -> None:
    hosts = ["www", "api", "cdn", "img", "static", "login", "assets-eu-west-1", "telemetry"]
    asked = [f"{hosts[n % len(hosts)]}.example.org" for n in range(2_000)]
    assert alarms_after(lookups("a/x", asked, gap_seconds=40)) is None


def test_a_blacklist_name_costs_the_address_and_once_the_list_s_own_name() -> None:
    asked = ["4.3.2.1.zen.spamhaus.org", "5.3.2.1.zen.spamhaus.org", "4.3.2.1.pbl.spamhaus.org"]
    assert charged(*asked) == [4 + 3, 4, 4 + 3]
    assert charged("4.3.2.1.example.net", "20.172.example.net") == [4, 4]


def test_what_follows_an_address_is_free_in_whatever_batch_it_came_first() -> None:
    detectors = Detectors(Baseline.empty())
    first, second = (
        lookups("a/x", [f"{n}.3.2.1.zen.spamhaus.org"]).with_columns(
            (pl.col("time") + timedelta(seconds=n)).dt.cast_time_unit("ns")
        )
        for n in (1, 2)
    )
    assert [observed(detectors, one)["bytes"].to_list() for one in (first, second)] == [[7], [4]]
