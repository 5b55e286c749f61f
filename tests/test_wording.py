"""The sentence of each kind of incident, as a person reads it."""

import json

import polars as pl
import pytest
from builders import address, flows, incidents, known, lookups

from sidelong.alerts.incident import Incident
from sidelong.models.baseline import Baseline


def final(frame: pl.DataFrame, baseline: Baseline | None = None) -> Incident:
    """The one incident in some traffic, as it closes."""
    (incident,) = (one for one in incidents(frame, baseline) if one.status == "closed")
    return incident


def sentence(frame: pl.DataFrame, baseline: Baseline | None = None) -> str:
    """Its summary, without the address of the actor."""
    incident = final(frame, baseline)
    return incident.summary.replace(f" ({address(incident.actor.workload)})", "")


def refused(count: int, *, peers: int = 1) -> list[str]:
    told = []
    for n in range(count):
        peer = f"b/y{n % peers}:{n + 1}"
        told += [f"{n}s a/x -> {peer} SYN", f"{n}.1s a/x <- {peer} RST"]
    return told


def denied(peers: int) -> list[str]:
    return [f"{n}s a/x -> b/y{n}:22 DENIED" for n in range(peers)]


# Web and api are at work for hours, and know each other and the resolver.
OFFICE = known(
    {
        "shop/web -> shop/api:80": 20_000,
        "shop/web -> kube-system/coredns:53": 20_000,
        "data/report -> data/db:5432": 500,
    }
)
CASUAL = known({"shop/web -> shop/api:80": 20, "pay/api -> pay/ledger:80": 20})


def answered(*connections: str) -> pl.DataFrame:
    """Connections by shop/web, a minute apart."""
    told = []
    for n, server in enumerate(connections):
        told += [
            f"{n * 60}s shop/web -> {server} SYN",
            f"{n * 60}.01s shop/web <- {server} SYN-ACK",
        ]
    return flows(*told)


def test_a_scan_of_ports() -> None:
    assert sentence(flows(*refused(6))) == "a/x tried 6 ports of b/y0 within 5.0 s: 6 refused."


def test_a_scan_of_few_ports_lists_them() -> None:
    assert sentence(flows(*refused(5))) == (
        "a/x tried ports 1, 2, 3, 4, 5 of b/y0 within 4.0 s: 5 refused."
    )


def test_a_scan_of_many_peers() -> None:
    assert sentence(flows(*denied(8))) == "a/x tried port 22 of 8 peers within 7.0 s: 8 denied."


def test_a_scan_of_few_peers_lists_them() -> None:
    assert sentence(flows(*denied(5))) == (
        "a/x tried port 22 of b/y0, b/y1, b/y2 and 2 more within 4.0 s: 5 denied."
    )


def test_a_scan_that_found_something() -> None:
    found = ["3.5s a/x -> b/z:80 SYN", "3.6s a/x <- b/z:80 SYN-ACK"]
    told = sorted([*denied(3), *found, "4s a/x -> b/y4:22 DENIED", "5s a/x -> b/y5:22 DENIED"])
    assert sentence(flows(*told)) == (
        "a/x tried ports 22, 80 of 6 peers within 5.0 s: 5 denied, 1 answered."
    )


def test_a_scan_by_ping() -> None:
    learnt = known({"b/y0 -> b/y1:80": 1})
    unused = learnt.networks.vstack(pl.DataFrame({"network": ["10.0.7"]}))
    pings = [f"{n}s a/x -> ip:10.0.7.{n + 200}:8 SYN" for n in range(4)]
    frame = flows(*pings).with_columns(
        protocol=pl.lit("ICMP").cast(flows(*pings).schema["protocol"]),
        tcp_flags=pl.lit(None, pl.UInt8),
    )
    baseline = Baseline(learnt.contacts, learnt.workloads, learnt.names, learnt.domains, unused)
    assert sentence(frame, baseline) == (
        "a/x pinged 10.0.7.200, 10.0.7.201, 10.0.7.202 and 1 more within 3.0 s: 4 unused addresses."
    )


def test_guessing_paths() -> None:
    guesses = [f"{n}s a/x <- b/y:80 {404 if n else 403} /{w}" for n, w in enumerate("abcdefgh")]
    assert sentence(flows(*guesses)) == (
        "a/x guessed 8 paths of b/y within 7.0 s: 1 HTTP_403, 7 HTTP_404."
    )


def test_guessing_services() -> None:
    guesses = [
        f"{n}s a/x <- kube-system/coredns:53 NXDOMAIN s{n}.data.svc.cluster.local"
        for n in range(11)
    ]
    assert sentence(flows(*guesses)) == (
        "a/x asked DNS for 11 services within 10.0 s, 11 of which do not exist."
    )


def test_a_spread() -> None:
    told = []
    for n in range(5):
        told += [f"{n}s shop/web -> shop/n{n}:80 SYN", f"{n}.001s shop/web <- shop/n{n}:80 SYN-ACK"]
    assert sentence(flows(*told), CASUAL) == (
        "shop/web opened 5 new connections to shop/n0, shop/n1, shop/n2 and 2 more within 4.0 s, "
        "far faster than it ever took up new peers."
    )


def test_a_tunnel() -> None:
    asked = lookups("a/x", [f"{n:060}.t.example.net" for n in range(20)], gap_seconds=60)
    assert sentence(asked) == (
        "a/x carried 1,240 bytes out in 20 never-seen names (A) under t.example.net within 19 min."
    )


def test_a_tunnel_shared_by_several() -> None:
    told = [
        f"{n / 10}s a/x{n % 6} -> kube-system/coredns:53 QUERY {n:060}.t.example.net"
        for n in range(90)
    ]
    assert sentence(flows(*told)) == (
        "a/x0 and a/x1, a/x2, a/x3 and 2 more together carried over 4,096 bytes out in never-seen "
        "names under t.example.net."
    )


def test_a_foreign_resolver() -> None:
    assert sentence(answered("ip:1.1.1.1:853"), OFFICE) == (
        "shop/web asked DNS servers that nobody here uses: 1.1.1.1:853."
    )


def test_a_lateral_movement() -> None:
    assert sentence(answered("data/db:5432"), OFFICE) == (
        "shop/web connected to data/db:5432 (PostgreSQL in another namespace) for the first time; "
        "in 40000 active seconds it used 2 others."
    )


def test_a_lateral_movement_that_was_denied() -> None:
    frame = flows("0s shop/web -> pay/api:8080 DENIED")
    assert sentence(frame, OFFICE) == (
        "shop/web tried to connect to pay/api:8080 (in another namespace, denied by policy) for "
        "the first time; in 40000 active seconds it used 2 others."
    )


def test_a_lateral_movement_that_went_on() -> None:
    assert sentence(answered("data/db:5432", "ops/a:22", "ops/b:22"), OFFICE) == (
        "shop/web connected to data/db:5432 (PostgreSQL in another namespace) for the first time, "
        "then to 2 more; in 40000 active seconds it used 2 others."
    )


def test_a_chain() -> None:
    told = ["0s shop/web -> pay/api:80 SYN", "0.1s shop/web <- pay/api:80 SYN-ACK"]
    told += ["9s pay/api -> ops/report:80 SYN", "9.1s pay/api <- ops/report:80 SYN-ACK"]
    assert sentence(flows(*told), CASUAL) == (
        "pay/api connected to ops/report:80 for the first time, within half an hour of being "
        "reached for the first time itself: shop/web -> pay/api -> ops/report."
    )


def test_the_instance_stands_behind_the_workload() -> None:
    frame = flows(*refused(6))
    pod = pl.lit("a/x-6f9c-abcde")
    named = frame.with_columns(
        src_pod=pl.when(pl.col("src") == "a/x").then(pod),
        dst_pod=pl.when(pl.col("dst") == "a/x").then(pod),
    )
    assert final(frame).summary.startswith(f"a/x ({address('a/x')}) tried")
    assert final(named).summary.startswith("a/x (x-6f9c-abcde) tried")


@pytest.mark.parametrize(
    ("frame", "severity", "techniques"),
    [
        (flows(*refused(6)), "medium", ("T1046",)),
        (flows(*denied(8)), "high", ("T1046",)),
        (
            lookups("a/x", [f"{n:060}.example.net" for n in range(20)]),
            "high",
            ("T1048.003", "T1071.004"),
        ),
        (answered("data/db:5432"), "high", ("T1210",)),
        (answered("ops/a:22"), "high", ("T1021.004",)),
    ],
)
def test_each_kind_has_a_rank_and_its_techniques(
    frame: pl.DataFrame, severity: str, techniques: tuple[str, ...]
) -> None:
    incident = final(frame, OFFICE)
    assert (incident.severity, incident.techniques) == (severity, techniques)


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "\x1b[31mred\x1b[0m",
        "{0.__class__} %s {}",
        'quote"back\\slash',
        "two\nlines",
        "‮gnp.exe",
    ],
)
def test_hostile_names_are_kept_as_data(hostile: str) -> None:
    names = pl.Series([f"{n:050}{hostile}.example.net" for n in range(20)])
    frame = lookups("a/x", [f"{n:060}.example.net" for n in range(20)]).with_columns(dns_name=names)
    incident = final(frame)
    assert [one.observed for one in incident.evidence[1:]] == names.head(5).to_list()
    line = incident.to_json()
    assert "\n" not in line
    assert json.loads(line)["evidence"][1]["observed"] == names[0]
