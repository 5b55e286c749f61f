"""The audit trail: who said what of which incident, when and why. It is only ever appended to.

It is also where acknowledgements are kept: an incident that somebody has seen to is not told again
until it gets worse or ends.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from sidelong.alerts.incident import Incident, Kind, Severity
from sidelong.alerts.route_settings import SEVERITIES
from sidelong.errors import ConfigError

__all__ = ["Acknowledged", "Entry", "Verdict", "append", "entries"]

Verdict = Literal["ack", "benign", "confirm"]

_LONGEST: Final = 1_000
_HUSHING: Final = ("ack", "benign")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the trail. taught: what the baseline was told, in words."""

    at: datetime
    by: str
    verdict: Verdict
    incident: str
    kind: Kind
    actor: str
    severity: Severity
    why: str = ""
    taught: tuple[str, ...] = ()

    @classmethod
    def on(
        cls,
        incident: Incident,
        verdict: Verdict,
        *,
        at: datetime,
        by: str,
        why: str = "",
        taught: tuple[str, ...] = (),
    ) -> "Entry":
        """What somebody says of an incident as it stands."""
        return cls(
            at=at,
            by=by[:_LONGEST],
            verdict=verdict,
            incident=incident.id,
            kind=incident.kind,
            actor=incident.actor.workload,
            severity=incident.severity,
            why=why[:_LONGEST],
            taught=taught,
        )


def append(path: Path, entry: Entry) -> None:
    """Add a line, on the disk when this returns. Errors: ConfigError if it cannot be written."""
    line = msgspec.json.encode(entry) + b"\n"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":  # whoever wrote last was cut off
                line = b"\n" + line
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise ConfigError(
            f"the audit trail {path} cannot be written: {error.strerror}",
            hint="name another place with alerts.audit",
        ) from error


def entries(path: Path) -> tuple[list[Entry], int]:
    """The lines of a trail in their order, and how many could not be read; none without a file.

    Errors: ConfigError if there is one that cannot be opened.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise ConfigError(
            f"the audit trail {path} cannot be read: {error.strerror}",
            hint="see alerts.audit, and who may read it",
        ) from error
    read, bad = [], 0
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            read.append(msgspec.json.decode(line, type=Entry))
        except msgspec.MsgspecError:
            bad += 1
    return read, bad


class Acknowledged:
    """The incidents that somebody has seen to, by a trail."""

    def __init__(self, trail: list[Entry]) -> None:
        self._ranks = {
            entry.incident: SEVERITIES.index(entry.severity)
            for entry in trail
            if entry.verdict in _HUSHING
        }

    def __len__(self) -> int:
        return len(self._ranks)

    def covers(self, incident: Incident) -> bool:
        """Whether nobody need be told of an incident, which is no worse than when it was seen."""
        rank = self._ranks.get(incident.id)
        return rank is not None and SEVERITIES.index(incident.severity) <= rank
