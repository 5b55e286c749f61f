"""The arithmetic of docs/detection.md: what a new edge weighs."""

import polars as pl
import pytest
from builders import START, flows, incidents, known, observed

from sidelong.models.baseline import Baseline
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import ALERT
from sidelong.models.lateral_movement import COMMON_PORTS

WEB = {"shop/web -> shop/s0:80": 227, "shop/web -> shop/s1:80": 1}
BATCH = {"shop/batch -> shop/s0:80": 43}


def cluster(actor: dict[str, int], *, edges: int = 26, services: int = 18) -> Baseline:
    """A cluster of so many edges and services; two of the edges lead to data/db:5432."""
    databases = {"data/report -> data/db:5432": 100, "data/admin -> data/db:5432": 100}
    ours = actor | databases
    free = services - len({edge.partition(" -> ")[2] for edge in ours})
    others = {f"misc/c{n} -> misc/s{n % free}:80": 100 for n in range(edges - len(ours))}
    return known(ours | others)


CLUSTER = cluster(WEB)


def judged(frame: pl.DataFrame, baseline: Baseline = CLUSTER) -> pl.DataFrame:
    evidence = observed(Detectors(baseline), frame)
    return evidence.filter(pl.col("kind") == "lateral_movement")


def reached(server: str, *, actor: str = "shop/web") -> pl.DataFrame:
    """A connection that is answered."""
    return flows(f"0s {actor} -> {server} SYN", f"0.01s {actor} <- {server} SYN-ACK")


def nats(frame: pl.DataFrame, baseline: Baseline = CLUSTER) -> float:
    return float(judged(frame, baseline)["level"].item() / 1e6)


def parts(frame: pl.DataFrame, baseline: Baseline = CLUSTER) -> dict[str, float]:
    """What the evidence is made of, in nats."""
    return {
        part["feature"]: round(part["log_evidence"] / 1e6, 1)
        for part in judged(frame, baseline)["parts"].item()
    }


def test_the_cluster_is_the_one_of_the_page() -> None:
    edges = CLUSTER.contacts
    assert edges.height == 26
    assert edges.select("peer", "port").n_unique() == 18


def test_a_database_of_another_namespace_weighs_14_nats_to_a_busy_workload() -> None:
    found = judged(reached("data/db:5432"))
    assert parts(reached("data/db:5432")) == {
        "new_edge": 7.3,  # 4.7 that it turns anywhere new, 2.6 that it turns here
        "sensitive_service": 4.6,
        "other_namespace": 2.3,
    }
    assert nats(reached("data/db:5432")) == pytest.approx(14.2, abs=0.05)
    assert found["decisive"].to_list() == [True]


def test_it_alarms_on_its_first_record() -> None:
    frame = reached("data/db:5432")
    (incident,) = (one for one in incidents(frame, CLUSTER) if one.status == "open")
    assert incident.kind == "lateral_movement"
    assert incident.detected_at == frame["time"][0]


def test_the_same_edge_weighs_13_nats_to_a_batch_job_and_is_no_alarm() -> None:
    frame = reached("data/db:5432", actor="shop/batch")
    assert nats(frame, cluster(BATCH)) == pytest.approx(13.3, abs=0.05)
    assert judged(frame, cluster(BATCH))["decisive"].to_list() == [False]


def test_within_the_namespace_a_new_edge_weighs_its_rarity_alone() -> None:
    frame = reached("data/db:5432", actor="data/web")
    busy = {"data/web -> shop/s0:80": 227, "data/web -> shop/s1:80": 1}
    assert parts(frame, cluster(busy)) == {"new_edge": 7.3}


@pytest.mark.parametrize("server", ["shop/other:80", "pay/other:80", "shop/other:5432"])
def test_no_history_makes_an_ordinary_edge_alarm(server: str) -> None:
    forever = cluster({"shop/web -> shop/s0:80": 10**9})
    assert nats(reached(server), forever) < ALERT / 1e6


def test_an_administrative_port_is_sensitive_within_the_namespace_too() -> None:
    assert parts(reached("shop/other:22"))["sensitive_service"] == 4.6


def test_a_database_is_sensitive_to_strangers_only() -> None:
    assert "sensitive_service" not in parts(reached("shop/other:5432"))
    assert "sensitive_service" in parts(reached("data/other:5432"))
    assert "sensitive_service" in parts(reached("ip:10.9.9.9:5432"))


def test_an_actor_without_a_history_has_no_rarity_and_alarms_alone_never() -> None:
    frame = reached("data/db:5432", actor="new/comer")
    assert parts(frame) == {"sensitive_service": 4.6, "other_namespace": 2.3}
    assert not judged(frame)["decisive"].any()


def test_to_be_denied_adds_three_nats() -> None:
    denied = flows("0s shop/web -> pay/other:80 DENIED")
    assert parts(denied)["policy_denied"] == 3.0
    assert judged(denied)["reason"].to_list() == ["DENIED"]


def test_the_metadata_address_is_sensitive_on_any_port() -> None:
    frame = reached("ip:169.254.169.254:80")
    assert parts(frame)["sensitive_service"] == 4.6
    (target,) = (part for part in judged(frame)["parts"].item() if "sens" in part["feature"])
    assert target["observed"] == "cloud metadata"


def test_other_link_local_addresses_belong_to_nobody() -> None:
    assert judged(reached("ip:169.254.1.1:22")).is_empty()


def test_a_login_to_a_machine_that_only_was_a_client_adds_three_more() -> None:
    assert parts(reached("misc/c3:22"))["only_a_client"] == 3.0
    assert "only_a_client" not in parts(reached("shop/s0:22"))  # a server
    assert "only_a_client" not in parts(reached("new/comer:22"))  # perhaps one
    assert "only_a_client" not in parts(reached("misc/c3:80"))  # not a login


@pytest.mark.parametrize(
    ("principal", "weight"),
    [
        ("spiffe://cluster.local/ns/evil/sa/web", 5.0),
        ("spiffe://cluster.local/ns/shop/sa/other", None),
        ("spiffe://cluster.local/workload/7", None),
        (None, None),
    ],
)
def test_a_service_account_of_another_namespace_adds_five(
    principal: str | None, weight: float | None
) -> None:
    frame = reached("data/db:5432").with_columns(src_principal=pl.lit(principal, pl.String))
    assert parts(frame).get("identity") == weight


def test_a_reply_tells_the_account_of_its_client_too() -> None:
    evil = pl.lit("spiffe://cluster.local/ns/evil/sa/web")
    answered = reached("shop/other:80")  # a service unknown before, so the answer is the first use
    assert parts(answered.with_columns(dst_principal=evil))["identity"] == 5.0
    assert "identity" not in parts(answered.with_columns(src_principal=evil))


@pytest.mark.parametrize("port", COMMON_PORTS)
def test_time_names_and_discovery_weigh_nothing(port: int) -> None:
    assert judged(reached(f"pay/other:{port}")).is_empty()


def test_outside_peers_weigh_nothing() -> None:
    assert judged(reached("world:203.0.0.0/16:22")).is_empty()
    assert judged(reached("example.org:22")).is_empty()


def test_a_probe_where_nothing_is_known_to_listen_is_no_edge() -> None:
    assert judged(flows("0s shop/web -> data/other:5432 SYN")).is_empty()
    assert judged(flows("0s shop/web -> data/db:5432 SYN")).height == 1


def test_an_edge_is_new_once() -> None:
    assert judged(pl.concat([reached("data/db:5432")] * 3)).height == 1


def test_an_edge_of_the_baseline_is_not_new() -> None:
    assert judged(reached("shop/s0:80")).is_empty()


def test_what_alarms_by_itself_alarms_once_a_day_while_it_is_used() -> None:
    hourly = [
        told
        for n in range(50)
        for told in (
            f"{n * 3_600}s shop/web -> data/db:5432 SYN",
            f"{n * 3_600 + 0.01}s shop/web <- data/db:5432 SYN-ACK",
        )
    ]
    opened = [one for one in incidents(flows(*hourly), CLUSTER) if one.status == "open"]
    hours = [(one.detected_at - START).total_seconds() / 3_600 for one in opened]
    assert hours == [0, 24, 48]
    assert "again, a day later" in opened[1].summary


def test_what_does_not_alarm_by_itself_is_ordinary_to_the_stream_once_it_was_used() -> None:
    detectors = Detectors(CLUSTER)
    weak = [
        observed(detectors, flows(f"{day * 86_400}s shop/web -> shop/other:80 DENIED"))
        for day in (0, 2)
    ]
    assert [frame.filter(kind="lateral_movement").height for frame in weak] == [1, 0]
