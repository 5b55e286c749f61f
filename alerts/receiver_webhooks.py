"""Receivers that anybody may write: the generic webhook, signed, and CloudEvents."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sidelong.alerts.format_cloudevents import BATCH_TYPE, EVENT_TYPE, cloudevents
from sidelong.alerts.format_json import json_payload
from sidelong.alerts.receiver import Message
from sidelong.alerts.receiver_http import JSON_TYPE, Composer, Request, json_body
from sidelong.alerts.receiver_settings import CloudEventsSettings, WebhookSettings
from sidelong.alerts.receiver_text import labels_of
from sidelong.alerts.signatures import signed_headers, signing_key
from sidelong.alerts.templates import Rendering, Template
from sidelong.errors import ConfigError
from sidelong.ingest.secret import Secret

__all__ = ["CloudEvents", "Webhook"]


class _Signer:
    """Signs bodies, with secrets read each time."""

    def __init__(self, name: str, secrets: tuple[Secret, ...], clock: Callable[[], float]) -> None:
        self._name = name
        self._secrets = secrets
        self._clock = clock

    def headers(self, message_id: str, body: bytes) -> dict[str, str]:
        keys = [signing_key(secret.reveal(), str(secret)) for secret in self._secrets]
        sent_at = datetime.fromtimestamp(self._clock(), UTC)
        return signed_headers(message_id, body, keys, sent_at=sent_at)


class Webhook(Composer):
    """The generic webhook."""

    def __init__(self, settings: WebhookSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._signer = _Signer(settings.name, settings.signing, clock)
        self._template: Template | None = None
        if settings.body is not None:
            kind = settings.content_type.partition(";")[0].strip().lower()
            json_like = kind == JSON_TYPE or kind.endswith("+json")
            format = "json" if json_like else "html" if kind == "text/html" else "text"
            name = f"{settings.name}.body"
            self._template = Template(settings.body, name=name, format=format)
            if json_like:
                _check_json(self._template)

    def requests(self, message: Message) -> list[Request]:
        body, content_type, notes = self._body(message)
        headers = self._signer.headers(message.id, body)
        return [Request(body, content_type, headers, notes=notes)]

    def _body(self, message: Message) -> tuple[bytes, str, tuple[str, ...]]:
        labels = labels_of(message)
        notes: tuple[str, ...] = ()
        if self._template:
            try:
                text = self._template.render(message.events, labels)
                return text.encode(), self._settings.content_type, ()
            except Rendering as error:
                notes = (f"the template {self._template.name} failed: {error}",)
        return json_body(json_payload(message.events, labels)), JSON_TYPE, notes


class CloudEvents(Composer):
    """CloudEvents over HTTP."""

    def __init__(
        self, settings: CloudEventsSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._signer = _Signer(settings.name, settings.signing, clock)

    def requests(self, message: Message) -> list[Request]:
        events = cloudevents(
            message.events,
            labels_of(message),
            source=self._settings.source,
            occasion=message.occasion,
        )
        told: list[tuple[str, Any, str]]
        if self._settings.batch:
            told = [(message.id, events, BATCH_TYPE)]
        else:
            told = [(event["id"], event, EVENT_TYPE) for event in events]
        found = []
        for id_, event, content_type in told:
            body = json_body(event)
            found.append(Request(body, content_type, self._signer.headers(id_, body)))
        return found


def _check_json(template: Template) -> None:
    for text in template.samples:
        try:
            json.loads(text)
        except ValueError as error:
            raise ConfigError(
                f"the template {template.name} gives no JSON for a sample: {error}",
                hint='write strings as "{{ incident.summary }}": values are escaped inside quotes',
            ) from error
