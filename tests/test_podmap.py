"""Pod maps: who held an address when."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cluster_objects import endpoints, node, service
from cluster_objects import owned as cluster_owned
from cluster_objects import pod as cluster_pod

from sidelong.errors import ConfigError
from sidelong.ingest.podmap import PodMap
from sidelong.ingest.podmap_files import read_accounts
from sidelong.ingest.workloads import strip_pod_hash


def read(tmp_path: Path, document: object) -> PodMap:
    path = tmp_path / "pods.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return PodMap.read(path)


def held(pods: PodMap, ip: str, second: int = 0) -> str | None:
    asked = pl.DataFrame({"ip": [ip], "time": [second * 10**9]})
    times = asked.with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC")))
    name: str | None = pods.holders(times)["name"].item()
    return name


def pod(name: str, ip: str | None = "10.0.0.1", **more: Any) -> dict[str, Any]:
    """A Pod as the Kubernetes API writes it; `more` goes into metadata, spec or status."""
    metadata, spec, status = (more.get(k, {}) for k in ("metadata", "spec", "status"))
    addresses = {"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {}
    return {
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, **metadata},
        "spec": {"nodeName": "node-1", **spec},
        "status": {"phase": "Running", **addresses, **status},
    }


def owned(kind: str, name: str, **labels: str) -> dict[str, Any]:
    return {"ownerReferences": [{"kind": kind, "name": name}], "labels": labels}


def workload(tmp_path: Path, item: dict[str, Any]) -> str | None:
    pods = read(tmp_path, {"kind": "List", "items": [item]})
    found: str | None = pods.frame["workload"].item()
    return found


def test_the_map_of_the_lab_names_its_pods(data: Path) -> None:
    pods = PodMap.read(data / "cluster-lab" / "pods.json")
    assert held(pods, "10.244.1.22") == "shop/api"
    assert held(pods, "10.244.1.222") is None


def test_an_entry_outside_the_cluster_is_named_by_its_domain_alone(tmp_path: Path) -> None:
    pods = read(
        tmp_path,
        {
            "cdn": {"ip": "203.0.113.10", "namespace": "", "workload": "world"},
            "bank": {"ip": "203.0.113.11", "workload": "world", "domain": "Bank.example."},
        },
    )
    assert held(pods, "203.0.113.10") is None
    assert held(pods, "203.0.113.11") == "bank.example"


def test_a_reused_address_belongs_to_who_held_it_then(tmp_path: Path) -> None:
    pods = read(
        tmp_path,
        {
            "old": {"ip": "10.0.0.1", "namespace": "a", "workload": "old", "until": 100},
            "new": {
                "ip": "10.0.0.1",
                "namespace": "a",
                "workload": "new",
                "from": "1970-01-01T00:02:00Z",
                "until": "9999-12-31T00:00:00Z",
            },
        },
    )
    assert [held(pods, "10.0.0.1", s) for s in (99, 100, 119, 120)] == [
        "a/old", None, None, "a/new",
    ]  # fmt: skip


def test_rows_are_answered_in_the_order_asked(tmp_path: Path) -> None:
    entries = {
        f"p{n}": {"ip": f"10.0.0.{n}", "namespace": "a", "workload": f"w{n}"} for n in (1, 2)
    }
    asked = pl.DataFrame(
        {"ip": ["10.0.0.2", None, "10.0.0.1", "10.0.0.2"], "time": [9, 8, 7, 1]}
    ).with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC")))
    found = read(tmp_path, entries).holders(asked)
    assert found["name"].to_list() == ["a/w2", None, "a/w1", "a/w2"]
    assert found["pod"].to_list() == ["a/p2", None, "a/p1", "a/p2"]


def test_all_addresses_of_a_dual_stack_pod_are_its_own(tmp_path: Path) -> None:
    ips = ["10.0.0.1", "FD00:0::1"]
    pods = read(tmp_path, {"p": {"ips": ips, "namespace": "a", "workload": "w"}})
    assert pods.frame["ip"].to_list() == ["10.0.0.1", "fd00::1"]


def test_two_holders_of_one_address_at_one_time_are_refused(tmp_path: Path) -> None:
    entry = {"ip": "10.0.0.1", "namespace": "a", "workload": "w"}
    with pytest.raises(ConfigError, match=r"p and q both hold 10\.0\.0\.1"):
        read(tmp_path, {"p": entry, "q": entry})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("nothing", "is not JSON"),
        ({"\ud800": {"ip": "::1", "namespace": "a", "workload": "w"}}, "holds no text"),
        ({"kind": "Pod", "metadata": {"name": "\ud800"}, "status": {"podIP": "::1"}}, "no text"),
        ([], r"the document is \[\], not an object"),
        ({"p": "10.0.0.1"}, "p is \"10.0.0.1\", not an object"),
        ({"p": {"namespace": "a", "workload": "w"}}, "p.ip is null, not an IP address"),
        ({"p": {"ip": "10.0.0", "namespace": "a", "workload": "w"}}, "p.ip is \"10.0.0\""),
        ({"p": {"ip": 7, "namespace": "a", "workload": "w"}}, "p.ip is 7, not a string"),
        ({"p": {"ips": "::1", "namespace": "a", "workload": "w"}}, "p.ips is .* not a list"),
        ({"p": {"ip": "::1", "namespace": "a"}}, "p.workload is null"),
        ({"p": {"ip": "::1", "namespace": "a", "workload": "w", "from": "noon"}}, "p.from is"),
        ({"p": {"ip": "::1", "namespace": "a", "workload": "w", "from": True}}, "p.from is"),
        (
            {"p": {"ip": "::1", "namespace": "a", "workload": "w", "from": 9, "until": 9}},
            "p.until is 9, not after p.from",
        ),
        ({"kind": "List", "items": {}}, "items is {}, not a list"),
        ({"kind": "List", "items": [{"metadata": 1}]}, r"items\[0\].metadata: Expected `object`"),
    ],
)  # fmt: skip
def test_a_wrong_map_is_refused_by_file_and_key(
    tmp_path: Path, document: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, document)
    assert "pods.json" in caught.value.problem


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        PodMap.read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("name", "metadata", "expected"),
    [
        ("cart-7d9f8c6b5-x2x4z", owned("ReplicaSet", "cart-7d9f8c6b5"), "cart"),
        ("c-z-x2x4z", owned("ReplicaSet", "c-z", **{"pod-template-hash": "z"}), "c"),
        ("db-0", owned("StatefulSet", "db"), "db"),
        ("cilium-x7k2d", owned("DaemonSet", "cilium"), "cilium"),
        ("backup-28912345-bcdfg", owned("Job", "backup-28912345"), "backup"),
        ("etcd-node-1", owned("Node", "node-1"), "etcd"),
        ("debug", {}, "debug"),
    ],
)
def test_the_workload_of_a_pod_is_its_owner(
    tmp_path: Path, name: str, metadata: dict[str, Any], expected: str
) -> None:
    assert workload(tmp_path, pod(name, metadata=metadata)) == expected


def test_a_pod_on_the_hosts_network_does_not_own_the_address(tmp_path: Path) -> None:
    items = [pod(name, "192.168.1.5", spec={"hostNetwork": True}) for name in ("proxy", "cilium")]
    pods = read(tmp_path, {"kind": "List", "items": items})
    assert pods.frame.select("name", "pod").rows() == [("reserved:host", None)]


def test_a_pod_without_an_address_holds_none(tmp_path: Path) -> None:
    assert read(tmp_path, {"kind": "List", "items": [pod("pending", None)]}).frame.is_empty()


def test_a_finished_pod_gave_its_address_to_the_next(tmp_path: Path) -> None:
    stopped = {"state": {"terminated": {"finishedAt": "1970-01-01T00:01:00Z"}}}
    done = {
        "phase": "Succeeded",
        "startTime": "1970-01-01T00:00:10Z",
        "containerStatuses": [stopped],
    }
    later = {"startTime": "1970-01-01T00:01:30Z"}
    items = [pod("next", status=later), pod("done", status=done)]
    pods = read(tmp_path, {"kind": "List", "items": items})
    assert [held(pods, "10.0.0.1", s) for s in (9, 10, 59, 60, 89, 90)] == [
        None, "shop/done", "shop/done", None, None, "shop/next",
    ]  # fmt: skip


def test_a_pod_is_also_known_by_its_name(tmp_path: Path) -> None:
    pods = read(tmp_path, pod("db-0", metadata=owned("StatefulSet", "db")))
    assert pods.names(pl.Series(["shop/db-0", None, "shop/x"])).to_list() == ["shop/db", None, None]


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        ("shop/cart-7d9f8c6b5-x2x4z", "shop/cart"),
        ("coredns-5dd5756b68-7xk2p", "coredns"),
        ("kube-system/cilium-x7k2d", "kube-system/cilium"),
        ("ops/backup-28912345-bcdfg", "ops/backup"),
        ("shop/db-0", "shop/db"),
        ("shop/app-v2-11", "shop/app-v2"),
        ("shop/web-front", "shop/web-front"),
        ("shop/redis", "shop/redis"),
        ("7d9f8c6b5-x2x4z", "7d9f8c6b5"),
        (None, None),
    ],
)
def test_what_a_controller_appended_to_a_name_is_stripped(name: str, stripped: str) -> None:
    assert pl.select(strip_pod_hash(pl.lit(name, pl.String))).item() == stripped


def test_a_list_of_kubectl_may_hold_several_kinds(tmp_path: Path) -> None:
    items = [
        endpoints("front", "web-0"),
        service("front", "10.96.0.7"),
        cluster_pod("web-0", "10.0.0.1", owner=cluster_owned("StatefulSet", "web")),
        node("node-1", "192.168.0.1"),
        {"kind": "ConfigMap", "metadata": {"name": "settings"}},
    ]
    pods = read(tmp_path, {"kind": "List", "items": items})
    assert [held(pods, ip) for ip in ("10.0.0.1", "10.96.0.7", "192.168.0.1")] == [
        "shop/web", "shop/web", "reserved:host",
    ]  # fmt: skip


def recorded(*events: tuple[str, dict[str, Any]]) -> str:
    """What kubectl prints of a watch: one indented document after the other."""
    texts = [json.dumps({"type": kind, "object": thing}, indent=4) for kind, thing in events]
    return "\n".join(texts) + "\n"


def test_a_recorded_watch_tells_who_held_an_address_when(tmp_path: Path) -> None:
    old = cluster_pod("old", "10.0.0.1", 10)
    text = recorded(
        ("ADDED", old),
        ("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "7"}}),
        ("DELETED", cluster_pod("old", "10.0.0.1", 10, deleted=50)),
        ("ADDED", cluster_pod("new", "", 60)),
        ("MODIFIED", cluster_pod("new", "10.0.0.1", 60)),
    )
    pods = read(tmp_path, text)
    assert [held(pods, "10.0.0.1", s) for s in (9, 10, 49, 50, 59, 60)] == [
        None, "shop/old", "shop/old", None, None, "shop/new",
    ]  # fmt: skip


def test_a_watch_may_be_recorded_as_objects_alone(tmp_path: Path) -> None:
    texts = (json.dumps(cluster_pod(f"p{n}", f"10.0.0.{n}")) for n in (1, 2))
    pods = read(tmp_path, "\n".join(texts))
    assert [held(pods, ip) for ip in ("10.0.0.1", "10.0.0.2")] == ["shop/p1", "shop/p2"]


def test_a_recording_that_was_cut_off_is_read_to_its_last_whole_event(tmp_path: Path) -> None:
    text = recorded(("ADDED", cluster_pod("a", "10.0.0.1")), ("ADDED", cluster_pod("b")))
    assert held(read(tmp_path, text[:-40]), "10.0.0.1") == "shop/a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (recorded(("ADDED", cluster_pod("a"))) + "{]\n{}\n", "is not JSON"),
        (recorded(("ADDED", cluster_pod("a"))) + "[1]", "document 2 is .*not an object"),
        (recorded(("ADDED", cluster_pod("a")), ("GONE", {})), "document 2.type is \"GONE\""),
        (recorded(("ADDED", cluster_pod("a", "nowhere"))), "object: 'nowhere' does not appear"),
        (
            recorded(("ADDED", {"kind": "Pod", "status": {"podIP": 7}})),
            r"object\.status\.podIP: Expected `str",
        ),
    ],
)  # fmt: skip
def test_a_wrong_recording_is_refused_by_document_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def accounts(tmp_path: Path, *items: dict[str, Any]) -> dict[str, str]:
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"kind": "PodList", "items": list(items)}))
    return dict(read_accounts(path).iter_rows())


def test_a_workload_bears_the_service_account_of_its_pods(tmp_path: Path) -> None:
    web = owned("ReplicaSet", "web-7d9f8c6b5", **{"pod-template-hash": "7d9f8c6b5"})
    pods = [
        pod(f"web-7d9f8c6b5-{n}", metadata=web, spec={"serviceAccountName": "front"})
        for n in ("x2x4z", "q7w4z")
    ]
    assert accounts(tmp_path, *pods, pod("bare")) == {"shop/web": "front"}


def test_of_a_workload_whose_account_is_being_changed_nothing_is_said(tmp_path: Path) -> None:
    pods = [pod(f"db-{n}", spec={"serviceAccountName": f"db{n}"}) for n in (0, 1)]
    assert accounts(tmp_path, *(p | {"metadata": {**p["metadata"], **DB}} for p in pods)) == {}


DB = owned("StatefulSet", "db")


def test_a_pod_map_of_our_own_form_says_nothing_of_accounts(data: Path) -> None:
    assert read_accounts(data / "cluster-lab" / "pods.json").is_empty()
