"""The seam between delivery and the receivers: what is handed over, and what comes back.

A receiver turns one message into one request of its own kind and waits for the answer. Delivery
decides when, how often and in which order; a receiver neither retries nor sleeps.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from sidelong.alerts.incident import Incident

__all__ = ["Message", "Receiver", "Sent", "Undelivered", "event_key", "message_id"]


def event_key(incident: Incident, occasion: str = "") -> str:
    """What tells one event from every other: incident, status, content, and `occasion`.

    The same in every process and after every restart, for an incident's id and content are.
    """
    content = json.dumps(incident.to_dict(), sort_keys=True, ensure_ascii=False)
    text = "\n".join((incident.id, incident.status, occasion, content))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def message_id(receiver: str, keys: Iterable[str]) -> str:
    """The idempotency key of a message to `receiver`, of the keys of its events."""
    text = "\n".join((receiver, *keys))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What one receiver is to be told at once: one event, or those of a group.

    `id` is the idempotency key: it stays the same over every attempt, restart and worker, and a
    receiver that remembers it tells a repetition. `occasion` is empty, except where the same events
    are meant to be told again, such as for each reminder of an incident that is still open: then it
    says which. `attempt` counts from 1; `created_at` is in seconds of the epoch.
    """

    receiver: str
    events: tuple[Incident, ...]
    occasion: str = ""
    created_at: float
    attempt: int = 1
    context: dict[str, Any] = field(default_factory=dict)
    """What the routes add for the receiver's sake, such as the labels of a group: plain JSON."""

    def __post_init__(self) -> None:
        if not self.events:
            raise ValueError("a message tells at least one event")

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each event, in their order."""
        return tuple(event_key(event, self.occasion) for event in self.events)

    @property
    def id(self) -> str:
        """The idempotency key: of the receiver and every event in it, in hexadecimal."""
        return message_id(self.receiver, self.keys)

    def to_json(self) -> str:
        """What the outbox keeps, in ASCII: everything but the attempt."""
        return json.dumps(
            {
                "receiver": self.receiver,
                "occasion": self.occasion,
                "created_at": self.created_at,
                "context": self.context,
                "events": [event.to_dict() for event in self.events],
            },
            separators=(",", ":"),
        )

    @classmethod
    def of(cls, text: str, *, attempt: int = 1) -> Self:
        """The message that `to_json` wrote. Errors: ValueError."""
        plain = json.loads(text)
        try:
            return cls(
                receiver=plain["receiver"],
                occasion=plain["occasion"],
                created_at=plain["created_at"],
                context=plain["context"],
                events=tuple(Incident.of(event) for event in plain["events"]),
                attempt=attempt,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no message: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Sent:
    """A receiver's answer, shortened and masked, for a person to see: "202", "ok"."""

    status: str
    answer: str = ""


class Undelivered(Exception):
    """A message was not taken: why, and whether to try again.

    `permanent`: trying the same again is pointless, as after most answers of 400 to 499.
    `retry_after`: seconds for which the receiver asked not to be tried. `why` holds no secret.
    """

    def __init__(
        self, why: str, *, permanent: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(why)
        self.why = why
        self.permanent = permanent
        self.retry_after = retry_after


class Receiver(Protocol):
    """Where messages go; `name` is its name in the configuration."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> Sent:
        """Hand over `message`, once, within a bounded time; called from several threads.

        Errors: Undelivered; ConfigError when a secret is missing, which is tried again.
        """
        ...
