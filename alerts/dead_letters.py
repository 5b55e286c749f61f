"""The file of what could not be delivered: one JSON object a line, for people and other tools."""

import json
import logging
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sidelong.alerts.receiver import Message

__all__ = ["DeadLetter", "DeadLetterFile"]

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was given up: after how many attempts, why, and when (of the epoch).

    `id` is its idempotency key, by which it is redelivered; `body` is what the outbox keeps of it.
    """

    id: str
    receiver: str
    attempts: int
    dead_at: float
    why: str
    body: str = field(repr=False)

    @property
    def message(self) -> Message:
        """The message itself. Errors: ValueError when that is why it was given up."""
        return Message.of(self.body)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the file; `message` holds the events."""
        try:
            message = json.loads(self.body)
        except ValueError:
            message = self.body
        return {
            "id": self.id,
            "receiver": self.receiver,
            "dead_at": datetime.fromtimestamp(self.dead_at, UTC).isoformat(timespec="milliseconds"),
            "attempts": self.attempts,
            "why": self.why,
            "message": message,
        }


class DeadLetterFile:
    """Appended to, and never read, by sidelong; `failures` counts what could not be written.

    At `most_bytes` the file is renamed to .1, in place of the one before.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self.failures = 0
        self._most_bytes = most_bytes

    def append(self, letters: list[DeadLetter]) -> None:
        """Write letters to the disk. What cannot be written is logged; the outbox has it still."""
        if not letters:
            return
        lines = [json.dumps(letter.to_dict(), separators=(", ", ": ")) for letter in letters]
        content = ("\n".join(lines) + "\n").encode()
        try:
            self._make_room(len(content))
            # In one write each, so that the lines of several workers do not mix.
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(file, rest) :]
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            self.failures += len(letters)
            _log.error("dead letters not written path=%s why=%s", self.path, error.strerror)

    def _make_room(self, size: int) -> None:
        try:
            present = self.path.stat().st_size
        except FileNotFoundError:
            return
        if present and present + size > self._most_bytes:
            os.replace(self.path, f"{self.path}.1")
            _log.warning("dead letters rotated path=%s", self.path)
