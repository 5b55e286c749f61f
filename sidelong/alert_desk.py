"""The work of `sidelong alerts check`, `list` and `redeliver`: look after what runs."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sidelong.alerts.audit import entries
from sidelong.alerts.delivery import Dispatcher
from sidelong.alerts.outbox import Outbox
from sidelong.alerts.plan import Plan
from sidelong.alerts.receivers import build_receivers
from sidelong.config import Config, read_config
from sidelong.errors import ConfigError
from sidelong.terminal import Terminal, duration, moment, plural, printable, printable_json

__all__ = ["FINE", "SOMETHING", "check", "listed", "redeliver"]

FINE: Final = 0
SOMETHING: Final = 1


def check(*, terminal: Terminal, config: str) -> int:
    """See that a configuration can work; returns 1 if something in it is hardly meant, else 0.

    Errors: ConfigError for what cannot work, the first thing that is found.
    """
    settings = read_config(config)
    receivers = build_receivers(settings.receivers)
    plan = Plan.read(settings.alerts, receivers)
    now = time.time()
    for route in plan.routes.all():
        told = ", ".join(route.receivers) or "nobody"
        terminal.tell(f"route {printable(route.name)}: {told}")
    hits = _hits(settings)
    for rule in plan.suppressions.rules:
        state = "EXPIRED" if rule.is_expired(now) else "until"
        kept = plural(hits.get(rule.id, 0), "incident")
        terminal.tell(
            f"suppression {printable(rule.id)}: {state} {rule.expires}, kept back {kept}, "
            f"{printable(rule.owner)}: {printable(rule.reason)}"
        )
    warnings = plan.warnings(now)
    bad = entries(Path(settings.alerts.audit))[1]
    if bad:
        warnings.append(f"{bad} lines of the audit trail {settings.alerts.audit} cannot be read")
    if not receivers:
        warnings.append("there is no receiver: nobody is told of anything")
    for warning in warnings:
        terminal.say(f"sidelong: {warning}")
    counted = ((receivers, "receiver"), (plan.suppressions.rules, "suppression"))
    numbers = [plural(len(things), thing) for things, thing in (*counted, (warnings, "warning"))]
    terminal.say(", ".join(numbers))
    return SOMETHING if warnings else FINE


def _hits(settings: Config) -> dict[str, int]:
    """How often suppressions held, as far as a running sidelong has written it down."""
    try:
        state = json.loads(Path(f"{settings.delivery.outbox}.groups.json").read_bytes())
        return dict(state["suppressions"]["hits"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def listed(*, terminal: Terminal, config: str | None, output: str | None = None) -> int:
    """Print what waits for each receiver, and what could not be delivered; returns 1 if there is
    anything of the latter, else 0. Errors: OutboxError."""
    settings = read_config(config)
    if not _exists(settings, terminal):
        return FINE
    outbox = Outbox(settings.delivery)
    try:
        queues, letters = outbox.queues(), outbox.dead_letters()
    finally:
        outbox.close()
    if output == "json" or (output is None and not terminal.out.is_terminal):
        for name, queue in queues.items():
            line = {"receiver": name, "waiting": queue.waiting, "dead": queue.dead}
            terminal.out.file.write(json.dumps(line) + "\n")
        for letter in letters:
            terminal.out.file.write(printable_json(json.dumps(letter.to_dict())) + "\n")
        terminal.out.file.flush()
        return SOMETHING if letters else FINE
    for name, queue in queues.items():
        since = ""
        if queue.oldest_at is not None:
            age = timedelta(seconds=max(0.0, time.time() - queue.oldest_at))
            since = f", the oldest for {duration(age)}"
        terminal.tell(f"{name:<16}  {queue.waiting:,} waiting{since}, {queue.dead:,} dead")
    for letter in letters:
        dead_at = moment(datetime.fromtimestamp(letter.dead_at, UTC))
        events = ", ".join(f"{one.status} {one.id}" for one in letter.message.events)
        terminal.tell(f"{letter.id}  {letter.message.receiver:<16}  {dead_at}  {events}")
        terminal.tell(f"  {plural(letter.attempts, 'attempt')}: {printable(letter.why, 1_000)}")
    if letters:
        terminal.say("to try them again: sidelong alerts redeliver ID...")
    return SOMETHING if letters else FINE


def redeliver(
    ids: Sequence[str],
    *,
    terminal: Terminal,
    config: str,
    every: bool = False,
    receiver: str | None = None,
) -> int:
    """Deliver dead letters after all; returns 1 if some could not be, or there were none, else 0.

    ids: of messages, as listed. Errors: ConfigError for receivers that cannot work, OutboxError.
    """
    if not ids and not every and receiver is None:
        raise ConfigError("nothing is chosen", hint="give IDs, --receiver NAME, or --all")
    if ids and every:
        raise ConfigError("both IDs and --all are given", hint="leave one of them out")
    settings = read_config(config)
    receivers = build_receivers(settings.receivers)
    if not _exists(settings, terminal):
        return SOMETHING
    outbox = Outbox(settings.delivery)
    try:
        dispatcher = Dispatcher(outbox, receivers.values())
        again = dispatcher.redeliver(ids or None, receiver=receiver)
        if not again:
            terminal.say("sidelong: there is no such dead letter")
            return SOMETHING
        dispatcher.start()
        dispatcher.drain()
        counters = dispatcher.counters()
    finally:
        outbox.close()
    delivered = sum(int(one.get("delivered", 0)) for one in counters.values())
    dead = sum(int(one.get("dead", 0)) for one in counters.values())
    terminal.say(f"{plural(again, 'message')} taken up again: {delivered} delivered")
    if delivered >= again:
        return FINE
    terminal.say(
        f"sidelong: {dead} dead again; whatever else is left waits in the outbox, for a sidelong "
        "that runs or for the next"
    )
    return SOMETHING


def _exists(settings: Config, terminal: Terminal) -> bool:
    """Whether there is an outbox; to look for one should not make one."""
    if Path(settings.delivery.outbox).exists():
        return True
    terminal.say(f"sidelong: there is no outbox {settings.delivery.outbox}: nothing was sent yet")
    return False
