"""A claim to a file: what only one process may work with at a time, such as an outbox.

The kernel lets go of it when the process ends, however that happens.
"""

import fcntl
import os
from pathlib import Path

from sidelong.errors import ConfigError

__all__ = ["Claim"]


class Claim:
    """A claim to the file at `path`, made with a lock on a file beside it."""

    def __init__(self, path: str) -> None:
        self._file = Path(f"{path}.claim")  # the outbox has a .lock of its own
        self._held: int | None = None

    def taken(self) -> bool:
        """Whether it is ours now. Errors: ConfigError when the folder cannot be written to."""
        if self._held is not None:
            return True
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{self._file} cannot be written: {error.strerror}",
                hint="name a path that this user may write to",
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._held = file
        return True

    def release(self) -> None:
        """Let another have it; may be called twice."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
