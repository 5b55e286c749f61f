"""A rollout: when a stream shows one, and what the new edges of it are told as."""

import polars as pl
import pytest
from builders import flows, incidents, known, observed, oriented

from sidelong.alerts.incident import Incident
from sidelong.features.bounds import Bounds
from sidelong.features.rollouts import Rollouts
from sidelong.ingest.keys import hash_column
from sidelong.models.detectors import Detectors

OLD, NEW = "shop/web-7d9f8c6b5-x2x4z", "shop/web-6c5d7f8b9-q7w4z"
WORK = known(
    {
        "shop/web -> shop/api:80": 20_000,
        "data/report -> data/db:5432": 20_000,
        **{f"misc/c{n} -> misc/s{n}:80": 20_000 for n in range(20)},
    }
)


def shown(*told: tuple[str, str]) -> pl.DataFrame:
    """Flows by pods of shop/web: what happens, and the pod."""
    pods = pl.Series([pod for _, pod in told], dtype=pl.String)
    client = pl.col("src") == "shop/web"
    return flows(*(what for what, _ in told)).with_columns(
        src_pod=pl.when(client).then(pods), dst_pod=pl.when(~client).then(pods)
    )


def use(at: float, server: str, pod: str) -> list[tuple[str, str]]:
    """A connection that is answered."""
    return [
        (f"{at}s shop/web -> {server} SYN", pod),
        (f"{at + 0.01}s shop/web <- {server} SYN-ACK", pod),
    ]


def rolling(of: Rollouts, *pods: tuple[float, str]) -> list[bool]:
    """Whether a rollout is under way at each moment, told one after the other."""
    found = []
    for at, pod in pods:
        rows = oriented(f"{at}s shop/web -> shop/api:80 SYN").with_columns(
            actor_pod=pl.lit(pod, pl.String)
        )
        found.append(of.observe(rows, rows)["rollout"].item() is not None)
    return found


def test_the_first_template_of_a_workload_is_no_rollout() -> None:
    assert rolling(Rollouts(Bounds()), (0, OLD), (1, OLD)) == [False, False]


def test_a_template_after_another_is_one_for_ten_minutes() -> None:
    moments = [(0, OLD), (100, NEW), (400, OLD), (699, NEW), (700, NEW)]
    assert rolling(Rollouts(Bounds()), *moments) == [False, True, True, True, False]


def test_a_return_to_an_older_template_is_none() -> None:
    moments = [(0, OLD), (100, NEW), (1_000, OLD), (2_000, NEW)]
    assert rolling(Rollouts(Bounds()), *moments) == [False, True, False, False]


@pytest.mark.parametrize("other", ["shop/web-0", "shop/web-x2x4z", "shop/web", None])
def test_pods_that_no_template_names_tell_nothing(other: str | None) -> None:
    assert rolling(Rollouts(Bounds()), (0, "shop/web-1"), (1, other)) == [False, False]  # type: ignore[arg-type]


def test_a_rollout_begins_at_the_row_that_shows_it_and_not_before() -> None:
    told = [f"{n}s shop/web -> shop/api:80 SYN" for n in range(4)]
    rows = oriented(*told).with_columns(actor_pod=pl.Series([OLD, OLD, NEW, OLD]))
    marked = Rollouts(Bounds()).observe(rows, rows)["rollout"]
    assert [one is not None for one in marked] == [False, False, True, True]


def test_another_workload_is_not_concerned() -> None:
    of = Rollouts(Bounds())
    rolling(of, (0, OLD), (1, NEW))
    rows = oriented("2s shop/cart -> shop/api:80 SYN")
    assert of.observe(rows, rows)["rollout"].to_list() == [None]


def test_beyond_the_bound_workloads_are_forgotten() -> None:
    of = Rollouts(Bounds(workloads=1))
    for name in ("a/x", "b/y"):
        rows = oriented(f"0s {name} -> shop/api:80 SYN").with_columns(
            actor_pod=pl.lit(f"{name}-7d9f8c6b5-x2x4z")
        )
        of.observe(rows.with_columns(actor_key=pl.Series(hash_column(rows["actor"]))), rows)
    of.tidy(int(rows["time"].to_physical()[0]))
    assert of.evicted == 2


def opened(told: pl.DataFrame) -> list[Incident]:
    return [one for one in incidents(told, WORK) if one.status == "open"]


def test_the_new_edges_of_a_rollout_are_one_piece_of_information() -> None:
    told = use(0, "shop/api:80", OLD) + use(60, "shop/api:80", NEW)
    for n in range(6):  # within six seconds, at which rate it would be a spread
        told += use(61 + n, f"shop/s{n}:80", NEW)
    (incident,) = opened(shown(*told))
    assert (incident.kind, incident.severity) == ("anomaly", "info")
    last = incidents(shown(*told), WORK)[-1]
    assert last.counts == {"edges": 6, "peers": 6}
    assert "took up 6 new dependencies within ten minutes of a rollout" in last.summary


def test_without_a_rollout_so_many_new_edges_are_a_spread() -> None:
    told = use(0, "shop/api:80", OLD)
    for n in range(6):
        told += use(61 + n, f"shop/s{n}:80", OLD)
    assert [one.kind for one in opened(shown(*told))] == ["scan"]


@pytest.mark.parametrize(
    "server", ["data/db:5432", "shop/other:22", "reserved:kube-apiserver:6443"]
)
def test_a_rollout_excuses_no_service_of_interest(server: str) -> None:
    told = use(0, "shop/api:80", OLD) + use(60, "shop/api:80", NEW) + use(61, server, NEW)
    found = observed(Detectors(WORK), shown(*told))
    assert found.filter(kind="lateral_movement").height == 1
    assert found.filter(kind="anomaly").is_empty()


def test_nor_what_policy_denies() -> None:
    told = use(0, "shop/api:80", OLD) + use(60, "shop/api:80", NEW)
    told += [("61s shop/web -> pay/other:80 DENIED", NEW)]
    found = observed(Detectors(WORK), shown(*told))
    assert found.filter(kind="lateral_movement")["reason"].to_list() == ["DENIED"]


def test_nor_another_identity() -> None:
    told = shown(*use(0, "shop/api:80", OLD), *use(60, "shop/api:80", NEW), *use(61, "a/b:80", NEW))
    evil = told.with_columns(src_principal=pl.lit("spiffe://td/ns/evil/sa/web"))
    found = observed(Detectors(WORK), evil.with_columns(dst_principal="src_principal"))
    assert found.filter(kind="lateral_movement").height == 1
