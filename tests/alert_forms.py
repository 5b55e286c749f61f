"""Every form that an incident goes out in, under one signature, and incidents to put in them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sidelong.alerts.format_alertmanager import alertmanager_alerts
from sidelong.alerts.format_cloudevents import cloudevents
from sidelong.alerts.format_ecs import ecs_documents
from sidelong.alerts.format_json import json_payload
from sidelong.alerts.format_ocsf import ocsf_findings
from sidelong.alerts.format_pagerduty import pagerduty_events
from sidelong.alerts.format_slack import slack_message
from sidelong.alerts.format_syslog import syslog_messages
from sidelong.alerts.format_teams import teams_message
from sidelong.alerts.incident import Actor, Incident, Observation, Target
from sidelong.alerts.receiver import Message
from sidelong.alerts.receiver_apprise import apprise_text

__all__ = ["CHATS", "FORMS", "HOSTILE", "NOW", "hostile", "message", "shop_incidents", "strings"]

NOW: Final = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)

Form = Callable[[Sequence[Incident], Mapping[str, str]], Any]


def message(events: Sequence[Incident], labels: Mapping[str, str] | None = None) -> Message:
    return Message(
        receiver="test",
        events=tuple(events),
        created_at=NOW.timestamp(),
        context={"labels": dict(labels or {})},
    )


def _apprise(format: str) -> Form:
    return lambda events, labels: list(apprise_text(message(events, labels), format))


FORMS: Final[dict[str, Form]] = {
    "alertmanager": lambda events, labels: alertmanager_alerts(events, labels, now=NOW),
    "apprise_html": _apprise("html"),
    "apprise_markdown": _apprise("markdown"),
    "apprise_text": _apprise("text"),
    "cloudevents": cloudevents,
    "ecs": ecs_documents,
    "json": json_payload,
    "ocsf": ocsf_findings,
    "pagerduty": lambda events, labels: pagerduty_events(events, labels, routing_key="R" * 32),
    "slack": slack_message,
    "syslog": lambda events, labels: [
        told.decode() for told in syslog_messages(events, labels, sent_at=NOW, host="watcher")
    ],
    "teams": teams_message,
}

CHATS: Final = ("apprise_html", "apprise_markdown", "apprise_text", "slack", "teams", "pagerduty")

HOSTILE: Final = {
    "newlines": "a\nb\r\nc\x0b\x0c\x85\u2028\u2029d",
    "slack mentions": "<!channel> <!here> <@U0123> <#C01|x> @here @channel @everyone",
    "slack link": "<https://evil.example|log in> & `code` *bold* _it_ ~no~ :fire:",
    "html": "<img src=x onerror=alert(1)><script>x</script>\"'&lt;",
    "markdown": "[x](https://evil.example) ![x](y) # h\n- l **b** `c` | <b> {{DATE(2026-01-01)}}",
    "long": "a" * 10_000,
    "long and special": "<&\"'\\|=]\n" * 2_000,
    "right to left": "pay\u202egnp.exe\u2066x\u2069\u200f\u061c",
    "no width": "a\u200bb\u200dc\ufeffd\u2060e\u034ff\u3164g\ufe0fh\U000e0041",
    "template": "{{7*7}} ${7*7} {% raw %} #{7*7} <%= 7*7 %> {{{7*7}}} %s %(x)s {0}",
    "escape sequences": "\x1b[2J\x1b]8;;http://evil.example\x07x\x9b31m\x00\x7f",
    "cef": "x|y\\|z= a=b msg=forged cs1=forged CEF:0|x",
    "syslog": '<0>1 - - - - - -] [x="y"] \\" x',
    "json": '", "severity": "info", "x": "\\',
    "surrogates": "x\ud800y\udfffz",
    "astral": "\U0001f600" * 3_000,
}


def shop_incidents() -> list[Incident]:
    """Three of the shop's: a scan that opens, a tunnel that goes on, a first visit that is over."""
    path = Path(__file__).parent / "alert_samples" / "incidents.json"
    return [Incident.of(plain) for plain in json.loads(path.read_text(encoding="utf-8"))]


def hostile(name: str) -> Incident:
    """An incident in which everything that telemetry can name is `name`."""
    scan = shop_incidents()[0]
    return replace(
        scan,
        actor=Actor(f"shop/{name}", name, name),
        objects=(
            Target(workload=name, ip=name, port=80),
            Target(domain=name, port=53),
            *(Target(workload=f"{name}{number}") for number in range(200)),
        ),
        counts={name: 1, "contacts": 3},
        evidence=tuple(Observation(name, name, name, 1.0) for _ in range(200)),
        summary=f"{name} tried {name}",
        policy=f"# {name}\nkind: {name}\n",
    )


def strings(payload: Any, path: str = "") -> list[tuple[str, str]]:
    """Every text in a payload, keys too, with where it is."""
    if isinstance(payload, str):
        return [(path, payload)]
    if isinstance(payload, Mapping):
        keys = [(f"{path}.{key} (key)", str(key)) for key in payload]
        return keys + [
            found for key, value in payload.items() for found in strings(value, f"{path}.{key}")
        ]
    if isinstance(payload, Sequence):
        return [found for value in payload for found in strings(value, f"{path}[]")]
    return []
