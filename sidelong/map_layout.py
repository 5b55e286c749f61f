"""Where the boxes of a map go: in columns, callers to the left of whom they call.

The way of Sugiyama, Tagawa and Toda ("Methods for Visual Understanding of Hierarchical System
Structures", IEEE SMC 1981): cycles are opened, boxes get columns, long arrows get a place in each
column they pass, columns are ordered by where their neighbours stand, and boxes move towards them.
The same graph has the same layout: nothing is random, and ties go by the order of the boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOX", "GAP", "Layout", "layout"]

BOX: Final = (172.0, 42.0)
"""Width and height of a box."""

GAP: Final = 64.0
"""Between columns at the least: the room for arrows."""

_APART: Final = 16.0
_PASSING: Final = 4.0  # the height of an arrow that passes a column
_LANE: Final = 5.0  # between two of those
_MARGIN: Final = 14.0
_SWEEPS: Final = 12
_PORTS: Final = 26.0  # how much of a box's side arrows may end at
_PORT: Final = 7.0

Arrow = tuple[int, int]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """boxes: (n, 2), the left upper corner of each. arrows: the points that each runs through, from
    side to side of its boxes. size: of the whole."""

    boxes: NDArray[np.float64]
    arrows: tuple[Points, ...]
    size: tuple[float, float]


def layout(count: int, arrows: Sequence[Arrow], gap: float = GAP) -> Layout:
    """Place `count` boxes, with arrows from box to box; an arrow to its own box has no points.

    gap: the room between columns, also for what is written on arrows.
    """
    forward = _opened(count, arrows)
    column = _columns(count, forward)
    spots, chains = _with_passages(column, forward)
    order = _ordered(spots, chains)
    middle = _settled(order, spots, chains, count)
    width, height = BOX
    top = min((middle[place] - _room(place, count) / 2 for place in range(len(spots))), default=0.0)
    middle = middle - top + _MARGIN
    x = np.array([_MARGIN + spot * (width + gap) for spot in spots], dtype=np.float64)
    corners = np.column_stack([x[:count], middle[:count] - height / 2])
    lowest = max(
        (middle[place] + _room(place, count) / 2 for place in range(len(spots))), default=0
    )
    right = max(x, default=0.0) + width + _MARGIN
    points = _points(arrows, chains, x, middle, count)
    return Layout(corners.reshape(count, 2), points, (float(right), float(lowest) + _MARGIN))


def _opened(count: int, arrows: Sequence[Arrow]) -> list[Arrow]:
    """The arrows, some of them turned round so that no way leads back (Eades, Lin, Smyth 1993)."""
    out: list[set[int]] = [set() for _ in range(count)]
    into: list[set[int]] = [set() for _ in range(count)]
    for here, there in arrows:
        if here != there:
            out[here].add(there)
            into[there].add(here)
    left, right, waiting = list[int](), list[int](), set(range(count))

    def take(box: int, row: list[int]) -> None:
        row.append(box)
        waiting.discard(box)
        for other in out[box]:
            into[other].discard(box)
        for other in into[box]:
            out[other].discard(box)

    while waiting:
        if ends := [box for box in sorted(waiting) if not out[box] and into[box]]:
            take(ends[-1], right)
        elif begins := [box for box in sorted(waiting) if not into[box]]:
            take(begins[0], left)
        else:
            take(min(waiting, key=lambda box: (len(into[box]) - len(out[box]), box)), left)
    place = {box: index for index, box in enumerate([*left, *reversed(right)])}
    return [
        (here, there) if place[here] <= place[there] else (there, here) for here, there in arrows
    ]


def _columns(count: int, forward: Sequence[Arrow]) -> list[int]:
    """The column of each box: right of all that lead to it; and as near to the next as it can."""
    column = np.zeros(count, dtype=np.int64)
    ways = np.array([arrow for arrow in forward if arrow[0] != arrow[1]], dtype=np.int64)
    if not len(ways):
        return [int(one) for one in column]
    for _ in range(count):
        before = column.copy()
        np.maximum.at(column, ways[:, 1], column[ways[:, 0]] + 1)
        if (column == before).all():
            break
    nearest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(nearest, ways[:, 0], column[ways[:, 1]])
    begins = np.ones(count, dtype=bool)
    begins[ways[:, 1]] = False
    moved = begins & (nearest < np.iinfo(np.int64).max)
    column[moved] = nearest[moved] - 1
    return [int(one) for one in column]


def _with_passages(
    column: Sequence[int], forward: Sequence[Arrow]
) -> tuple[list[int], list[list[int]]]:
    """The columns of boxes and passages, and for each arrow the spots it runs through."""
    spots, chains = list(column), []
    for here, there in forward:
        chain = [here]
        for between in range(column[here] + 1, column[there]):
            chain.append(len(spots))
            spots.append(between)
        chains.append([*chain, there])
    return spots, chains


def _neighbours(count: int, chains: Sequence[Sequence[int]]) -> tuple[list[list[int]], ...]:
    left: list[list[int]] = [[] for _ in range(count)]
    right: list[list[int]] = [[] for _ in range(count)]
    for chain in chains:
        for here, there in pairwise(chain):
            if here != there:
                right[here].append(there)
                left[there].append(here)
    return left, right


def _ordered(spots: Sequence[int], chains: Sequence[Sequence[int]]) -> list[list[int]]:
    """The spots of each column from top to bottom."""
    order: list[list[int]] = [[] for _ in range(max(spots, default=-1) + 1)]
    for spot, column in enumerate(spots):
        order[column].append(spot)
    left, right = _neighbours(len(spots), chains)
    place = np.zeros(len(spots))
    for rows in order:
        place[rows] = np.arange(len(rows)) - (len(rows) - 1) / 2
    for sweep in range(_SWEEPS):
        known = right if sweep % 2 else left
        for rows in reversed(order) if sweep % 2 else order:
            heart = {
                spot: float(np.mean(place[known[spot]])) if known[spot] else float(place[spot])
                for spot in rows
            }
            rows.sort(key=lambda spot: heart[spot])
            place[rows] = np.arange(len(rows)) - (len(rows) - 1) / 2
    return order


def _room(spot: int, count: int) -> float:
    return BOX[1] if spot < count else _PASSING


def _settled(
    order: Sequence[Sequence[int]],
    spots: Sequence[int],
    chains: Sequence[Sequence[int]],
    count: int,
) -> NDArray[np.float64]:
    """The middle of each spot from the top: near its neighbours, in order and apart."""
    left, right = _neighbours(len(spots), chains)
    middle = np.zeros(len(spots))
    apart = {}
    for rows in order:
        rooms = np.array([_room(spot, count) for spot in rows])
        passing = np.array([spot >= count for spot in rows])
        between = np.where(passing[1:] & passing[:-1], _LANE, _APART)
        apart[id(rows)] = (rooms[1:] + rooms[:-1]) / 2 + between
        steps = np.concatenate([[0.0], np.cumsum(apart[id(rows)])])
        middle[list(rows)] = steps - steps[-1] / 2
    for sweep in range(_SWEEPS):
        for rows in reversed(order) if sweep % 2 else order:
            if not rows:
                continue
            near = [left[spot] + right[spot] for spot in rows]
            wanted = np.array(
                [
                    float(np.mean(middle[others])) if others else float(middle[spot])
                    for spot, others in zip(rows, near, strict=True)
                ]
            )
            steps = np.concatenate([[0.0], np.cumsum(apart[id(rows)])])
            # Distances kept, each moves down as far as it must, and up: between lies the place.
            down = np.maximum.accumulate(wanted - steps) + steps
            up = np.minimum.accumulate((wanted - steps)[::-1])[::-1] + steps
            middle[list(rows)] = (down + up) / 2
    return middle


def _points(
    arrows: Sequence[Arrow],
    chains: Sequence[Sequence[int]],
    x: NDArray[np.float64],
    middle: NDArray[np.float64],
    count: int,
) -> tuple[Points, ...]:
    """Through which points arrows run; where they end is spread over the side of a box."""
    ends: dict[tuple[int, bool], list[tuple[float, int]]] = {}
    for number, chain in enumerate(chains):
        if chain[0] != chain[-1]:
            ends.setdefault((chain[0], True), []).append((middle[chain[1]], number))
            ends.setdefault((chain[-1], False), []).append((middle[chain[-2]], number))
    shift: dict[tuple[int, bool, int], float] = {}
    for (box, rightwards), met in ends.items():
        step = min(_PORT, _PORTS / max(1, len(met) - 1))
        for place, (_, number) in enumerate(sorted(met)):
            shift[box, rightwards, number] = (place - (len(met) - 1) / 2) * step
    found: list[Points] = []
    width = BOX[0]
    for number, (chain, (here, _)) in enumerate(zip(chains, arrows, strict=True)):
        if chain[0] == chain[-1]:
            found.append(())
            continue
        run = [(x[chain[0]] + width, middle[chain[0]] + shift[chain[0], True, number])]
        for spot in chain[1:-1]:
            run += [(x[spot], middle[spot]), (x[spot] + width, middle[spot])]
        run.append((x[chain[-1]], middle[chain[-1]] + shift[chain[-1], False, number]))
        turned = chain[0] != here
        found.append(tuple((float(a), float(b)) for a, b in (run[::-1] if turned else run)))
    return tuple(found)
