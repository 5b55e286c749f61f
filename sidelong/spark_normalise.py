"""Normalising in parts: the steps of `Normaliser`, each split by what it remembers.

One process takes a cluster's stream through five steps that each remember something. What they
remember is kept by key, so each step can be split by that key, or its memory be gathered ahead:

- names of pods, addresses and domains follow from what rows state, so each chunk of the stream
  gathers what it states, and the sum of the chunks before it is what a chunk begins with;
- direction, twins and what several observers tell concern one connection, so connections are parts;
- who asked a resolver within 30 seconds follows from the questions of the last 30 seconds.

The rows that come out are those of `Stream`, in the same order, as long as no table of a connection
is full: what a full table forgets depends on all connections at once. `Connections.most` tells.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.clock import CLOCK_COLUMNS, Clock, ClockState
from sidelong.ingest.identity import Identities, IdentityState
from sidelong.ingest.keys import Keys, column_keys, hash_columns, mix, with_keys
from sidelong.ingest.observers import EVENT_KEY, Observers
from sidelong.ingest.orientation import Orientation
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.pulse import Pulse
from sidelong.ingest.resolvers import Resolvers
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.twins import TWIN_KEY, Twins

__all__ = [
    "ASKED",
    "CONNECTION_CAPACITY",
    "NAMED",
    "Connections",
    "Facts",
    "Piece",
    "connection_parts",
    "facts_of",
    "forwarded",
    "known_after",
    "lookups_of",
    "named_pieces",
    "needed_since",
    "together",
]

NAMED: Final = pl.Schema({**FLOW_SCHEMA, **CLOCK_COLUMNS})
"""Rows with names and the clock, before anything else is decided."""

ASKED: Final = ("row", "clock", "dns_name", "reply", "src", "dst", "src_ip", "dst_ip")
"""Of a row with a DNS name, what tells whether it was passed on."""

CONNECTION_CAPACITY: Final = 1_000_000
"""Rows of each table that `Normaliser` keeps by connection; a test compares."""

_ASKED_WITHIN_NS: Final = 30_000_000_000
_PARTS: Final = ("pods", "addresses", "domains")
_DECIDED: Final = {"reply", "verdict", "denied"}
_KEYED: Final = tuple(sorted({*TWIN_KEY, *EVENT_KEY} - _DECIDED))
_VAGUE: Final = r"^reserved:(?:world(?:-ipv[46])?|unknown)$"  # as in identity: names nobody


class Piece(NamedTuple):
    """Rows without a tick between them: `NAMED`, the tick before them, their number and pulse."""

    low: int
    high: int
    tick_ns: int | None
    pulse: pl.DataFrame
    flows: pl.DataFrame


class Facts(NamedTuple):
    """What a chunk states of names: up to its last tick, and in all.

    tick_ns: its last tick. leans: whether what it states of addresses depends on pods that chunks
    before it have named.
    """

    tick_ns: int | None
    settled: IdentityState
    whole: IdentityState
    leans: bool


def facts_of(
    flows: pl.DataFrame,
    clock: ClockState,
    pods: PodMaps | None,
    named: IdentityState | None = None,
) -> Facts:
    """What a chunk (`FLOW_SCHEMA`) states, whose clock begins like that.

    named: what is known of pods before; needed where the chunk leans on it.
    """
    identities = Identities(pods)
    if named is not None:
        none = identities.snapshot()
        identities.restore({**none, "pods": named["pods"]})
    leans = bool(flows.select(_leans("src") | _leans("dst")).to_series().any())
    settled, last = identities.snapshot(), None
    own = Clock()
    own.restore(clock)
    for piece, tick_ns in own.cut(flows):
        if tick_ns is not None:
            settled, last = identities.snapshot(), tick_ns
            if named is not None:
                identities.tidy(tick_ns)
        identities.attach(piece)
    return Facts(last, settled, identities.snapshot(), leans)


def known_after(known: IdentityState | None, facts: Facts) -> IdentityState:
    """What is known of names after a chunk, given what was before it."""
    identities = Identities()
    none = identities.snapshot()
    before = none if known is None else known
    if facts.tick_ns is not None:
        identities.restore(_joined(before, facts.settled))
        identities.tidy(facts.tick_ns)
        before = identities.snapshot()
        return _joined(before, _since(facts.whole, facts.settled))
    return _joined(before, facts.whole)


def named_pieces(
    flows: pl.DataFrame,
    clock: ClockState,
    known: IdentityState | None,
    pods: PodMaps | None,
    lost: int,
) -> Iterator[Piece]:
    """A chunk (`FLOW_SCHEMA`) with its names, cut at its ticks; lost: events lost before it."""
    identities, own, pulse = Identities(pods), Clock(), Pulse()
    if known is not None:
        identities.restore(known)
    own.restore(clock)
    pulse.restore({"lost": lost})
    for piece, tick_ns in own.cut(flows):
        if tick_ns is not None:
            identities.tidy(tick_ns)
        low = int(piece["row"][0])
        named = identities.attach(piece).select(NAMED.names())
        yield Piece(low, low + piece.height, tick_ns, pulse.of(piece), named)


def connection_parts(flows: pl.DataFrame, count: int) -> NDArray[np.int64]:
    """The part of each row by its connection, the same for both directions."""
    here = hash_columns(flows, ("src_ip", "src_port"))
    there = hash_columns(flows, ("dst_ip", "dst_port"))
    of: Keys = mix(here + there, column_keys(flows, "protocol"))
    return (of % np.uint64(count)).astype(np.int64)


class Connections:
    """A part of the connections: which way, each event once, what several observers tell."""

    def __init__(self) -> None:
        self._orientation: Final = Orientation()
        self._twins: Final = Twins()
        self._observers: Final = Observers()
        self._most = [0, 0, 0]

    def take(self, flows: pl.DataFrame, tick_ns: int | None) -> pl.DataFrame:
        """Of these rows (`NAMED`, of this part, without a tick between them) those that remain."""
        if tick_ns is not None:
            for step in (self._orientation, self._twins, self._observers):
                step.tidy(tick_ns)
            sizes = (len(self._orientation), len(self._twins), len(self._observers))
            self._most = [max(pair) for pair in zip(self._most, sizes, strict=True)]
        if flows.is_empty():
            return flows
        oriented = self._orientation.orient(with_keys(flows, _KEYED))
        single = self._observers.single(self._twins.drop(oriented))
        return single.select(NAMED.names())

    @property
    def evicted(self) -> int:
        """Rows of tables forgotten because this part alone filled them."""
        return self._orientation.evicted + self._twins.evicted + self._observers.evicted

    def most(self) -> list[int]:
        """The most rows that each table had after a tick, since this was last asked."""
        most, self._most = self._most, [0, 0, 0]
        return most


def lookups_of(flows: pl.DataFrame) -> pl.DataFrame:
    """The rows that ask or answer a DNS question, as `forwarded` needs them."""
    return flows.filter(pl.col("dns_name").is_not_null()).select(ASKED)


def forwarded(
    lookups: pl.DataFrame, since_row: int, ticks: Sequence[tuple[int, int]]
) -> NDArray[np.uint64]:
    """The rows from `since_row` on whose client only passes a question on.

    lookups: `ASKED` in the order of the stream, of the 30 seconds of the clock before that row and
    of what follows. ticks: those among them, (row, time).
    """
    resolvers = Resolvers()
    numbers = lookups["row"].to_numpy()
    rows = sorted({0, len(numbers), *(int(np.searchsorted(numbers, row)) for row, _ in ticks)})
    due = {}
    for row, tick_ns in ticks:
        due[int(np.searchsorted(numbers, row))] = tick_ns
    found = []
    for low, high in pairwise(rows):
        if low in due:
            resolvers.tidy(due[low])
        marked = resolvers.mark(lookups[low:high])
        found.append(marked.filter("forwarded", pl.col("row") >= since_row)["row"].to_numpy())
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def needed_since(clock_ns: int) -> int:
    """How far back questions matter to a chunk whose clock begins there."""
    return clock_ns - _ASKED_WITHIN_NS


def _leans(side: str) -> pl.Expr:
    said = pl.col(side)
    unnamed = said.is_null() | said.str.contains(_VAGUE)
    return pl.col(f"{side}_pod").is_not_null() & unnamed


def _joined(before: IdentityState, later: Mapping[str, Any]) -> IdentityState:
    joined = {}
    for part in _PARTS:
        held, new = before[part], later[part]
        facts = pl.concat([held["facts"], new["facts"]]).unique(
            "key", keep="last", maintain_order=True
        )
        joined[part] = {"facts": facts.sort("key"), "evicted": held["evicted"]}
    return cast(IdentityState, joined)


def _since(whole: IdentityState, settled: IdentityState) -> dict[str, Any]:
    """What was stated after the last tick."""
    return {
        part: {
            "facts": whole[part]["facts"].join(
                settled[part]["facts"],
                on=whole[part]["facts"].columns,
                how="anti",
                nulls_equal=True,
            ),
            "evicted": 0,
        }
        for part in _PARTS
    }


def together(parts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Rows of several parts in the order of the stream again."""
    return pl.concat(list(parts)).sort("row")
