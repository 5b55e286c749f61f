"""Who works on an outbox, and who has died: so that nobody waits for the leases of the dead.

Each worker holds a lock on a file of its own for as long as its process lives, however that ends.
Whoever gets that lock knows that the worker is no more. An outbox in WAL mode is on one machine,
and so such a lock is seen by every worker, in whatever container it runs.
"""

import fcntl
import os
import secrets
from contextlib import suppress
from pathlib import Path

from sidelong.alerts.outbox_file import OutboxError

__all__ = ["Presence"]


class Presence:
    """That this process works on the outbox at `path`; `name` is the worker's.

    Errors: OutboxError when its file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = secrets.token_hex(8)
        try:
            self._file = os.open(self._of(self.name), os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            raise OutboxError(
                f"the outbox {path} cannot be used: {error.strerror}",
                hint="let sidelong write to its directory, and see that the disk is not full",
            ) from error

    def dead(self, name: str) -> bool:
        """Whether a worker is no more. When that cannot be told it is taken to live."""
        if name == self.name:
            return False
        try:
            file = os.open(self._of(name), os.O_RDWR)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(file)
        return True

    def bury(self, name: str) -> None:
        """Remove what a dead worker has left."""
        with suppress(OSError):
            os.unlink(self._of(name))

    def end(self) -> None:
        """This worker is done."""
        self.bury(self.name)
        os.close(self._file)

    def _of(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}.worker-{name}")
