"""The SQLite file under the outbox: opened, written and read safely by several processes.

Journal: WAL, so that whoever reads holds up nobody who writes. Synchronous: NORMAL, with which a
commit survives the death of the process (kill -9) and costs no wait for the disk, measured at 0.03
ms where FULL took 2 to 4; `writing(durable=True)` waits, after which everything committed before
survives a loss of power too. Source: https://www.sqlite.org/pragma.html#pragma_synchronous.
"""

import fcntl
import glob
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sidelong.alerts.outbox_schema import SCHEMA, VERSION
from sidelong.errors import SidelongError

__all__ = ["OutboxError", "OutboxFile", "waiting_in"]

_log: Final = logging.getLogger(__name__)

_PARTS: Final = ("", "-wal", "-shm")
_BUSY_SECONDS: Final = 5.0
_BROKEN: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_HINTS: Final = {
    "SQLITE_FULL": "free space on that disk; whatever was committed before is safe",
    "SQLITE_BUSY": "another process holds it for long: end what copies or inspects it",
    "SQLITE_LOCKED": "another process holds it for long: end what copies or inspects it",
    "SQLITE_READONLY": "let sidelong write to the file and to its directory",
    "SQLITE_CANTOPEN": "let sidelong write to the directory, and check the path",
    "SQLITE_IOERR": "check that disk; an outbox must be on a local one, not on NFS",
    "SQLITE_CORRUPT": "restart: the file is then set aside, and what is readable in it is saved",
    "SQLITE_NOTADB": "restart: the file is then set aside",
}


class OutboxError(SidelongError):
    """The outbox cannot be used: the disk is full, the file is locked, unwritable or broken.

    What was put before is safe. What could not be put is not: whoever puts must not go on as if it
    were, and takes the stream up again where it last was safe.
    """

    exit_status = 3


class OutboxFile:
    """One connection, shared by the threads of a process; opened after a fork, never before.

    A file that is broken is set aside under a name with .broken- in it, and a new one is begun.

    Errors: OutboxError, here and in everything below, naming the file and the way out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._durable = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path):
                self._connection = self._opened()
        except OSError as error:
            raise OutboxError(
                f"the outbox {path} cannot be opened: {error.strerror}",
                hint="let sidelong write to its directory, or name another in delivery.outbox",
            ) from error

    def _opened(self) -> sqlite3.Connection:
        try:
            return _connected(self.path)
        except sqlite3.Error as error:
            if not _name(error).startswith(_BROKEN):
                raise self._error(error) from error
            aside = self._put_aside()
            _log.error(
                "outbox is broken and set aside path=%s aside=%s why=%s", self.path, aside, error
            )
        try:
            return _connected(self.path)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _put_aside(self) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        names = (f"{self.path}.broken-{stamp}{f'-{again}' if again else ''}" for again in range(99))
        aside = next(name for name in names if not os.path.exists(name))
        _rename(self.path, aside)
        return Path(aside)

    def broken(self) -> list[Path]:
        """The files that were set aside and whose messages have not been saved yet."""
        beside = self.path.parent.glob(f"{glob.escape(self.path.name)}.broken-*")
        return sorted(path for path in beside if not path.name.endswith(("-wal", "-shm", ".saved")))

    def saved(self, broken: Path) -> None:
        """Note that the messages of such a file have been saved; the file stays."""
        _rename(broken, f"{broken}.saved")

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction, committed at its end; with `durable`, to the disk, with all before it."""
        with self._lock:
            connection = self._connection
            try:
                if durable is not self._durable:
                    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                    self._durable = durable
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    # SQLite itself has already rolled back after some errors, such as a full disk.
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._error(error) from error

    def read(
        self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._error(error) from error

    def checkpoint(self) -> None:
        """Move what is committed into the file proper, as far as nobody is in the way.

        Over a connection of its own, so that nobody waits for the disk meanwhile.
        """
        try:
            with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if not _name(error).startswith("SQLITE_BUSY"):  # another is at it
                raise self._error(error) from error

    def close(self) -> None:
        """Close it; nothing is lost without."""
        with self._lock:
            self._connection.close()

    def _error(self, error: sqlite3.Error) -> OutboxError:
        name = _name(error)
        hint = next((text for code, text in _HINTS.items() if name.startswith(code)), None)
        return OutboxError(
            f"the outbox {self.path} cannot be used: {error}",
            hint=hint or "see that its directory exists on a local disk and may be written to",
        )


def _rename(old: Path, new: str) -> None:
    for part in _PARTS:
        with suppress(FileNotFoundError):
            os.rename(f"{old}{part}", f"{new}{part}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two that start at once neither create the tables twice nor set aside what the other began."""
    with open(f"{path}.lock", "ab", opener=_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _connected(path: Path) -> sqlite3.Connection:
    # SQLite would let everybody read it. Never opened when it exists: to close it again would
    # release every lock that this process has on it.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        # At 16 MB whoever commits brings the file up to date; mostly `checkpoint` has done it.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise OutboxError(
                f"the outbox {path} was written by a newer sidelong", hint="use that one, or newer"
            )
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if version == 0 and tables:
            raise OutboxError(
                f"{path} is a database of something else",
                hint="name another file in delivery.outbox",
            )
        if version == 0:
            connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={VERSION};COMMIT;")
        else:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise _Broken(found)
    except BaseException:
        connection.close()
        raise
    return connection


class _Broken(sqlite3.DatabaseError):
    """What a check found, as SQLite reports it when it stumbles over it."""

    sqlite_errorname = "SQLITE_CORRUPT"


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "")


def waiting_in(broken: Path) -> list[str]:
    """The bodies of the messages that wait in a broken file: up to where it breaks, from both
    ends."""
    found: list[list[str]] = []
    for order in ("ASC", "DESC"):
        found.append([])
        with closing(sqlite3.connect(broken, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA query_only=ON")
            query = f"SELECT body FROM messages WHERE state='waiting' ORDER BY seq {order}"
            with suppress(sqlite3.Error, UnicodeDecodeError):
                for (body,) in connection.execute(query):
                    found[-1].append(body)
    return list(dict.fromkeys((*found[0], *reversed(found[1]))))
