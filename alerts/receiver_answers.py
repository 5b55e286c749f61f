"""Answers that say no with a status of 200, as some services do."""

import json
import re
from typing import Any, Final

from sidelong.alerts.http_client import Answer
from sidelong.alerts.receiver import Undelivered
from sidelong.ingest.secret import shortened

__all__ = ["bulk_verdict", "slack_verdict", "teams_verdict"]

_THERE_ALREADY: Final = 409
_LATER: Final = frozenset({429, 500, 502, 503, 504})
_SLACK_LATER: Final = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"}
)


def slack_verdict(answer: Answer) -> None:
    """Slack's Web API answers 200 and `"ok": false`. Errors: Undelivered."""
    told = _object(answer.body)
    if told.get("ok") is False:
        why = str(told.get("error", "no reason"))
        raise Undelivered(f"Slack answered {shortened(why)}", permanent=why not in _SLACK_LATER)


def teams_verdict(answer: Answer) -> None:
    """Teams may answer 200 with the status of what lies behind it in a sentence. Errors:
    Undelivered."""
    found = re.search(rb"returned HTTP error (\d{3})", answer.body)
    if found:
        status = int(found[1])
        raise Undelivered(
            f"Teams answered that what lies behind it answered {status}",
            permanent=400 <= status < 500 and status not in _LATER,
        )


def bulk_verdict(answer: Answer) -> None:
    """Elasticsearch answers 200 and tells of each document. One that is there already was sent
    before. Errors: Undelivered."""
    told = _object(answer.body)
    if told.get("errors") is not True:
        return
    refused: list[tuple[int, str]] = []
    for item in told.get("items") or ():
        for result in item.values():
            status = int(result.get("status", 0))
            if status >= 300 and status != _THERE_ALREADY:
                error = result.get("error")
                reason = error.get("reason", "") if isinstance(error, dict) else error
                refused.append((status, shortened(str(reason))))
    if refused:
        status, reason = refused[0]
        raise Undelivered(
            f"{len(refused)} documents were refused, the first with {status}: {reason}",
            permanent=not any(status in _LATER for status, _ in refused),
        )


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
