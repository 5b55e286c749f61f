"""A file that is there whole or not at all, and whose place is tried before the work begins."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sidelong.errors import ConfigError
from sidelong.ingest.draft import mode_of_new_files

__all__ = ["WholeFile"]

_CANNOT: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)  # where no room can be reserved


class WholeFile:
    """A place for a file. Use as a context manager; what was there before stays until `write`.

    room: how many bytes are reserved at once, as far as the file system can, so that a long run
    does not end at a full disk. Errors: ConfigError, when nothing can be written there.
    """

    def __init__(self, path: str, room: int) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_file():
            # Not even to look at: a device would be replaced by a file.
            raise _denied(path, "it is there, and is no file")
        try:
            number, name = tempfile.mkstemp(
                prefix=f".{self.path.name[:100]}.", dir=self.path.parent
            )
        except OSError as error:
            raise _denied(path, error.strerror or str(error)) from error
        self._part = Path(name)
        self._file = os.fdopen(number, "wb")
        try:
            os.posix_fallocate(number, 0, room)
        except OSError as error:
            if error.errno not in _CANNOT:
                self.close()
                raise _denied(path, error.strerror or str(error)) from error
        except AttributeError:  # where the platform has no such call
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, text: str) -> int:
        """Put the file there, readable as other new files are; how many bytes it has.

        Errors: ConfigError when it cannot be written; what was there before is there still.
        """
        content = text.encode("utf-8", "backslashreplace")
        try:
            self._file.write(content)
            self._file.truncate(len(content))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._part.chmod(mode_of_new_files())
            self._part.replace(self.path)
        except OSError as error:
            raise _denied(str(self.path), error.strerror or str(error)) from error
        return len(content)

    def close(self) -> None:
        """Leave nothing behind but what was written."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


def _denied(path: str, why: str) -> ConfigError:
    return ConfigError(
        f"{path} cannot be written: {why}",
        hint="name a file in a folder that is yours and has room",
    )
