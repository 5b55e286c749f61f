"""Incidents as syslog messages (RFC 5424) that carry CEF, the form which most SIEMs parse.

Source: RFC 5424; RFC 6587, section 3.4.1 (octet counting) and RFC 5425 for streams; RFC 5426 for
datagrams; ArcSight Common Event Format, version 25 (header, dictionary of extensions).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.incident import Incident, Severity, Status
from sidelong.alerts.message_text import KINDS, address, split, towards, version
from sidelong.alerts.plain_text import cef_header, cef_value, fitted, harmless, structured

__all__ = ["FACILITIES", "cef", "framed", "syslog_messages"]

FACILITIES: Final[Mapping[str, int]] = {
    "user": 1,
    "daemon": 3,
    "auth": 4,
    "authpriv": 10,
    "audit": 13,
    "alert": 14,
    **{f"local{number}": 16 + number for number in range(8)},
}

_CEF_SEVERITY: Final[Mapping[Severity, int]] = {
    "info": 1,
    "low": 3,
    "medium": 5,
    "high": 8,
    "critical": 10,
}
_SYSLOG_SEVERITY: Final[Mapping[Severity, int]] = {
    "info": 6,
    "low": 5,
    "medium": 4,
    "high": 3,
    "critical": 2,
}
_ACTION: Final[Mapping[Status, str]] = {"open": "opened", "update": "updated", "closed": "closed"}
_STRING: Final = 1_023  # what CEF allows for msg


def cef(event: Incident, labels: Mapping[str, str], *, longest: int = 8_192) -> str:
    """One line of CEF, of at most `longest` bytes; what is least needed is left out to fit."""
    shown = harmless(event)
    header = "|".join(
        [
            "CEF:0",
            "sidelong",
            "sidelong",
            cef_header(version()),
            cef_header(shown.kind),
            fitted(f"{KINDS[shown.kind]} by {shown.actor.workload}", 128, cef_header),
            str(_CEF_SEVERITY[shown.severity]),
        ]
    )
    line = f"{header}|"
    for pairs in _extension(shown, plain_labels(labels)):
        told = " ".join(f"{name}={fitted(value, _STRING, cef_value)}" for name, value in pairs)
        together = line + told if line.endswith("|") else f"{line} {told}"
        if len(together.encode()) <= longest:
            line = together
    return line


_Pair = tuple[str, str]


def _extension(event: Incident, labels: Mapping[str, str]) -> list[tuple[_Pair, ...]]:
    """Keys and values, the most needed first, together what makes no sense alone."""
    namespace, workload = split(event.actor.workload)
    target = event.objects[0] if len(event.objects) == 1 else None
    single: list[tuple[str, str | int | None]] = [
        ("externalId", event.id),
        ("act", _ACTION[event.status]),
        ("rt", _ms(event.detected_at)),
        ("start", _ms(event.first_seen)),
        ("end", _ms(event.last_seen)),
        ("src", _ipv4(event.actor.ip)),
        ("shost", event.actor.pod or workload),
        ("dst", _ipv4(target.ip) if target else None),
        ("dhost", (target.domain or target.workload) if target else None),
        ("dpt", target.port if target else None),
        ("msg", event.summary),
        ("cnt", max(event.counts.values(), default=0) or None),
    ]
    custom: list[tuple[str, str, str | None]] = [
        ("cs1", "workload", event.actor.workload),
        ("cs2", "namespace", namespace),
        ("cs3", "techniques", ",".join(event.techniques)),
        ("cs4", "story", event.story),
        ("cfp1", "score", f"{event.score:.4f}"),
        ("cfp2", "completeness", f"{event.completeness:.4f}"),
        ("cs5", "towards", towards(event.objects, 20)),
        ("cs6", "labels", ", ".join(f"{key}:{value}" for key, value in labels.items())),
    ]
    told: list[tuple[_Pair, ...]] = [
        ((name, str(value)),) for name, value in single if value not in (None, "")
    ]
    told += [((f"{name}Label", label), (name, value)) for name, label, value in custom if value]
    return told


def _ipv4(text: str | None) -> str | None:
    """src and dst are IPv4 in CEF's dictionary; others are in the summary."""
    ip = address(text)
    return ip if ip and ":" not in ip else None


def syslog_messages(
    events: Sequence[Incident],
    labels: Mapping[str, str],
    *,
    sent_at: datetime,
    host: str = "-",
    facility: int = 16,
    longest: int = 8_192,
) -> list[bytes]:
    """One message for each event, of at most `longest` bytes."""
    origin = f'[origin software="sidelong" swVersion="{structured(version())}"]'
    told = []
    for event in events:
        priority = facility * 8 + _SYSLOG_SEVERITY[event.severity]
        moment = sent_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = f"<{priority}>1 {moment} {_name(host, 255)} sidelong - {event.status} {origin} "
        text = cef(event, labels, longest=longest - len(head.encode()))
        told.append(f"{head}{text}".encode()[:longest].decode("utf-8", "ignore").encode())
    return told


def framed(message: bytes) -> bytes:
    """The message for a stream: its length in octets before it.

    >>> framed(b"<1>1 -")
    b'6 <1>1 -'
    """
    return b"%d %s" % (len(message), message)


def _name(text: str, longest: int) -> str:
    """A field of the header: printable ASCII without spaces."""
    return "".join(c for c in text if "!" <= c <= "~")[:longest] or "-"


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
