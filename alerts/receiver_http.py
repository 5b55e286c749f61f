"""Receivers behind a URL: each composes its requests, and one class sends them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidelong.alerts.http_client import Answer, HttpClient
from sidelong.alerts.receiver import Message, Sent
from sidelong.alerts.receiver_settings import HttpReceiverSettings, WebhookSettings
from sidelong.alerts.receiver_text import noted
from sidelong.ingest.secret import Secret

__all__ = ["JSON_TYPE", "Composer", "HttpReceiver", "Request", "json_body"]

JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `verdict` looks at an answer of 200 and raises Undelivered if it is a refusal.

    `secrets` are those in the body. `notes` tell what went wrong on our side.
    """

    body: bytes = field(repr=False)
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    verdict: Callable[[Answer], None] | None = None
    notes: tuple[str, ...] = ()


class Composer(ABC):
    """What is particular of a receiver."""

    @abstractmethod
    def requests(self, message: Message) -> list[Request]:
        """The requests for a message, in their order."""

    def url(self, configured: str) -> str:
        """Where to send them."""
        return configured

    def done(self, message: Message) -> None:  # noqa: B027, most have nothing to do then
        """All of them were taken."""


class HttpReceiver:
    """A receiver behind a URL. Several requests of one message are sent in order; the first that
    fails ends it, and all are sent again, which receivers know by their keys."""

    def __init__(
        self, settings: HttpReceiverSettings, composer: Composer, client: HttpClient | None = None
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._composer = composer
        self._client = client or HttpClient(settings)
        self._method = settings.method if isinstance(settings, WebhookSettings) else "POST"
        if isinstance(settings.url, str):
            self._client.check(composer.url(settings.url))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def send(self, message: Message) -> Sent:
        """See Receiver."""
        settings = self._settings
        url = self._composer.url(_revealed(settings.url))
        fixed = {name: _revealed(value) for name, value in settings.headers.items()}
        secret = tuple(
            fixed[name] for name, value in settings.headers.items() if isinstance(value, Secret)
        )
        sent = Sent("nothing to send")
        for request in self._composer.requests(message):
            answer = self._client.post(
                url,
                request.body,
                _together({"Content-Type": request.content_type, **request.headers}, fixed),
                secrets=(*secret, *request.secrets),
                method=self._method,
            )
            if request.verdict:
                request.verdict(answer)
            sent = noted(answer.sent, request.notes)
        self._composer.done(message)
        return sent


def json_body(payload: Any) -> bytes:
    """Plain values as JSON in UTF-8."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def _together(ours: Mapping[str, str], configured: Mapping[str, str]) -> dict[str, str]:
    """Headers of both; a configured one takes the place of ours, however it is written."""
    names = {name.lower() for name in configured}
    return {name: value for name, value in ours.items() if name.lower() not in names} | {
        **configured
    }


def _revealed(value: str | Secret) -> str:
    return value.reveal().strip() if isinstance(value, Secret) else value
