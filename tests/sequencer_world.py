"""Topics in memory, sequencers that die and freeze between any two messages, and what is right."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl
from streams import START_NS

from sidelong.ingest.journal import Entry, entries
from sidelong.ingest.raw_merge import RawChunk
from sidelong.ingest.schema import conform, empty_flows
from sidelong.ingest.sequencer import Sequencer, Superseded
from sidelong.ingest.state_values import decode as state_of
from sidelong.ingest.state_values import encode as bytes_of
from sidelong.ingest.stream import Stream, Stretch
from sidelong.ingest.stretch_messages import StretchMessage, decode

__all__ = ["Crash", "World", "by_key", "decided_order", "heard", "same", "whole"]


class Crash(BaseException):
    """Death between two messages."""


class Sent:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def offset(self) -> int:
        return self._offset


class Batches:
    """`flows.batches` as one sequencer sees it. fuse: how many messages it still sends."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.partitions = len(world.batches)
        self.fuse: int | None = None
        self.at_the_end: Callable[[], None] = self._die

    def send(self, partition: int, value: bytes, headers: Mapping[str, bytes]) -> Sent:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.fuse = None
                self.at_the_end()
        log = self.world.batches[partition]
        log.append((value, dict(headers)))
        return Sent(len(log) - 1)

    def bounds(self) -> tuple[int, int]:
        return self.world.deleted, len(self.world.batches[0])

    def journal(self, low: int, high: int) -> Iterable[Entry]:
        log = self.world.batches[0]
        return [Entry(offset, log[offset][1]) for offset in range(low, high)]

    @staticmethod
    def _die() -> None:
        raise Crash


class Raw:
    """`flows.raw` as one sequencer sees it: random polls."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.next: dict[int, int] = {}
        self.answers = True

    def bounds(self) -> dict[int, tuple[int, int]] | None:
        if not self.answers:
            return None
        return {p: (0, len(messages)) for p, messages in enumerate(self.world.raw)}

    def ends(self) -> dict[int, int] | None:
        bounds = self.bounds()
        return None if bounds is None else {p: end for p, (_, end) in bounds.items()}

    def start(self, offsets: Mapping[int, int]) -> None:
        self.next = dict(offsets)

    def read(self, timeout: float, paused: frozenset[int]) -> list[tuple[int, RawChunk]]:
        self.world.now += 0.02
        found = []
        for place in self.next:
            most = self.world.random.choice([0, 0, 1, 2, 9])
            offsets = range(self.next[place], len(self.world.raw[place]))[:most]
            if place in paused or not offsets:
                continue
            messages = [self.world.raw[place][offset] for offset in offsets]
            self.next[place] = offsets[-1] + 1
            rows = np.array([message.height for message in messages], np.int64)
            found.append((place, RawChunk(pl.concat(messages), np.array(offsets), rows)))
        return found


class World:
    """Two topics, a store of snapshots, and wall time. raw: messages by partition."""

    def __init__(self, raw: list[list[pl.DataFrame]], partitions: int, seed: int) -> None:
        self.raw = raw
        self.batches: list[list[tuple[bytes, dict[str, bytes]]]] = [[] for _ in range(partitions)]
        self.snapshots: list[bytes] = []
        self.random = random.Random(seed)
        self.now = 1_000.0
        self.wall = START_NS / 1e9 + 86_400
        self.said: list[str] = []
        self.deleted = 0  # messages of the journal

    def sequencer(self, back: int = 0) -> Sequencer:
        """One that begins; back: how many snapshots it is behind."""
        kept = self.snapshots[: len(self.snapshots) - back]
        state: dict[str, Any] | None = state_of(kept[-1]) if kept else None
        return Sequencer(
            Raw(self),
            Batches(self),
            state,
            say=self.said.append,
            clock=lambda: self.now,
            wall=lambda: self.wall,
        )

    def save(self, sequencer: Sequencer) -> None:
        if (state := sequencer.snapshot()) is not None:
            self.snapshots.append(bytes_of(state))

    def finish(self, rows: int) -> Sequencer:
        """Go on until the stream has so many rows and nothing is left to be made again."""
        sequencer = self.sequencer()
        for _ in range(2_000):
            if not sequencer.replaying and sequencer.rows >= rows:
                return sequencer
            try:
                sequencer.step(0.0)
            except Superseded:
                sequencer = self.sequencer()
        raise AssertionError(f"{sequencer.rows} of {rows} rows")


def heard(log: list[tuple[bytes, dict[str, bytes]]]) -> list[StretchMessage]:
    """What a reader of a partition takes of it: nothing twice, nothing that does not count."""
    taken: list[StretchMessage] = []
    through, stream = 0, ""
    for offset, (value, headers) in enumerate(log):
        message = decode(value, headers)
        if message.at is not None and message.at != offset:
            continue
        if message.stream != stream:
            stream, through = message.stream, 0
            taken = []
        if message.high <= through:
            continue
        assert message.low == through, "a gap, or half of what was told"
        through = message.high
        taken.append(message)
    return taken


def whole(world: World) -> list[Stretch]:
    """The stretches of the stream, put together again from all partitions."""
    lanes = [heard(log) for log in world.batches]
    assert len({len(lane) for lane in lanes}) == 1
    found = []
    for parts in zip(*lanes, strict=True):
        first = parts[0]
        for part in parts:
            assert part[:2] + part[3:7] == first[:2] + first[3:7]
            assert part.pulse.equals(first.pulse)
        flows = pl.concat([part.flows for part in parts]).sort("row")
        found.append(Stretch(first.low, first.high, first.tick_ns, first.pulse, flows))
    return found


def by_key(parts: list[pl.DataFrame], reached: list[int]) -> pl.DataFrame:
    """The rows of each partition in the order of the latest time so far, row by row; `reached` is
    brought forward."""
    rows: list[tuple[int, int, int]] = []
    for place, part in enumerate(parts):
        for number, time in enumerate(part["time"].to_physical().to_list()):
            reached[place] = max(reached[place], time)
            rows.append((reached[place], place, number))
    order = [parts[place][number] for _, place, number in sorted(rows)]
    return pl.concat([empty_flows(), *order])


def decided_order(world: World) -> pl.DataFrame:
    """The raw rows in the order that the journal tells."""
    log = world.batches[0]
    decided = list(entries(Entry(offset, headers) for offset, (_, headers) in enumerate(log)))
    raw = [pl.concat([empty_flows(), *messages]) for messages in world.raw]
    ends = [np.cumsum([0, *(message.height for message in messages)]) for messages in world.raw]
    rounds, reached = [empty_flows()], [-(2**63)] * len(raw)
    before = [0] * len(raw)
    for one in decided:
        if one.idle_ns is not None:
            row = pl.DataFrame({"time": [one.idle_ns], "count": [0]})
            rounds.append(conform(row.with_columns(pl.col("time").cast(pl.Datetime("ns", "UTC")))))
            continue
        told = [one.positions.get(p) for p in range(len(raw))]  # it may not know all yet
        after = [
            0 if at is None else int(ends[p][at.offset]) + at.rows for p, at in enumerate(told)
        ]
        parts = [rows[low:high] for rows, low, high in zip(raw, before, after, strict=True)]
        rounds.append(by_key(parts, reached))
        before = after
    return pl.concat(rounds)


def same(found: list[Stretch], flows: pl.DataFrame) -> None:
    """That these stretches are the stream of these flows, wherever they are cut."""
    expected = list(Stream().stretches(flows))
    assert sum(one.high - one.low for one in found) == flows.height
    ticks = [(one.low, one.tick_ns) for one in found if one.tick_ns is not None]
    assert ticks == [(one.low, one.tick_ns) for one in expected if one.tick_ns is not None]
    for part in ("flows", "pulse"):
        ours, theirs = (pl.concat([getattr(s, part) for s in each]) for each in (found, expected))
        assert ours.schema == theirs.schema
        assert ours.equals(theirs), part
