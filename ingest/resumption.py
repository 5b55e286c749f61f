"""From where a sequencer goes on: a snapshot, what the journal says was decided since, and what is
still there of either topic.

Where these do not fit together any more, such as after the journal was deleted, a new stream begins
from the last positions that are known: nothing raw is left out, but what was known is lost.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from sidelong.ingest.journal import Decided
from sidelong.ingest.raw_merge import Position

__all__ = ["Bounds", "Resumption", "resumption"]

Bounds: TypeAlias = tuple[int, int]
"""Of a partition the offset of its first message, and that behind its last."""


class Resumption(NamedTuple):
    """stream, round: which was made last; "" for none. positions, reached: of the raw partitions,
    after it; see `RawMerge`. known: whether the state of the snapshot is that of this moment; else
    the stream is at its beginning. again: the rounds that were decided since. lost: why a new
    stream must begin at `positions`; "" when it need not.
    """

    stream: str = ""
    round: int = 0
    positions: Mapping[int, Position] = {}
    reached: Mapping[int, int] = {}
    known: bool = False
    again: Sequence[Decided] = ()
    lost: str = ""


def resumption(
    state: Mapping[str, Any] | None,
    decided: Sequence[Decided],
    journal: Bounds,
    raw: Mapping[int, Bounds],
    partitions: int,
) -> Resumption:
    """How to go on.

    state: see `Sequencer.snapshot`. decided: what counts in the journal since. journal, raw: what
    there is of partition 0, and of each raw partition. partitions: of `flows.batches`.
    """
    begun = max((n for n, one in enumerate(decided) if one.round == 0), default=None)
    if begun is not None:
        # A stream that begins later on makes what was before it unimportant.
        first = decided[begun]
        found = Resumption(first.stream, 0, first.positions)
        had, again = first.partitions, decided[begun + 1 :]
    elif state is not None:
        positions = {place: Position(*at) for place, at in state["positions"].items()}
        found = Resumption(state["stream"], state["round"], positions, state["reached"], True)
        had, again = state["partitions"], decided
    elif decided:
        return _anew(
            decided[-1].positions, "there is no snapshot, nor the beginning of the journal"
        )
    else:
        return Resumption()
    last = again[-1].positions if again else found.positions
    if begun is None and state is not None and not journal[0] <= state["offset"] <= journal[1]:
        return _anew(last, f"its journal is {journal}, and was read to {state['offset']}")
    if any(one.partitions != partitions for one in again) or had != partitions:
        return _anew(last, f"flows.batches has {partitions} partitions, and had {had}")
    expected = range(found.round + 1, found.round + 1 + len(again))
    if [(found.stream, number) for number in expected] != [(d.stream, d.round) for d in again]:
        return _anew(last, "its journal has a hole")
    if again and (missing := _missing(found.positions, last, raw)):
        return _anew(last, f"of raw partitions {missing} there is not any more what was read")
    return found._replace(again=again)


def _anew(positions: Mapping[int, Position], why: str) -> Resumption:
    return Resumption(positions=positions, lost=why)


def _missing(
    since: Mapping[int, Position], to: Mapping[int, Position], raw: Mapping[int, Bounds]
) -> list[int]:
    """The raw partitions of which not all is there from `since` on, those that were added since
    from their beginning, up to `to`."""
    begun = {place: Position(0) for place in to} | dict(since)
    gone = [place for place, at in begun.items() if place not in raw or at.offset < raw[place][0]]
    return sorted({*gone, *(p for p, at in to.items() if p not in raw or at.offset > raw[p][1])})
