"""Who opened a connection to whom, and which rows have no such sides."""

import polars as pl
import pytest
from builders import flows, normal, oriented

from sidelong.features.sides import SIDES, is_external, is_workload, sides


def told(row: str) -> tuple[str, str, int]:
    """Actor, peer and port of one row."""
    actor, peer, port = oriented(row).select("actor", "peer", "port").row(0)
    return actor, peer, port


def is_left_out(row: str) -> bool:
    return oriented(row).is_empty()


def test_the_client_acts_whoever_speaks() -> None:
    assert told("0s a/x -> b/y:80 SYN") == ("a/x", "b/y", 80)
    assert told("0s a/x <- b/y:80 SYN-ACK") == ("a/x", "b/y", 80)


def test_both_directions_agree_on_every_side_and_key() -> None:
    frame = normal(flows("0s a/x -> b/y:80 SYN", "1s a/x <- b/y:80 SYN-ACK")).with_columns(
        src_pod=pl.Series(["x-1", "y-1"]), dst_pod=pl.Series(["y-1", "x-1"])
    )
    there, back = sides(frame).select(*SIDES, "actor_key", "peer_key").rows()
    assert there == back
    assert there[:2] == ("a/x", "x-1")


def test_a_workload_has_the_same_key_on_either_side() -> None:
    rows = oriented("0s a/x -> b/y:80", "1s b/y -> a/x:80")
    assert rows["actor_key"][0] == rows["peer_key"][1]


def test_rows_that_only_report_loss_are_left_out() -> None:
    lost = normal(flows("0s a/x -> b/y:80")).with_columns(
        pl.lit(None, pl.String).alias(name) for name in ("src", "dst", "src_ip", "dst_ip")
    )
    assert sides(lost.with_columns(lost=pl.lit(7, pl.UInt64))).is_empty()


def test_a_row_of_no_known_direction_is_left_out() -> None:
    assert sides(
        normal(flows("0s a/x -> b/y:80")).with_columns(reply=pl.lit(None, pl.Boolean))
    ).is_empty()


@pytest.mark.parametrize(
    "nobody",
    [
        "224.0.0.251",
        "239.255.255.250",
        "255.255.255.255",
        "10.0.1.255",
        "0.0.0.0",
        "127.0.0.1",
        "169.254.20.10",
        "ff02::fb",
        "fe80::1",
        "::1",
        "::",
    ],
)
def test_an_address_that_nobody_owns_is_no_peer(nobody: str) -> None:
    row = normal(flows("0s a/x -> b/y:53 UDP")).with_columns(dst_ip=pl.lit(nobody))
    assert sides(row).is_empty()


@pytest.mark.parametrize("nobody", ["0.0.0.0", "127.0.0.1", "169.254.7.7", "fe80::1"])
def test_an_address_that_nobody_owns_is_no_actor(nobody: str) -> None:
    row = normal(flows("0s a/x -> b/y:67 UDP")).with_columns(src_ip=pl.lit(nobody))
    assert sides(row).is_empty()


@pytest.mark.parametrize("owned", ["10.0.1.254", "22.4.0.1", "2001:db8::255", "::ffff"])
def test_an_address_that_only_looks_like_those_is_a_peer(owned: str) -> None:
    row = normal(flows("0s a/x -> b/y:80")).with_columns(dst_ip=pl.lit(owned))
    assert sides(row).height == 1


def test_the_metadata_service_of_clouds_is_a_peer_although_link_local() -> None:
    assert told("0s a/x -> ip:169.254.169.254:80") == ("a/x", "ip:169.254.169.254", 80)


def test_a_peer_without_an_address_is_a_peer() -> None:
    row = normal(flows("0s a/x -> b/y:80")).with_columns(dst_ip=pl.lit(None, pl.String))
    assert sides(row).height == 1


@pytest.mark.parametrize("prober", ["reserved:host", "reserved:health"])
def test_health_checks_are_left_out_in_both_directions(prober: str) -> None:
    assert is_left_out(f"0s {prober} -> a/x:8080 SYN")
    assert is_left_out(f"0s {prober} <- a/x:8080 SYN-ACK")


def test_what_a_workload_opens_to_its_node_stays() -> None:
    assert told("0s a/x -> reserved:host:10250 SYN") == ("a/x", "reserved:host", 10250)


def test_a_workload_that_talks_to_itself_has_no_peer() -> None:
    assert is_left_out("0s a/x -> a/x:80 SYN")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("shop/web", "workload"),
        ("example.org", "external"),
        ("world:203.0.0.0/16", "external"),
        ("ip:10.0.0.8", "neither"),
        ("ip:2001:db8::8", "neither"),
        ("reserved:kube-apiserver", "neither"),
    ],
)
def test_a_name_tells_workloads_and_the_world_apart(name: str, kind: str) -> None:
    workload, external = pl.select(
        workload=is_workload(pl.lit(name)), external=is_external(pl.lit(name))
    ).row(0)
    assert (workload, external) == (kind == "workload", kind == "external")
