"""Windows: what happened in a minute of event time, of each workload, edge and domain asked for.

One definition serves replay, the service, notebooks and back-fill, for a window is a set of rows:
those whose own time lies in it and which come before it closes. It closes at the first row of the
pulse by which the clock is two seconds past its end. Both are properties of the stream, so that
neither cuts nor partitions by actor change a window. What comes later is counted as late.

Nothing is told of a window before it closes. The sequential detectors fire on the record that
decides; the isolation forest, for which windows are, is a second opinion that adds to theirs and
never alarms alone, so that a minute costs it nothing, while windows of one, five and fifteen
seconds would need calibrations of their own.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from sidelong.features.beginnings import Beginnings
from sidelong.features.bounds import Bounds
from sidelong.features.catalogue import DOMAIN_WINDOW, EDGE_WINDOW, WORKLOAD_WINDOW
from sidelong.features.segments import Integers
from sidelong.features.window_clock import Closings, WindowClock
from sidelong.features.window_facts import (
    EDGE_COLUMNS,
    LOOKUP_COLUMNS,
    contact_facts,
    edge_facts,
    lookup_facts,
    new_edge_facts,
    new_path_facts,
)
from sidelong.features.window_frames import domain_windows, edge_windows, workload_windows
from sidelong.features.window_totals import EDGE_TOTALS, LOOKUP_TOTALS, NAME_TOTALS, Totals

__all__ = ["NOTHING_CLOSED", "Closed", "Windows"]

_FOLD: Final = 32_768
"""Rows that wait to be added up together, so that fewer than one live stretch in a hundred does."""


class Closed(NamedTuple):
    """Windows that have closed, by scope: `WORKLOAD_WINDOW`, `EDGE_WINDOW`, `DOMAIN_WINDOW`."""

    workload: pl.DataFrame
    edge: pl.DataFrame
    domain: pl.DataFrame


NOTHING_CLOSED: Final = Closed(
    WORKLOAD_WINDOW.to_frame(), EDGE_WINDOW.to_frame(), DOMAIN_WINDOW.to_frame()
)
"""What `Windows.observe` returns but once a minute."""


class Windows:
    """Gathers rows into windows. Bounded by `bounds.windows`, `.names` and `.beginnings`.

    late: rows of flows that came after their window had closed, and count nowhere.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.late = 0
        self._clock = WindowClock()
        self._edges = Totals(EDGE_TOTALS, bounds.windows)
        self._lookups = Totals(LOOKUP_TOTALS, bounds.windows)
        self._names = Totals(NAME_TOTALS, bounds.names)
        self._edge_rhythm = Beginnings(bounds.beginnings)
        self._lookup_rhythm = Beginnings(bounds.beginnings)
        self._bounded: dict[str, Totals | Beginnings] = {
            "edges": self._edges,
            "lookups": self._lookups,
            "names": self._names,
            "edge_rhythm": self._edge_rhythm,
            "lookup_rhythm": self._lookup_rhythm,
        }
        self._waiting: dict[str, list[pl.DataFrame]] = {kind: [] for kind in _FACTS}

    @property
    def evicted(self) -> int:
        """Windows, names and beginnings dropped because there were too many."""
        return sum(part.evicted for part in self._bounded.values())

    def observe(
        self,
        pulse: pl.DataFrame,
        *,
        flows: pl.DataFrame,
        lookups: pl.DataFrame,
        contacts: pl.DataFrame,
        new_edges: pl.DataFrame,
        new_paths: pl.DataFrame,
    ) -> Closed:
        """The windows that close in a stretch of the stream, in the order in which they do.

        pulse: `PULSE_SCHEMA`. flows: rows of `sides` with the columns of `with_edge_port`,
        `edge` and `event`. lookups: those that have a name, with the columns of `name_parts`.
        contacts: `OUTCOME_SCHEMA`. new_edges: of `Edges.observe`. new_paths: of `Tried.paths`.
        """
        before = self._clock.open_from
        closings = self._clock.see(pulse)
        if contacts.height:
            contacts = _with_clock(contacts, flows)
        for kind, rows in (
            ("flows", flows),
            ("lookups", lookups),
            ("contacts", contacts),
            ("new_edges", new_edges),
            ("new_paths", new_paths),
        ):
            if rows.height:
                self._wait(kind, rows, closings, before)
        if closings is None:
            if sum(rows.height for rows in self._waiting["flows"]) > _FOLD:
                self._fold()
            return NOTHING_CLOSED
        self._fold()
        closed = self._close(closings)
        self._clock.forget()
        return closed

    def finish(self, row: int, contacts: pl.DataFrame) -> Closed:
        """The windows that are open still, once a stream has ended before that row.

        contacts: those that end with it (`OUTCOME_SCHEMA`).
        """
        if contacts.height:
            self._wait("contacts", contacts.with_columns(clock="time"), None, self._clock.open_from)
        self._fold()
        return self._close(self._clock.end(row))

    def tidy(self, now_ns: int) -> None:
        """Evict at an event-time tick what is beyond the bounds."""
        waiting = sum(rows.height for kind in self._waiting.values() for rows in kind)
        if any(len(part) + waiting > part.capacity for part in self._bounded.values()):
            self._fold()
        for part in self._bounded.values():
            part.tidy()

    def snapshot(self) -> dict[str, Any]:
        """Open windows and what they need of earlier ones, as a value."""
        self._fold()
        parts = {name: part.snapshot() for name, part in self._bounded.items()}
        return {**parts, "clock": self._clock.snapshot(), "late": self.late}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        for name, part in self._bounded.items():
            part.restore(state[name])
        self._clock.restore(state["clock"])
        self.late = state["late"]
        self._waiting = {kind: [] for kind in _FACTS}

    def _wait(self, kind: str, rows: pl.DataFrame, closings: Closings | None, before: int) -> None:
        """Keep of rows what their facts need, until they are added up."""
        kept = rows.select(_KEPT[kind]) if kind in _KEPT else rows
        opened = pl.Series("open_from", _opened(rows, before, closings))
        self._waiting[kind].append(kept.with_columns(opened))

    def _fold(self) -> None:
        """Add up what waits."""
        facts = {
            kind: _FACTS[kind](pl.concat(rows)) for kind, rows in self._waiting.items() if rows
        }
        self._waiting = {kind: [] for kind in _FACTS}
        if "flows" in facts:
            rows = facts["flows"].height
            facts["flows"] = _in_time(facts["flows"])
            self.late += rows - facts["flows"].height
            _begin(self._edge_rhythm, facts["flows"], pl.col("attempts") + pl.col("denials"))
        if "lookups" in facts:
            lookups = _in_time(facts.pop("lookups"))
            self._lookups.add(lookups)
            self._names.add(lookups)
            _begin(self._lookup_rhythm, lookups, pl.col("queries"))
        others = [_in_time(rows) for kind, rows in facts.items() if kind != "flows"]
        if others:
            parts = [facts["flows"], *others] if "flows" in facts else others
            # The last value of a column is that of the last row, whatever brought it.
            self._edges.add(pl.concat(parts, how="diagonal").sort("row", maintain_order=True))
        elif "flows" in facts:
            self._edges.add(facts["flows"])

    def _close(self, closings: Closings) -> Closed:
        before = int(closings.open_from[-1])
        edges, lookups, names = (
            part.take(before) for part in (self._edges, self._lookups, self._names)
        )
        closed = NOTHING_CLOSED
        if edges.height:
            edges = self._placed(edges, closings)
            key = ["group", "window"]
            counts = names.group_by(key).agg(names=pl.len().cast(pl.Int64))
            lookups = self._placed(lookups, closings).join(counts, on=key, how="left")
            closed = Closed(
                workload_windows(edges, lookups),
                edge_windows(_with_rhythm(self._edge_rhythm, edges)),
                domain_windows(_with_rhythm(self._lookup_rhythm, lookups)),
            )
        self._edge_rhythm.forget(before)
        self._lookup_rhythm.forget(before)
        return closed

    def _placed(self, totals: pl.DataFrame, closings: Closings) -> pl.DataFrame:
        """Totals with what the stream knows of their window."""
        windows = totals["window"].to_numpy()
        rows, lost = self._clock.arrived(windows)
        return totals.with_columns(
            closed_row=pl.Series(closings.row_of(windows)),
            stream_rows=pl.Series(rows),
            stream_lost=pl.Series(lost),
        )


_FACTS: Final[dict[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "flows": edge_facts,
    "lookups": lookup_facts,
    "contacts": contact_facts,
    "new_edges": new_edge_facts,
    "new_paths": new_path_facts,
}
_KEPT: Final = {"flows": EDGE_COLUMNS, "lookups": LOOKUP_COLUMNS}


def _opened(rows: pl.DataFrame, before: int, closings: Closings | None) -> Integers:
    """The first open window at each row."""
    if closings is None:
        return np.full(rows.height, before)
    numbers = rows["row"].to_numpy().astype(np.int64)
    opened = closings.opened(numbers, before, noticed=False)
    if "outcome" not in rows.columns:
        return opened
    # Silence is noticed at a row of the pulse before that closes windows.
    silent = (rows["outcome"] == "UNANSWERED").to_numpy()
    return np.where(silent, closings.opened(numbers, before, noticed=True), opened)


def _in_time(facts: pl.DataFrame) -> pl.DataFrame:
    """Facts of windows that are open."""
    late = facts["window"].to_numpy() < facts["open_from"].to_numpy()
    if late.any():
        facts = facts.filter(pl.Series(~late))
    return facts.drop("open_from")


def _with_clock(contacts: pl.DataFrame, flows: pl.DataFrame) -> pl.DataFrame:
    """Outcomes with the clock at the row that decided them; that of silence is past its time."""
    clock = contacts["time"].to_physical().to_numpy().copy()
    decided = (contacts["outcome"] != "UNANSWERED").to_numpy()
    rows = np.searchsorted(flows["row"].to_numpy(), contacts["row"].to_numpy()[decided])
    clock[decided] = flows["clock"].to_physical().to_numpy()[rows]
    return contacts.with_columns(clock=pl.Series(clock).cast(contacts.schema["time"]))


def _begin(rhythm: Beginnings, facts: pl.DataFrame, begins: pl.Expr) -> None:
    rows = facts.select("group", "first_ns", begins=begins > 0).filter("begins")
    rhythm.add(rows["group"].to_numpy(), rows["first_ns"].to_numpy())


def _with_rhythm(rhythm: Beginnings, totals: pl.DataFrame) -> pl.DataFrame:
    return totals.hstack(rhythm.rhythm(totals["group"].to_numpy(), totals["window"].to_numpy()))
