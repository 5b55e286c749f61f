"""The receiver file: one line for each event, added to a file that anything may follow."""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sidelong.alerts.format_cloudevents import cloudevents
from sidelong.alerts.format_ecs import ecs_documents
from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.format_ocsf import ocsf_findings
from sidelong.alerts.format_syslog import cef
from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import harmless
from sidelong.alerts.receiver import Message, Sent, Undelivered
from sidelong.alerts.receiver_settings import FileSettings
from sidelong.alerts.receiver_text import labels_of

__all__ = ["FileReceiver"]

Lines = Callable[[Sequence[Incident], Mapping[str, str]], list[str]]


class FileReceiver:
    """Adds lines to a file and sees them on the disk. It is opened each time, so that a file which
    was moved away is begun anew. Several processes may write to the same one."""

    def __init__(self, settings: FileSettings) -> None:
        self.name = settings.name
        self._path = settings.path
        self._lines = _FORMATS[settings.format]
        self._lock = threading.Lock()

    def send(self, message: Message) -> Sent:
        """See Receiver."""
        lines = self._lines(message.events, labels_of(message))
        content = "".join(f"{line}\n" for line in lines).encode()
        try:
            with self._lock:
                self._add(content)
        except OSError as error:
            raise Undelivered(f"{self._path}: {error.strerror or error}") from error
        return Sent(f"{len(lines)} added")

    def _add(self, content: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        file = os.open(self._path, flags, 0o640)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = os.fstat(file).st_size
            if before and os.pread(file, 1, before - 1) != b"\n":
                content = b"\n" + content  # a line that was cut off when the disk was full
            written = os.write(file, content)
            if written < len(content):
                raise OSError("only a part could be written")
            os.fsync(file)
        finally:
            os.close(file)


def _json(payloads: Sequence[Mapping[str, Any]]) -> list[str]:
    return [json.dumps(payload, separators=(",", ":"), ensure_ascii=False) for payload in payloads]


def _incidents(events: Sequence[Incident], labels: Mapping[str, str]) -> list[str]:
    beside = {"labels": plain_labels(labels)} if labels else {}
    return _json([{**harmless(event).to_dict(), **beside} for event in events])


_FORMATS: Final[Mapping[str, Lines]] = {
    "json": _incidents,
    "cloudevents": lambda events, labels: _json(cloudevents(events, labels)),
    "ocsf": lambda events, labels: _json(ocsf_findings(events, labels)),
    "ecs": lambda events, labels: _json(ecs_documents(events, labels)),
    "cef": lambda events, labels: [cef(event, labels) for event in events],
}
