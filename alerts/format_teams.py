"""Incidents as an Adaptive Card, posted through a workflow of Microsoft Teams.

What comes from telemetry is in text runs, which know no Markdown. Source: Adaptive Cards 1.5
schema; Microsoft Teams, "Send messages ... with a workflow" and its limit of 28 kB a message.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.incident import Incident, Severity
from sidelong.alerts.message_text import facts, group_title, title, worst
from sidelong.alerts.plain_text import card, fitted, harmless

__all__ = ["teams_message"]

_COLOURS: Final[Mapping[Severity, str]] = {
    "info": "default",
    "low": "accent",
    "medium": "warning",
    "high": "attention",
    "critical": "attention",
}
_BYTES: Final = 24_000
_TITLE: Final = 300
_TEXT: Final = 2_000
_FACT: Final = 800


def teams_message(
    events: Sequence[Incident],
    labels: Mapping[str, str],
    *,
    headline: str | None = None,
    text: str | None = None,
) -> dict[str, Any]:
    """The body for a workflow that begins "when a Teams webhook request is received".

    headline: the title instead of ours, plain. text: what to say instead of ours, Markdown in which
    everything foreign is escaped already. Of more events than a message holds the first are told,
    and how many more there are.
    """
    shown = [harmless(event) for event in events]
    body: list[dict[str, Any]] = [
        _runs(
            _run(
                headline or group_title(shown),
                _TITLE,
                size="large",
                weight="bolder",
                color=_COLOURS[worst(shown).severity],
            )
        )
    ]
    told = 0
    if text is not None:
        body.append({"type": "TextBlock", "text": fitted(text, _TEXT), "wrap": True})
        told = len(shown)
    else:
        for event in shown:
            parts = _event(event, alone=len(shown) == 1)
            if told and _bytes([*body, *parts]) > _BYTES:
                break
            body += parts
            told += 1
    if told < len(shown):
        body.append(_runs(_run(f"and {len(shown) - told} more", _TITLE)))
    if labels:
        told_labels = [f"{name}: {value}" for name, value in plain_labels(labels).items()]
        body.append(_runs(_run(" · ".join(told_labels), _FACT, isSubtle=True)))
    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": {"width": "Full"},
                    "body": body,
                },
            }
        ],
    }


def _event(event: Incident, *, alone: bool) -> list[dict[str, Any]]:
    heading = [] if alone else [_runs(_run(title(event), _TITLE, weight="bolder"))]
    return [
        *heading,
        _runs(_run(event.summary, _TEXT)),
        *(
            _runs(_run(f"{name}: ", _FACT, weight="bolder"), _run(value, _FACT))
            for name, value in facts(event)
        ),
    ]


def _runs(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": list(runs)}


def _run(text: str, longest: int, **style: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": fitted(text, longest, card), **style}


def _bytes(body: Sequence[Mapping[str, Any]]) -> int:
    return len(json.dumps(body))
