"""How the outbox stays bounded: what it gives up, and what it forgets."""

import dataclasses
import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

from sidelong.alerts.dead_letters import DeadLetter, DeadLetterFile
from sidelong.alerts.delivery_settings import DeliverySettings
from sidelong.alerts.outbox_file import OutboxFile

__all__ = ["CHUNK", "LETTER", "Room", "letter"]

_log: Final = logging.getLogger(__name__)

CHUNK: Final = 500
"""Rows handled in one transaction, so that whoever puts never waits for long."""

LETTER: Final = "id, receiver, attempts, settled_at, why, body"
"""The columns that `letter` takes."""

_DEAD: Final = "UPDATE messages SET state='dead', lease=NULL, settled_at=?, why=? WHERE seq=?"


class Room:
    """Makes room in an outbox. Its methods that take a connection are part of a transaction."""

    def __init__(
        self,
        file: OutboxFile,
        letters: DeadLetterFile,
        settings: DeliverySettings,
        clock: Callable[[], float],
    ) -> None:
        self._file = file
        self._letters = letters
        self._settings = settings
        self._clock = clock

    def bury(
        self,
        connection: sqlite3.Connection,
        where: str,
        values: tuple[object, ...],
        *,
        why: str | None = None,
        most: int = CHUNK,
    ) -> int:
        """Make dead letters of waiting messages, the oldest first; returns of how many.

        The file comes before the commit: a crash between them writes a line twice, never none.
        """
        now = self._clock()
        rows = connection.execute(
            f"SELECT seq, {LETTER} FROM messages WHERE state='waiting' AND {where}"
            " ORDER BY seq LIMIT ?",
            (*values, most),
        ).fetchall()
        letters = {seq: letter(row) for seq, *row in rows}
        for seq, dead in letters.items():
            reason = why or f"not delivered in time; last: {dead.why or 'never tried'}"
            letters[seq] = dataclasses.replace(dead, dead_at=now, why=reason)
        self._letters.append(list(letters.values()))
        connection.executemany(_DEAD, [(now, dead.why, seq) for seq, dead in letters.items()])
        return len(letters)

    def give_up_the_excess(self, connection: sqlite3.Connection) -> int:
        """Bury the oldest of the longest queue until all fits; returns how many."""
        given_up, limits = 0, self._settings
        while True:
            queues = connection.execute(
                "SELECT receiver, messages, bytes FROM queues WHERE state='waiting' AND messages>0"
            ).fetchall()
            messages = sum(queue[1] for queue in queues) - limits.most_messages
            excess = sum(queue[2] for queue in queues) - limits.most_bytes
            if messages <= 0 and excess <= 0:
                return given_up
            by = 1 if messages > 0 else 2
            longest = max(queues, key=lambda queue: queue[by])
            many = min(messages, longest[1]) if messages > 0 else 1
            why = "the outbox is full, and of the longest queue this was the oldest"
            buried = self.bury(connection, "receiver=?", (longest[0],), why=why, most=many)
            given_up += buried
            _log.error("outbox is full receiver=%s dead=%d", longest[0], buried)

    def forget(self, state: str, most: int, before: float | None) -> bool:
        """Forget some rows of a state; returns whether there may be more."""
        ((present,),) = self._file.read(
            "SELECT COALESCE(SUM(messages), 0) FROM queues WHERE state=?", (state,)
        )
        excess = min(max(0, present - most), CHUNK)
        with self._file.writing() as connection:
            forgotten = connection.execute(
                "DELETE FROM messages WHERE seq IN (SELECT seq FROM messages WHERE state=?1"
                " ORDER BY settled_at, seq LIMIT ?2)"
                " OR seq IN (SELECT seq FROM messages WHERE state=?1 AND settled_at<?3 LIMIT ?4)",
                (state, excess, before, CHUNK),
            ).rowcount
        return forgotten >= CHUNK


def letter(row: Sequence[Any]) -> DeadLetter:
    """The dead letter of a row of the columns `LETTER`."""
    ident, receiver, attempts, dead_at, why, body = row
    return DeadLetter(
        id=ident,
        receiver=receiver,
        attempts=attempts,
        dead_at=dead_at or 0.0,
        why=why or "",
        body=body,
    )
