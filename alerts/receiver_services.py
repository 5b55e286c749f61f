"""Receivers that are services of their own: chats, pagers, Alertmanager, and stores of events."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sidelong.alerts.format_alertmanager import alertmanager_alerts
from sidelong.alerts.format_ecs import ecs_bulk, ecs_documents
from sidelong.alerts.format_ocsf import ocsf_findings
from sidelong.alerts.format_pagerduty import pagerduty_events
from sidelong.alerts.format_slack import slack_message
from sidelong.alerts.format_teams import teams_message
from sidelong.alerts.incident import Incident, Severity
from sidelong.alerts.receiver import Message
from sidelong.alerts.receiver_answers import bulk_verdict, slack_verdict, teams_verdict
from sidelong.alerts.receiver_http import JSON_TYPE, Composer, Request, json_body
from sidelong.alerts.receiver_settings import (
    AlertmanagerSettings,
    EcsSettings,
    PagerDutySettings,
    SlackSettings,
    TeamsSettings,
)
from sidelong.alerts.receiver_text import Wording, heading, labels_of
from sidelong.ingest.durations import length

__all__ = ["Alertmanager", "Ecs", "Ocsf", "PagerDuty", "Slack", "Teams"]

_REMEMBERED: Final = 10_000


class Slack(Composer):
    """Slack."""

    def __init__(self, settings: SlackSettings) -> None:
        self._channel = settings.channel
        self._wording = Wording.of(settings.name, settings.title, settings.text, format="slack")

    def requests(self, message: Message) -> list[Request]:
        headline, text, notes = self._wording.render(message)
        headline = heading(message, headline)
        told = slack_message(message.events, labels_of(message), headline=headline, text=text)
        if self._channel:
            told["channel"] = self._channel
        return [
            Request(
                json_body(told), f"{JSON_TYPE}; charset=utf-8", verdict=slack_verdict, notes=notes
            )
        ]


class Teams(Composer):
    """Microsoft Teams."""

    def __init__(self, settings: TeamsSettings) -> None:
        self._wording = Wording.of(settings.name, settings.title, settings.text, format="markdown")

    def requests(self, message: Message) -> list[Request]:
        headline, text, notes = self._wording.render(message)
        headline = heading(message, headline)
        told = teams_message(message.events, labels_of(message), headline=headline, text=text)
        return [Request(json_body(told), verdict=teams_verdict, notes=notes)]


class PagerDuty(Composer):
    """PagerDuty."""

    def __init__(self, settings: PagerDutySettings) -> None:
        self._settings = settings
        self._wording = Wording.of(settings.name, settings.title, None, format="text")

    def requests(self, message: Message) -> list[Request]:
        key = self._settings.routing_key.reveal().strip()
        headline, _, notes = self._wording.render(message)
        events = [
            event for event in message.events if self._settings.resolve or event.status != "closed"
        ]
        told = pagerduty_events(
            events,
            labels_of(message),
            routing_key=key,
            acknowledged=message.context.get("acknowledged") is True,
            headline=headline if len(message.events) == 1 else None,
        )
        return [Request(json_body(event), secrets=(key,), notes=notes) for event in told]


class Alertmanager(Composer):
    """Alertmanager; it remembers the severity that each incident was last told with."""

    def __init__(
        self, settings: AlertmanagerSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._lasts = length(settings.lasts, f"{settings.name}.lasts")
        self._wording = Wording.of(settings.name, settings.title, settings.text, format="text")
        self._told: OrderedDict[str, Severity] = OrderedDict()
        self._lock = threading.Lock()

    def url(self, configured: str) -> str:
        whole = configured.rstrip("/")
        return whole if whole.endswith("/api/v2/alerts") else f"{whole}/api/v2/alerts"

    def requests(self, message: Message) -> list[Request]:
        headline, text, notes = self._wording.render(message)
        alone = len(message.events) == 1
        with self._lock:
            before: dict[str, Severity] = {
                event.id: self._told[event.id] for event in message.events if event.id in self._told
            }
        alerts = alertmanager_alerts(
            _told(message, self._settings.resolve),
            labels_of(message),
            now=datetime.fromtimestamp(self._clock(), UTC),
            lasts=self._lasts,
            before=before,
            headline=headline if alone else None,
            text=text if alone else None,
        )
        return [Request(json_body(alerts), notes=notes)] if alerts else []

    def done(self, message: Message) -> None:
        with self._lock:
            for event in message.events:
                self._told.pop(event.id, None)
                if event.status != "closed":
                    self._told[event.id] = event.severity
            while len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)


class Ocsf(Composer):
    """A collector of OCSF."""

    def requests(self, message: Message) -> list[Request]:
        return [Request(json_body(ocsf_findings(message.events, labels_of(message))))]


class Ecs(Composer):
    """Elasticsearch, OpenSearch, or a collector of ECS."""

    def __init__(self, settings: EcsSettings) -> None:
        self._bulk = settings.bulk

    def url(self, configured: str) -> str:
        if not self._bulk or "?" in configured:
            return configured
        return f"{configured}?filter_path=errors,items.*.status,items.*.error.reason"

    def requests(self, message: Message) -> list[Request]:
        labels = labels_of(message)
        if not self._bulk:
            return [Request(json_body(ecs_documents(message.events, labels)))]
        body = ecs_bulk(message.events, labels)
        return [Request(body, "application/x-ndjson", verdict=bulk_verdict)]


def _told(message: Message, closes: bool) -> list[Incident]:
    return [event for event in message.events if closes or event.status != "closed"]
