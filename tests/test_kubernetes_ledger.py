"""Who holds which address in a cluster, object by object."""

from typing import Any

import msgspec
import polars as pl
import pytest
from cluster_objects import Object, endpoints, node, owned, pod, service, thing

from sidelong.ingest.kubernetes_ledger import KINDS, Ledger
from sidelong.ingest.podmap import PodMap

SECOND = 10**9


class Cluster:
    """A ledger, fed with objects as the API writes them, and a clock that the test sets."""

    def __init__(self, **bounds: Any) -> None:
        self.now = 0
        self.ledger = Ledger(now_ns=lambda: self.now * SECOND, **bounds)

    def put(self, *things: Object, at: int | None = None) -> None:
        self.now = self.now if at is None else at
        for each in things:
            self.ledger.put(msgspec.convert(each, KINDS[each["kind"]]))

    def drop(self, gone: Object, at: int | None = None) -> None:
        self.now = self.now if at is None else at
        self.ledger.drop(msgspec.convert(gone, KINDS[gone["kind"]]))

    def held(self, ip: str, *seconds: float) -> list[str | None]:
        """Who held an address at these seconds."""
        times = [round(second * SECOND) for second in seconds]
        asked = pl.DataFrame({"ip": [ip] * len(times), "time": times}).with_columns(
            pl.col("time").cast(pl.Datetime("ns", "UTC"))
        )
        return PodMap(self.ledger.holders()).holders(asked)["name"].to_list()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


WEB = owned("ReplicaSet", "web-7d9f8c6b5")
CART = owned("ReplicaSet", "cart-5c689d88b")


def test_a_pod_holds_its_address_from_its_start(cluster: Cluster) -> None:
    cluster.put(pod("web-7d9f8c6b5-x2x4z", "10.0.0.1", 100, owner=WEB), at=130)
    assert cluster.held("10.0.0.1", 99, 100, 500) == [None, "shop/web", "shop/web"]


def test_an_address_that_changes_hands_goes_by_the_time_and_not_by_the_news(
    cluster: Cluster,
) -> None:
    old = pod("web-7d9f8c6b5-x2x4z", "10.0.0.1", 100, owner=WEB, finished=200, deleted=230)
    new = pod("cart-5c689d88b-bcdfg", "10.0.0.1", 210, owner=CART)
    cluster.put(new, at=900)
    cluster.drop(old, at=901)
    assert cluster.held("10.0.0.1", 199, 200, 209, 210) == [
        "shop/web", None, None, "shop/cart",
    ]  # fmt: skip


def test_the_next_pod_may_be_started_while_the_last_one_still_had_the_address(
    cluster: Cluster,
) -> None:
    cluster.put(pod("old", "10.0.0.1", 100, finished=200))
    cluster.put(pod("new", "10.0.0.1", 150))
    assert cluster.held("10.0.0.1", 160, 199, 200) == ["shop/old", "shop/old", "shop/new"]


def test_a_deleted_pod_ends_when_its_grace_did_unless_its_containers_ended(
    cluster: Cluster,
) -> None:
    cluster.drop(pod("a", "10.0.0.1", 0, deleted=60), at=50)
    cluster.drop(pod("b", "10.0.0.2", 0, deleted=60, finished=40), at=50)
    assert cluster.held("10.0.0.1", 59, 60) == ["shop/a", None]
    assert cluster.held("10.0.0.2", 39, 40) == ["shop/b", None]


def test_a_pod_deleted_without_notice_ends_when_that_is_heard(cluster: Cluster) -> None:
    cluster.put(pod("a"))
    cluster.drop(pod("a"), at=50)
    assert cluster.held("10.0.0.1", 49, 50) == ["shop/a", None]


def test_what_a_new_list_does_not_have_has_ended(cluster: Cluster) -> None:
    cluster.put(pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), node("n", "192.168.0.1"), at=10)
    cluster.now = 20
    cluster.ledger.keep_only("Pod", {("Pod", "b")})
    assert cluster.held("10.0.0.1", 19, 20) == ["shop/a", None]
    assert cluster.held("10.0.0.2", 20) == ["shop/b"]
    assert cluster.held("192.168.0.1", 20) == ["reserved:host"]


def test_a_pod_that_comes_back_after_it_was_missed_never_ended() -> None:
    cluster = Cluster(keep_ns=100 * SECOND)
    cluster.put(pod("a"))
    cluster.ledger.keep_only("Pod", set())
    cluster.put(pod("a"), at=20)
    cluster.now = 500
    assert cluster.held("10.0.0.1", 10, 499) == ["shop/a", "shop/a"]


def test_a_pod_without_an_address_holds_none_until_it_has_one(cluster: Cluster) -> None:
    cluster.put(pod("a", ""), at=10)
    assert cluster.held("10.0.0.1", 10) == [None]
    cluster.put(pod("a", "10.0.0.1"), at=12)
    assert cluster.held("10.0.0.1", 10) == ["shop/a"]


def test_a_pod_that_is_given_another_address_holds_it_from_then_on(cluster: Cluster) -> None:
    cluster.put(pod("a", "10.0.0.1"))
    cluster.put(pod("a", "10.0.0.2"), at=50)
    cluster.put(pod("a", "10.0.0.2"), at=60)
    assert cluster.held("10.0.0.1", 49, 50) == ["shop/a", None]
    assert cluster.held("10.0.0.2", 49, 50) == [None, "shop/a"]


def test_a_pod_may_be_given_a_second_address_beside_the_first(cluster: Cluster) -> None:
    cluster.put(pod("a", "10.0.0.1", 5))
    both = pod("a", "10.0.0.1", 5)
    both["status"]["podIPs"].append({"ip": "fd00::1"})
    cluster.put(both, at=50)
    assert cluster.held("fd00::1", 10) == cluster.held("10.0.0.1", 10) == ["shop/a"]


def test_a_finished_pod_without_an_address_held_it_until_its_end(cluster: Cluster) -> None:
    cluster.put(pod("a", "10.0.0.1"))
    cluster.put(pod("a", "", finished=40), at=50)
    assert cluster.held("10.0.0.1", 39, 40) == ["shop/a", None]


def test_a_rollout_leaves_the_name_as_it_is(cluster: Cluster) -> None:
    cluster.put(pod("web-7d9f8c6b5-x2x4z", "10.0.0.1", 0, owner=WEB))
    new = owned("ReplicaSet", "web-66b5c8d7f9")
    cluster.put(pod("web-66b5c8d7f9-q4k8n", "10.0.0.2", 50, owner=new), at=50)
    cluster.drop(pod("web-7d9f8c6b5-x2x4z", "10.0.0.1", 0, owner=WEB, deleted=60), at=60)
    assert cluster.held("10.0.0.1", 10) == cluster.held("10.0.0.2", 70) == ["shop/web"]


def test_a_pod_of_a_cron_job_is_the_cron_jobs(cluster: Cluster) -> None:
    job = owned("Job", "report-manual-x2x4z")
    cluster.put(pod("report-manual-x2x4z-bcdfg", owner=job))
    assert cluster.held("10.0.0.1", 1) == ["shop/report-manual-x2x4z"]
    cluster.put(thing("Job", "report-manual-x2x4z", owned("CronJob", "report")))
    assert cluster.held("10.0.0.1", 1) == ["shop/report"]


def test_a_job_that_nobody_controls_goes_without_the_date_at_its_end(cluster: Cluster) -> None:
    cluster.put(thing("Job", "import-20261124"))
    cluster.put(pod("import-20261124-bcdfg", owner=owned("Job", "import-20261124")))
    assert cluster.held("10.0.0.1", 1) == ["shop/import"]


def test_a_replica_set_of_no_deployment_is_a_workload(cluster: Cluster) -> None:
    cluster.put(thing("ReplicaSet", "web-7d9f8c6b5"))
    cluster.put(pod("web-7d9f8c6b5-x2x4z", owner=WEB))
    assert cluster.held("10.0.0.1", 1) == ["shop/web-7d9f8c6b5"]


def test_a_replica_set_may_belong_to_what_is_no_deployment(cluster: Cluster) -> None:
    cluster.put(thing("ReplicaSet", "web-7d9f8c6b5", owned("Rollout", "front")))
    cluster.put(pod("web-7d9f8c6b5-x2x4z", owner=WEB))
    assert cluster.held("10.0.0.1", 1) == ["shop/front"]


def test_the_controller_is_the_owner_that_says_so(cluster: Cluster) -> None:
    other = {"kind": "Database", "name": "db", "uid": "d"}
    real = {"kind": "StatefulSet", "name": "orders", "uid": "s", "controller": True}
    cluster.put(pod("orders-0", owner={"ownerReferences": [other, real]}))
    assert cluster.held("10.0.0.1", 1) == ["shop/orders"]


def test_a_pod_on_the_hosts_network_has_the_address_of_the_host(cluster: Cluster) -> None:
    proxy = pod("proxy", "192.168.0.1", 100, host=True)
    cluster.put(proxy)
    assert cluster.held("192.168.0.1", 1, 200) == ["reserved:host", "reserved:host"]
    cluster.drop(proxy, at=300)
    assert cluster.held("192.168.0.1", 400) == ["reserved:host"]


def test_a_nodes_address_inside_is_a_host_and_the_one_outside_is_not(cluster: Cluster) -> None:
    cluster.put(node("n", "192.168.0.1"))
    assert cluster.held("192.168.0.1", 1) == ["reserved:host"]
    assert cluster.held("203.0.113.1", 1) == [None]


def test_the_api_server_is_told_by_its_service_even_on_a_nodes_address(cluster: Cluster) -> None:
    cluster.put(
        endpoints("kubernetes", elsewhere="192.168.0.1", namespace="default"),
        service("kubernetes", "10.96.0.1", "default"),
        node("n", "192.168.0.1"),
    )
    assert cluster.held("192.168.0.1", 1) == ["reserved:kube-apiserver"]
    assert cluster.held("10.96.0.1", 1) == ["reserved:kube-apiserver"]


def test_a_cluster_ip_goes_by_the_one_workload_behind_it(cluster: Cluster) -> None:
    cluster.put(service("front", "10.96.0.7"), endpoints("front", "w1", "w2"))
    cluster.put(pod("w1", owner=WEB), pod("w2", "10.0.0.2", owner=WEB), at=10)
    assert cluster.held("10.96.0.7", 1) == ["shop/web"]


@pytest.mark.parametrize(
    "parts",
    [
        [endpoints("front", "w1", "c1")],
        [endpoints("front", "w1", elsewhere="203.0.113.9")],
        [endpoints("front", elsewhere="203.0.113.9")],
        [],
    ],
)
def test_a_cluster_ip_with_more_or_nothing_behind_it_goes_by_the_service(
    cluster: Cluster, parts: list[Object]
) -> None:
    cluster.put(pod("w1", owner=WEB), pod("c1", "10.0.0.2", owner=CART))
    cluster.put(service("front", "10.96.0.7"), *parts)
    assert cluster.held("10.96.0.7", 1) == ["shop/front"]


def test_a_service_does_not_take_the_name_of_a_pod_in_another_namespace(cluster: Cluster) -> None:
    cluster.put(pod("w1", owner=WEB), service("lure", "10.96.0.7", "evil"))
    cluster.put(endpoints("lure", "w1", namespace="evil"))
    assert cluster.held("10.96.0.7", 1) == ["evil/lure"]


def test_a_service_that_loses_its_last_pod_keeps_its_name(cluster: Cluster) -> None:
    cluster.put(service("front", "10.96.0.7"), endpoints("front", "w1"), pod("w1", owner=WEB))
    assert cluster.held("10.96.0.7", 1) == ["shop/web"]
    cluster.put(endpoints("front"), at=50)
    assert cluster.held("10.96.0.7", 60) == ["shop/web"]


def test_a_service_that_moves_to_another_workload_changes_its_name_at_that_time(
    cluster: Cluster,
) -> None:
    cluster.put(service("front", "10.96.0.7"), endpoints("front", "w1"), pod("w1", owner=WEB))
    assert cluster.held("10.96.0.7", 1) == ["shop/web"]
    cluster.put(pod("c1", "10.0.0.2", owner=CART), endpoints("front", "c1", changed=40), at=50)
    assert cluster.held("10.96.0.7", 39, 40) == ["shop/web", "shop/cart"]


def test_a_service_waits_for_a_pod_that_is_not_known_yet(cluster: Cluster) -> None:
    cluster.put(service("front", "10.96.0.7"), endpoints("front", "w1", "c1"))
    cluster.put(pod("w1", owner=WEB))
    assert cluster.held("10.96.0.7", 1) == ["shop/front"]
    cluster.put(pod("c1", "10.0.0.2", owner=WEB))
    assert cluster.held("10.96.0.7", 1) == ["shop/web"]


def test_a_headless_service_holds_no_address(cluster: Cluster) -> None:
    cluster.put(service("front", "None"))
    assert cluster.ledger.holders().is_empty()


def test_the_address_of_a_deleted_service_may_go_to_another(cluster: Cluster) -> None:
    cluster.put(service("front", "10.96.0.7"))
    cluster.drop(service("front", "10.96.0.7"), at=50)
    later = service("back", "10.96.0.7")
    later["metadata"]["creationTimestamp"] = "1970-01-01T00:01:00Z"
    cluster.put(later, at=60)
    assert cluster.held("10.96.0.7", 49, 55, 60) == ["shop/front", None, "shop/back"]


def test_who_ended_is_remembered_for_the_set_time() -> None:
    cluster = Cluster(keep_ns=100 * SECOND)
    cluster.put(pod("a"))
    cluster.drop(pod("a"), at=50)
    cluster.now = 149
    assert cluster.held("10.0.0.1", 49) == ["shop/a"]
    cluster.now = 150
    assert cluster.held("10.0.0.1", 49) == [None]
    assert cluster.ledger.counters() == {"objects": 0, "ended": 0, "evicted": 0, "left_out": 0}


def test_of_those_who_ended_only_so_many_are_remembered_and_the_rest_is_counted() -> None:
    cluster = Cluster(ended=2)
    for n in range(5):
        cluster.put(pod(f"p{n}", f"10.0.0.{n}"))
        cluster.drop(pod(f"p{n}", f"10.0.0.{n}"), at=10 + n)
    assert [cluster.held(f"10.0.0.{n}", 5) for n in range(5)] == [
        [None], [None], [None], ["shop/p3"], ["shop/p4"],
    ]  # fmt: skip
    assert cluster.ledger.counters() == {"objects": 0, "ended": 2, "evicted": 3, "left_out": 0}


def test_beyond_the_bound_objects_are_left_out_and_counted() -> None:
    cluster = Cluster(objects=2)
    cluster.put(*(pod(f"p{n}", f"10.0.0.{n}") for n in range(5)))
    assert len(cluster.ledger.holders()) == 2
    assert cluster.ledger.left_out == 3


def test_nothing_new_gives_the_same_frame(cluster: Cluster) -> None:
    cluster.put(pod("a"), service("front", "10.96.0.7"), endpoints("front", "a"))
    before = cluster.ledger.holders()
    cluster.put(pod("a"), service("front", "10.96.0.7"), endpoints("front", "a"), at=30)
    assert cluster.ledger.holders() is before


def test_a_pod_is_known_by_name_as_its_newest_holder(cluster: Cluster) -> None:
    cluster.put(pod("debug", uid="1", owner=owned("StatefulSet", "old")))
    cluster.drop(pod("debug", uid="1", owner=owned("StatefulSet", "old"), deleted=9), at=9)
    cluster.put(pod("debug", "10.0.0.2", 10, uid="2"), at=10)
    names = PodMap(cluster.ledger.holders()).names(pl.Series(["shop/debug"]))
    assert names.to_list() == ["shop/debug"]


def test_without_a_clock_time_is_what_the_objects_mention() -> None:
    ledger = Ledger()
    gone, other = pod("a", "10.0.0.1", 10), pod("b", "10.0.0.2", 40)
    ledger.put(msgspec.convert(other, KINDS["Pod"]))
    ledger.drop(msgspec.convert(gone, KINDS["Pod"]))
    until = ledger.holders().filter(ip="10.0.0.1")["until"].item()
    assert until.timestamp() == 40
