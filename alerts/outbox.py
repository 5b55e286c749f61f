"""The outbox: what receivers are to be told, on disk before the incident counts as emitted.

At least once: a message is forgotten only after a receiver has taken it, and a process may be
killed at any moment. Once, as far as that is possible: an event of the same content is put once per
receiver, whoever puts it, and a message keeps its idempotency key. In order: of an incident, a
receiver's next message is handed out when the one before is delivered or dead. Bounded: see
`DeliverySettings`; whatever is given up goes to the dead letters and is counted.
"""

import dataclasses
import itertools
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidelong.alerts.dead_letters import DeadLetter, DeadLetterFile
from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.outbox_file import OutboxFile, waiting_in
from sidelong.alerts.outbox_room import CHUNK, LETTER, Room, letter
from sidelong.alerts.outbox_schema import NEXT
from sidelong.alerts.outbox_workers import Presence
from sidelong.alerts.receiver import Message, message_id

__all__ = ["Outbox", "Queue", "Taken"]

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that a worker holds until `leased_until`; `seq` and `lease` are the outbox's."""

    message: Message
    seq: int
    lease: str
    put_at: float


@dataclass(frozen=True, slots=True)
class Queue:
    """What is kept for one receiver: how many wait, since when the oldest, how many are dead."""

    waiting: int
    oldest_at: float | None
    dead: int


class Outbox:
    """Of one process; others may have the same file open. Safe for threads.

    Errors: OutboxError from every method, naming the file and the way out.
    """

    def __init__(
        self,
        settings: DeliverySettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or DeliverySettings()
        self.repeated = self.overflowed = self.salvaged = 0
        self._clock = clock
        self._file = OutboxFile(Path(self.settings.outbox))
        self.dead_letter_file = DeadLetterFile(
            Path(self.settings.dead_letters or f"{self.settings.outbox}.dead.jsonl"),
            self.settings.dead_letters_bytes,
        )
        self._room = Room(self._file, self.dead_letter_file, self.settings, clock)
        self._presence = Presence(Path(self.settings.outbox))
        self._takes = itertools.count()
        self._unflushed = threading.Event()
        for broken in self._file.broken():
            self._salvage(broken)
        self._free_the_leases_of_the_dead()

    def put(self, messages: Sequence[Message]) -> int:
        """Keep `messages` until they are delivered; returns how many were new.

        On return they survive the death of this process, and after `flush` a loss of power. Events
        that their receiver has had, or will have, are left out, and a message without any other.
        """
        now, new = self._clock(), 0
        given_up = 0
        with self._file.writing() as connection:
            for message in messages:
                new += self._insert(connection, message, now)
            if new:
                given_up = self._room.give_up_the_excess(connection)
        if new:
            self._unflushed.set()
        self.overflowed += given_up
        return new

    def _insert(self, connection: sqlite3.Connection, message: Message, now: float) -> bool:
        keys = message.keys
        known = {
            key
            for key in keys
            if connection.execute(
                "SELECT 1 FROM events WHERE receiver=? AND key=?", (message.receiver, key)
            ).fetchone()
        }
        fresh = {
            key: event for key, event in zip(keys, message.events, strict=True) if key not in known
        }
        self.repeated += len(keys) - len(fresh)
        if not fresh:
            return False
        if len(fresh) < len(keys):
            message = dataclasses.replace(message, events=tuple(fresh.values()))
        body = message.to_json()
        expires = now + self.settings.dead_after_seconds
        seq = connection.execute(
            "INSERT INTO messages (id, receiver, state, body, bytes, put_at, expires, due)"
            " VALUES (?, ?, 'waiting', ?, ?, ?, ?, ?)",
            (
                message_id(message.receiver, fresh),
                message.receiver,
                body,
                len(body),
                now,
                expires,
                now,
            ),
        ).lastrowid
        connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?)",
            [(message.receiver, key, event.id, seq) for key, event in fresh.items()],
        )
        return True

    def flush(self) -> None:
        """Wait until everything that was put is on the disk.

        To be called before the position in a stream is saved, or a loss of power could lose the
        alert but not the position after it.
        """
        if self._unflushed.is_set():
            self._unflushed.clear()
            with self._file.writing(durable=True) as connection:
                connection.execute("UPDATE flushes SET at = ?", (self._clock(),))

    def take(self, receiver: str, *, early: bool = False) -> Taken | None:
        """Hold the next message for `receiver` that is due; with `early`, even before it is due.

        It is handed out again when the lease ends, unless it has been settled before.
        """
        now, limits = self._clock(), self.settings
        values = {
            "receiver": receiver,
            "now": now,
            "early": early,
            "lease": limits.lease_seconds,
            "longest": max(limits.longest_retry_seconds, limits.longest_retry_after_seconds),
        }
        # Looking takes no lock from others, and mostly there is nothing.
        while self._file.read(NEXT, values):
            with self._file.writing() as connection:
                row = connection.execute(NEXT, values).fetchone()
                if row is None:
                    return None
                seq, body, attempts, put_at = row
                try:
                    message = Message.of(body, attempt=attempts + 1)
                except ValueError as error:  # of another version, or of a disk that fails
                    self._room.bury(connection, "seq=?", (seq,), why=f"it cannot be read: {error}")
                    continue
                lease = f"{self._presence.name}:{next(self._takes)}"
                connection.execute(
                    "UPDATE messages SET lease=?, leased_until=?, attempts=? WHERE seq=?",
                    (lease, now + limits.lease_seconds, attempts + 1, seq),
                )
            return Taken(message, seq, lease, put_at)
        return None

    def delivered(self, taken: Taken) -> None:
        """The receiver has it; true even of a lease that has ended meanwhile."""
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE messages SET state='delivered', body='', bytes=0, lease=NULL, settled_at=?"
                " WHERE seq=?",
                (self._clock(), taken.seq),
            )

    def renew(self, taken: Taken) -> None:
        """Hold it for another `lease_seconds`."""
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE messages SET leased_until=? WHERE seq=? AND lease=?",
                (self._clock() + self.settings.lease_seconds, taken.seq, taken.lease),
            )

    def later(self, taken: Taken, due: float, why: str) -> None:
        """Try again from `due` on (seconds of the epoch)."""
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE messages SET due=?, why=?, lease=NULL WHERE seq=? AND lease=?",
                (due, why, taken.seq, taken.lease),
            )

    def give_up(self, taken: Taken, why: str) -> bool:
        """Make it a dead letter; not so if another worker holds it meanwhile."""
        with self._file.writing() as connection:
            return bool(
                self._room.bury(connection, "seq=? AND lease=?", (taken.seq, taken.lease), why=why)
            )

    def expire(self, receiver: str) -> int:
        """Make dead letters of what has waited too long for a receiver; returns how many."""
        now = self._clock()
        where = "receiver=? AND expires<=? AND (lease IS NULL OR leased_until<=?)"
        dead = 0
        while True:
            with self._file.writing() as connection:
                buried = self._room.bury(connection, where, (receiver, now, now))
            dead += buried
            if buried < CHUNK:
                return dead

    def hurry(self, receiver: str) -> None:
        """Make due at once whatever waits for a receiver, for it has come back."""
        now = self._clock()
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE messages SET due=? WHERE receiver=? AND state='waiting' AND due>?",
                (now, receiver, now),
            )

    def counters(self) -> dict[str, int]:
        """Since the start of this process, for metrics.

        repeated: events that were put before. overflowed: messages that were given up for want of
        room. salvaged: messages saved from a broken file. unwritten: dead letters that are in the
        outbox, but could not be appended to their file.
        """
        return {
            "repeated": self.repeated,
            "overflowed": self.overflowed,
            "salvaged": self.salvaged,
            "unwritten": self.dead_letter_file.failures,
        }

    def queues(self) -> dict[str, Queue]:
        """What is kept, by receiver, of all workers."""
        rows = self._file.read(
            "SELECT receiver, SUM(messages * (state = 'waiting')),"
            " (SELECT put_at FROM messages WHERE messages.receiver = queues.receiver"
            "  AND state = 'waiting' ORDER BY seq LIMIT 1),"
            " SUM(messages * (state = 'dead')) FROM queues GROUP BY receiver ORDER BY receiver"
        )
        return {receiver: Queue(*values) for receiver, *values in rows}

    def dead_letters(self, receiver: str | None = None, *, limit: int = 1000) -> list[DeadLetter]:
        """The dead letters that can be redelivered, the latest first."""
        rows = self._file.read(
            f"SELECT {LETTER} FROM messages"
            " WHERE state='dead' AND (?1 IS NULL OR receiver=?1)"
            " ORDER BY settled_at DESC, seq DESC LIMIT ?2",
            (receiver, limit),
        )
        return [letter(row) for row in rows]

    def redeliver(self, ids: Iterable[str] | None = None, *, receiver: str | None = None) -> int:
        """Have dead letters delivered after all: those of `ids`, and of a receiver; else all.

        Returns how many. They go before what has come later, as in the beginning.
        """
        now = self._clock()
        chosen = "SELECT value FROM json_each(?4)" if ids is not None else "id"
        with self._file.writing() as connection:
            return connection.execute(
                "UPDATE messages SET state='waiting', due=?1, expires=?2, attempts=0, why=NULL,"
                " settled_at=NULL WHERE state='dead' AND (?3 IS NULL OR receiver=?3)"
                f" AND id IN ({chosen})",
                (now, now + self.settings.dead_after_seconds, receiver)
                + ((json.dumps(list(ids)),) if ids is not None else ()),
            ).rowcount

    def tidy(self) -> None:
        """Forget what was delivered long ago, and bound the rest."""
        now, limits = self._clock(), self.settings
        for state, most, keep in (
            ("delivered", limits.remember_messages, limits.remember_seconds),
            ("dead", limits.most_dead, None),
        ):
            while self._room.forget(state, most, None if keep is None else now - keep):
                pass

    def settle_down(self) -> None:
        """To be called every second: bring the file up to date on the disk while others go on, and
        take over what workers held that are no more."""
        self._file.checkpoint()
        self._free_the_leases_of_the_dead()

    def close(self) -> None:
        """Flush, and close the file. What is still held others may take."""
        self.flush()
        self._file.close()
        self._presence.end()

    def _free_the_leases_of_the_dead(self) -> None:
        rows = self._file.read(
            "SELECT DISTINCT substr(lease, 1, instr(lease, ':') - 1) FROM messages"
            " WHERE lease IS NOT NULL"
        )
        for (worker,) in rows:
            if self._presence.dead(worker):
                with self._file.writing() as connection:
                    connection.execute(
                        "UPDATE messages SET lease=NULL WHERE lease LIKE ?", (f"{worker}:%",)
                    )
                self._presence.bury(worker)

    def _salvage(self, broken: Path) -> None:
        """Put again what waits in a broken file and can be read."""
        for body in waiting_in(broken):
            try:
                self.salvaged += self.put([Message.of(body)])
            except ValueError:
                _log.error("a message in the broken outbox cannot be read path=%s", broken)
        self.flush()
        _log.warning("broken outbox saved from path=%s messages=%d", broken, self.salvaged)
        self._file.saved(broken)
