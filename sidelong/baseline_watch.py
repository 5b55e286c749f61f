"""The baseline that a service judges by: loaded at its start, and again whenever it has changed.

A newer one that cannot be read changes nothing: the one from before stays, and it is said why.
"""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from sidelong.errors import SidelongError
from sidelong.models.baseline import Baseline
from sidelong.models.feedback import FILE_NAME

__all__ = ["BaselineWatch", "Judge"]

_LOOK_SECONDS: Final = 5.0
_WATCHED: Final = ("manifest.json", FILE_NAME)  # the manifest is written last


class Judge(NamedTuple):
    """A baseline, and how many there were before it: what was built by another number is old."""

    number: int
    baseline: Baseline


class BaselineWatch:
    """The newest baseline in a folder; without a folder, the empty one. Used by any thread.

    say: tells a person that the baseline has changed, or why it could not be used. ticks: seconds.

    Errors: ConfigError for a baseline that cannot be loaded at the start.
    """

    def __init__(
        self,
        folder: str | None,
        say: Callable[[str], None],
        *,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._say = say
        self._ticks = ticks
        self._lock = Lock()
        self._seen = self._signature()
        self._looked = ticks()
        self._judge = Judge(0, Baseline.load(self._folder) if self._folder else Baseline.empty())

    def newest(self) -> Judge:
        """The newest baseline; looks whether there is one every few seconds."""
        with self._lock:
            if self._folder is not None and self._ticks() - self._looked >= _LOOK_SECONDS:
                self._looked = self._ticks()
                self._look(self._folder)
            return self._judge

    def _look(self, folder: Path) -> None:
        seen = self._signature()
        if seen == self._seen:
            return
        try:
            baseline = Baseline.load(folder)
        except SidelongError as error:
            self._say(f"the new baseline is not used, and the one before stays: {error.problem}")
        else:
            if self._signature() != seen:
                return  # it is being written: next time
            self._judge = Judge(self._judge.number + 1, baseline)
            self._say(f"judging by the new baseline in {folder} from now on")
        self._seen = seen

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        if self._folder is None:
            return ()
        return tuple(_of_file(self._folder / name) for name in _WATCHED)


def _of_file(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
