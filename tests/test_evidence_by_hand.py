"""What incidents say is what the flows show, counted again one by one: tests/recount.py."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from builders import flows, incidents, known, lookups
from recount import Naming, turned
from recount_incidents import Recount
from scorecard.captures import Capture, cluster_lab, public
from scorecard.judged import incidents as judged
from scorecard.judged import learnt as learnt_from
from test_anomaly_replay import TWO_HOURS, minutes

from sidelong.alerts.incident import Incident
from sidelong.learning import Learning
from sidelong.models.baseline import Baseline


def by_name(row: dict[str, Any], side: str) -> str:
    """Who the source says it is, else the address."""
    name, ip = row[side], row[f"{side}_ip"]
    if name:
        return str(name)
    inside = ipaddress.ip_address(ip).is_private
    return f"ip:{ip}" if inside else f"world:{ipaddress.ip_network(f'{ip}/16', strict=False)}"


def disagreements(
    captures: Iterator[Capture], who: Naming = by_name
) -> list[tuple[str, list[str]]]:
    found = []
    for capture in captures:
        quiet, rest = capture.parts()
        recount = Recount(quiet, rest, who)
        told = judged(rest, capture, learnt_from(quiet, capture))
        found += [(one.summary, recount.disagreements(one)) for one in told]
    assert found
    return [(summary, wrong) for summary, wrong in found if wrong]


def test_every_number_about_the_example_can_be_counted_again(data: Path) -> None:
    assert disagreements(cluster_lab(data)) == []


@pytest.mark.slow
def test_every_number_about_captures_of_others_can_be_counted_again(data: Path) -> None:
    one_day = (one for one in public(data) if "/010-zeek" not in one.name)  # of two alike
    assert disagreements(one_day) == []


def last(frame: pl.DataFrame, baseline: Baseline | None = None) -> Incident:
    (incident,) = (one for one in incidents(frame, baseline) if one.status == "closed")
    return incident


def first_item(frame: pl.DataFrame, baseline: Baseline | None = None) -> tuple[str, str, str]:
    item = last(frame, baseline).evidence[0]
    return item.feature, item.observed, item.expected


def test_guessed_paths_are_counted() -> None:
    told = [f"{n}s a/x <- b/y:80 {404 if n else 200} /{word}" for n, word in enumerate("abcdefghi")]
    assert first_item(flows(*told)) == (
        "paths_first_contacts",
        "8 of 8 refused or not found",  # from where the sum last stood at zero
        "about 1 in 10",
    )


def test_guessed_services_are_counted() -> None:
    told = [
        f"{n}s a/x <- kube-system/coredns:53 NXDOMAIN s{n}.data.svc.cluster.local"
        for n in range(12)
    ]
    assert first_item(flows(*told)) == (
        "services_first_contacts",
        "12 of 12 do not exist",
        "about 1 in 5",
    )


def test_new_peers_of_a_spread_are_counted() -> None:
    told = []
    for n in range(6):
        told += [f"{n}s shop/web -> shop/n{n}:80 SYN", f"{n}.001s shop/web <- shop/n{n}:80 SYN-ACK"]
    casual = known({"shop/web -> shop/api:80": 20, "pay/api -> pay/ledger:80": 20})
    assert first_item(flows(*told), casual) == (
        "spread_first_contacts",
        "6 new peers within 5.0 s",
        "no more than 20 an hour",
    )


@pytest.mark.parametrize(("tried", "answered", "fails"), [(0, 0, 20), (14, 12, 11), (80, 80, 100)])
def test_a_scan_is_held_against_the_record_of_the_workload(
    tried: int, answered: int, fails: int
) -> None:
    baseline = known({"a/x -> b/z:80": 100})
    record = {"first_contacts": tried, "answered": answered}
    workloads = baseline.workloads.with_columns(pl.lit(n).alias(k) for k, n in record.items())
    told = []
    for n in range(20):
        told += [f"{n}s a/x -> b/y:{n + 1} SYN", f"{n}.1s a/x <- b/y:{n + 1} RST"]
    expected = first_item(flows(*told), replace(baseline, workloads=workloads))[2]
    assert expected == f"about 1 in {fails} fails"


def tunnel(count: int = 40) -> pl.DataFrame:
    return lookups("a/x", [f"{n:060}.t.example.net" for n in range(count)], gap_seconds=60)


def test_a_tunnel_is_held_against_what_holds_for_all() -> None:
    assert first_item(tunnel()) == (
        "new_name_bytes",
        f"{40 * 62} in 40 queries",
        "below 1024, leaking 4096 a day",
    )


def test_a_tunnel_is_held_against_the_allowance_of_the_workload() -> None:
    learning = Learning()
    learning.observe(lookups("a/x", [f"h{n}.example.net" for n in range(90)], gap_seconds=30))
    allowed = first_item(tunnel(), learning.finish())[2]
    below, leaking = (int(word.rstrip(",")) for word in allowed.split() if word[0].isdigit())
    assert below == 1_024
    # Ninety names of two or three bytes in three quarters of an hour, seen beside a day of silence.
    assert 4_096 + 200 < leaking < 4_096 + 400


def test_what_counts_twice_is_told_twice() -> None:
    asked = tunnel(20).with_columns(dns_type=pl.lit("NULL"))
    assert first_item(asked)[1] == f"{20 * 62} in 20 queries, {2 * 20 * 62} with NULL counted twice"


def test_a_strange_minute_is_the_one_that_decided() -> None:
    learning = Learning()
    learning.observe(minutes(120))
    strange = minutes(20, TWO_HOURS, busy=60)
    (incident,) = (one for one in incidents(strange, learning.finish()) if one.status == "closed")
    minute = incident.detected_at.replace(second=0, microsecond=0)
    inside = strange.filter(
        pl.col("time").is_between(minute, minute + timedelta(minutes=1), "left")
    )
    ours = [
        one
        for one in turned(inside, by_name)
        if (one.actor, one.peer) == (incident.actor.workload, incident.objects[0].workload)
    ]
    refused = sum(one.what == "refused" for one in ours)
    ended = refused + sum(one.what == "answered" for one in ours)
    counted: dict[str, Callable[[], str]] = {
        "events": lambda: f"{len(ours)} events",
        "refusals": lambda: f"{refused} events",
        "refused_share": lambda: f"{100 * refused / ended:.3g} %",
    }
    told = {one.feature: one.observed for one in incident.evidence}
    assert told.keys() & counted.keys()
    assert {name: counted[name]() for name in told.keys() & counted.keys()} == {
        name: told[name] for name in told.keys() & counted.keys()
    }
