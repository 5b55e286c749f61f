"""The watch on the Kubernetes API, against a server that fails on cue."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cluster_objects import endpoints, node, owned, pod, service, thing
from fake_kubernetes import FakeKubernetes, fake_kubernetes, kubeconfig

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.kubernetes_login import KubernetesSettings
from sidelong.ingest.kubernetes_watch import KubernetesWatch, watch_kubernetes
from sidelong.pipeline import Pipeline

NOW = 1_000 * 10**9


class Watched:
    """A cluster, the settings to watch it, and what the watch said."""

    def __init__(self, fake: FakeKubernetes, server: str, folder: Path) -> None:
        self.fake = fake
        self.server = server
        self.folder = folder
        self.said: list[str] = []

    @contextmanager
    def watch(self, **settings: Any) -> Iterator[KubernetesWatch]:
        settings = {"retry_seconds": 0.05, "sync_timeout_seconds": 20.0, **settings}
        whole = KubernetesSettings(kubeconfig=kubeconfig(self.folder, self.server), **settings)
        with watch_kubernetes(whole, say=self.said.append, now_ns=lambda: NOW) as watch:
            yield watch


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Watched]:
    with fake_kubernetes() as (fake, server):
        yield Watched(fake, server, tmp_path)


def held(watch: KubernetesWatch, ip: str, second: float = 999) -> str | None:
    asked = pl.DataFrame({"ip": [ip], "time": [round(second * 1e9)]}).with_columns(
        pl.col("time").cast(pl.Datetime("ns", "UTC"))
    )
    name: str | None = watch.current().holders(asked)["name"].item()
    return name


def soon(check: Callable[[], bool]) -> None:
    """Wait until something is so, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)


def test_the_first_flow_finds_everything_listed(cluster: Watched) -> None:
    for n in range(1_203):  # three pages
        cluster.fake.put("Pod", pod(f"p{n}", f"10.0.{n >> 8}.{n & 255}"))
    cluster.fake.put("Service", service("front", "10.96.0.7"))
    cluster.fake.put("EndpointSlice", endpoints("front", "p7"))
    cluster.fake.put("Node", node("n", "192.168.0.1"))
    cluster.fake.put("Job", thing("Job", "j", owned("CronJob", "report")))
    cluster.fake.put("Pod", pod("j-x2x4z", "10.1.0.1", owner=owned("Job", "j")))
    with cluster.watch() as watch:
        assert watch.counters()["objects"] == 1_207
        named = [held(watch, ip) for ip in ("10.0.4.178", "10.96.0.7", "192.168.0.1", "10.1.0.1")]
    assert named == ["shop/p1202", "shop/p7", "reserved:host", "shop/report"]
    assert cluster.said == []


def test_what_comes_and_goes_is_followed(cluster: Watched) -> None:
    with cluster.watch() as watch:
        cluster.fake.put("Pod", pod("a", "", 100))
        cluster.fake.put("Pod", pod("a", "10.0.0.1", 100))
        soon(lambda: held(watch, "10.0.0.1", 100) == "shop/a")
        cluster.fake.delete("Pod", pod("a", "10.0.0.1", 100, deleted=200))
        soon(lambda: held(watch, "10.0.0.1", 200) is None)
        assert held(watch, "10.0.0.1", 199) == "shop/a"


def test_a_pipeline_asks_the_watch_for_the_newest_map(cluster: Watched) -> None:
    columns = {"src_ip": ["10.0.0.1"], "dst_ip": ["10.0.0.2"], "time": [NOW]}
    flow = pl.DataFrame(columns).with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC")))
    from sidelong.ingest.schema import conform

    with cluster.watch() as watch:
        pipeline = Pipeline(pods=watch)

        def source() -> str:
            (step,) = pipeline.steps(conform(flow))
            return str(step.flows["src"].item())

        assert source() == "ip:10.0.0.1"
        cluster.fake.put("Pod", pod("a", "10.0.0.1", 100))
        soon(lambda: held(watch, "10.0.0.1") == "shop/a")
        assert source() == "shop/a"


def test_a_watch_that_the_server_ends_goes_on_where_it_was(cluster: Watched) -> None:
    cluster.fake.put("Pod", pod("a", "10.0.0.1"))
    with cluster.watch(watch_seconds=1) as watch:
        soon(lambda: sum("watch=1" in path and "/pods" in path for path in cluster.fake.asked) > 2)
        cluster.fake.put("Pod", pod("b", "10.0.0.2"))
        soon(lambda: held(watch, "10.0.0.2") == "shop/b")
        counters = watch.counters()
    assert (counters["relists"], counters["reconnects"]) == (0, 0)
    assert sum("/pods?limit" in path for path in cluster.fake.asked) == 1


def test_a_connection_that_breaks_is_taken_up_where_it_was(cluster: Watched) -> None:
    with cluster.watch() as watch:
        cluster.fake.hang_up()
        cluster.fake.put("Pod", pod("a", "10.0.0.1"))
        soon(lambda: held(watch, "10.0.0.1") == "shop/a")
        assert watch.counters()["reconnects"] >= 1
    assert sum("/pods?limit" in path for path in cluster.fake.asked) == 1


def test_a_server_that_is_away_for_a_while_is_found_again(cluster: Watched) -> None:
    cluster.fake.put("Pod", pod("a", "10.0.0.1"))
    with cluster.watch() as watch:
        cluster.fake.stop()
        soon(lambda: any("it is away" in text for text in cluster.said))
        assert held(watch, "10.0.0.1") == "shop/a"
        assert watch.counters()["away"] == 6
        cluster.fake.put("Pod", pod("b", "10.0.0.2"))
        cluster.fake.start()
        soon(lambda: held(watch, "10.0.0.2") == "shop/b")
        soon(lambda: watch.counters()["away"] == 0)
        assert cluster.said[-1].endswith("it is back")
        assert len(cluster.said) == 2


def test_after_410_everything_is_listed_anew_and_who_is_missing_has_ended(
    cluster: Watched,
) -> None:
    for name, ip in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        cluster.fake.put("Pod", pod(name, ip))
    with cluster.watch() as watch:
        cluster.fake.stop()
        cluster.fake.delete("Pod", pod("a", "10.0.0.1"))
        cluster.fake.put("Pod", pod("c", "10.0.0.3"))
        cluster.fake.forget()
        cluster.fake.start()
        soon(lambda: held(watch, "10.0.0.3") == "shop/c")
        soon(lambda: held(watch, "10.0.0.1", 1_001) is None)
        assert held(watch, "10.0.0.1") == "shop/a"
        assert held(watch, "10.0.0.2", 1_001) == "shop/b"
        assert watch.counters()["relists"] >= 1


def test_a_page_that_expired_begins_the_list_anew(cluster: Watched) -> None:
    for n in range(600):
        cluster.fake.put("Pod", pod(f"p{n}", f"10.0.{n >> 8}.{n & 255}"))
    left = [1]

    def once(path: str, watch: bool) -> tuple[int, bytes] | None:
        pages = sum("/pods?limit" in asked for asked in cluster.fake.asked)
        return (410, b"{}") if "/pods" in path and pages == 2 and left.pop(0) else None

    cluster.fake.failing = once
    with cluster.watch() as watch:
        assert watch.counters()["objects"] == 600


def test_a_resource_that_may_not_be_watched_is_said_once_and_lived_with(cluster: Watched) -> None:
    cluster.fake.put("Pod", pod("a", "10.0.0.1"))
    cluster.fake.failing = lambda path, _: (403, b"{}") if "nodes" in path else None
    with cluster.watch() as watch:
        assert held(watch, "10.0.0.1") == "shop/a"
    assert cluster.said == [
        f"{cluster.server}: it does not let nodes be watched (403 Forbidden):"
        " a node is known by the pods on its network only"
    ]


def test_without_pods_there_is_nothing_to_watch(cluster: Watched) -> None:
    cluster.fake.failing = lambda path, _: (403, b"{}") if "pods" in path else None
    expected = f"{cluster.server} does not let pods be listed and watched: 403 Forbidden"
    with pytest.raises(SourceError, match=expected), cluster.watch():
        pass


def test_credentials_that_are_turned_down_are_an_error_at_once(cluster: Watched) -> None:
    cluster.fake.failing = lambda *_: (401, b"{}")
    with pytest.raises(SourceError, match="401 Unauthorized") as caught, cluster.watch():
        pass
    assert "credentials" in caught.value.hint


def test_a_server_that_is_not_there_is_named(cluster: Watched) -> None:
    cluster.fake.stop()
    with pytest.raises(SourceError) as caught, cluster.watch(sync_timeout_seconds=0.3):
        pass
    assert caught.value.problem.startswith(f"{cluster.server} did not list its pods, services,")
    assert caught.value.problem.endswith("Connection refused")


def test_a_server_that_hangs_holds_nobody_up(cluster: Watched) -> None:
    cluster.fake.failing = lambda *_: (0, b"")
    began = time.monotonic()
    expected = "did not list its .* within 0.2 s: it did not answer"
    with pytest.raises(SourceError, match=expected), cluster.watch(sync_timeout_seconds=0.2):
        pass
    assert time.monotonic() - began < 4


def test_a_server_that_starts_slowly_is_waited_for(cluster: Watched) -> None:
    cluster.fake.put("Pod", pod("a", "10.0.0.1"))
    answers = [503, 500, 403, 429] * 3
    cluster.fake.failing = lambda *_: (answers.pop(), b"{}") if answers else None
    with cluster.watch() as watch:
        assert held(watch, "10.0.0.1") == "shop/a"


def test_a_watch_on_which_nothing_comes_is_begun_anew(cluster: Watched) -> None:
    with cluster.watch(silence_seconds=0.7) as watch:
        soon(lambda: sum("watch=1" in path for path in cluster.fake.asked) > 12)
        cluster.fake.put("Pod", pod("a", "10.0.0.1"))
        soon(lambda: held(watch, "10.0.0.1") == "shop/a")
        counters = watch.counters()
    assert (counters["relists"], counters["reconnects"]) == (0, 0)


@pytest.mark.parametrize(
    "odd",
    [
        {"metadata": {"namespace": "shop", "name": "odd", "uid": "odd"}, "status": {"podIP": 7}},
        pod("odd", "nowhere"),
        {"metadata": {"uid": "odd"}, "spec": []},
    ],
)
def test_an_object_that_cannot_be_read_is_counted_and_the_next_one_is_read(
    cluster: Watched, odd: dict[str, Any]
) -> None:
    with cluster.watch() as watch:
        cluster.fake.put("Pod", odd)
        cluster.fake.put("Pod", pod("a", "10.0.0.1"))
        soon(lambda: held(watch, "10.0.0.1") == "shop/a")
        assert watch.counters()["bad_events"] == 1
        assert len(cluster.said) == 1
        assert "one of its pods cannot be read" in cluster.said[0]


@pytest.mark.parametrize(
    "line", ["}", "null", '{"type":', '{"type":"ADDED"}', '{"type":"ERROR","object":1}', "\x00"]
)
def test_a_line_that_is_no_event_is_left_behind_in_the_end(cluster: Watched, line: str) -> None:
    with cluster.watch() as watch:
        cluster.fake.send("Pod", line)
        cluster.fake.put("Pod", pod("a", "10.0.0.1"))
        soon(lambda: held(watch, "10.0.0.1") == "shop/a")
        assert watch.counters()["faults"] == 0


def test_an_event_of_an_unknown_kind_is_no_harm(cluster: Watched) -> None:
    with cluster.watch() as watch:
        cluster.fake.send("Pod", '{"type":"SHINY","object":{"metadata":{"resourceVersion":"101"}}}')
        cluster.fake.put("Pod", pod("a", "10.0.0.1"))
        soon(lambda: held(watch, "10.0.0.1") == "shop/a")


def test_closing_is_prompt_while_watches_wait(cluster: Watched) -> None:
    with cluster.watch() as watch:
        soon(lambda: watch.counters()["away"] == 0)
        began = time.monotonic()
        watch.close()
        took = time.monotonic() - began
        alive = [thread for thread in watch.threads if thread.is_alive()]
    assert took < 1
    assert alive == []


def test_without_a_kubeconfig_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"the kubeconfig .*/\.kube/config cannot be used") as it:
        watch_kubernetes()
    assert "KUBECONFIG" in it.value.hint


def test_an_unknown_context_is_a_configuration_error(cluster: Watched) -> None:
    with pytest.raises(ConfigError, match="absent"), cluster.watch(context="absent"):
        pass


@pytest.mark.parametrize("text", ["{]", "[]", "", "secret", '{"clusters": 7}'])
def test_a_malformed_kubeconfig_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        watch_kubernetes(KubernetesSettings(kubeconfig=str(path)))
    assert str(path) in caught.value.problem
    assert "secret" not in str(caught.value)


def test_the_tokens_of_a_kubeconfig_are_never_said(cluster: Watched) -> None:
    token = "c2VjcmV0"
    path = kubeconfig(cluster.folder, cluster.server, token=token)
    cluster.fake.failing = lambda *_: (401, b"{}")
    with pytest.raises(SourceError) as caught:
        watch_kubernetes(KubernetesSettings(kubeconfig=path, retry_seconds=0.01))
    assert token not in str(caught.value)
