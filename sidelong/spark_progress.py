"""How far Spark is: a bar over the tasks of the step under way, on a terminal only."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from sidelong.terminal import Terminal

__all__ = ["SparkProgress"]

_EVERY_SECONDS: Final = 0.5


class SparkProgress:
    """Use as a context manager; leaving it removes every trace. spark: comes with `watch`."""

    def __init__(self, terminal: Terminal) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tasks"),
            console=terminal.err,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not terminal.err.is_terminal,
        )
        self._task = self._bar.add_task("starting Spark", total=None)
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> "SparkProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join(5)
        self._bar.stop()

    def step(self, what: str) -> None:
        """Say what is being done now."""
        self._bar.update(self._task, description=what, completed=0, total=None)

    def watch(self, spark: Any) -> None:
        """Show the tasks of the stages that run, until the end."""
        if self._bar.disable:
            return
        tracker = spark.sparkContext.statusTracker()
        self._watcher = threading.Thread(target=self._follow, args=(tracker,), daemon=True)
        self._watcher.start()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar off the screen while something else is printed."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def _follow(self, tracker: Any) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            try:
                stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            except Exception:  # the session has ended: nothing to show any more
                return
            known = [stage for stage in stages if stage is not None]
            if known:
                done = sum(stage.numCompletedTasks for stage in known)
                total = sum(stage.numTasks for stage in known)
                self._bar.update(self._task, completed=done, total=total)
