"""How unlikely a new edge is: both of its surprises, from the counts they rest on."""

from math import log

import polars as pl
import pytest
from builders import known

from sidelong.ingest.schema import PROTOCOLS
from sidelong.models.baseline import Baseline
from sidelong.models.rarity import RARITY_CAP, Rarity


def looked_up(baseline: Baseline, actor: str, peer: str, port: int = 80) -> pl.DataFrame:
    edge = pl.DataFrame(
        [(actor, peer, port, "TCP")],
        schema={
            "actor": pl.String,
            "peer": pl.String,
            "edge_port": pl.UInt16,
            "protocol": PROTOCOLS,
        },
        orient="row",
    )
    return Rarity(baseline).of(edge)


def rarity(baseline: Baseline, actor: str, peer: str, port: int = 80) -> float:
    """In nats."""
    return float(looked_up(baseline, actor, peer, port)["rarity"][0] / 1e6)


# Four edges to three services; web has been active for 100 seconds, and uses one edge once.
WORK = known(
    {
        "shop/web -> shop/api:80": 99,
        "shop/web -> shop/search:80": 1,
        "shop/api -> data/db:5432": 50,
        "shop/search -> data/db:5432": 50,
    }
)


def test_the_first_surprise_is_that_the_actor_turns_anywhere_new() -> None:
    opens = (1 + 1) / (100 + 1)
    leads_there = (2 + 1 / 3) / (4 + 1)
    assert rarity(WORK, "shop/web", "data/db", 5432) == pytest.approx(
        -log(opens) - log(leads_there), abs=2e-6
    )


def test_the_second_is_that_it_turns_to_this_service_rather_than_another() -> None:
    popular = rarity(WORK, "shop/web", "data/db", 5432)
    unheard_of = rarity(WORK, "shop/web", "data/other", 5432)
    assert unheard_of - popular == pytest.approx(log((2 + 1 / 3) / (1 / 3)), abs=2e-6)


def test_another_port_of_a_known_peer_is_another_service() -> None:
    assert rarity(WORK, "shop/web", "data/db", 22) == rarity(WORK, "shop/web", "data/other", 22)


def test_a_workload_that_often_turns_to_something_new_surprises_less() -> None:
    others = {f"o/o -> b/y{n}:80": 5 for n in range(20)}
    steady = known(others | {"a/x -> b/y0:80": 20})
    restless = known(others | {f"a/x -> b/y{n}:80": 1 for n in range(20)})
    assert rarity(restless, "a/x", "c/z") < rarity(steady, "a/x", "c/z")


def test_a_longer_history_surprises_more_but_never_beyond_the_cap() -> None:
    found = [
        rarity(known({"a/x -> b/y:80": seconds}), "a/x", "c/z")
        for seconds in (1, 10, 100, 1_000, 10_000, 10_000_000)
    ]
    assert found == sorted(found)
    assert found[-1] == RARITY_CAP


def test_an_actor_that_the_baseline_does_not_know_has_no_rarity() -> None:
    found = looked_up(WORK, "new/comer", "data/db", 5432)
    assert found.select("rarity", "active_seconds", "used").row(0) == (0, 0, 0)


def test_without_any_baseline_nothing_is_rare() -> None:
    assert rarity(Baseline.empty(), "a/x", "b/y") == 0


def test_it_tells_who_was_only_a_client() -> None:
    def never_served(peer: str) -> bool:
        return bool(looked_up(WORK, "shop/api", peer)["never_served"][0])

    assert never_served("shop/web")
    assert not never_served("shop/search")
    assert not never_served("new/comer")


def test_rows_keep_their_order() -> None:
    peers = ["data/db", "new/comer", "data/db", "shop/api"]
    edges = pl.DataFrame({"actor": ["shop/web"] * 4, "peer": peers}).with_columns(
        edge_port=pl.lit(5432, pl.UInt16), protocol=pl.lit("TCP", PROTOCOLS)
    )
    assert Rarity(WORK).of(edges)["peer"].to_list() == peers


def test_who_is_known_little_is_no_steadier_than_those_like_it() -> None:
    restless = {f"shop/a{n} -> shop/s{m}:80": 1 for n in range(3) for m in range(30)}
    newcomer = {"shop/web -> shop/s0:80": 20}
    others = {f"pay/a{n} -> pay/s:80": 900 for n in range(9)}
    among_restless = rarity(known(restless | newcomer | others), "shop/web", "misc/x")
    steady = {name: 900 for name in restless}
    among_steady = rarity(known(steady | newcomer | others), "shop/web", "misc/x")
    assert among_restless < among_steady


def test_who_is_known_well_is_judged_by_its_own_habits() -> None:
    restless = {f"shop/a{n} -> shop/s{m}:80": 1 for n in range(3) for m in range(30)}
    own = {"shop/web -> shop/s0:80": 100_000}
    found = looked_up(known(restless | own), "shop/web", "misc/x")["opens"].item()
    assert found == pytest.approx(1 / 100_001, rel=60)  # a minute of theirs at the most
    assert found < 1 / 1_000


def test_what_it_borrows_never_makes_an_edge_more_of_a_surprise() -> None:
    steady = {f"shop/a{n} -> shop/s0:80": 100_000 for n in range(9)}
    found = looked_up(known(steady | {"shop/web -> shop/s0:80": 9}), "shop/web", "misc/x")
    assert found["opens"].item() == 1 / 10
