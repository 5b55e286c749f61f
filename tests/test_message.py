"""Messages: what tells one from another, and that the outbox gives back what it was given."""

import dataclasses
from datetime import UTC, datetime

import pytest

from sidelong.alerts.incident import Actor, Incident, Observation, Target
from sidelong.alerts.receiver import Message

INCIDENT = Incident(
    id="0123456789abcdef",
    status="open",
    kind="scan",
    severity="high",
    score=0.75,
    detected_at=datetime(2026, 5, 1, 12, 0, 0, 250_000, UTC),
    first_seen=datetime(2026, 5, 1, 11, 59, tzinfo=UTC),
    last_seen=datetime(2026, 5, 1, 12, tzinfo=UTC),
    actor=Actor("shop/frontend", pod="frontend-1", ip="10.0.0.1"),
    objects=(Target(workload="shop/db", port=5432), Target(domain="evil.example")),
    counts={"ports": 40},
    techniques=("T1046",),
    evidence=(Observation("ports", "40", "2", 13.8),),
    story="s1",
    summary="shop/frontend scans \N{SNOWMAN} \ud800",
)


def message(*events: Incident, receiver: str = "pager", occasion: str = "") -> Message:
    return Message(receiver=receiver, events=events, occasion=occasion, created_at=1.5)


def test_an_incident_comes_back_from_its_plain_values() -> None:
    assert Incident.of(INCIDENT.to_dict()) == INCIDENT


def test_an_incident_without_its_story_is_refused_by_name() -> None:
    plain = INCIDENT.to_dict()
    del plain["story"]
    with pytest.raises(ValueError, match="story"):
        Incident.of(plain)


def test_a_message_comes_back_from_its_json() -> None:
    whole = dataclasses.replace(message(INCIDENT, occasion="reminder 2"), context={"group": "shop"})
    assert Message.of(whole.to_json()) == whole
    assert Message.of(whole.to_json()).id == whole.id


def test_what_is_no_message_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="receiver"):
        Message.of("{}")


def test_a_message_tells_something() -> None:
    with pytest.raises(ValueError, match="at least one"):
        message()


@pytest.mark.parametrize(
    "other",
    [
        message(INCIDENT, receiver="chat"),
        message(INCIDENT, occasion="reminder 1"),
        message(dataclasses.replace(INCIDENT, id="00")),
        message(dataclasses.replace(INCIDENT, status="update")),
        message(dataclasses.replace(INCIDENT, counts={"ports": 41})),
        message(INCIDENT, INCIDENT),
    ],
)
def test_receiver_occasion_incident_status_and_content_tell_messages_apart(other: Message) -> None:
    assert other.id != message(INCIDENT).id


def test_an_attempt_and_a_moment_do_not() -> None:
    assert dataclasses.replace(message(INCIDENT), attempt=7, created_at=9.0).id == (
        message(INCIDENT).id
    )
