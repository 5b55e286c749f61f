"""The HTML report of a run: its place is tried before the run, and it is written whole."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sidelong.ingest.source import Source
from sidelong.models.baseline import Baseline
from sidelong.recording import Recorder
from sidelong.tally import Tally
from sidelong.terminal import Terminal
from sidelong.whole_file import WholeFile

__all__ = ["Report", "is_report", "reported"]

_ROOM: Final = 5 << 20  # no report is larger: see tests/test_report_size.py
_MARK: Final = '<meta name="generator" content="sidelong '
_HEAD: Final = 2_048


class Report:
    """A report in the making: `recorder` is to observe the run, `write` ends it."""

    def __init__(self, file: WholeFile, terminal: Terminal) -> None:
        self.recorder = Recorder()
        self._file = file
        self._terminal = terminal

    def write(
        self,
        tally: Tally,
        sources: Sequence[Source],
        baseline: Baseline | None,
        place: str | None,
        *,
        suppressed: frozenset[str] = frozenset(),
        interrupted: bool = False,
    ) -> None:
        """Write what was recorded, and say where. place: of the baseline, as it may be told.

        Errors: ConfigError when it cannot be written.
        """
        from sidelong.report_page import About, page  # Jinja, for those who want a page

        recording = self.recorder.finish(tally=tally, sources=sources)
        about = About(
            baseline=place,
            written=datetime.now(UTC),
            suppressed=suppressed,
            interrupted=interrupted,
        )
        size = self._file.write(page(recording, baseline, about))
        self._terminal.say(f"report: {self._file.path}, {size:,} bytes; open it in a browser")


@contextmanager
def reported(path: str | None, terminal: Terminal) -> Iterator[Report | None]:
    """A report that will be at `path`; None without one.

    Errors: ConfigError when nothing can be written there, or there is no room.
    """
    if path is None:
        yield None
        return
    with WholeFile(path, _ROOM) as file:
        yield Report(file, terminal)


def is_report(path: Path) -> bool:
    """Whether a file is a report of ours, or may become one because it is not there."""
    if not path.exists():
        return True
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return _MARK in file.read(_HEAD)
    except OSError:
        return False
