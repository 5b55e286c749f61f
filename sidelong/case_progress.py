"""How far a case has been read: a bar on a terminal, a line that changes in a notebook."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sidelong.case_frames import escaped
from sidelong.ingest.source import Batch, Source
from sidelong.progress import Reading, total_bytes
from sidelong.tally import Tally
from sidelong.terminal import Terminal, plural

__all__ = ["in_notebook", "progress"]

_EVERY_SECONDS: Final = 0.25
_SLOW_SECONDS: Final = 1.0  # what is done sooner shows nothing


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def progress(
    label: str, sources: Sequence[Source], tally: Tally
) -> Iterator[Callable[[Batch | None], None]]:
    """What is called after each batch, for a person to see how far it is; leaves no trace.

    The tally is counted by whoever reads; a batch that is given is counted here.
    """
    if in_notebook():
        with _notebook(label, total_bytes(sources), tally) as shown:
            yield shown
        return
    with Reading(Terminal(), tally, label, total_bytes(sources)) as reading:

        def update(batch: Batch | None) -> None:
            if batch is not None:
                tally.add(batch)
            reading.update()

        yield update


@contextmanager
def _notebook(
    label: str, total: int | None, tally: Tally
) -> Iterator[Callable[[Batch | None], None]]:
    import IPython.display  # there is one: a kernel runs this

    shows: Any = IPython.display
    begun = shown_at = time.monotonic()
    handle: Any = None

    def text() -> str:
        share = f" {100 * tally.read_bytes // total} % of" if total else ""
        return f"{label}:{share} {plural(tally.flows, 'flow')} so far"

    def update(batch: Batch | None) -> None:
        nonlocal handle, shown_at
        if batch is not None:
            tally.add(batch)
        now = time.monotonic()
        if now - begun < _SLOW_SECONDS or now - shown_at < _EVERY_SECONDS:
            return
        shown_at = now
        line = shows.HTML(f"<small>{escaped(text())}</small>")
        if handle is None:
            handle = shows.display(line, display_id=True)
        else:
            handle.update(line)

    try:
        yield update
    finally:
        if handle is not None:
            handle.update(shows.HTML(""))
