"""`sidelong doctor`: what blinds a detector is said, and what does not is not."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from builders import flows
from scripted_live import ScriptedLive

from sidelong import doctor as command
from sidelong import installation
from sidelong.cli import run
from sidelong.doctor import CHECKS, examine
from sidelong.ingest.parquet import write_flows
from sidelong.ingest.podmap import PodMap
from sidelong.ingest.schema import conform, empty_flows
from sidelong.ingest.source import BadRows
from sidelong.sight import Finding, Sample, sight_of
from sidelong.sight_connections import (
    aggregated,
    no_bytes,
    no_connection_starts,
    no_denials,
    no_http,
    no_policy_names,
    no_replies,
)
from sidelong.sight_delivery import (
    clock_skew,
    duplicates,
    late,
    lost_events,
    no_flows,
    short_span,
    unavailable_nodes,
    unreadable,
)
from sidelong.sight_dns import encrypted_dns, no_dns_answers, no_dns_names, some_dns_names
from sidelong.sight_identity import no_principals, reused_addresses, unknown_identities

Captured = pytest.CaptureFixture[str]

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "doctor.md"
DNS: Final = "kube-system/coredns:53"
WEB: Final = ("0s shop/web -> data/db:5432", "0.1s shop/web <- data/db:5432 SYN-ACK")
EVERYTHING: Final = (
    *WEB,
    f"1s shop/web -> {DNS} QUERY db.data.svc.cluster.local",
    f"1.1s shop/web <- {DNS} NOERROR db.data.svc.cluster.local",
    "2s shop/web -> shop/api:80 DENIED",
    "3s shop/web -> shop/cart:80 200 /",
    "90000s shop/web -> data/db:5432",
)


def sample(*told: str, origin: str = "test", **columns: Any) -> Sample:
    """Flows, with columns of all of them set."""
    told_flows = flows(*told) if told else empty_flows()
    return Sample(
        conform(
            told_flows.with_columns(
                origin=pl.lit(origin), **{name: pl.lit(value) for name, value in columns.items()}
            )
        )
    )


def effects(finding: Finding | None) -> dict[str, str]:
    assert finding is not None
    return dict(finding.effects)


# DNS


def test_without_a_name_dns_exfiltration_is_blind() -> None:
    found = no_dns_names(sample(*WEB, f"1s shop/web -> {DNS} UDP"))
    assert effects(found) == {"dns_exfiltration": "blind"}
    assert found is not None
    assert found.observed == "none of 3 flows shows a DNS name, 1 flow to port 53 among them"
    assert no_dns_names(sample(*EVERYTHING)) is None


def test_the_cure_for_hubble_is_a_policy_and_tells_that_the_annotation_is_gone() -> None:
    found = no_dns_names(sample(*WEB, origin="hubble"))
    assert found is not None
    assert 'rules: dns: [{matchPattern: "*"}]' in found.cure
    assert "proxy-visibility did that up to Cilium 1.16" in found.cure


def test_each_kind_of_source_has_its_own_cure() -> None:
    cures = [no_dns_names(sample(*WEB, origin=one)) for one in ("pcap", "zeek", "envoy:inbound")]
    assert len({found.cure for found in cures if found}) == 3


def test_a_workload_whose_names_do_not_show_is_named() -> None:
    told = sample(
        f"0s shop/web -> {DNS} QUERY a.example", f"1s shop/cart -> {DNS} UDP", "2s a/b -> c/d:1"
    )
    found = some_dns_names(told)
    assert effects(found) == {"dns_exfiltration": "partly"}
    assert found is not None
    assert "1 of 2 workloads that use DNS show no names: shop/cart" in found.observed


def test_a_resolver_that_asks_others_is_not_missed() -> None:
    told = sample(
        f"0s shop/web -> {DNS} QUERY a.example", "1s kube-system/coredns -> ip:8.8.8.8:53 UDP"
    )
    assert some_dns_names(told) is None


def test_questions_without_answers_are_half_of_dns() -> None:
    found = no_dns_answers(sample(f"0s shop/web -> {DNS} QUERY a.example"))
    assert effects(found) == {"scan": "partly", "lateral_movement": "partly"}
    assert no_dns_answers(sample(*EVERYTHING)) is None
    assert no_dns_answers(sample(*WEB)) is None


def test_encrypted_dns_is_named_with_its_server() -> None:
    for server in ("ip:10.0.0.9:853", "ip:1.1.1.1:443"):
        found = encrypted_dns(
            sample(f"0s shop/web -> {server}", f"0.1s shop/web <- {server} SYN-ACK")
        )
        assert effects(found) == {"dns_exfiltration": "partly"}
        assert found is not None
        assert found.measured["workloads"] == ["shop/web"]


def test_a_scan_of_port_853_is_no_encrypted_dns() -> None:
    server = "ip:10.0.0.9:853"
    told = sample(f"0s shop/web -> {server}", f"0.1s shop/web <- {server} RST")
    assert encrypted_dns(told) is None


def test_https_elsewhere_is_no_encrypted_dns() -> None:
    server = "ip:93.184.216.34:443"
    told = sample(f"0s shop/web -> {server}", f"0.1s shop/web <- {server} SYN-ACK")
    assert encrypted_dns(told) is None


# Connections


def test_dns_alone_shows_no_connections() -> None:
    found = no_connection_starts(sample(f"0s shop/web -> {DNS} QUERY a.example"))
    assert effects(found)["scan"] == effects(found)["lateral_movement"] == "blind"


def test_requests_alone_show_some() -> None:
    found = no_connection_starts(sample("0s shop/web -> shop/cart:80 200 /"))
    assert effects(found)["scan"] == effects(found)["lateral_movement"] == "partly"


def test_an_answer_alone_opens_nothing() -> None:
    assert no_connection_starts(sample(WEB[1])) is not None
    assert no_connection_starts(sample(*WEB)) is None


def test_connections_that_nobody_answers_are_suspect() -> None:
    opened = [f"{number}s shop/web -> data/db{number}:5432" for number in range(20)]
    found = no_replies(sample(*opened))
    assert effects(found) == {"scan": "partly", "lateral_movement": "partly"}
    answered = [one.replace("->", "<-") + " RST" for one in opened[:2]]
    assert no_replies(sample(*opened, *answered)) is None
    assert no_replies(sample(*opened[:19])) is None


def test_without_bytes_anomalies_of_volume_are_missed() -> None:
    assert effects(no_bytes(sample(*WEB))) == {"anomaly": "partly"}
    assert no_bytes(sample(*WEB, bytes=7)) is None
    found = no_bytes(sample(*WEB, origin="hubble"))
    assert found is not None
    assert found.cure.startswith("Hubble counts no bytes")


def test_rows_that_stand_for_many_events_hide_single_ones() -> None:
    assert effects(aggregated(sample(*WEB, count=5, origin="hubble"))) == {"scan": "partly"}
    assert aggregated(sample(*WEB)) is None


def test_summaries_of_packets_are_no_aggregation() -> None:
    assert aggregated(sample(*WEB, count=5, origin="pcap")) is None


def test_that_nothing_was_denied_is_a_note() -> None:
    assert effects(no_denials(sample(*WEB))) == {}
    assert no_denials(sample(*EVERYTHING)) is None


def test_denials_without_a_policy_are_a_note() -> None:
    assert effects(no_policy_names(sample(*EVERYTHING, origin="hubble"))) == {}
    assert no_policy_names(sample(*EVERYTHING, origin="hubble", policy="data/db")) is None
    assert no_policy_names(sample(*EVERYTHING, origin="zeek")) is None


def test_that_no_request_shows_is_a_note() -> None:
    assert effects(no_http(sample(*WEB))) == {}
    assert no_http(sample(*EVERYTHING)) is None


# Identity


def test_addresses_without_names_blind_what_goes_by_name() -> None:
    found = unknown_identities(sample("0s ip:10.0.0.9 -> data/db:5432"))
    assert effects(found)["lateral_movement"] == "blind"
    assert found is not None
    assert "10.0.0.9" in found.observed
    assert "--pods" in found.cure


def test_few_of_them_blind_in_part() -> None:
    told = ["0s ip:10.0.0.9 -> data/db:5432", *WEB, *WEB]
    assert effects(unknown_identities(sample(*told)))["lateral_movement"] == "partly"


def test_what_is_outside_or_only_aimed_at_needs_no_name() -> None:
    assert unknown_identities(sample("0s world:203.0.0.0/16 -> shop/web:443")) is None
    assert unknown_identities(sample("0s shop/web -> ip:10.0.0.9:5432")) is None


def test_a_pod_map_names_them(tmp_path: Path) -> None:
    path = tmp_path / "pods.json"
    path.write_text(json.dumps({"x": {"ip": "10.0.0.9", "namespace": "a", "workload": "b"}}))
    told = sample("0s ip:10.0.0.9 -> data/db:5432")
    named = Sample(conform(told.flows.drop("src")), pods=PodMap.read(path))
    assert unknown_identities(named) is None


def test_an_address_that_changed_hands_is_a_note() -> None:
    told = sample(*WEB, "9s shop/web -> data/db:5432")
    pods = pl.Series("src_pod", ["shop/web-1", None, "shop/web-2"])
    found = reused_addresses(Sample(told.flows.with_columns(pods)))
    assert effects(found) == {}
    assert reused_addresses(sample(*WEB, src_pod="shop/web-1")) is None


def test_that_no_mesh_identity_shows_is_a_note() -> None:
    assert effects(no_principals(sample(*WEB))) == {}
    assert no_principals(sample(*WEB, src_principal="spiffe://a/ns/b/sa/c")) is None


# Delivery


def test_without_flows_everything_is_blind() -> None:
    assert set(effects(no_flows(sample())).values()) == {"blind"}
    assert [one.code for one in examine(sample())] == ["no-flows"]


def test_many_lost_events_blind_in_part_and_the_node_is_named() -> None:
    told = sample(*WEB, "1s LOST 7", node="worker-a", origin="hubble")
    found = lost_events(told)
    assert set(effects(found).values()) == {"partly"}
    assert found is not None
    assert "7 events lost before they reached us, 77.8 % of all, on worker-a 7" in found.observed
    assert "hubble.eventBufferCapacity" in found.cure


def test_few_lost_events_are_a_note() -> None:
    told = sample(*(f"{number}s shop/web -> data/db:5432" for number in range(120)), "1s LOST 1")
    assert effects(lost_events(told)) == {}


def test_nodes_that_relay_does_not_reach_are_named() -> None:
    found = unavailable_nodes(Sample(sample(*WEB).flows, unavailable=["b", "a"]))
    assert found is not None
    assert found.observed == "Hubble Relay does not reach 2 nodes: a, b"


def test_rows_that_cannot_be_read_are_told() -> None:
    told = sample(*WEB).flows
    found = unreadable(Sample(told, bad=BadRows(3, ("a.log at byte 7: no JSON",))))
    assert set(effects(found).values()) == {"partly"}
    assert found is not None
    assert found.observed == "3 rows could not be read, such as a.log at byte 7: no JSON"


def two_nodes(apart_seconds: float, events: int = 6) -> Sample:
    """The same SYNs, seen by two nodes whose clocks are so far apart."""
    seen = flows(*(f"{number}s shop/web -> data/db:{5000 + number}" for number in range(events)))
    other = seen.with_columns(
        pl.col("time") + pl.duration(milliseconds=round(apart_seconds * 1e3)), node=pl.lit("b")
    )
    both = pl.concat([seen.with_columns(node=pl.lit("a")), other], how="diagonal_relaxed")
    return Sample(conform(both.with_columns(origin=pl.lit("hubble"))))


def test_clocks_that_differ_are_told_by_how_much() -> None:
    for apart, told in ((2.5, "b is 2.5 s ahead of a"), (-40.0, "b is 40.0 s behind a")):
        found = clock_skew(two_nodes(apart))
        assert found is not None
        assert told in found.observed


def test_the_way_between_two_nodes_is_no_skew() -> None:
    assert clock_skew(two_nodes(0.05)) is None


def test_too_few_common_events_tell_nothing_of_clocks() -> None:
    assert clock_skew(two_nodes(2.5, events=4)) is None


def test_flows_that_come_late_are_told() -> None:
    told = [f"{number}s shop/web -> data/db:5432" for number in range(10)]
    found = late(sample(*told, told[0]))
    assert effects(found) == {"lateral_movement": "partly"}
    assert found is not None
    assert "up to 9 s" in found.observed
    assert late(sample(*told, told[8])) is None


def test_rows_that_are_there_twice_are_a_note() -> None:
    assert effects(duplicates(sample(*WEB, *WEB))) == {}
    assert duplicates(sample(*WEB)) is None


def test_a_short_recording_is_a_note_and_a_live_one_is_not() -> None:
    assert effects(short_span(sample(*WEB))) == {}
    assert short_span(Sample(sample(*WEB).flows, live=True)) is None
    assert short_span(sample(*EVERYTHING)) is None


# Together


def test_where_everything_shows_nothing_is_found() -> None:
    whole = sample(*EVERYTHING, bytes=7, src_principal="spiffe://a/ns/b/sa/c")
    assert examine(whole) == []
    assert {one.sight for one in sight_of([])} == {"sees"}


def test_the_worst_effect_counts() -> None:
    half = Finding(code="a", observed="", cure="", effects={"scan": "partly"})
    all_of_it = Finding(code="b", observed="", cure="", effects={"scan": "blind"})
    (scan, *_) = sight_of([half, all_of_it])
    assert (scan.sight, scan.findings) == ("blind", ["a", "b"])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_check_stumbles_over_nothing(check: Any) -> None:
    nothing = check(Sample(empty_flows()))
    assert nothing is None or nothing.code == "no-flows"


def test_every_finding_has_its_paragraph() -> None:
    sources = [*(PAGE.parent.parent / "sidelong").glob("sight_*.py")]
    codes = {code for file in sources for code in re.findall(r'code="([a-z-]+)"', file.read_text())}
    assert len(codes) == len(CHECKS)
    assert codes == set(re.findall(r"^### ([a-z-]+)$", PAGE.read_text(), re.MULTILINE))


# The command


def report(arguments: Sequence[str], status: int, capsys: Captured) -> dict[str, Any]:
    assert run(["doctor", *arguments, "--output", "json"]) == status
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_on_hubble_without_dns_the_blindness_is_told_and_cured(
    data: Path, capsys: Captured
) -> None:
    flows_of_tcp = str(data / "hubble-otel" / "basic-sample-400-tcp-flows.json")
    told = report([flows_of_tcp], 1, capsys)
    sights = {one["detector"]: one["sight"] for one in told["detectors"]}
    assert sights == {
        "scan": "sees",
        "dns_exfiltration": "blind",
        "lateral_movement": "sees",
        "anomaly": "partly",
    }
    assert run(["doctor", flows_of_tcp, "--output", "table"]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"dns exfiltration +blind +no-dns-names", shown)
    assert 'rules: dns: [{matchPattern: "*"}]' in " ".join(shown.split())


def test_in_packets_with_a_pod_map_all_see(data: Path, capsys: Captured) -> None:
    lab = data / "cluster-lab"
    told = report([str(lab / "test.pcap"), "--pods", str(lab / "pods.json")], 0, capsys)
    assert {one["sight"] for one in told["detectors"]} == {"sees"}


def test_the_report_keeps_its_shape(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "a.parquet"
    write_flows([sample(*EVERYTHING, "2s LOST 1", node="n1", src_principal="x").flows], path)
    told = report([str(path)], 1, capsys)
    notes = {one.pop("code"): one for one in told.pop("findings")}
    assert told == {
        "version": 1,
        "sources": [str(path)],
        "flows": 7,
        "whole": True,
        "first": "2026-11-23T09:00:00+00:00",
        "last": "2026-11-24T10:00:00+00:00",
        "lost": 1,
        "unreadable": 0,
        "origins": {"test": 7},
        "nodes": 1,
        "hubble_version": None,
        "counters": {},
        "detectors": [
            {"detector": "scan", "sight": "partly", "findings": ["lost-events"]},
            {"detector": "dns_exfiltration", "sight": "partly", "findings": ["lost-events"]},
            {"detector": "lateral_movement", "sight": "partly", "findings": ["lost-events"]},
            {"detector": "anomaly", "sight": "partly", "findings": ["lost-events", "no-bytes"]},
        ],
    }
    assert notes["no-bytes"] == {
        "observed": "no flow says how many bytes it carried: unusual volumes go unnoticed",
        "cure": "collect a source that counts bytes as well, such as mesh access logs or Zeek",
        "effects": {"anomaly": "partly"},
        "measured": {"flows": 7},
        "page": "docs/doctor.md#no-bytes",
    }


def test_no_more_flows_are_looked_at_than_asked_for(tmp_path: Path, capsys: Captured) -> None:
    for number in range(3):
        write_flows([sample(*EVERYTHING).flows], tmp_path / f"{number}.parquet")
    told = report([str(tmp_path), "--max-flows", "7"], 1, capsys)
    assert told["whole"] is False
    assert 7 <= told["flows"] < 21


def test_a_live_source_is_looked_at_for_a_while_and_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    source = ScriptedLive(sample(*EVERYTHING).flows, endless=True)
    monkeypatch.setattr(command, "open_inputs", lambda *_: [source])
    monkeypatch.setattr(command, "open_live", lambda *_: source)
    told = report([source.name, "--for", "1s"], 1, capsys)
    assert told["flows"] == 7
    assert "short-span" not in {one["code"] for one in told["findings"]}


def test_a_silent_live_source_is_blind(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    source = ScriptedLive(empty_flows(), endless=True)
    monkeypatch.setattr(command, "open_inputs", lambda *_: [source])
    monkeypatch.setattr(command, "open_live", lambda *_: source)
    told = report([source.name, "--for", "1s"], 1, capsys)
    assert {one["sight"] for one in told["detectors"]} == {"blind"}


def test_a_hostile_name_does_not_reach_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    told = sample("0s ip:10.0.0.9 -> data/db:5432", "1s LOST 5", node="a\x1b[2Jb")
    write_flows([told.flows], tmp_path / "a.parquet")
    for output in ("table", "json"):
        run(["doctor", str(tmp_path / "a.parquet"), "--output", output])
        assert "\x1b[2J" not in capsys.readouterr().out


def test_a_source_that_is_missing_is_an_error(tmp_path: Path) -> None:
    assert run(["doctor", str(tmp_path / "no.pcap")]) == 3


# The installation


def test_the_installation_is_looked_at_without_a_source(capsys: Captured) -> None:
    told = report([], 0, capsys)
    states = {one["name"]: one["state"] for one in told["installation"]}
    assert states["polars"] == states["configuration"] == states["working folder"] == "ok"
    assert {"[fast]", "[kubernetes]"} <= set(states)


def test_an_extra_that_is_absent_is_no_fault_and_can_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    absent = {"fast": ("reads faster", ("no_such_module",))}
    monkeypatch.setattr(installation, "EXTRAS", absent)
    assert run(["doctor", "--output", "table"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"\[fast\] +absent", shown)
    assert "pip install 'sidelong[fast]'" in shown


def test_a_folder_that_cannot_be_written_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/no/such/folder")
    assert run(["doctor", "--output", "table"]) == 1


def test_a_wrong_configuration_is_told(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "sidelong.toml").write_text("[collect]\nrotate = 1\n")
    assert run(["doctor", "--config", str(tmp_path / "sidelong.toml")]) == 2
    assert "rotate" in capsys.readouterr().err
