"""Where a baseline is kept: a folder of its own, or a model store that holds versions of it.

Whatever takes `--baseline` takes either; see `is_store` for which of them a name stands for.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sidelong.models.baseline import Baseline
from sidelong.models.feedback import FILE_NAME, Feedback
from sidelong.models.store import ModelStore, is_store

__all__ = [
    "HISTORY",
    "feedback_on",
    "load_baseline",
    "note_history",
    "read_baseline",
    "save_baseline",
    "save_feedback",
    "shown",
    "signature",
]

HISTORY: Final = "history.jsonl"
"""In the folder of a baseline, or beside the versions of a store: who had it forget what, a JSON
object a line, only added to."""

_WATCHED: Final = ("manifest.json", FILE_NAME)  # the manifest is written last


def load_baseline(place: str) -> Baseline:
    """The baseline at a place, the newest of a store, heeding what people said.

    Errors: ConfigError when there is none, or it is damaged or of another format; SourceError for a
    store out of reach.
    """
    return ModelStore(place).load() if is_store(place) else Baseline.load(Path(place))


def read_baseline(place: str) -> Baseline:
    """The same as it was learnt."""
    return ModelStore(place).read() if is_store(place) else Baseline.read(Path(place))


def feedback_on(place: str) -> Feedback:
    """What people said of the baseline at a place."""
    return ModelStore(place).feedback() if is_store(place) else Feedback.read(Path(place))


def save_baseline(baseline: Baseline, place: str) -> str:
    """Save a baseline; what to tell of it. Errors: as `Baseline.save` and `ModelStore`."""
    if is_store(place):
        store = ModelStore(place)
        return f"published as version {store.publish(baseline)} in {store.shown}"
    baseline.save(Path(place))
    return f"saved as {place}"


def save_feedback(said: Feedback, place: str) -> None:
    """Save what people said of the baseline at a place. Errors: SourceError, of a store."""
    if is_store(place):
        ModelStore(place).save_feedback(said)
    else:
        said.save(Path(place))


def note_history(entry: Mapping[str, object], place: str) -> None:
    """Add to the `HISTORY` of the baseline at a place. Errors: SourceError, of a store."""
    line = json.dumps(entry, ensure_ascii=False) + "\n"
    if "://" in place:
        ModelStore(place).note(HISTORY, line.encode())
        return
    with (Path(place) / HISTORY).open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def signature(place: str) -> object:
    """What changes whenever the baseline at a place does, or what people said of it.

    Errors: as `load_baseline`, of a store.
    """
    if is_store(place):
        return ModelStore(place).signature()
    return tuple(_of_file(Path(place) / name) for name in _WATCHED)


def shown(place: str) -> str:
    """The place as it may be told, without secrets."""
    return ModelStore(place).shown if is_store(place) else place


def _of_file(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
