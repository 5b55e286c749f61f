"""Receivers of the service: how long they take to be told, and what became of what they were."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from sidelong.alerts.grouping import COUNTERS
from sidelong.alerts.receiver import Message, Receiver, Sent
from sidelong.notify import Notifier
from sidelong.role import Labelled

__all__ = ["TimedReceiver", "let_go", "timed", "told_counters", "told_gauges"]

_COUNTED: Final = {"delivered": "delivered", "retried": "retried", "dead": "dead"} | {
    "latency_seconds": "delivery_seconds"
}
_GAUGED: Final = {"queued": "queued", "dead_letters": "dead_letters"} | {
    "oldest_seconds": "oldest_seconds",
    "open": "receiver_open",
}


class TimedReceiver:
    """A receiver that tells `observe` how long after the deciding flow it knew of an incident."""

    def __init__(self, receiver: Receiver, observe: Callable[[str, float], None]) -> None:
        self.name = receiver.name
        self._receiver = receiver
        self._observe = observe

    def send(self, message: Message) -> Sent:
        """See Receiver."""
        sent = self._receiver.send(message)
        now = time.time()
        for event in message.events:
            if event.status == "open" and not message.occasion:
                self._observe("source_to_webhook_seconds", now - event.detected_at.timestamp())
        return sent

    def close(self) -> None:
        """Let the receiver close what it keeps open, if anything."""
        if callable(close := getattr(self._receiver, "close", None)):
            close()


def timed(
    receivers: Mapping[str, Receiver], observe: Callable[[str, float], None]
) -> dict[str, Receiver]:
    """All of them, timed."""
    return {name: TimedReceiver(receiver, observe) for name, receiver in receivers.items()}


def let_go(notifier: Notifier) -> None:
    """Deliver no more, and close it; never raises. What is not delivered stays in the outbox."""
    for closing in (lambda: notifier.drain(0), notifier.close):
        with suppress(Exception):
            closing()


def told_counters(notifier: Notifier) -> dict[str | Labelled, float]:
    """What a notifier counts, under the names of `MEASURES`."""
    told = notifier.counters()
    counters: dict[str | Labelled, float] = {
        name: told[name] for name in ("events", "reloads", "reload_failures")
    }
    for reason in ("suppressed", "unknown_receiver", *COUNTERS):
        if reason != "reminders":
            counters["untold", "reason", reason] = told[reason]
    return counters | _of_receivers(told["receivers"], _COUNTED)


def told_gauges(notifier: Notifier) -> dict[str | Labelled, float]:
    """What a notifier measures, under the names of `MEASURES`."""
    told = notifier.counters()
    gauges: dict[str | Labelled, float] = {
        "waiting": told["waiting"],
        "suppressions_expired": told["expired"],
    }
    return gauges | _of_receivers(told["receivers"], _GAUGED)


def _of_receivers(
    told: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> dict[str | Labelled, float]:
    return {
        (ours, "receiver", receiver): measured[theirs]
        for receiver, measured in told.items()
        for theirs, ours in names.items()
        if theirs in measured
    }
