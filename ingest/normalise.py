"""Flows made comparable: who is who, which way, and each event once.

The order matters. Identity comes first and learns from every row, so that a twin dropped later
still tells what it knew. Orientation follows, because twins must agree in direction. Twins go
next, then what another observer has told. Resolvers are told apart last, by the names and
directions of the rows that remain.
"""

from typing import Final, TypedDict

import polars as pl

from sidelong.ingest.clock import CLOCK_COLUMNS
from sidelong.ingest.identity import Identities, IdentityState
from sidelong.ingest.keys import with_keys
from sidelong.ingest.memory import MemoryState
from sidelong.ingest.observers import EVENT_KEY, Observers, ObserversState
from sidelong.ingest.orientation import Orientation
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.resolvers import Resolvers
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.table import TableState
from sidelong.ingest.twins import TWIN_KEY, Twins

__all__ = ["NORMAL_SCHEMA", "Normaliser", "NormaliserState"]

NORMAL_SCHEMA: Final = pl.Schema({**FLOW_SCHEMA, **CLOCK_COLUMNS, "forwarded": pl.Boolean()})
"""`FLOW_SCHEMA`, then `row`, `clock` and `clock_before` of the clock, then `forwarded`: whether the
client of a DNS row only passes on what another asked of it."""


_DECIDED: Final = {"reply", "verdict", "denied"}  # by one of the steps, or asked for by one only

# What several steps compare rows by is hashed once for all of them.
_KEYED: Final = tuple(sorted({*TWIN_KEY, *EVENT_KEY, "origin"} - _DECIDED))


class NormaliserState(TypedDict):
    """The state of each step."""

    identities: IdentityState
    orientation: TableState
    twins: TableState
    observers: ObserversState
    resolvers: MemoryState


class Normaliser:
    """Turns the pieces of `Clock.cut` into frames of `NORMAL_SCHEMA`.

    What becomes of a row depends on it and on the rows before it, never on where the stream is cut,
    as long as `tidy` is called between the same rows. Rows keep their order; twins go missing.
    """

    def __init__(self, pods: PodMaps | None = None) -> None:
        self._identities: Final = Identities(pods)
        self._orientation: Final = Orientation()
        self._twins: Final = Twins()
        self._observers: Final = Observers()
        self._resolvers: Final = Resolvers()

    @property
    def evicted(self) -> int:
        """What was forgotten before its time because a table was full."""
        return sum(
            step.evicted
            for step in (
                self._identities,
                self._orientation,
                self._twins,
                self._observers,
                self._resolvers,
            )
        )

    def normalise(self, flows: pl.DataFrame) -> pl.DataFrame:
        """One piece of the stream, normalised.

        Takes `FLOW_SCHEMA` with `CLOCK_COLUMNS`. Afterwards `src`, `dst` and `reply` are null only
        where an address is.
        """
        named = self._identities.attach(with_keys(flows, _KEYED))
        single = self._observers.single(self._twins.drop(self._orientation.orient(named)))
        return self._resolvers.mark(single)[NORMAL_SCHEMA.names()]

    def tidy(self, now_ns: int) -> None:
        """Let state expire, and evict what is beyond capacity; `now_ns` is a tick of the clock."""
        self._identities.tidy(now_ns)
        self._orientation.tidy(now_ns)
        self._twins.tidy(now_ns)
        self._observers.tidy(now_ns)
        self._resolvers.tidy(now_ns)

    def snapshot(self) -> NormaliserState:
        """All state as a value: frames, arrays and numbers, without a reference into it."""
        return {
            "identities": self._identities.snapshot(),
            "orientation": self._orientation.snapshot(),
            "twins": self._twins.snapshot(),
            "observers": self._observers.snapshot(),
            "resolvers": self._resolvers.snapshot(),
        }

    def restore(self, state: NormaliserState) -> None:
        """Go on exactly from `snapshot`. Errors: ConfigError for the state of another version."""
        self._identities.restore(state["identities"])
        self._orientation.restore(state["orientation"])
        self._twins.restore(state["twins"])
        self._observers.restore(state["observers"])
        self._resolvers.restore(state["resolvers"])
