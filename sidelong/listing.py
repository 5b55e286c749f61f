"""Incidents on standard output: as lines of JSON for a program, as a list for a person."""

from collections.abc import Iterable, Mapping, Sequence
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
_NARROW: Final = 12  # of an indentation where there is little room
_ROOMY: Final = 100
_WIDEST: Final = 110  # of a line that one still reads with ease
_NAMED: Final = 3
_ID: Final = 8  # of an id: commands take how it begins


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
        self._told: set[str] = set()

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
        """Show what is open, each story together, all in the order of detection."""
        rest = sorted(self._latest.values(), key=lambda one: (one.detected_at, one.id))
        stories = dict.fromkeys(one.story for one in rest)
        for story in stories:
            for incident in rest:
                if incident.story == story:
                    self._entry(incident)
        self._latest.clear()

    def _entry(self, incident: Incident, status: str = "") -> None:
        head = Text(status).append_text(headline(incident))
        indent = _INDENT if self._console.width >= _ROOMY else _NARROW
        room = max(20, min(self._console.width, _WIDEST) - indent)
        if self._console.width < min(_ROOMY, head.cell_len):
            when, who = Text(status).append_text(_when(incident)), Text(_who(incident))
            self._console.print(when, soft_wrap=True)
            self._indented(who, indent, room)
        else:
            self._console.print(head, soft_wrap=True)
        told = Text(printable(incident.summary, 1_000))
        told.append(f"  id {printable(incident.id[:_ID])}{self._tie(incident)}", style="dim")
        self._indented(told, indent, room)

    def _indented(self, text: Text, indent: int, room: int) -> None:
        for line in text.wrap(self._console, room):
            line.rstrip()
            self._console.print(Text(" " * indent).append_text(line), soft_wrap=True)

    def _tie(self, incident: Incident) -> str:
        """Whose story goes on, if it was told of before."""
        begun = incident.story in self._told and incident.story != incident.id
        self._told.add(incident.story)
        return f", story {printable(incident.story[:_ID])}" if begun else ""


def headline(incident: Incident) -> Text:
    """When, how bad, what kind, who towards whom: one line."""
    return Text.assemble(_when(incident), "  ", _who(incident))


def _when(incident: Incident) -> Text:
    return Text.assemble(
        moment(incident.detected_at),
        "  ",
        (f"{incident.severity.upper():<8}", _STYLES.get(incident.severity, "")),
        "  ",
        (f"{incident.kind.replace('_', ' '):<16}", "bold"),
    )


def _who(incident: Incident) -> str:
    return f"{printable(incident.actor.workload)} -> {_objects(incident.objects, incident.counts)}"


def _objects(peers: Sequence[Target], counts: Mapping[str, int]) -> str:
    """The first few, a peer that was met on several ports once. counts: of all there were."""
    ports: dict[str, set[int]] = {}
    for peer in peers:
        name = printable(peer.domain or peer.workload or peer.ip or "?")
        ports.setdefault(name, set()).update(() if peer.port is None else (peer.port,))
    only = len(ports) == 1
    named = [
        f"{name}{_ports(met, counts.get('ports', 0) if only else 0)}" for name, met in ports.items()
    ]
    more = max(len(named), counts.get("peers", 0)) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _ports(ports: set[int], counted: int) -> str:
    many = max(len(ports), counted if ports else 0)
    if many == 1:
        return f":{min(ports)}"
    return f" ({many:,} ports)" if ports else ""
