"""Incidents on standard output: as lines of JSON for a program, as a list for a person."""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from rich.text import Text

from sidelong.alerts.incident import Incident, Target
from sidelong.terminal import Terminal, moment, printable, printable_json

__all__ = ["JsonLines", "Listing", "Table", "headline"]

_STYLES: Final = {
    "info": "dim",
    "low": "cyan",
    "medium": "yellow",
    "high": "bold red",
    "critical": "bold white on red",
}
_INDENT: Final = 22  # the width of a moment, and two spaces
_NAMED: Final = 3


class Listing(Protocol):
    """Where the events of a run are shown; `show` as they come, `end` once after the last."""

    @property
    def open(self) -> Sequence[Incident]:
        """Incidents that are known and not shown in their final form yet."""
        ...

    def show(self, events: Iterable[Incident]) -> None:
        """Take the next events."""
        ...

    def end(self) -> None:
        """Show what was held back."""
        ...


class JsonLines:
    """Every event, one JSON object a line, at once: a reader downstream need not wait."""

    open: Sequence[Incident] = ()

    def __init__(self, terminal: Terminal) -> None:
        self._file = terminal.out.file

    def show(self, events: Iterable[Incident]) -> None:
        for event in events:
            self._file.write(printable_json(event.to_json()) + "\n")
        self._file.flush()

    def end(self) -> None:
        self._file.flush()


class Table:
    """One entry an incident, in its final form, when it closes or the run ends.

    every_change: an entry for each opening, update and close instead.
    """

    def __init__(self, terminal: Terminal, *, every_change: bool = False) -> None:
        self._console = terminal.out
        self._every_change = every_change
        self._latest: dict[str, Incident] = {}

    @property
    def open(self) -> Sequence[Incident]:
        return tuple(self._latest.values())

    def show(self, events: Iterable[Incident]) -> None:
        for event in events:
            if self._every_change:
                self._entry(event, status=f"{event.status:<6}  ")
            elif event.status == "closed":
                self._latest.pop(event.id, None)
                self._entry(event)
            else:
                self._latest[event.id] = event

    def end(self) -> None:
        for incident in sorted(self._latest.values(), key=lambda one: (one.detected_at, one.id)):
            self._entry(incident)
        self._latest.clear()

    def _entry(self, incident: Incident, status: str = "") -> None:
        self._console.print(Text(status).append_text(headline(incident)), soft_wrap=True)
        summary = Text(printable(incident.summary, 1_000))
        width = max(20, self._console.width - _INDENT)
        for line in summary.wrap(self._console, width):
            line.rstrip()
            self._console.print(Text(" " * _INDENT).append_text(line), soft_wrap=True)


def headline(incident: Incident) -> Text:
    """When, how bad, what kind, who towards whom: one line."""
    return Text.assemble(
        moment(incident.detected_at),
        "  ",
        (f"{incident.severity.upper():<8}", _STYLES.get(incident.severity, "")),
        "  ",
        (f"{incident.kind.replace('_', ' '):<16}", "bold"),
        "  ",
        printable(incident.actor.workload),
        " -> ",
        _objects(incident.objects),
    )


def _objects(peers: Sequence[Target]) -> str:
    """The first few, a peer that was met on several ports once."""
    ports: dict[str, set[int]] = {}
    for peer in peers:
        name = printable(peer.domain or peer.workload or peer.ip or "?")
        ports.setdefault(name, set()).update(() if peer.port is None else (peer.port,))
    named = [f"{name}{_ports(met)}" for name, met in ports.items()]
    more = len(named) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _ports(ports: set[int]) -> str:
    if len(ports) == 1:
        return f":{min(ports)}"
    return f" ({len(ports):,} ports)" if ports else ""
