"""The partitions of a topic as one stream in the order of time, cut into rounds.

The order is that of `merge`: each row has the latest time so far in its partition as its key, and
equal keys go by partition. A row is released when no other partition can still bring an earlier
one, which is known from how far each was read; a partition that is `silent` is not waited for.

Where a round ends is a position in each partition: a message, and how many of its rows are taken.
The rows between two such positions, in the order of their keys, are the same whenever they are read
again, so that positions are all that has to be remembered of a decision.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.schema import empty_flows

__all__ = ["Position", "Positions", "RawChunk", "RawMerge"]

_FIRST: Final = -(2**63)  # earlier than any time


class Position(NamedTuple):
    """The next row of a partition: `rows` rows of the message at `offset` are taken already."""

    offset: int
    rows: int = 0


Positions: TypeAlias = Mapping[int, Position]
"""By partition."""


class RawChunk(NamedTuple):
    """Messages of one partition, decoded. flows: `FLOW_SCHEMA`, in the order of the messages.
    offsets, rows: of each message its offset, and how many of the flows are of it."""

    flows: pl.DataFrame
    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]


class _Held:
    """A chunk, as far as its rows are not taken."""

    def __init__(self, chunk: RawChunk, taken: int, after: int) -> None:
        self.flows = chunk.flows
        self.offsets = chunk.offsets
        self.ends = np.cumsum(chunk.rows)
        self.taken = taken
        times = chunk.flows["time"].to_physical().fill_null(_FIRST).to_numpy()
        self.keys: NDArray[np.int64] = np.maximum(np.maximum.accumulate(times), after)

    @property
    def left(self) -> int:
        return len(self.keys) - self.taken

    def count_to(self, to: Position) -> int:
        """How many rows that are left lie before a position."""
        message = int(np.searchsorted(self.offsets, to.offset))
        whole = int(self.ends[message - 1]) if message else 0
        here = message < len(self.offsets) and self.offsets[message] == to.offset
        return max(0, whole + (to.rows if here else 0) - self.taken)

    def position(self) -> Position:
        """That of the next row; where none is left, that of the next message."""
        message = int(np.searchsorted(self.ends, self.taken, side="right"))
        if message == len(self.ends):
            return Position(int(self.offsets[-1]) + 1)
        before = int(self.ends[message - 1]) if message else 0
        return Position(int(self.offsets[message]), self.taken - before)


class _Lane:
    """One partition: what of it is held, and where its next row lies."""

    def __init__(self, position: Position, reached: int) -> None:
        self.position = position
        self.reached = reached  # key of the last row taken
        self.read = position.offset  # offset of the next message to be read
        self.read_key = reached  # key of the last row read
        self.held: deque[_Held] = deque()
        self.rows = 0

    def add(self, chunk: RawChunk) -> None:
        begun = self.read == self.position.offset == int(chunk.offsets[0])
        taken = self.position.rows if begun else 0
        held = _Held(chunk, min(taken, chunk.flows.height), self.read_key)
        self.read = int(chunk.offsets[-1]) + 1
        if held.left:
            self.read_key = int(held.keys[-1])
            self.rows += held.left
            self.held.append(held)
        elif not self.held:
            self.position = Position(self.read)

    def keys(self, most: int) -> NDArray[np.int64]:
        """Of the next `most` rows."""
        found: list[NDArray[np.int64]] = []
        for held in self.held:
            if most <= 0:
                break
            found.append(held.keys[held.taken : held.taken + most])
            most -= len(found[-1])
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def count_to(self, to: Position) -> int | None:
        """How many rows lie before a position; None unless all of them are held."""
        if self.read < to.offset + bool(to.rows):
            return None
        return sum(held.count_to(to) for held in self.held)

    def take(self, count: int) -> Iterable[tuple[pl.DataFrame, NDArray[np.int64]]]:
        """The next rows, with their keys."""
        self.rows -= count
        while count:
            held = self.held[0]
            here = min(count, held.left)
            rows = slice(held.taken, held.taken + here)
            yield held.flows[rows], held.keys[rows]
            self.reached = int(held.keys[rows.stop - 1])
            held.taken += here
            count -= here
            self.position = held.position()
            if not held.left:
                self.held.popleft()
        if not self.held:
            self.position = Position(self.read)  # behind what holds no rows


class RawMerge:
    """Holds rows of partitions until their turn has come.

    positions: where each partition is taken up. reached: of each, as in `reached`, where it is not
    at its very beginning.
    """

    def __init__(self, positions: Positions, reached: Mapping[int, int] | None = None) -> None:
        known = reached or {}
        self._lanes: Final = {
            place: _Lane(Position(*positions[place]), known.get(place, _FIRST))
            for place in sorted(positions)
        }

    @property
    def rows(self) -> int:
        """How many rows are held."""
        return sum(lane.rows for lane in self._lanes.values())

    @property
    def positions(self) -> dict[int, Position]:
        """Where the next row of each partition lies."""
        return {place: lane.position for place, lane in self._lanes.items()}

    @property
    def reached(self) -> dict[int, int]:
        """The key of the last row taken of each partition, of those of which there was one."""
        lanes = self._lanes.items()
        return {place: lane.reached for place, lane in lanes if lane.reached != _FIRST}

    def read(self, partition: int) -> int:
        """The offset of the message of a partition that is to be read next."""
        return self._lanes[partition].read

    def held(self, partition: int) -> int:
        """How many rows of a partition are held."""
        return self._lanes[partition].rows

    def holds(self, partition: int, to: Position) -> bool:
        """Whether all rows of a partition before a position were read."""
        return self._lanes[partition].count_to(to) is not None

    def add(self, partition: int, chunk: RawChunk) -> None:
        """Hold the messages of a partition that come next."""
        if len(chunk.offsets):
            self._lanes[partition].add(chunk)

    def open(self, partition: int, position: Position) -> None:
        """Take up a partition that there was not before."""
        self._lanes[partition] = _Lane(position, _FIRST)

    def releasable(self, silent: Collection[int], most: int) -> dict[int, int]:
        """Of each partition how many rows may be taken, together no more than `most`: those that
        none that is not silent can still come before, the earliest first."""
        bounds = sorted(
            (lane.read_key, place) for place, lane in self._lanes.items() if place not in silent
        )
        keys: dict[int, NDArray[np.int64]] = {}
        for place, lane in self._lanes.items():
            others = (bound for bound in bounds if bound[1] != place)
            found = lane.keys(most)
            if (bound := next(others, None)) is not None:
                side = "right" if place < bound[1] else "left"
                found = found[: np.searchsorted(found, bound[0], side=side)]  # type: ignore[call-overload]
            keys[place] = found
        counts = {place: len(found) for place, found in keys.items()}
        if sum(counts.values()) <= most:
            return counts
        of = np.repeat(np.arange(len(counts)), list(counts.values()))
        first = np.argsort(np.concatenate(list(keys.values())), kind="stable")[:most]
        taken = np.bincount(of[first], minlength=len(counts)).tolist()
        return dict(zip(counts, taken, strict=True))

    def beyond(self, time_ns: int, most: int) -> dict[int, int]:
        """Of each partition whose next row has a later key than that, how many rows it holds, at
        most `most`: one absurd time, and nothing of a partition would be next for years."""
        first = {place: lane.keys(1) for place, lane in self._lanes.items()}
        return {
            place: min(most, self._lanes[place].rows)
            for place, key in first.items()
            if len(key) and key[0] > time_ns
        }

    def counts_to(self, positions: Positions) -> dict[int, int] | None:
        """Of each partition how many rows lie before these positions; None unless all of them are
        held."""
        found = {place: self._lanes[place].count_to(to) for place, to in positions.items()}
        counts = {place: count for place, count in found.items() if count is not None}
        return counts if len(counts) == len(found) else None

    def take(self, counts: Mapping[int, int]) -> pl.DataFrame:
        """So many rows of each partition, in the order of their keys; `FLOW_SCHEMA`."""
        parts = [
            part for place in sorted(counts) for part in self._lanes[place].take(counts[place])
        ]
        if len(parts) < 2:
            return parts[0][0] if parts else empty_flows()
        flows = pl.concat([flows for flows, _ in parts])
        keys = np.concatenate([keys for _, keys in parts])
        if (keys[1:] >= keys[:-1]).all():
            return flows
        return flows[np.argsort(keys, kind="stable")]
