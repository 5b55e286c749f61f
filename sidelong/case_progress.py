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


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def progress(
    label: str, sources: Sequence[Source], tally: Tally
) -> Iterator[Callable[[Batch | None], None]]:
    """What is called after each batch, for a person to see how far it is.

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
    """One line, there from the start and the same at the end however long it took."""
    import IPython.display  # there is one: a kernel runs this

    shows: Any = IPython.display

    def line(text: str) -> Any:
        return shows.HTML(f"<small>{escaped(text, 200)}</small>")

    handle = shows.display(line(f"{label} ..."), display_id=True)
    shown_at = time.monotonic()

    def update(batch: Batch | None) -> None:
        nonlocal shown_at
        if batch is not None:
            tally.add(batch)
        if time.monotonic() - shown_at < _EVERY_SECONDS:
            return
        shown_at = time.monotonic()
        share = f" {100 * tally.read_bytes // total} %," if total else ""
        handle.update(line(f"{label}:{share} {plural(tally.flows, 'flow')} so far"))

    try:
        yield update
    finally:
        handle.update(line(f"{label}: {tally}"))
