"""The work of `sidelong baseline forget`: a baseline without a workload, an edge or a domain."""

import getpass
import os
from datetime import UTC, datetime
from typing import Final

from sidelong.baseline_places import (
    HISTORY,
    feedback_on,
    note_history,
    read_baseline,
    save_baseline,
    save_feedback,
    shown,
)
from sidelong.errors import ConfigError
from sidelong.models.forgetting import Subject
from sidelong.terminal import Terminal, plural

__all__ = ["HISTORY", "forget"]

_LONGEST: Final = 1_000


def forget(
    subject: str, *, terminal: Terminal, baseline: str, why: str = "", by: str | None = None
) -> int:
    """Save a baseline without something, in a store as a new version; returns 0.

    Errors: ConfigError for a baseline that cannot be used, or that knows nothing of the subject;
    SourceError for a store out of reach.
    """
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
            f"{shown(baseline)} knows nothing of {subject!r}",
            hint=f"see what it knows: sidelong baseline show --baseline {shown(baseline)}",
        )
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": (by or _user())[:_LONGEST],
        "forgot": subject,
        "what": parts,
        "why": why[:_LONGEST],
    }
    # The trail first: what is gone without a word could not be traced.
    note_history(entry, baseline)
    save_baseline(forgotten.baseline, baseline)
    if forgotten.feedback != said:
        save_feedback(forgotten.feedback, baseline)
    terminal.say(f"forgotten: {', '.join(parts)}; it counts from the next start on")
    return 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without such a user
        return f"uid {os.getuid()}"
