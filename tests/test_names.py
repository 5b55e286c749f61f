"""Which registered domain a DNS name serves, and what is carried below it."""

from typing import Final

import polars as pl
import pytest
from publicsuffixlist import PSLFILE, PublicSuffixList

from sidelong.features.names import NO_ZONE, REVERSE_ZONES, name_parts, registered_domains

STAYS_INSIDE: Final = (None, "", True)
NO_DOMAIN: Final = (None, "", False)


def parts(name: str | None) -> tuple[str | None, str | None, bool | None]:
    """Domain, subdomain and whether the name is internal."""
    domain, subdomain, internal = name_parts(pl.Series([name], dtype=pl.String)).row(0)
    return domain, subdomain, internal


def test_a_domain_is_the_label_below_the_public_suffix() -> None:
    assert parts("a.b.example.org") == ("example.org", "a.b", False)
    assert parts("a.b.example.co.uk") == ("example.co.uk", "a.b", False)


def test_a_domain_alone_carries_nothing() -> None:
    assert parts("example.org") == ("example.org", "", False)


def test_customers_of_one_provider_are_strangers() -> None:
    assert parts("x.alice.github.io") == ("alice.github.io", "x", False)
    assert parts("x.bob.github.io") == ("bob.github.io", "x", False)
    assert parts("my.bucket.s3.amazonaws.com") == ("bucket.s3.amazonaws.com", "my", False)


def test_where_every_second_level_is_a_suffix_the_third_is_the_domain() -> None:
    assert parts("secret.evil.com.np") == ("evil.com.np", "secret", False)
    assert parts("secret.www.ck") == ("www.ck", "secret", False)  # its one exception


def test_a_public_suffix_has_no_domain() -> None:
    assert parts("co.uk") == NO_DOMAIN


def test_every_rule_of_the_public_suffix_list_holds() -> None:
    with open(PSLFILE, encoding="utf-8") as file:
        rules = [line.strip() for line in file if line.strip() and not line.startswith("//")]
    suffixes = [rule.lstrip("!*.").encode("idna").decode("ascii") for rule in rules]
    names = [f"{below}.{suffix}" for suffix in suffixes for below in ("x", "x.y", "w.x.y.z")]
    names = [name for name in names if not name.endswith(REVERSE_ZONES)]
    suffix_list = PublicSuffixList()
    expected = [suffix_list.privatesuffix(name) for name in names]
    assert registered_domains(pl.Series(names)).to_list() == expected


@pytest.mark.parametrize(
    "inside",
    ["web.shop.svc.cluster.local", "shop.svc.cluster.local", "10-0-1-7.shop.pod.cluster.local"],
)
def test_names_of_the_cluster_stay_inside(inside: str) -> None:
    assert parts(inside) == STAYS_INSIDE


def test_the_cluster_domain_itself_stays_inside() -> None:
    assert parts("cluster.local") == STAYS_INSIDE


def test_a_name_that_only_ends_like_the_cluster_does_not_stay_inside() -> None:
    assert parts("x.notcluster.local") == ("notcluster.local", "x", False)


@pytest.mark.parametrize("path", ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"])
def test_what_a_search_path_makes_of_an_outside_name_is_nobody_s(path: str) -> None:
    for outside in ("www.example.org", "github.com", "shop.example.de"):
        assert parts(f"{outside}.{path}") == (None, "", False)


def test_a_pod_of_a_headless_service_stays_inside() -> None:
    assert parts("redis-7.redis.shop.svc.cluster.local") == STAYS_INSIDE


def test_a_cluster_may_have_another_domain() -> None:
    names = pl.Series(["web.shop.svc.k8s.lan", "www.example.org.shop.svc.k8s.lan"])
    found = name_parts(names, cluster_domain="k8s.lan").rows()
    assert found == [STAYS_INSIDE, (None, "", False)]


@pytest.mark.parametrize(
    "reverse",
    [
        "7.1.0.10.in-addr.arpa",
        "5.1.168.192.in-addr.arpa",
        "1.1.16.172.in-addr.arpa",
        "1.1.31.172.in-addr.arpa",
        "254.169.254.169.in-addr.arpa",
        "1.0.0.127.in-addr.arpa",
        "8.b.d.0.1.0.0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.3.2.1.f.f.d.f.ip6.arpa",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa",
    ],
)
def test_reverse_names_of_private_networks_have_no_domain(reverse: str) -> None:
    assert parts(reverse) == NO_DOMAIN


@pytest.mark.parametrize(
    ("below", "zone"),
    [
        ("8.8.8.8", "in-addr.arpa"),
        ("1.1.32.172", "in-addr.arpa"),
        ("1.1.15.172", "in-addr.arpa"),
        ("1.1.1.110", "in-addr.arpa"),
        ("1.0.0.0.8.b.d.0.1.0.0.2", "ip6.arpa"),
    ],
)
def test_reverse_names_of_public_networks_belong_to_their_zone(below: str, zone: str) -> None:
    assert parts(f"{below}.{zone}") == (zone, below, False)


@pytest.mark.parametrize("name", ["data.x7f9", "data.chunk.0a1b2c", "10.0.0.8", "a.b_c"])
def test_a_name_under_an_impossible_top_level_has_no_zone_and_carries_all_of_itself(
    name: str,
) -> None:
    assert parts(name) == (NO_ZONE, name, False)


@pytest.mark.parametrize("domain", ["pirate.sea", "db.corp", "host.xn--nonsense"])
def test_a_top_level_that_nobody_registered_may_still_be_a_word(domain: str) -> None:
    assert parts(f"data.{domain}") == (domain, "data", False)


def test_a_single_label_has_no_domain() -> None:
    assert parts("web") == NO_DOMAIN
    assert parts("org") == NO_DOMAIN


def test_no_name_has_no_parts() -> None:
    assert parts(None) == (None, None, None)


def test_no_names_are_no_rows() -> None:
    assert name_parts(pl.Series([], dtype=pl.String)).is_empty()


def test_parts_stand_row_for_row_with_their_names() -> None:
    names = pl.Series(["b.example.org", None, "a.example.org", "b.example.org"])
    assert name_parts(names)["subdomain"].to_list() == ["b", None, "a", "b"]
