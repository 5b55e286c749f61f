"""Incidents as plain JSON, one object of the same keys for one event and for many."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import harmless, plain

__all__ = ["VERSION", "json_payload", "plain_labels"]

VERSION: Final = 1
"""Raised when a key changes its meaning or goes; new keys may come at any time."""


def json_payload(events: Sequence[Incident], labels: Mapping[str, str]) -> dict[str, Any]:
    """`version`, `labels` and `incidents`, which are those of the command line's JSON."""
    return {
        "version": VERSION,
        "labels": plain_labels(labels),
        "incidents": [harmless(event).to_dict() for event in events],
    }


def plain_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels, which may quote names from traffic, as text that is harmless."""
    return {plain(name, 128): plain(value) for name, value in labels.items()}
