"""Who is who."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sidelong.ingest.addresses import external_network, has_one_owner
from sidelong.ingest.clock import Clock
from sidelong.ingest.identity import Identities, registered_domain
from sidelong.ingest.inputs import open_inputs
from sidelong.ingest.merge import merged
from sidelong.ingest.podmap import PodMap
from sidelong.ingest.schema import conform

POD = "shop/cart-7d9f8c6b5-x2x4z"
HOUR = 3600


def attach(*rows: dict[str, Any], pods: PodMap | None = None) -> pl.DataFrame:
    """The rows named, one second apart unless they say `s`."""
    columns = {name: None for r in rows for name in r if name != "s"}
    frame = pl.DataFrame([{c: r.get(c) for c in columns} for r in rows], infer_schema_length=None)
    seconds = pl.Series([r.get("s", n) for n, r in enumerate(rows)], dtype=pl.Int64) * 10**9
    return named(conform(frame.with_columns(time=seconds)), pods)


def named(flows: pl.DataFrame, pods: PodMap | None = None) -> pl.DataFrame:
    identities, found = Identities(pods), []
    for piece, tick in Clock().cut(flows):
        if tick is not None:
            identities.tidy(tick)
        found.append(identities.attach(piece))
    return pl.concat(found)


def src(*rows: dict[str, Any], pods: PodMap | None = None) -> list[str | None]:
    return attach(*rows, pods=pods)["src"].to_list()


@pytest.fixture
def pods(tmp_path: Path) -> PodMap:
    path = tmp_path / "pods.json"
    path.write_text(
        '{"cart-1": {"ip": "10.0.0.1", "namespace": "shop", "workload": "cart", "from": 100},'
        ' "bank": {"ip": "203.0.113.9", "workload": "world", "domain": "bank.example"}}'
    )
    return PodMap.read(path)


def test_what_the_source_said_comes_first(pods: PodMap) -> None:
    row = {
        "s": 200,
        "src": "shop/web",
        "src_ip": "10.0.0.1",
        "src_principal": "spiffe://t/ns/a/sa/b",
    }
    assert src(row, pods=pods) == ["shop/web"]


def test_a_spiffe_id_comes_before_the_pod_map(pods: PodMap) -> None:
    row = {"s": 200, "src_ip": "10.0.0.1", "src_principal": "spiffe://td/ns/shop/sa/cart-account"}
    assert src(row, pods=pods) == ["shop/cart-account"]


def test_another_form_of_spiffe_id_names_nobody() -> None:
    assert src({"src_ip": "10.0.0.1", "src_principal": "spiffe://td/vm/7"}) == ["ip:10.0.0.1"]


def test_the_pod_map_names_by_address_at_the_flows_time(pods: PodMap) -> None:
    rows = [{"s": s, "src_ip": "10.0.0.1"} for s in (99, 100)]
    found = attach(*rows, pods=pods)
    assert found["src"].to_list() == ["ip:10.0.0.1", "shop/cart"]
    assert found["src_pod"].to_list() == [None, "shop/cart-1"]


def test_the_pod_map_names_by_pod_before_address(pods: PodMap) -> None:
    assert src({"src_ip": "10.9.9.9", "src_pod": "shop/cart-1"}, pods=pods) == ["shop/cart"]


def test_the_pod_map_names_an_outside_address_by_its_domain(pods: PodMap) -> None:
    assert src({"src_ip": "203.0.113.9"}, pods=pods) == ["bank.example"]


def test_a_map_that_changes_is_asked_for_once_per_piece(pods: PodMap) -> None:
    class Watch:
        asked = 0

        def current(self) -> PodMap:
            self.asked += 1
            return pods if self.asked > 1 else PodMap(pods.frame.clear())

    watch = Watch()
    row = {"s": 200, "src_ip": "10.0.0.1"}
    identities, clock = Identities(watch), Clock()
    flows = conform(
        pl.DataFrame([row, row]).with_columns(time=pl.col("s") * 10**9).select("src_ip", "time")
    )
    found = [identities.attach(piece) for _ in range(2) for piece, _ in clock.cut(flows)]
    assert [frame["src"].to_list() for frame in found] == [["ip:10.0.0.1"] * 2, ["shop/cart"] * 2]


def test_a_pod_named_once_is_known_from_then_on() -> None:
    named, bare = {"src": "shop/till", "src_pod": POD}, {"src_pod": POD}
    assert src(bare, named, bare) == ["shop/cart", "shop/till", "shop/till"]


def test_one_side_teaches_the_other() -> None:
    assert src({"dst": "shop/till", "dst_pod": POD}, {"src_pod": POD})[1] == "shop/till"


def test_a_pods_name_without_its_hash_names_it() -> None:
    assert src({"src_pod": POD, "src_ip": "10.0.0.1"}) == ["shop/cart"]


def test_an_address_named_once_is_known_for_an_hour() -> None:
    named, bare = {"s": 0, "src": "shop/web", "src_ip": "10.0.0.1"}, {"src_ip": "10.0.0.1"}
    rows = named, {"s": HOUR, **bare}, {"s": HOUR + 1, **bare}
    assert src(*rows) == ["shop/web", "shop/web", "ip:10.0.0.1"]


def test_an_address_belongs_to_its_newest_holder() -> None:
    rows = (
        {"src": "shop/web", "src_ip": "10.0.0.1"},
        {"src_pod": POD, "src_ip": "10.0.0.1"},
        {"src_ip": "10.0.0.1"},
    )
    assert src(*rows) == ["shop/web", "shop/cart", "shop/cart"]


def test_nothing_is_learnt_of_a_loopback_address() -> None:
    rows = {"src": "shop/web", "src_ip": "127.0.0.1"}, {"src_ip": "127.0.0.1"}
    assert src(*rows)[1] == "ip:127.0.0.1"


def test_a_name_that_only_repeats_an_address_is_not_learnt_for_its_pod() -> None:
    rows = {"src": "ip:10.0.0.1", "src_pod": POD}, {"src_pod": POD}
    assert src(*rows)[1] == "shop/cart"


def test_reserved_world_says_less_than_the_address() -> None:
    assert src({"src": "reserved:world", "src_ip": "8.8.8.8"}) == ["world:8.8.0.0/16"]


def test_reserved_world_stays_where_there_is_no_address() -> None:
    assert src({"src": "reserved:world"}) == ["reserved:world"]


def answer(name: str, *addresses: str, to: str = "10.0.0.1") -> dict[str, Any]:
    """The resolver tells a client which addresses a name has."""
    row = {"src_ip": "10.0.0.53", "dst_ip": to, "reply": True}
    return {**row, "dns_name": name, "dns_answers": list(addresses)}


def call(address: str, client: str = "10.0.0.1") -> dict[str, Any]:
    return {"src_ip": client, "dst_ip": address}


def peers(*rows: dict[str, Any]) -> list[str | None]:
    """The names of those that were called."""
    found = attach(*rows).filter(pl.col("dns_name").is_null())
    return found["dst"].to_list()


def test_an_outside_address_takes_the_domain_that_a_dns_answer_gave() -> None:
    told = answer("api.eu.pay.co.uk", "8.8.4.4", "8.8.8.8")
    assert peers(call("8.8.8.8"), told, call("8.8.8.8")) == ["world:8.8.0.0/16", "pay.co.uk"]


def test_both_directions_of_a_connection_have_the_domain() -> None:
    back = {"src_ip": "2001:db8::9", "dst_ip": "10.0.0.1"}
    rows = answer("pay.co.uk", "2001:db8::9"), call("2001:db8::9"), back
    found = attach(*rows)
    assert (found["dst"][1], found["src"][2]) == ("pay.co.uk", "pay.co.uk")


def test_of_several_domains_at_an_address_the_last_one_told_counts() -> None:
    rows = answer("a.example.com", "8.8.8.8"), answer("b.example.org", "8.8.8.8"), call("8.8.8.8")
    assert peers(*rows) == ["example.org"]


def test_what_a_client_was_told_comes_before_what_others_were_told() -> None:
    rows = (
        answer("a.example.com", "8.8.8.8"),
        answer("b.example.org", "8.8.8.8", to="10.0.0.2"),
        call("8.8.8.8"),
        call("8.8.8.8", client="10.0.0.2"),
        call("8.8.8.8", client="10.0.0.3"),
    )
    assert peers(*rows) == ["example.com", "example.org", "example.org"]


def test_an_answer_holds_for_a_day() -> None:
    day = 24 * HOUR
    told = {"s": 0, **answer("pay.co.uk", "8.8.8.8")}
    rows = told, {"s": day, **call("8.8.8.8")}, {"s": day + 1, **call("8.8.8.8")}
    assert peers(*rows) == ["pay.co.uk", "world:8.8.0.0/16"]


def test_an_answer_does_not_rename_an_inside_address() -> None:
    assert peers(answer("db.example.com", "10.0.0.7"), call("10.0.0.7")) == ["ip:10.0.0.7"]


@pytest.mark.parametrize("name", ["shop/cart", "ip:10.0.0.1", "localhost", "", "a\\032b.com"])
def test_no_answer_can_make_an_address_look_like_anything_but_a_domain(name: str) -> None:
    assert peers(answer(name, "8.8.8.8"), call("8.8.8.8")) == ["world:8.8.0.0/16"]


def test_a_service_that_leads_outside_keeps_its_whole_name() -> None:
    service = "bank.shop.svc.cluster.local"
    assert peers(answer(service, "8.8.8.8"), call("8.8.8.8")) == [service]


def capture(path: Path) -> pl.DataFrame:
    """The flows of a capture with their ends named, without any pod map."""
    return named(pl.concat([batch.flows for batch in merged(open_inputs([str(path)]))]))


def test_in_a_recorded_capture_the_servers_of_a_pool_are_one_domain(data: Path) -> None:
    found = capture(data / "slips" / "test7-malicious.pcap").filter(pl.col("dst_port") == 123)
    outside = found.filter(external_network(found["dst_ip"]).is_not_null())
    assert outside["dst_ip"].n_unique() == 4
    assert outside["dst"].unique().to_list() == ["ntp.org"]


@pytest.mark.parametrize("part", ["train", "test"])
def test_in_the_shops_packets_whoever_was_looked_up_is_a_domain(data: Path, part: str) -> None:
    found = capture(data / "cluster-lab" / f"{part}.pcap")
    called = found.filter(pl.col("dst_ip") == "203.0.113.10")
    assert called["dst"].unique().to_list() == ["example.org"]


def test_without_address_pod_and_principal_there_is_no_name() -> None:
    assert src({"lost": 3}) == [None]


def test_the_given_pod_is_kept() -> None:
    assert attach({"src_pod": POD})["src_pod"].to_list() == [POD]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("8.8.4.4", "8.8.0.0/16"),
        ("192.0.2.1", "192.0.0.0/16"),
        ("198.51.100.7", "198.51.0.0/16"),
        ("203.0.113.7", "203.0.0.0/16"),
        ("198.18.0.1", "198.18.0.0/16"),
        ("172.32.0.1", "172.32.0.0/16"),
        ("100.128.0.1", "100.128.0.0/16"),
        ("::ffff:8.8.4.4", "8.8.0.0/16"),
        ("2001:db8::1", "2001:db8::/32"),
        ("2606:4700:4700::1111", "2606:4700::/32"),
        ("2001::1", "2001::/32"),
        *((inside, None) for inside in ("0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1")),
        *((inside, None) for inside in ("169.254.1.1", "172.16.0.1", "172.31.9.9", "192.168.1.1")),
        *((inside, None) for inside in ("192.0.0.8", "224.0.0.251", "240.0.0.1")),
        *((inside, None) for inside in ("255.255.255.255", "::ffff:10.0.0.1", "::1", "::")),
        *(
            (inside, None)
            for inside in ("fd00::1", "fe80::1", "ff02::1", "nonsense", "999.1.1.1", None)
        ),
    ],
)
def test_outside_is_what_is_routed_globally_or_documents_it(
    address: str | None, network: str | None
) -> None:
    assert external_network(pl.Series([address], dtype=pl.String)).item() == network


@pytest.mark.parametrize(
    ("address", "owned"),
    [
        ("10.0.0.1", True),
        ("8.8.8.8", True),
        ("fd00::1", True),
        ("127.0.0.6", False),
        ("169.254.169.254", False),
        ("239.1.1.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
    ],
)
def test_every_pod_has_its_own_loopback(address: str, owned: bool) -> None:
    assert pl.select(has_one_owner(pl.lit(address))).item() is owned


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("a.b.example.com", "example.com"),
        ("me.github.io", "me.github.io"),
        ("com", "com"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_the_registered_domain_follows_the_public_suffix_list(name: str, domain: str) -> None:
    assert registered_domain(name) == domain


def test_a_table_that_overflows_says_how_much_it_forgot() -> None:
    rows = 200_003
    names = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(rows)]
    frame = conform(
        pl.DataFrame({"src_ip": names, "src": "shop/web"}).with_columns(time=pl.lit(10**9))
    )
    identities = Identities()
    for piece, _ in Clock().cut(frame):
        identities.attach(piece)
    identities.tidy(10 * 10**9)
    assert identities.evicted == 3
