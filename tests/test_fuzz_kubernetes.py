"""Objects of Kubernetes in any order and of any form: one truth, and no crash."""

import copy
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import msgspec
import polars as pl
from cluster_objects import Object, endpoints, node, owned, pod, service, thing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sidelong.errors import ConfigError
from sidelong.ingest.kubernetes_ledger import KINDS, Ledger
from sidelong.ingest.podmap import PodMap

EXAMPLES: Final = 1_000 if os.environ.get("CI") == "true" else 60
FUZZ: Final = settings(
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=10),
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.large_base_example,
        HealthCheck.function_scoped_fixture,
    ],
)
SECOND: Final = 10**9


def take(ledger: Ledger, objects: Sequence[Object], look: Sequence[int] = ()) -> None:
    """Put objects into a ledger; look at the holders after those of these places."""
    for place, each in enumerate(objects):
        ledger.put(msgspec.convert(each, KINDS[each["kind"]]))
        if place in look:
            ledger.holders()


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Who held one address: start, from when, and until when it was really held."""
    found, free = [], 0
    for _ in range(draw(st.integers(1, 6))):
        start = free + draw(st.integers(-20, 20))
        held = max(start, free)
        free = held + draw(st.integers(1, 60))
        found.append((max(start, 0), held, free))
    return found


@FUZZ
@given(lives(), st.data())
def test_whoever_really_held_an_address_is_named_whenever_that_is_heard(
    truth: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    pods = [pod(f"p{n}", "10.0.0.1", life[0], finished=life[2]) for n, life in enumerate(truth)]
    ledger = Ledger()
    take(ledger, data.draw(st.permutations(pods)), data.draw(st.lists(st.integers(0, 5))))
    times = [max(held, truth[n - 1][2] if n else 0) for n, (_, held, _) in enumerate(truth)]
    times += [until - 1 for _, _, until in truth]
    asked = pl.DataFrame({"ip": ["10.0.0.1"] * len(times), "time": times}).with_columns(
        (pl.col("time") * SECOND).cast(pl.Datetime("ns", "UTC"))
    )
    named = PodMap(ledger.holders()).holders(asked)["pod"].to_list()
    assert named == [f"shop/p{n}" for n in range(len(truth))] * 2


WEB: Final = owned("ReplicaSet", "web-7d9f8c6b5")
CLUSTER: Final = [
    pod("web-7d9f8c6b5-x2x4z", "10.0.0.1", 5, owner=WEB),
    pod("web-7d9f8c6b5-q4k8n", "10.0.0.2", 9, owner=WEB),
    pod("report-x2x4z", "10.0.0.3", 9, owner=owned("Job", "report-by-hand"), finished=30),
    pod("debug", "10.0.0.3", 40),
    pod("proxy", "192.168.0.1", host=True),
    node("n", "192.168.0.1"),
    thing("ReplicaSet", "web-7d9f8c6b5", owned("Rollout", "front")),
    thing("Job", "report-by-hand", owned("CronJob", "report")),
    service("front", "10.96.0.7"),
    endpoints("front", "web-7d9f8c6b5-x2x4z", "web-7d9f8c6b5-q4k8n"),
    service("mixed", "10.96.0.8"),
    endpoints("mixed", "web-7d9f8c6b5-x2x4z", "debug"),
    service("kubernetes", "10.96.0.1", "default"),
    endpoints("kubernetes", elsewhere="192.168.0.1", namespace="default"),
]


def settled(ledger: Ledger) -> pl.DataFrame:
    return PodMap(ledger.holders()).frame.sort("ip", "name", "pod")


@FUZZ
@given(st.permutations(CLUSTER))
def test_the_order_in_which_a_cluster_is_heard_of_makes_no_difference(
    order: list[Object],
) -> None:
    expected, ledger = Ledger(), Ledger()
    take(expected, CLUSTER)
    take(ledger, order)
    assert_frame_equal(settled(ledger), settled(expected))


@FUZZ
@given(st.permutations(CLUSTER), st.lists(st.integers(0, 13)))
def test_pods_and_hosts_are_the_same_however_often_somebody_looks(
    order: list[Object], look: list[int]
) -> None:
    """Of Services too, save that a name given meanwhile holds for that while."""
    expected, ledger = Ledger(), Ledger()
    take(expected, CLUSTER)
    take(ledger, order, look)
    plain = ~pl.col("ip").str.starts_with("10.96.")
    assert_frame_equal(settled(ledger).filter(plain), settled(expected).filter(plain))


odd: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["10.0.0.1", "::1", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "Pod"]),
    st.just([]),
    st.just({}),
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """An object of which one place holds something else."""
    whole = copy.deepcopy(draw(st.sampled_from(CLUSTER)))
    at: Any = whole
    while True:
        keys = sorted(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return whole
        key = draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or draw(st.integers(0, 3)) == 0:
            at[key] = draw(odd)
            return whole
        at = at[key]


@FUZZ
@given(st.lists(damaged(), min_size=1, max_size=6), st.booleans())
def test_a_damaged_object_is_refused_or_taken_and_nothing_else(
    objects: list[Any], gone: bool
) -> None:
    ledger = Ledger()
    for each in objects:
        try:
            kind = each.get("kind")
            decoded = msgspec.json.decode(
                json.dumps(each), type=KINDS[kind if kind in list(KINDS) else "Pod"]
            )
            (ledger.drop if gone else ledger.put)(decoded)
        except (msgspec.DecodeError, ValueError):
            continue
    PodMap(ledger.holders())


@FUZZ
@given(st.lists(damaged() | odd, max_size=4), st.sampled_from(["list", "watch", "plain"]))
def test_a_file_of_anything_is_a_pod_map_or_a_configuration_error(
    tmp_path: Any, things: list[Any], form: str
) -> None:
    path = tmp_path / "pods.json"
    if form == "list":
        text = json.dumps({"kind": "List", "items": things})
    elif form == "watch":
        text = "\n".join(json.dumps({"type": "ADDED", "object": one}) for one in things)
    else:
        text = "\n".join(json.dumps(one, indent=1) for one in things)
    path.write_text(text)
    with suppress(ConfigError):
        PodMap.read(path)
