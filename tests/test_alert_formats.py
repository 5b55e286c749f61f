"""Each form of an alert: what its receiver's reference demands, and what it says of the shop."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from alert_forms import FORMS, HOSTILE, NOW, hostile, shop_incidents
from alert_schemas import SCHEMAS
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from jsonschema import Draft202012Validator, FormatChecker
from py_ocsf_models.events.findings.detection_finding import DetectionFinding  # type: ignore[import-untyped]

from sidelong.alerts.format_alertmanager import alertmanager_alerts
from sidelong.alerts.format_cloudevents import EVENT_TYPE, cloudevents
from sidelong.alerts.format_ecs import ecs_bulk, ecs_documents
from sidelong.alerts.format_ocsf import ocsf_findings
from sidelong.alerts.format_pagerduty import LARGEST, pagerduty_events
from sidelong.alerts.format_slack import slack_message
from sidelong.alerts.format_syslog import cef, framed, syslog_messages
from sidelong.alerts.format_teams import teams_message
from sidelong.alerts.incident import Incident, Target
from sidelong.alerts.sample import sample_incident, sample_incidents
from sidelong.alerts.techniques import technique

GOLDEN: Final = Path(__file__).parent / "golden" / "alerts"
LABELS: Final = {"cluster": "shop-1", "team": "payments on call"}


@pytest.mark.parametrize("form", FORMS)
def test_the_shop_incident_is_told_as_it_was_reviewed(form: str, request: Any) -> None:
    """After a change: pytest tests/test_alert_formats.py --rewrite-golden, then read the diff."""
    told = FORMS[form](shop_incidents(), LABELS)
    content = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    path = GOLDEN / f"{form}.json"
    if request.config.getoption("--rewrite-golden"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    assert content == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", SCHEMAS)
def test_a_schema_is_one(form: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[form])


def problems(form: str, events: list[Incident], labels: dict[str, str]) -> list[str]:
    checker = Draft202012Validator(SCHEMAS[form], format_checker=FormatChecker())
    payload = json.loads(json.dumps(FORMS[form](events, labels)))
    return [f"{error.json_path}: {error.message[:300]}" for error in checker.iter_errors(payload)]


@pytest.mark.parametrize("form", SCHEMAS)
def test_a_payload_is_as_its_reference_demands(form: str) -> None:
    assert problems(form, shop_incidents(), LABELS) == []
    for events in sample_incidents():
        assert problems(form, list(events), {}) == []


@pytest.mark.parametrize("form", SCHEMAS)
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_payload_of_hostile_names_is_so_too(form: str, name: str) -> None:
    assert problems(form, [hostile(name)], {"team": name}) == []


@pytest.mark.parametrize("form", SCHEMAS)
def test_a_payload_of_many_events_is_so_too(form: str) -> None:
    many = [replace(shop_incidents()[0], id=f"{number:016x}") for number in range(200)]
    assert problems(form, many, LABELS) == []


@pytest.mark.parametrize("event", shop_incidents(), ids=lambda event: event.kind)
def test_the_models_of_ocsf_take_a_finding(event: Incident) -> None:
    (finding,) = ocsf_findings([event], LABELS)
    model = DetectionFinding.model_validate_json(json.dumps(finding))
    assert model.type_uid == model.class_uid * 100 + model.activity_id
    assert model.finding_info.uid == event.id
    attacks = model.finding_info.attacks or []
    told = {
        one.sub_technique.uid if one.sub_technique else one.technique.uid
        for one in attacks
        if one.technique
    }
    assert told == set(event.techniques)


def test_an_ocsf_finding_is_created_updated_and_closed_under_one_id() -> None:
    event = sample_incident()
    statuses = [replace(event, status=status) for status in ("open", "update", "closed")]
    findings = ocsf_findings(statuses, {})
    assert [one["activity_name"] for one in findings] == ["Create", "Update", "Close"]
    assert {one["finding_info"]["uid"] for one in findings} == {event.id}
    assert len({one["metadata"]["uid"] for one in findings}) == 3


def test_the_library_of_cloudevents_reads_ours() -> None:
    for event, told in zip(shop_incidents(), cloudevents(shop_incidents(), {}), strict=True):
        message = HTTPMessage({"content-type": EVENT_TYPE}, json.dumps(told).encode())
        read = from_structured_event(message)
        assert read.get_type() == f"dev.sidelong.incident.{event.status}"
        assert read.get_subject() == event.actor.workload
        assert read.get_time() == event.last_seen
        data = read.get_data()
        assert isinstance(data, dict)
        assert data["id"] == event.id


def test_two_updates_have_two_ids_and_a_repetition_has_the_same() -> None:
    event = replace(sample_incident(), status="update")
    grown = replace(event, score=0.9)
    first, second, again = (one["id"] for one in cloudevents([event, grown, event], {}))
    assert first == again != second
    assert first.startswith(f"{event.id}-update-")


def test_pagerduty_is_triggered_and_resolved_under_the_id_of_the_incident() -> None:
    event = sample_incident()
    events = [event, replace(event, status="update"), replace(event, status="closed")]
    told = pagerduty_events(events, {}, routing_key="k")
    assert [one["event_action"] for one in told] == ["trigger", "trigger", "resolve"]
    assert {one["dedup_key"] for one in told} == {event.id}


def test_what_somebody_took_on_is_acknowledged_to_pagerduty() -> None:
    (told,) = pagerduty_events([sample_incident()], {}, routing_key="k", acknowledged=True)
    assert told["event_action"] == "acknowledge"


def test_an_event_for_pagerduty_stays_below_its_limit() -> None:
    labels = {f"label-{number}": "\U0001f600" * 500 for number in range(200)}
    (told,) = pagerduty_events([hostile("\U0001f600" * 500)], labels, routing_key="k")
    assert len(json.dumps(told)) <= LARGEST
    assert told["payload"]["summary"]


def test_slack_tells_of_as_many_as_fit_and_how_many_more_there_are() -> None:
    many = [replace(sample_incident(), id=f"{number}") for number in range(60)]
    told = slack_message(many, {})
    assert len(told["blocks"]) <= 50
    assert told["blocks"][0]["text"]["text"] == "[MEDIUM] 60 incidents"
    assert told["blocks"][-1]["elements"][0]["text"] == "and 44 more"


def test_teams_gets_no_more_than_it_takes() -> None:
    many = [replace(hostile("x" * 600), id=f"{number}") for number in range(60)]
    told = teams_message(many, LABELS)
    assert len(json.dumps(told)) < 28_000
    last = told["attachments"][0]["content"]["body"][-2]
    assert last["inlines"][0]["text"].endswith(" more")


def test_a_closed_incident_resolves_its_alert_with_the_same_labels() -> None:
    event = sample_incident()
    closed = replace(event, status="closed", score=0.9, id=event.id)
    fires, ends = alertmanager_alerts([event, closed], LABELS, now=NOW)
    assert fires["labels"] == ends["labels"]
    assert datetime.fromisoformat(fires["endsAt"]) > NOW >= datetime.fromisoformat(ends["endsAt"])


def test_nothing_that_differs_between_incidents_is_a_label() -> None:
    event = sample_incident()
    other = replace(sample_incident(NOW), story="other", summary="other", objects=(Target("a"),))
    one, two = alertmanager_alerts([event, other], LABELS, now=NOW)
    assert one["labels"] == two["labels"]


def test_an_incident_that_grew_severe_resolves_the_alert_that_it_was() -> None:
    event = replace(sample_incident(), status="update", severity="high")
    now, was = alertmanager_alerts([event], {}, now=NOW, before={event.id: "medium"})
    assert [now["labels"]["severity"], was["labels"]["severity"]] == ["high", "medium"]
    assert datetime.fromisoformat(was["endsAt"]) <= NOW < datetime.fromisoformat(now["endsAt"])


def test_an_alert_of_the_future_ends_after_it_starts() -> None:
    event = replace(sample_incident(NOW + timedelta(hours=1)), status="closed")
    (alert,) = alertmanager_alerts([event], {}, now=NOW)
    assert alert["startsAt"] <= alert["endsAt"]


def test_a_bulk_creates_each_document_once_under_its_key() -> None:
    lines = [json.loads(line) for line in ecs_bulk(shop_incidents(), {}).splitlines()]
    assert len(lines) == 6
    for action, document in zip(lines[::2], lines[1::2], strict=True):
        assert action == {"create": {"_id": document["event"]["id"]}}


def test_ecs_names_technique_and_subtechnique() -> None:
    tunnel = ecs_documents(shop_incidents(), {})[1]
    assert tunnel["threat"]["technique"]["id"] == ["T1048", "T1071"]
    assert tunnel["threat"]["technique"]["subtechnique"]["id"] == ["T1048.003", "T1071.004"]
    assert tunnel["threat"]["tactic"]["name"] == ["Exfiltration", "Command and Control"]


def test_a_technique_without_a_name_is_its_id() -> None:
    assert technique("T9999").shown == "T9999"
    (finding,) = ocsf_findings([replace(sample_incident(), techniques=("T9999.001",))], {})
    (attack,) = finding["finding_info"]["attacks"]
    assert attack["technique"]["uid"] == "T9999"
    assert attack["sub_technique"]["uid"] == "T9999.001"


@pytest.mark.parametrize("longest", [1_024, 2_048, 8_192])
def test_a_syslog_message_has_no_more_bytes_than_allowed(longest: int) -> None:
    for name in HOSTILE.values():
        (told,) = syslog_messages([hostile(name)], {"team": name}, sent_at=NOW, longest=longest)
        assert len(told) <= longest
        assert b"externalId=" in told
        told.decode()


def test_a_custom_key_of_cef_is_never_without_its_label() -> None:
    for longest in range(600, 1_400, 7):
        line = cef(shop_incidents()[0], LABELS, longest=longest)
        keys = {part.partition("=")[0] for part in line.split(" ") if "=" in part}
        custom = {key for key in keys if key.startswith(("cs", "cfp"))}
        assert custom == {
            f"{key.removesuffix('Label')}{end}" for key in custom for end in ("", "Label")
        }


def test_a_syslog_priority_is_facility_and_severity() -> None:
    event = replace(sample_incident(), severity="critical")
    (told,) = syslog_messages([event], {}, sent_at=datetime(2026, 1, 1, tzinfo=UTC), facility=4)
    assert told.startswith(b"<34>1 2026-01-01T00:00:00.000Z - sidelong - open ")


def test_a_frame_counts_octets_not_characters() -> None:
    assert framed("ü".encode()) == b"2 \xc3\xbc"
