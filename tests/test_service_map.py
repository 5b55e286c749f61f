"""The map: which edges are known, new, denied and strange; what is folded when there are many."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl
import pytest

from sidelong.alerts.incident import Actor, Incident, Target
from sidelong.ingest.schema import PROTOCOLS
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import CONTACTS_SCHEMA
from sidelong.recorded_contacts import CONTACT_SCHEMA
from sidelong.service_map import Graph

START: Final = datetime(2026, 11, 23, 2, 18, 0, tzinfo=UTC)
LATERAL: Final = Incident(
    id="aa11",
    status="closed",
    kind="lateral_movement",
    severity="high",
    score=0.6,
    detected_at=START,
    first_seen=START,
    last_seen=START + timedelta(seconds=9),
    actor=Actor("shop/web"),
    objects=(Target("data/db", port=5432),),
    story="aa11",
    summary="shop/web connected to data/db:5432 for the first time.",
)


def contacts(*edges: str, **columns: Any) -> pl.DataFrame:
    """What was seen, from lines such as `shop/web data/db 5432`."""
    rows = [line.split() for line in edges]
    frame = pl.DataFrame(
        {
            "src": [row[0] for row in rows],
            "dst": [row[1] for row in rows],
            "port": [int(row[2]) for row in rows],
        }
    ).with_columns(
        protocol=pl.lit("TCP", PROTOCOLS),
        events=pl.lit(10),
        bytes=pl.lit(None, pl.UInt64),
        answered=pl.lit(10),
        denied=pl.lit(0),
        failed=pl.lit(0),
        first_seen=pl.lit(START),
        last_seen=pl.lit(START),
    )
    changed = frame.with_columns(**{name: pl.lit(value) for name, value in columns.items()})
    return changed.cast(dict(CONTACT_SCHEMA)).select(CONTACT_SCHEMA.names())  # type: ignore[arg-type]


def baseline(*edges: str) -> Baseline:
    """What knows the same lines."""
    seen = contacts(*edges)
    rows = seen.select(
        actor="src",
        peer="dst",
        object="dst",
        port="port",
        edge_port="port",
        protocol="protocol",
        first="first_seen",
        last="last_seen",
        active_seconds=pl.lit(7),
        hours=pl.lit([3], pl.List(pl.UInt8)),
        **dict.fromkeys(("hours_seen", "days_seen", "pods", "encrypted", "plain"), pl.lit(1)),
    )
    known = rows.match_to_schema(CONTACTS_SCHEMA, integer_cast="upcast")
    return replace(Baseline.empty(), contacts=known)


def states(graph: Graph) -> dict[str, str]:
    rows = graph.edges.select("src", "dst", "state").iter_rows()
    return {f"{src} {dst}": state for src, dst, state in rows}


def test_an_edge_that_the_baseline_lacks_is_new() -> None:
    graph = Graph.of(contacts("a/x a/y 80", "a/x a/z 80"), baseline("a/x a/y 80"))
    assert states(graph) == {"a/x a/y": "known", "a/x a/z": "new"}


def test_without_a_baseline_nothing_is_new() -> None:
    assert states(Graph.of(contacts("a/x a/y 80"))) == {"a/x a/y": "seen"}


def test_a_baseline_alone_is_a_graph() -> None:
    graph = Graph.of(baseline=baseline("a/x a/y 80"))
    assert states(graph) == {"a/x a/y": "known"}
    assert graph.edges.select("events", "active_seconds").row(0) == (0, 7)


def test_what_the_baseline_knows_and_nobody_saw_stays_in_the_graph() -> None:
    graph = Graph.of(contacts("a/x a/y 80"), baseline("a/x a/y 80", "a/x a/z 80"))
    assert states(graph) == {"a/x a/y": "known", "a/x a/z": "known"}


def test_a_denied_edge_is_denied_even_where_it_is_known() -> None:
    graph = Graph.of(contacts("a/x a/y 80", denied=3), baseline("a/x a/y 80"))
    assert states(graph) == {"a/x a/y": "denied"}


def test_the_object_of_an_incident_is_strange_and_names_it() -> None:
    seen = contacts("shop/web data/db 5432", "shop/web data/db 9187")
    graph = Graph.of(seen, baseline("shop/web data/db 9187"), [LATERAL])
    assert graph.edges.select("port", "state", "incident").rows() == [
        (5432, "strange", "aa11"),
        (9187, "known", None),
    ]


def test_an_anomaly_that_only_informs_makes_no_edge_strange() -> None:
    told = replace(LATERAL, kind="anomaly", severity="info")
    graph = Graph.of(contacts("shop/web data/db 5432"), baseline("a/x a/y 80"), [told])
    assert states(graph)["shop/web data/db"] == "new"


def test_a_scan_is_strange_beyond_the_targets_that_it_tells() -> None:
    scan = replace(LATERAL, kind="scan", objects=(Target("data/db", port=1),), counts={"peers": 1})
    seen = contacts(*(f"shop/web data/db {port}" for port in range(1, 100)), "shop/web a/x 80")
    graph = Graph.of(seen, baseline("a/x a/y 80"), [scan])
    assert graph.counts == {"strange": 99, "new": 1, "known": 1}


def test_a_sweep_of_more_peers_than_are_told_is_strange_in_its_time() -> None:
    told = tuple(Target(f"n/w{peer}", port=22) for peer in range(20))
    scan = replace(LATERAL, kind="scan", objects=told, counts={"peers": 50})
    seen = contacts(*(f"shop/web n/w{peer} 22" for peer in range(50)))
    later = contacts("shop/web n/later 22", first_seen=START + timedelta(hours=1))
    graph = Graph.of(pl.concat([seen, later]), baseline("a/x a/y 80"), [scan])
    assert graph.counts == {"strange": 50, "new": 1, "known": 1}


def test_a_domain_that_data_leaves_through_is_an_edge_of_its_own() -> None:
    told = replace(LATERAL, kind="dns_exfiltration", objects=(Target(domain="evil.example"),))
    graph = Graph.of(contacts("shop/web kube-system/coredns 53"), None, [told])
    rows = graph.edges.filter("strange").select("src", "dst", "protocol").rows()
    assert rows == [("shop/web", "evil.example", "DNS")]


def test_ports_that_clients_get_are_one_edge() -> None:
    graph = Graph.of(contacts("a/x a/y 40000", "a/x a/y 50000"))
    assert graph.edges.select("port", "events").rows() == [(0, 20)]


def test_nodes_tell_what_they_are_and_what_they_did() -> None:
    seen = contacts("shop/web data/db 5432", "shop/web world:9.9.0.0/16 443", "ip:10.0.0.1 a/x 80")
    nodes = Graph.of(seen, None, [LATERAL]).nodes
    rows = nodes.select("name", "namespace", "kind", "calls", "called_by", "severity").rows()
    assert rows == [
        ("a/x", "a", "workload", 0, 1, None),
        ("data/db", "data", "workload", 0, 1, None),
        ("ip:10.0.0.1", None, "address", 1, 0, None),
        ("shop/web", "shop", "workload", 2, 0, "high"),
        ("world:9.9.0.0/16", None, "outside", 0, 1, None),
    ]


def test_around_goes_both_ways_hop_by_hop() -> None:
    graph = Graph.of(contacts("a/a a/b 1", "a/b a/c 1", "a/c a/d 1", "a/d a/e 1"))
    assert graph.around("a/c").nodes["name"].to_list() == ["a/b", "a/c", "a/d"]
    assert graph.around("a/c", hops=2).nodes.height == 5


def test_around_one_who_is_not_there_is_nothing_and_names_come_close() -> None:
    graph = Graph.of(contacts("shop/frontend shop/api 1"))
    assert graph.around("shop/absent").nodes.is_empty()
    assert graph.named_like("frontend") == ["shop/frontend"]
    assert graph.named_like("shop/fronted") == ["shop/frontend"]


@pytest.mark.parametrize("most", [6, 20, 60])
def test_a_graph_is_folded_to_what_it_may_have(most: int) -> None:
    seen = contacts(*(f"ns{n % 40}/w{n} ns{n % 7}/w{n % 11} 80" for n in range(1_000)))
    small = Graph.of(seen).bounded(most)
    assert small.nodes.height <= most
    assert small.nodes["members"].sum() == Graph.of(seen).nodes.height
    assert "nodes are folded" in small.folded[0]


def test_folding_keeps_what_is_strange() -> None:
    seen = contacts(*(f"n/a{n} n/b{n} 80" for n in range(500)), "shop/web data/db 5432")
    small = Graph.of(seen, baseline("n/a1 n/b1 80"), [LATERAL]).bounded(10)
    assert "strange" in small.counts
    assert {"shop/web", "data/db"} <= set(small.nodes["name"])


def test_many_peers_are_folded_into_others() -> None:
    seen = contacts(*(f"n/hub n/w{n} 80" for n in range(50)))
    small = Graph.of(seen).around("n/hub", most=14)
    (others,) = small.nodes.filter(pl.col("kind") == "others").iter_rows(named=True)
    assert others["name"] == "and 38 others (called)"
    assert small.edges.filter(pl.col("dst") == others["name"])["events"].to_list() == [380]


def test_a_name_like_that_of_a_fold_is_not_taken_for_it() -> None:
    seen = contacts(*(f"n/hub n/w{n:02} 80" for n in range(50)))
    named = pl.concat([seen, contacts("n/hub X 80", dst="and 38 others (called)", events=99)])
    small = Graph.of(named).around("n/hub", most=14)
    assert sorted(small.nodes.filter(pl.col("name").str.contains("others"))["name"]) != []
    assert small.nodes["name"].n_unique() == small.nodes.height


def test_the_same_traffic_makes_the_same_graph_in_any_order() -> None:
    seen = contacts(*(f"n/a{n % 13} n/b{n % 17} {n}" for n in range(300)))
    graphs = [Graph.of(rows).bounded(12) for rows in (seen, seen.reverse())]
    assert graphs[0].nodes.equals(graphs[1].nodes)
    assert graphs[0].edges.equals(graphs[1].edges)


def test_nothing_seen_is_an_empty_graph() -> None:
    graph = Graph.of(contacts("a/x a/y 80").clear(), Baseline.empty())
    assert (graph.nodes.height, graph.edges.height, graph.counts) == (0, 0, {})
    assert "<svg" in graph.svg()
