"""From flows to features, once for all detectors.

What detectors judge and what windows count is found here, in rows of `sides`: first contacts and
how they end, new edges, names asked, first answers, and the windows that close. A part of the
stream that holds all rows of some actors, with the whole pulse, gives what the whole stream gives
of those actors.
"""

from typing import Final, NamedTuple

import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.features.contacts import Contacts
from sidelong.features.edges import Edges
from sidelong.features.names import NameParts
from sidelong.features.rollouts import Rollouts
from sidelong.features.sides import sides
from sidelong.features.tried import Tried
from sidelong.features.windows import NOTHING_CLOSED, Closed, Windows
from sidelong.ingest.keys import Keys
from sidelong.ingest.pulse import Pulse
from sidelong.ingest.state import Counted

__all__ = ["NOTHING_KNOWN", "Known", "Observed", "Observer", "window_features"]


_ALL: Final = 1 << 62


class Known(NamedTuple):
    """Sorted keys of what a baseline knows: contacts, edges and services."""

    contacts: Keys
    edges: Keys
    services: Keys


_NO_KEYS: Final = pl.Series(dtype=pl.UInt64).to_numpy()

NOTHING_KNOWN: Final = Known(_NO_KEYS, _NO_KEYS, _NO_KEYS)
"""Where there is no baseline."""


class Observed(NamedTuple):
    """What a stretch of the stream shows.

    flows: rows of `sides`. lookups: those with a DNS name, of `NameParts`. contacts:
    `OUTCOME_SCHEMA`. new_edges: of `Edges`, then `Rollouts`. new_paths, new_services: of `Tried`.
    closed: the windows that close.
    """

    flows: pl.DataFrame
    lookups: pl.DataFrame
    contacts: pl.DataFrame
    new_edges: pl.DataFrame
    new_paths: pl.DataFrame
    new_services: pl.DataFrame
    closed: Closed


class Observer:
    """Observes a stream, or the part of it that some actors make up.

    windows: whether anybody needs them; without, none ever closes.
    """

    def __init__(self, known: Known, bounds: Bounds, *, windows: bool = True) -> None:
        self._names = NameParts()
        self._contacts = Contacts(known.contacts, bounds)
        self._edges = Edges(known.edges, known.services, bounds)
        self._rollouts = Rollouts(bounds)
        self._tried = Tried(bounds)
        self._windows = Windows(bounds) if windows else None
        self.parts: dict[str, Counted] = {
            "contacts": self._contacts,
            "edges": self._edges,
            "rollouts": self._rollouts,
            "tried": self._tried,
        }
        if self._windows:
            self.parts["windows"] = self._windows

    @property
    def late(self) -> int:
        """Rows that came too late for their window."""
        return self._windows.late if self._windows else 0

    def observe(self, flows: pl.DataFrame, pulse: pl.DataFrame) -> Observed:
        """What these flows (`NORMAL_SCHEMA`) show, with the pulse (`PULSE_SCHEMA`) of the stretch.

        They lie within one event-time tick.
        """
        rows = sides(flows)
        lookups = self._names.of(_asking(rows))
        contacts = self._contacts.observe(rows, pulse)
        new_edges = self._rollouts.observe(rows, self._edges.observe(rows))
        new_paths = self._tried.paths(rows)
        closed = NOTHING_CLOSED
        if self._windows:
            closed = self._windows.observe(
                pulse,
                flows=rows,
                lookups=lookups,
                contacts=contacts,
                new_edges=new_edges.filter(~pl.col("again")),
                new_paths=new_paths,
            )
        services = self._tried.services(lookups)
        return Observed(rows, lookups, contacts, new_edges, new_paths, services, closed)

    def finish(self, row: int) -> tuple[pl.DataFrame, Closed]:
        """The contacts (`OUTCOME_SCHEMA`) and windows that end with a stream, before that row."""
        silent = self._contacts.finish(row)
        closed = self._windows.finish(row, silent) if self._windows else NOTHING_CLOSED
        return silent, closed


def _asking(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that have a DNS name."""
    if rows["dns_name"].null_count() == rows.height:
        return rows.clear()
    return rows.filter(pl.col("dns_name").is_not_null())


def window_features(
    flows: pl.DataFrame, pulse: pl.DataFrame | None = None, *, known: Known = NOTHING_KNOWN
) -> Closed:
    """All windows of a frame of `NORMAL_SCHEMA`, as the service finds them in the same rows.

    For notebooks and back-fill: a frame of hours, not of days, as nothing expires on the way; what
    is longer goes through an `Observer` stretch by stretch. pulse: `PULSE_SCHEMA`; None to take
    that of the rows themselves, which is the same but where duplicates were dropped before. known:
    what is no first contact and no new edge. For fan-in see `window_frames.fan_in`.
    """
    observer = Observer(known, Bounds(windows=_ALL, names=_ALL, beginnings=_ALL))
    found = observer.observe(flows, Pulse().of(flows) if pulse is None else pulse)
    rest = observer.finish(int(flows["row"].to_numpy().max(initial=0)) + 1)[1]
    return Closed(*(pl.concat(parts) for parts in zip(found.closed, rest, strict=True)))
