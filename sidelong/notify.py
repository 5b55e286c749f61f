"""From incidents to receivers: suppressed or not, routed, grouped, put into the outbox, delivered.

An incident counts as told once `emit` has returned: what is to be sent is in the outbox by then,
and what waits for the rest of its group in a file beside it. Whoever dies in between and emits the
same incidents again tells nobody twice.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sidelong.alerts.audit import Acknowledged, entries
from sidelong.alerts.delivery import Dispatcher
from sidelong.alerts.grouping import Groups
from sidelong.alerts.incident import Incident
from sidelong.alerts.outbox import Outbox
from sidelong.alerts.plan import Plan
from sidelong.alerts.receiver import Message, Receiver
from sidelong.alerts.receivers import build_receivers
from sidelong.config import Config, read_config
from sidelong.errors import ConfigError, SidelongError

__all__ = ["Notifier"]

_log: Final = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 5.0  # how often is looked whether a file has changed
_FORMAT: Final = 1


class Notifier:
    """Tells receivers of incidents; call `tick` at least every few seconds, for what waits.

    path: the file of `config`, which is read again when it changes, as are routes, suppressions and
    the audit trail; receivers and delivery stay as they are until a restart. lasting: whether what
    waits for its group is kept for the next start; a replay has no next start. clock: seconds of
    the epoch. say: tells a person of what was changed and could not be.

    Errors: ConfigError for a configuration that cannot work, OutboxError for an outbox that cannot
    be used; both before anything is sent.
    """

    def __init__(
        self,
        config: Config,
        *,
        path: str | None = None,
        lasting: bool = True,
        clock: Callable[[], float] = time.time,
        receivers: Mapping[str, Receiver] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._clock = clock
        self._path = path
        self._say = say or (lambda text: _log.warning("%s", text))
        self._lock = threading.RLock()
        self._receivers = build_receivers(config.receivers) if receivers is None else receivers
        if not self._receivers:
            raise ConfigError(
                "there is no receiver to notify",
                hint="declare one in [[receivers]]: docs/alerts.md",
            )
        self._settings = config.alerts
        self._plan = Plan.read(config.alerts, self._receivers)
        self._acknowledged = Acknowledged(entries(Path(config.alerts.audit))[0])
        self._seen = self._signatures()
        self._looked = clock()
        self._unsent: list[Message] = []
        self._sent_in_state = False  # the state still names messages that are in the outbox
        self._counters = {"incidents": 0, "events": 0, "suppressed": 0, "reloads": 0}
        self._counters |= {"reload_failures": 0, "unknown_receiver": 0}
        self._groups = Groups(self._plan.mute, hushed=self._hushed, labels=self._plan.labels)
        self._state = Path(f"{config.delivery.outbox}.groups.json") if lasting else None
        self._restore()
        self._outbox = Outbox(config.delivery, clock=clock)
        self._dispatcher = Dispatcher(self._outbox, self._receivers.values(), clock=clock)
        self._warned: set[str] = set()
        self._warn(clock())

    def start(self) -> None:
        """Begin to deliver, in threads."""
        self._dispatcher.start()

    def emit(self, incidents: Sequence[Incident]) -> int:
        """Tell of incidents, in the order of the stream; returns how many messages were new.

        Errors: OutboxError; then they were not told, and are to be emitted again.
        """
        with self._lock:
            now = self._clock()
            for incident in incidents:
                self._counters["events"] += 1
                self._counters["incidents"] += incident.status == "open"
                routes, rule = self._plan.of(incident, now)
                if rule is not None:
                    self._counters["suppressed"] += 1
                    self._plan.suppressions.note(rule, incident)
                self._unsent += self._groups.offer(incident, routes, now)
            return self._put(changed=bool(incidents))

    def tick(self, now: float | None = None) -> int:
        """Send what has waited long enough, and take up what was changed in files."""
        with self._lock:
            now = self._clock() if now is None else now
            if abs(now - self._looked) >= _LOOK_SECONDS:
                self._looked = now
                if self._signatures() != self._seen:
                    self.reload()
                self._warn(now)
            due = self._groups.due(now)
            self._unsent += due
            return self._put(changed=bool(due))

    def reload(self) -> bool:
        """Read routes, suppressions and acknowledgements again; whether they could be used.

        If not, those from before stay, and what is wrong is said.
        """
        with self._lock:
            self._seen = self._signatures()
            try:
                settings = read_config(self._path).alerts if self._path else self._settings
                plan = Plan.read(settings, self._receivers)
                trail, bad = entries(Path(settings.audit))
            except SidelongError as error:
                self._counters["reload_failures"] += 1
                self._say(f"the change is not used, and what was before stays: {error.problem}")
                return False
            plan.suppressions.restore(self._plan.suppressions.snapshot())
            self._settings, self._plan = settings, plan
            self._acknowledged = Acknowledged(trail)
            self._groups.mute, self._groups.labels = plan.mute, plan.labels
            self._seen = self._signatures()
            self._counters["reloads"] += 1
            self._warn(self._clock())
            if bad:
                self._say(f"{bad} lines of the audit trail {settings.audit} cannot be read")
            return True

    def flush(self) -> None:
        """Wait until all of it is on the disk: before the position in a stream is saved."""
        with self._lock:
            self._put(changed=False)
            self._save(durable=True)
            self._outbox.flush()

    def drain(self, seconds: float | None = None, *, final: bool = False) -> int:
        """Deliver what is due, within `seconds`, then stop; how many messages still wait.

        final: nothing will follow, so that what waits for its group is sent now, and what a mute
        time holds back is dropped; else both stay for the next start.
        """
        with self._lock:
            if final:
                self._unsent += self._groups.end(self._clock())
            self._put(changed=final)
        return self._dispatcher.drain(seconds)

    def close(self) -> None:
        """Close the outbox and connections that are kept; to be called after `drain`."""
        self._outbox.close()
        for receiver in self._receivers.values():
            # Most keep none, and are not asked to be able to.
            if callable(close := getattr(receiver, "close", None)):
                close()

    def suppressed(self, incident: Incident) -> str | None:
        """The id of the suppression that keeps an incident back."""
        with self._lock:
            rule = self._plan.suppressions.of(incident, self._clock())
            return rule.id if rule else None

    def counters(self) -> dict[str, Any]:
        """For metrics: what was emitted and what became of it; see `grouping.COUNTERS` too.

        waiting: events that wait for their group. suppressions: hits of each, in incidents.
        expired: suppressions that are to be looked at. receivers: see `Dispatcher.counters`.
        """
        with self._lock:
            suppressions = self._plan.suppressions
            return {
                **self._counters,
                **self._groups.counters,
                "waiting": self._groups.waiting,
                "acknowledged": len(self._acknowledged),
                "suppressions": dict(suppressions.hits),
                "expired": len(suppressions.expired(self._clock())),
                "receivers": self._dispatcher.counters(),
            }

    def _hushed(self, incident: Incident) -> bool:
        if self._acknowledged.covers(incident):
            return True
        return self._plan.suppressions.of(incident, self._clock()) is not None

    def _warn(self, now: float) -> None:
        """Say what is hardly meant, once: a suppression may expire at any moment."""
        warnings = self._plan.warnings(now)
        for warning in warnings:
            if warning not in self._warned:
                self._say(warning)
        self._warned = set(warnings)

    def _put(self, *, changed: bool) -> int:
        """The state first, with what is to be sent, then the outbox: whoever dies in between puts
        it at the next start, and whoever dies after puts it twice, which the outbox knows."""
        known = [message for message in self._unsent if message.receiver in self._receivers]
        self._counters["unknown_receiver"] += len(self._unsent) - len(known)
        self._unsent = known  # on failure they are put with the next
        if changed or known or self._sent_in_state:
            self._save()
        new = self._dispatcher.put(known) if known else 0
        self._unsent = []
        return new

    def _save(self, *, durable: bool = False) -> None:
        if self._state is None:
            return
        state = {
            "format": _FORMAT,
            "groups": self._groups.snapshot(),
            "suppressions": self._plan.suppressions.snapshot(),
            "unsent": [message.to_json() for message in self._unsent],
        }
        part = self._state.with_name(f".{self._state.name}.part")
        try:
            with open(part, "w", encoding="utf-8", opener=_private) as file:
                json.dump(state, file, separators=(",", ":"))
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            part.replace(self._state)
        except OSError as error:
            raise ConfigError(
                f"{self._state} cannot be written: {error.strerror}",
                hint="it lies beside the outbox, and holds what waits for the rest of its group",
            ) from error
        self._sent_in_state = bool(self._unsent)

    def _restore(self) -> None:
        if self._state is None:
            return
        try:
            state = json.loads(self._state.read_bytes())
            if state["format"] != _FORMAT:
                raise ValueError(f"format {state['format']}")
            self._groups.restore(state["groups"])
            self._plan.suppressions.restore(state["suppressions"])
            self._unsent = [Message.of(text) for text in state["unsent"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            aside = self._state.with_name(f"{self._state.name}.broken")
            with suppress(OSError):
                self._state.replace(aside)
            self._say(f"{self._state} cannot be used and is now {aside.name}: {error}")

    def _signatures(self) -> dict[str, tuple[int, int, int] | None]:
        watched = [*Plan.files(self._settings), self._settings.audit]
        return {name: _signature(name) for name in (*watched, *filter(None, [self._path]))}


def _signature(name: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
