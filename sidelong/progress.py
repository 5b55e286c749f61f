"""How far along: a bar with rate and time left on a terminal, nothing in a pipe."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.text import Text

from sidelong.ingest.source import Source
from sidelong.tally import Tally
from sidelong.terminal import Terminal

__all__ = ["Reading", "total_bytes"]

_SHOWN = 8


def total_bytes(sources: Sequence[Source]) -> int | None:
    """How much there is to read in all; None when one of the sources does not know."""
    sizes = [source.size_bytes for source in sources]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['rate']:,.0f} flows/s", style="progress.data.speed")


class _Bar(Progress):
    """The bar, and under it a few lines that change."""

    lines: tuple[Text, ...] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from self.lines


class Reading:
    """Shows a run as it goes. Use as a context manager; leaving it removes every trace.

    The bar is drawn on standard error, and only if that is a terminal. Whatever prints elsewhere
    on the same screen meanwhile does so within `aside`.
    """

    def __init__(self, terminal: Terminal, tally: Tally, label: str, total: int | None) -> None:
        self._tally = tally
        self._began = monotonic()
        self._ended = 0.0
        self._bar = _Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            *([BarColumn(), TimeLeft()] if total else []),
            _Rate(),
            console=terminal.err,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not terminal.err.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, rate=0.0)

    def __enter__(self) -> "Reading":
        self._began = monotonic()
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = monotonic()
        self._bar.lines = ()
        self._bar.stop()

    @property
    def rate(self) -> float:
        """Flows per second of wall time, so far or until the end."""
        ended = self._ended or monotonic()
        return self._tally.flows / max(ended - self._began, 1e-9)

    def update(self, lines: Sequence[Text] = ()) -> None:
        """Move the bar to where the tally is, with the newest of `lines` under it."""
        self._bar.lines = tuple(lines[-_SHOWN:])
        self._bar.update(self._task, completed=self._tally.read_bytes, rate=self.rate)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar off the screen while something else is printed."""
        if not self._bar.live.is_started:
            yield
            return
        lines, self._bar.lines = self._bar.lines, ()
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.lines = lines
            self._bar.start()
