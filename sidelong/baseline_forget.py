"""The work of `sidelong baseline forget`: a baseline without a workload, an edge or a domain."""

import getpass
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sidelong.baseline_places import feedback_on, read_baseline, save_baseline
from sidelong.errors import ConfigError
from sidelong.models.forgetting import Subject
from sidelong.terminal import Terminal, plural

__all__ = ["HISTORY", "forget"]

HISTORY: Final = "history.jsonl"
"""In the folder of a baseline: who had it forget what, a JSON object a line, only appended to."""

_LONGEST: Final = 1_000


def forget(
    subject: str, *, terminal: Terminal, baseline: str, why: str = "", by: str | None = None
) -> int:
    """Save a baseline without something, in a store as a new version; returns 0.

    Errors: ConfigError for a baseline that cannot be used, that knows nothing of the subject, or
    beside which no history can be kept, as in an object store.
    """
    if "://" in baseline:
        raise ConfigError(
            "a baseline at a URL cannot keep a history of what was forgotten",
            hint="forget it in the folder or local store that the baseline is published from",
        )
    folder = Path(baseline)
    learnt, said = read_baseline(baseline), feedback_on(baseline)
    forgotten = Subject.of(subject).forget(learnt, said)
    parts = [
        plural(count, thing)
        for count, thing in (
            (forgotten.workloads, "workload"),
            (forgotten.edges, "edge"),
            (forgotten.domains, "DNS domain"),
        )
        if count
    ]
    if forgotten.feedback != said:
        parts.append("what people said of it")
    if not parts:
        raise ConfigError(
            f"{folder} knows nothing of {subject!r}",
            hint=f"see what it knows: sidelong baseline show --baseline {folder}",
        )
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": (by or _user())[:_LONGEST],
        "forgot": subject,
        "what": parts,
        "why": why[:_LONGEST],
    }
    # The trail first: what is gone without a word could not be traced.
    _append(folder / HISTORY, entry)
    save_baseline(forgotten.baseline, baseline)
    if forgotten.feedback != said:
        forgotten.feedback.save(folder)
    terminal.say(f"forgotten: {', '.join(parts)}; it counts from the next start on")
    return 0


def _append(path: Path, entry: Mapping[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without such a user
        return f"uid {os.getuid()}"
