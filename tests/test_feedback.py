"""What people say of incidents: what a baseline learns of it, and what is kept of who said it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from builders import START, flows, incidents, known, learnt, lookups
from told_incidents import opened, updated

from sidelong.alerts.audit import Acknowledged, Entry, append, entries
from sidelong.alerts.incident import Incident
from sidelong.alerts.lessons import benign, confirmed
from sidelong.errors import ConfigError
from sidelong.models.baseline import Baseline
from sidelong.models.feedback import Allowance, Edge, Feedback, Scanner

LATER = START + timedelta(days=30)
WEB = {"shop/web -> shop/s0:80": 227, "shop/web -> shop/s1:80": 1}
CLUSTER = known(
    WEB
    | {"data/report -> data/db:5432": 100, "data/admin -> data/db:5432": 100}
    | {f"misc/c{n} -> misc/s{n % 15}:80": 100 for n in range(22)}
)
INTRUSION = flows("0s shop/web -> data/db:5432 SYN", "0.01s shop/web <- data/db:5432 SYN-ACK")
HABIT = flows("0s shop/web -> shop/s0:80 SYN", "0.01s shop/web <- shop/s0:80 SYN-ACK")
SCAN = flows(
    *(
        line
        for port in range(1, 30)
        for line in (
            f"{port}s shop/web -> data/db:{port} SYN",
            f"{port}.01s shop/web <- data/db:{port} RST",
        )
    )
)
TUNNEL = lookups("shop/web", [f"{n:04d}{'x' * 40}.t.evil.example" for n in range(60)])


def found(frame: pl.DataFrame, baseline: Baseline) -> list[Incident]:
    return [one for one in incidents(frame, baseline) if one.status == "open"]


def last(frame: pl.DataFrame, baseline: Baseline) -> Incident:
    return incidents(frame, baseline)[-1]


def test_an_edge_that_is_called_benign_is_known() -> None:
    lesson = benign(last(INTRUSION, CLUSTER), Feedback(), until=LATER)
    assert lesson.taught == ("shop/web -> data/db:5432 is known",)
    assert found(INTRUSION, CLUSTER.heeding(lesson.feedback)) == []


def test_an_edge_that_is_confirmed_alarms_although_it_was_learnt() -> None:
    (edge,) = (Edge(actor="shop/web", peer="shop/s0", port=80),)
    assert found(HABIT, CLUSTER) == []
    (again,) = found(HABIT, CLUSTER.heeding(Feedback(forbidden_edges=(edge,))))
    assert again.kind == "lateral_movement"
    assert "confirmed_before" in {one.feature for one in again.evidence}


def test_the_incident_that_is_confirmed_names_the_edge() -> None:
    lesson = confirmed(last(INTRUSION, CLUSTER), Feedback())
    assert lesson.taught == ("shop/web -> data/db:5432 is forbidden",)


def test_what_is_benign_after_all_is_forbidden_no_more() -> None:
    incident = last(INTRUSION, CLUSTER)
    forbidden = confirmed(incident, Feedback()).feedback
    lesson = benign(incident, forbidden, until=LATER)
    assert (len(forbidden.forbidden_edges), lesson.feedback.forbidden_edges) == (1, ())
    assert confirmed(incident, lesson.feedback).feedback.known_edges == ()


def test_a_domain_that_is_called_benign_may_be_told_as_much_again() -> None:
    incident = last(TUNNEL, CLUSTER)
    assert incident.kind == "dns_exfiltration"
    lesson = benign(incident, Feedback(), until=LATER)
    (allowed,) = lesson.feedback.allowed_domains
    assert (allowed.actor, allowed.domain) == ("shop/web", "evil.example")
    assert found(TUNNEL, CLUSTER.heeding(lesson.feedback)) == []
    more = lookups("shop/web", [f"{n:04d}{'y' * 40}.t.evil.example" for n in range(200)])
    assert len(found(more, CLUSTER.heeding(lesson.feedback))) == 1


def test_a_domain_that_is_confirmed_alarms_on_the_first_new_name() -> None:
    lesson = confirmed(last(TUNNEL, CLUSTER), Feedback())
    one = lookups("shop/web", ["hello.evil.example"])
    assert found(one, CLUSTER) == []
    (again,) = found(one, CLUSTER.heeding(lesson.feedback))
    assert again.kind == "dns_exfiltration"


def test_a_name_that_was_learnt_stays_free_even_below_a_forbidden_domain() -> None:
    baseline = learnt(lookups("shop/web", ["www.evil.example"]))
    forbidden = (Allowance(actor="shop/web", domain="evil.example"),)
    heeding = baseline.heeding(Feedback(forbidden_domains=forbidden))
    assert found(lookups("shop/web", ["www.evil.example"]), heeding) == []


def test_a_scanner_may_scan_until_its_time_is_over() -> None:
    incident = last(SCAN, CLUSTER)
    lesson = benign(incident, Feedback(), until=LATER)
    assert lesson.taught == ("shop/web may scan until 2026-12-23 09:00 UTC",)
    assert found(SCAN, CLUSTER.heeding(lesson.feedback)) == []
    over = benign(incident, Feedback(), until=START).feedback
    assert [one.kind for one in found(SCAN, CLUSTER.heeding(over))] == ["scan"]


def test_a_scan_that_is_confirmed_ends_the_licence_to_scan() -> None:
    licence = Feedback(scanners=(Scanner(actor="shop/web", until=LATER),))
    lesson = confirmed(last(SCAN, CLUSTER), licence)
    assert lesson.feedback.scanners == ()
    assert lesson.taught == ("shop/web is no scanner any more",)


def test_others_than_the_actor_are_not_meant() -> None:
    lesson = benign(last(SCAN, CLUSTER), Feedback(), until=LATER)
    other = SCAN.with_columns(
        pl.col("src", "dst").str.replace("shop/web", "shop/api", literal=True)
    )
    assert len(found(other, CLUSTER.heeding(lesson.feedback))) == 1


def test_feedback_is_kept_beside_the_baseline_and_heeded_when_it_is_loaded(tmp_path: Path) -> None:
    CLUSTER.save(tmp_path)
    lesson = benign(last(INTRUSION, CLUSTER), Feedback.read(tmp_path), until=LATER)
    lesson.feedback.save(tmp_path)
    assert found(INTRUSION, Baseline.load(tmp_path)) == []
    CLUSTER.save(tmp_path)  # learnt anew
    assert found(INTRUSION, Baseline.load(tmp_path)) == []


def test_the_tables_of_the_baseline_are_left_as_they_were_learnt(tmp_path: Path) -> None:
    CLUSTER.save(tmp_path)
    before = (tmp_path / "contacts.parquet").read_bytes()
    benign(last(INTRUSION, CLUSTER), Feedback(), until=LATER).feedback.save(tmp_path)
    Baseline.load(tmp_path)
    assert (tmp_path / "contacts.parquet").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"format": 2}',
        '{"edges": []}',
        '{"scanners": [{"actor": "a", "until": "2027-01-01T00:00:00"}]}',
    ],
)
def test_feedback_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "feedback.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"feedback\.json"):
        Feedback.read(tmp_path)


def entry(incident: Incident, verdict: str = "ack") -> Entry:
    return Entry.on(
        incident,
        verdict,  # type: ignore[arg-type]
        at=datetime(2026, 11, 24, tzinfo=UTC),
        by="ada",
        why="known\nrollout",
    )


def test_the_audit_trail_grows_by_lines(tmp_path: Path) -> None:
    trail = tmp_path / "audit.jsonl"
    append(trail, entry(opened("a")))
    append(trail, entry(opened("b"), "confirm"))
    lines = trail.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["incident"] for line in lines] == ["a", "b"]
    assert entries(trail) == ([entry(opened("a")), entry(opened("b"), "confirm")], 0)


def test_a_line_that_was_cut_off_spoils_only_itself(tmp_path: Path) -> None:
    trail = tmp_path / "audit.jsonl"
    append(trail, entry(opened("a")))
    with trail.open("ab") as file:
        file.write(b'{"at": "2026-')
    append(trail, entry(opened("b")))
    read, bad = entries(trail)
    assert ([one.incident for one in read], bad) == (["a", "b"], 1)


def test_an_acknowledgement_covers_an_incident_until_it_gets_worse() -> None:
    seen = Acknowledged([entry(opened("a", severity="medium"))])
    incident = opened("a", severity="medium")
    assert seen.covers(updated(incident))
    assert not seen.covers(updated(incident, "critical"))
    assert not seen.covers(opened("b"))


def test_what_is_confirmed_is_still_told() -> None:
    assert not Acknowledged([entry(opened("a"), "confirm")]).covers(opened("a"))
