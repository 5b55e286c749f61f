"""Incidents as a Slack message of blocks.

What comes from telemetry is in texts of type plain_text, which know no markup, and is escaped all
the same. Source: Slack, Block Kit reference (lengths) and "Formatting text for app surfaces".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.incident import Incident
from sidelong.alerts.message_text import facts, group_title, title
from sidelong.alerts.plain_text import fitted, harmless, slack

__all__ = ["slack_message"]

_HEADER: Final = 150
_TEXT: Final = 3_000
_FIELD: Final = 2_000
_FALLBACK: Final = 4_000
_FIELDS: Final = 10
_BLOCKS: Final = 50
_EACH: Final = 3  # blocks for an event among several
_EVENTS: Final = (_BLOCKS - 2) // _EACH


def slack_message(
    events: Sequence[Incident],
    labels: Mapping[str, str],
    *,
    headline: str | None = None,
    text: str | None = None,
) -> dict[str, Any]:
    """The body of an incoming webhook.

    headline: the title instead of ours, plain. text: what to say instead of ours, mrkdwn in which
    everything foreign is escaped already.
    """
    shown = [harmless(event) for event in events]
    heading = headline or group_title(shown)
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(heading, _HEADER)}]
    if text is not None:
        blocks.append({"type": "section", "text": _mrkdwn(text)})
    else:
        for event in shown[:_EVENTS]:
            blocks += _event(event, alone=len(shown) == 1)
    left = 0 if text is not None else len(shown) - _EVENTS
    closing = [f"{name}: {value}" for name, value in plain_labels(labels).items()]
    closing += [f"and {left} more"] if left > 0 else []
    if closing:
        footer = _plain(" · ".join(closing), _FIELD)
        blocks.append({"type": "context", "elements": [footer]})
    summaries = "\n".join(event.summary for event in shown[:_EVENTS])
    return {
        "text": fitted(f"{heading}\n{summaries}", _FALLBACK, slack),
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": blocks,
    }


def _event(event: Incident, *, alone: bool) -> list[dict[str, Any]]:
    heading = "" if alone else f"{title(event)}\n"
    fields = [_plain(f"{name}: {value}", _FIELD) for name, value in facts(event)[:_FIELDS]]
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": _plain(f"{heading}{event.summary}", _TEXT)},
        {"type": "section", "fields": fields},
    ]
    return blocks if alone else [*blocks, {"type": "divider"}]


def _plain(text: str, longest: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": fitted(text, longest, slack) or "-", "emoji": False}


def _mrkdwn(text: str) -> dict[str, Any]:
    # verbatim: or Slack would make links and mentions of what only looks like one.
    return {"type": "mrkdwn", "text": fitted(text, _TEXT) or "-", "verbatim": True}
