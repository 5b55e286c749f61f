"""The work of `sidelong alerts test`: a sample on its way through the routes."""

import json
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from sidelong.alerts.http_client import Answer, HttpClient
from sidelong.alerts.http_targets import place
from sidelong.alerts.incident import Actor, Incident, Kind, Severity, incident_id
from sidelong.alerts.plan import Plan
from sidelong.alerts.receiver import Message, Sent, Undelivered
from sidelong.alerts.receiver_settings import (
    AppriseSettings,
    FileSettings,
    HttpReceiverSettings,
    KafkaReceiverSettings,
    ReceiverSettings,
)
from sidelong.alerts.receivers import build_receiver
from sidelong.alerts.sample import sample_incident
from sidelong.config import read_config
from sidelong.errors import ConfigError, SidelongError
from sidelong.ingest.secret import HIDDEN, masked
from sidelong.terminal import Terminal, plural, printable

__all__ = ["REFUSED", "TAKEN", "trial"]

TAKEN: Final = 0
REFUSED: Final = 1

_CONFIDENTIAL: Final = re.compile("auth|token|key|secret|cookie|signature|pass", re.IGNORECASE)
_BODY: Final = 20_000


class _Watched(HttpClient):
    """Prints each request before it is sent, without what is secret in it."""

    def __init__(self, settings: HttpReceiverSettings, terminal: Terminal, dry: bool) -> None:
        super().__init__(settings)
        self._terminal = terminal
        self._dry = dry

    def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        secrets: Iterable[str] = (),
        method: str = "POST",
    ) -> Answer:
        """See HttpClient."""
        secrets = tuple(secrets)
        where = place(url, allow_http=self.settings.allow_http)
        self._terminal.tell(f"  {method} {where.shown}")
        for name, value in headers.items():
            hidden = HIDDEN if _CONFIDENTIAL.search(name) else masked(value, secrets)
            self._terminal.tell(f"  {name}: {hidden}")
        text = masked(body.decode("utf-8", "replace"), (*secrets, *where.secrets))
        for line in _pretty(text).splitlines():
            self._terminal.tell(f"    {line}")
        if self._dry:
            return Answer(200, "not sent", {}, b"{}", "")
        return super().post(url, body, headers, secrets=secrets, method=method)


def trial(
    *,
    terminal: Terminal,
    config: str,
    receiver: str | None = None,
    kind: Kind | None = None,
    severity: Severity | None = None,
    workload: str | None = None,
    dry: bool = False,
) -> int:
    """Send a sample where the routes lead, or to `receiver`; print what was sent and answered.

    Returns 1 if a receiver did not take it, or if nobody was to be told, else 0. dry: print only.
    Neither outbox nor groups are touched. Errors: ConfigError for a configuration that cannot work.
    """
    settings = read_config(config)
    known = {one.name: one for one in settings.receivers}
    plan = Plan.read(settings.alerts, known)
    now = time.time()
    sample = _sample(datetime.fromtimestamp(int(now), UTC), kind, severity, workload)
    if receiver is not None:
        if receiver not in known:
            raise ConfigError(
                f"there is no receiver {receiver!r}",
                hint=f"there are {', '.join(known) or 'none'}",
            )
        told = {receiver: "--receiver"}
    else:
        routes, rule = plan.of(sample, now)
        if rule is not None:
            terminal.tell(f"suppressed by {rule.id} ({rule.owner}: {rule.reason})")
            return REFUSED
        told = {}
        for route in routes:
            muted = " (a mute time, now: it would wait)" if plan.mute.mutes(route.mute, now) else ""
            for name in route.receivers:
                told.setdefault(name, f"{route.name}{muted}")
    terminal.tell(f"a sample: {sample.kind}, {sample.severity}, by {sample.actor.workload}")
    if not told:
        terminal.tell("no route takes it: nobody would be told")
        return REFUSED
    refused = 0
    for name, by in told.items():
        terminal.tell("")
        terminal.tell(f"{name}, by {by}")
        message = Message(
            receiver=name,
            events=(sample,),
            created_at=now,
            context={"route": by, "group": {}, "labels": plan.labels},
        )
        try:
            sent = _send(known[name], message, terminal, dry)
        except Undelivered as error:
            refused += 1
            again = "would be given up" if error.permanent else "would be tried again"
            terminal.tell(f"  NOT TAKEN: {error.why}; it {again}")
        except SidelongError as error:
            refused += 1
            terminal.tell(f"  NOT SENT: {error.problem}")
            terminal.tell(f"    try: {error.hint}")
        else:
            terminal.tell(f"  answered: {' '.join(filter(None, (sent.status, sent.answer)))}")
    took = "nothing was sent" if dry else f"{len(told) - refused} took it"
    terminal.say(f"{plural(len(told), 'receiver')}, {took}")
    return REFUSED if refused else TAKEN


def _send(settings: ReceiverSettings, message: Message, terminal: Terminal, dry: bool) -> Sent:
    if isinstance(settings, HttpReceiverSettings):
        client = _Watched(settings, terminal, dry)
        return build_receiver(settings, client=client).send(message)
    if isinstance(settings, FileSettings):
        terminal.tell(f"  a line of {settings.format} to {settings.path}")
    elif isinstance(settings, AppriseSettings):
        terminal.tell(f"  by Apprise, to the service in {settings.url}")
    elif isinstance(settings, KafkaReceiverSettings):
        where = ", ".join(settings.servers)
        terminal.tell(f"  {settings.format} to the topic {settings.topic} of Kafka at {where}")
    else:
        terminal.tell(f"  CEF to {settings.url}")
    for event in message.events:
        terminal.tell(f"    {printable(event.summary, 1_000)}")
    receiver = build_receiver(settings)
    return Sent("not sent") if dry else receiver.send(message)


def _sample(
    at: datetime, kind: Kind | None, severity: Severity | None, workload: str | None
) -> Incident:
    sample = sample_incident(at)
    kind = kind or sample.kind
    actor = replace(sample.actor, workload=workload) if workload else sample.actor
    id = incident_id(kind, actor.workload, int(at.timestamp()) * 1_000_000_000)
    return replace(
        sample,
        id=id,
        story=id,
        kind=kind,
        severity=severity or sample.severity,
        actor=Actor(actor.workload, actor.pod, actor.ip),
        techniques=sample.techniques if kind == sample.kind else (),
    )


def _pretty(text: str) -> str:
    """JSON with a key a line, anything else as it is; cut where nobody reads on."""
    with suppress(ValueError):
        text = json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    return text if len(text) <= _BODY else f"{text[:_BODY]}…"
