"""The log of the service: lines for people, or a JSON object a line for machines, on stderr.

An object has `time` (RFC 3339, UTC), `level`, `logger`, `message`, and where there is one `role`,
`repeated` (how many the same were left out before), `exception` (the traceback), and in `fields`
whatever else was given in `extra`. What others chose is escaped, what looks like a secret is
hidden, and what repeats itself is counted; see `log_repeats`.

A caller that says the same in different words, such as with a pause that grows, says in
`extra={"same": ...}` what stays.
"""

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, Self, TextIO

from sidelong.alerts.plain_text import printable, printable_json
from sidelong.ingest.secret import HIDDEN
from sidelong.log_repeats import Repeats
from sidelong.role import Measures

__all__ = ["LogOutput", "logging_to_stderr"]

_LONGEST: Final = 10_000
_GIVEN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "role", "same"}

# A net below the rule that no secret is ever given to a logger: user information in URLs, what an
# Authorization header holds, and what is called like a secret.
_SECRETS: Final = (
    re.compile(r"(?P<before>\w://)[^\s/@]*:[^\s/@]*(?=@)"),
    re.compile(r"(?P<before>\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE),
    re.compile(
        r"(?P<before>(?:passw(?:or)?d|secret|token|api[_-]?key)['\"]?\s*[=:]\s*)"
        r"(?!None\b|\*\*\*)(?:\"[^\"]*\"|'[^']*'|[^\s,;&'\"]+)",
        re.IGNORECASE,
    ),
)

# Libraries that say as warnings what sidelong says itself, or what holds URLs with secrets.
_NOISY: Final = {"urllib3": logging.ERROR, "kubernetes": logging.ERROR, "botocore": logging.ERROR}


class LogOutput(logging.Handler):
    """Writes what is logged to `stream`, from its making to `close`.

    ticks: seconds that never jump. For metrics it counts what it left out.
    """

    name = ""  # for metrics: of the process

    def __init__(
        self,
        style: Literal["text", "json"],
        stream: TextIO,
        *,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._encode = _as_text if style == "text" else _as_json
        self._stream = stream
        self._ticks = ticks
        self._repeats = Repeats()
        self._levels = {"": logging.WARNING, "sidelong": logging.INFO, **_NOISY}
        for name, level in self._levels.items():
            logger = logging.getLogger(name)
            self._levels[name] = logger.level
            logger.setLevel(level)
        logging.getLogger().addHandler(self)
        logging.captureWarnings(True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, if it is worth it."""
        try:
            message = record.getMessage()
            role = getattr(record, "role", None)
            same = getattr(record, "same", message)
            place = (record.pathname, record.lineno, role)
            verdict = self._repeats.judge((*place, same), place, self._ticks())
            if verdict.write:
                line = self._encode(_parts(record, message, role, verdict.left_out))
                self._stream.write(f"{line}\n")
                self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads on, and detection goes on without
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write no more; may be called twice."""
        if self in logging.getLogger().handlers:
            logging.getLogger().removeHandler(self)
            logging.captureWarnings(False)
            for name, level in self._levels.items():
                logging.getLogger(name).setLevel(level)
        super().close()

    def counters(self) -> Measures:
        """For metrics: how many messages were left out."""
        return {"log_dropped": self._repeats.left_out}

    def gauges(self) -> Measures:
        """None; for metrics."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def logging_to_stderr(style: Literal["text", "json"]) -> LogOutput:
    """Write what is logged to standard error from now on, until it is closed."""
    # Characters that its encoding lacks must not become an error.
    if callable(reconfigure := getattr(sys.stderr, "reconfigure", None)):
        reconfigure(errors="backslashreplace")
    return LogOutput(style, sys.stderr)


def _parts(record: logging.LogRecord, message: str, role: object, left_out: int) -> dict[str, Any]:
    """The members of the object, in their order."""
    moment = datetime.fromtimestamp(record.created, UTC)
    parts: dict[str, Any] = {
        "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _hidden(message),
    }
    if role:
        parts["role"] = str(role)
    if left_out:
        parts["repeated"] = left_out
    if fields := {key: value for key, value in vars(record).items() if key not in _GIVEN}:
        parts["fields"] = {name: _plain(value) for name, value in fields.items()}
    if record.exc_info and record.exc_info[0] is not None:
        trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        parts["exception"] = _hidden(trace[-_LONGEST:])  # what happened stands at its end
    return parts


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | None) else _hidden(str(value))


def _as_json(parts: Mapping[str, Any]) -> str:
    return printable_json(json.dumps(parts, ensure_ascii=False, allow_nan=True))


def _as_text(parts: Mapping[str, Any]) -> str:
    where = parts.get("role") or parts["logger"].removeprefix("sidelong.")
    line = f"{parts['time']} {parts['level']:<7} {where}: {parts['message']}"
    if fields := parts.get("fields"):
        line += " " + " ".join(f"{name}={value}" for name, value in fields.items())
    if left_out := parts.get("repeated"):
        line += f" ({left_out} more like it since the last)"
    lines = [line, *parts.get("exception", "").splitlines()]
    return "\n".join(printable(one, _LONGEST) for one in lines)


def _hidden(text: str) -> str:
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<before>{HIDDEN}", text)
    return text
