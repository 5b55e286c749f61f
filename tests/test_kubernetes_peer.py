"""The watch against a real kube-apiserver: its lists, watches, permissions, and its restart."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from peers.kubernetes_peer import ADVERTISED, Kubernetes

from sidelong.errors import SourceError
from sidelong.ingest.kubernetes_api import ApiServer
from sidelong.ingest.kubernetes_login import KubernetesSettings
from sidelong.ingest.kubernetes_watch import KubernetesWatch, watch_kubernetes
from sidelong.ingest.podmap import PodMap

PAGE = Path(__file__).resolve().parent.parent / "docs" / "kubernetes.md"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PODS = "/api/v1/namespaces/shop/pods"


@pytest.fixture(scope="module")
def cluster(kubernetes: Kubernetes) -> Kubernetes:
    """A cluster with a namespace, in which sidelong may do what the page asks for."""
    kubernetes.ask("POST", "/api/v1/namespaces", {"metadata": {"name": "shop"}})
    (role,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    kubernetes.ask("POST", f"{RBAC}/clusterroles", yaml.safe_load(role))
    kubernetes.ask("POST", f"{RBAC}/clusterrolebindings", bound("sidelong", "sidelong"))
    return kubernetes


def bound(role: str, user: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": f"{role}-{user}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


@contextmanager
def watched(cluster: Kubernetes, said: list[str] | None = None) -> Iterator[KubernetesWatch]:
    settings = KubernetesSettings(kubeconfig=cluster.kubeconfig(), retry_seconds=0.2)
    say = (lambda _: None) if said is None else said.append
    with watch_kubernetes(settings, say=say) as watch:
        yield watch


def held(watch: KubernetesWatch, ip: str, after: float = 0) -> str | None:
    """Who holds an address now, or so many seconds from now."""
    asked = pl.DataFrame({"ip": [ip], "time": [time.time_ns() + round(after * 1e9)]}).with_columns(
        pl.col("time").cast(pl.Datetime("ns", "UTC"))
    )
    name: str | None = watch.current().holders(asked)["name"].item()
    return name


def soon(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


def moment(seconds_from_now: float = 0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds_from_now))


def owned(owner: dict[str, Any]) -> dict[str, Any]:
    """Metadata of something that `owner` controls."""
    about = {"uid": owner["metadata"]["uid"], "name": owner["metadata"]["name"]}
    reference = {"apiVersion": "v1", "kind": owner["kind"], "controller": True, **about}
    return {"ownerReferences": [reference]}


def pod(name: str, ip: str, owner: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if owner:
        metadata |= owned(owner)
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}], **spec},
        "status": {
            "phase": "Running",
            "hostIP": "192.168.0.1",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "startTime": moment(-60),
        },
    }


def made(cluster: Kubernetes, group: str, kind: str, name: str, owner: Any = None) -> Any:
    """A ReplicaSet, Deployment, Job or CronJob of no consequence, in namespace shop."""
    template: dict[str, Any] = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always"},
    }
    spec: dict[str, Any] = {"template": template, "selector": {"matchLabels": {"app": name}}}
    if group == "batch":
        template["spec"] = {**template["spec"], "restartPolicy": "Never"}
        spec = {"template": template}
    if kind == "CronJob":
        spec = {"schedule": "0 0 * * *", "jobTemplate": {"spec": spec}}
    metadata: dict[str, Any] = {"name": name}
    if owner:
        metadata |= owned(owner)
    thing = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": spec}
    path = f"/apis/{group}/v1/namespaces/shop/{kind.lower()}s"
    return cluster.create(path, thing)


def test_the_role_of_the_page_is_enough(cluster: Kubernetes) -> None:
    said: list[str] = []
    with watched(cluster, said) as watch:
        soon(lambda: watch.counters()["away"] == 0)
    assert said == []


def test_pods_come_roll_out_and_go(cluster: Kubernetes) -> None:
    deployment = made(cluster, "apps", "Deployment", "web")
    old = made(cluster, "apps", "ReplicaSet", "web-7d9f8c6b5", deployment)
    cluster.create(PODS, pod("web-7d9f8c6b5-x2x4z", "10.1.0.1", old))
    with watched(cluster) as watch:
        assert held(watch, "10.1.0.1") == "shop/web"
        new = made(cluster, "apps", "ReplicaSet", "web-66b5c8d7f9", deployment)
        cluster.create(PODS, pod("web-66b5c8d7f9-q4k8n", "10.1.0.2", new))
        soon(lambda: held(watch, "10.1.0.2") == "shop/web")
        cluster.ask("DELETE", f"{PODS}/web-7d9f8c6b5-x2x4z", {"gracePeriodSeconds": 0})
        soon(lambda: held(watch, "10.1.0.1", 2) is None)
        assert held(watch, "10.1.0.1", -10) == "shop/web"


def test_an_address_goes_from_one_pod_to_the_next(cluster: Kubernetes) -> None:
    with watched(cluster) as watch:
        cluster.create(PODS, pod("first", "10.2.0.1"))
        soon(lambda: held(watch, "10.2.0.1") == "shop/first")
        ended = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
        ended["state"] = {"terminated": {"exitCode": 0, "finishedAt": moment(-30)}}
        cluster.set_status(f"{PODS}/first", {"phase": "Succeeded", "containerStatuses": [ended]})
        second = pod("second", "10.2.0.1")
        second["status"]["startTime"] = moment(-20)
        cluster.create(PODS, second)
        soon(lambda: held(watch, "10.2.0.1") == "shop/second")
        assert held(watch, "10.2.0.1", -40) == "shop/first"
        assert held(watch, "10.2.0.1", -25) is None


def test_owners_say_who_a_pod_is_where_names_do_not(cluster: Kubernetes) -> None:
    cron = made(cluster, "batch", "CronJob", "report")
    job = made(cluster, "batch", "Job", "report-by-hand", cron)
    alone = made(cluster, "apps", "ReplicaSet", "tools-7d9f8c6b5")
    with watched(cluster) as watch:
        cluster.create(PODS, pod("report-by-hand-x2x4z", "10.3.0.1", job))
        cluster.create(PODS, pod("tools-7d9f8c6b5-x2x4z", "10.3.0.2", alone))
        soon(lambda: held(watch, "10.3.0.1") == "shop/report")
        soon(lambda: held(watch, "10.3.0.2") == "shop/tools-7d9f8c6b5")


def test_hosts_and_the_api_server_have_their_names(cluster: Kubernetes) -> None:
    addresses = [{"type": "InternalIP", "address": "192.168.7.1"}]
    node = {"metadata": {"name": "node-7"}, "status": {"addresses": addresses}}
    with watched(cluster) as watch:
        cluster.create("/api/v1/nodes", node)
        cluster.create(PODS, pod("proxy", "192.168.7.2", hostNetwork=True))
        soon(lambda: held(watch, "192.168.7.1") == "reserved:host")
        soon(lambda: held(watch, "192.168.7.2") == "reserved:host")
        assert held(watch, "10.96.0.1") == "reserved:kube-apiserver"
        soon(lambda: held(watch, ADVERTISED) == "reserved:kube-apiserver")


def test_a_cluster_ip_is_the_workload_behind_it(cluster: Kubernetes) -> None:
    service = {"metadata": {"name": "front"}, "spec": {"ports": [{"port": 80}]}}
    front = cluster.create("/api/v1/namespaces/shop/services", service)
    address = front["spec"]["clusterIP"]
    with watched(cluster) as watch:
        assert held(watch, address) == "shop/front"
        cluster.create(PODS, pod("cart-0", "10.4.0.1"))
        target = {"kind": "Pod", "namespace": "shop", "name": "cart-0"}
        part = {
            "metadata": {"name": "front-1", "labels": {"kubernetes.io/service-name": "front"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.4.0.1"], "targetRef": target}],
        }
        cluster.create("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", part)
        soon(lambda: held(watch, address) == "shop/cart-0")


def test_names_outlast_a_restart_of_the_api_server(cluster: Kubernetes) -> None:
    cluster.create(PODS, pod("stays", "10.5.0.1"))
    cluster.create(PODS, pod("goes", "10.5.0.2"))
    said: list[str] = []
    with watched(cluster, said) as watch:
        cluster.kill()
        soon(lambda: any("it is away" in text for text in said))
        assert held(watch, "10.5.0.1") == "shop/stays"
        cluster.start()
        cluster.ask("DELETE", f"{PODS}/goes", {"gracePeriodSeconds": 0})
        cluster.create(PODS, pod("comes", "10.5.0.3"))
        soon(lambda: held(watch, "10.5.0.3") == "shop/comes")
        soon(lambda: held(watch, "10.5.0.2", 2) is None)
        soon(lambda: watch.counters()["away"] == 0)
        assert held(watch, "10.5.0.1") == "shop/stays"
        assert watch.counters()["faults"] == watch.counters()["bad_events"] == 0
    assert said[-1] == f"{cluster.server}: it is back"


def test_a_user_who_may_watch_pods_alone_is_told_what_is_missing(cluster: Kubernetes) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}
    role = {"metadata": {"name": "pods-alone"}, "rules": [rule]}
    cluster.ask("POST", f"{RBAC}/clusterroles", role)
    cluster.ask("POST", f"{RBAC}/clusterrolebindings", bound("pods-alone", "nobody"))
    cluster.create(PODS, pod("seen", "10.6.0.1"))
    settings = KubernetesSettings(kubeconfig=cluster.kubeconfig("no-token"))
    said: list[str] = []
    with watch_kubernetes(settings, say=said.append) as watch:
        assert held(watch, "10.6.0.1") == "shop/seen"
    assert sorted(re.findall(r"let (\w+) be watched \(403 Forbidden\)", " ".join(said))) == [
        "endpointslices", "jobs", "nodes", "replicasets", "services",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"token": "wrong-token"}, "does not let .* be listed and watched: 401 Unauthorized"),
        ({"token": "watch-token", "trusted": False}, "is not the server it should be: .*certif"),
    ],
)
def test_a_wrong_login_ends_the_start(
    cluster: Kubernetes, config: dict[str, Any], message: str
) -> None:
    settings = KubernetesSettings(kubeconfig=cluster.kubeconfig(**config))
    with pytest.raises(SourceError, match=f"{cluster.server} {message}"):
        watch_kubernetes(settings)


def test_in_a_pod_the_service_account_is_used_and_its_new_token_too(
    cluster: Kubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("old-token")
    host, _, port = cluster.server.removeprefix("https://").partition(":")
    for name, value in (("HOST", host), ("PORT", port)):
        monkeypatch.setenv(f"KUBERNETES_SERVICE_{name}", value)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    place = "kubernetes.config.incluster_config.SERVICE"
    monkeypatch.setattr(f"{place}_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{place}_CERT_FILENAME", str(cluster.certificate))
    renew = ApiServer.renew

    def rotate(api: ApiServer) -> None:
        token.write_text("watch-token")
        renew(api)

    monkeypatch.setattr(ApiServer, "renew", rotate)
    with watch_kubernetes() as watch:
        assert held(watch, "10.96.0.1") == "reserved:kube-apiserver"


def test_what_kubectl_prints_is_a_pod_map(cluster: Kubernetes, tmp_path: Path) -> None:
    cluster.create(PODS, pod("listed", "10.7.0.1"))
    file = tmp_path / "pods.json"
    (command,) = re.findall(r"`kubectl (get pods,\S+ .*) > pods.json`", PAGE.read_text())
    file.write_bytes(cluster.kubectl(*command.split()))
    with watched(cluster) as watch:
        live = watch.current().frame
    assert PodMap.read(file).frame.sort("ip", "name", "pod").equals(live.sort("ip", "name", "pod"))


def test_what_kubectl_records_of_a_watch_is_a_pod_map(cluster: Kubernetes, tmp_path: Path) -> None:
    cluster.create(PODS, pod("before", "10.8.0.1"))
    (command,) = re.findall(r"`kubectl (get pods .*-w .*) > pods.json`", PAGE.read_text())
    file = tmp_path / "pods.json"

    def recorded(name: str) -> bool:
        text = file.read_bytes()
        return bool(text) and name in PodMap.read(file).frame["pod"].to_list()

    with cluster.recording(file, *command.split()):
        soon(lambda: recorded("shop/before"))
        cluster.ask("DELETE", f"{PODS}/before", {"gracePeriodSeconds": 0})
        cluster.create(PODS, pod("after", "10.8.0.1"))
        soon(lambda: recorded("shop/after"))
    found = PodMap.read(file).frame.filter(ip="10.8.0.1").sort("until", nulls_last=True)
    assert found["pod"].to_list() == ["shop/before", "shop/after"]
    assert found["until"].is_null().to_list() == [False, True]


def test_closing_is_prompt_over_tls(cluster: Kubernetes) -> None:
    with watched(cluster) as watch:
        soon(lambda: watch.counters()["away"] == 0)
        began = time.monotonic()
        watch.close()
        assert time.monotonic() - began < 1
        assert not any(thread.is_alive() for thread in watch.threads)
