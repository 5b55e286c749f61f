"""Makes one stream of the raw partitions of a cluster, and brings it into `flows.batches`.

What is undetermined is decided once, in rounds: which rows come next, where partitions that are
silent are not waited for. A round is decided by its first message, the `journal`; everything else
follows from it. After a crash the sequencer goes on from a snapshot and the journal: rounds that
were decided are made again, the very same, and sent again, since it is not known which of their
messages have arrived; readers know them by their rows. Only then it decides itself.

Any number of sequencers may be at it at once. One decides each round; the others notice by the
offset of their message that they did not, and are `Superseded`: they begin again from a snapshot.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from secrets import token_hex
from typing import Any, Final

import polars as pl

from sidelong.ingest.clock import LEAP_NS
from sidelong.ingest.journal import Decided, entries, headers_of
from sidelong.ingest.pace import gather_seconds
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.raw_merge import Position, Positions, RawMerge
from sidelong.ingest.resumption import resumption
from sidelong.ingest.schema import conform
from sidelong.ingest.sequencer_topics import BatchTopic, RawTopic, Sending
from sidelong.ingest.silence import Silence
from sidelong.ingest.stream import Stream, Stretch
from sidelong.ingest.stretch_messages import encode, parts_of
from sidelong.ingest.stretch_pieces import idle_row, pieces

__all__ = ["Sequencer", "Superseded"]

ROUND_ROWS: Final = 40_000
_WORTH_ROWS: Final = ROUND_ROWS // 2  # of a round; fewer wait a little for others
_GATHER_SECONDS: Final = 0.05
_SEARCHED: Final = (
    20_000  # messages of the journal in which a stream without snapshot is looked for
)
# What is held of all partitions that wait for others, and the least share of one; beyond its share
# a partition is not read on.
_HELD_ROWS: Final = 160_000
_LEAST_HELD_ROWS: Final = 4_000
_FORMAT: Final = 1


class Superseded(Exception):
    """Another sequencer has decided; begin again from a snapshot."""


class Sequencer:
    """The one place where a cluster's flows get their order. For one thread.

    state: what `snapshot` gave, the newest that there is; None for none. say: tells a person what
    is lost. wait: seconds for which rows wait for a partition that is silent. clock, wall: seconds
    that pass, and of the epoch.

    Errors: KeyError, TypeError, ValueError and ConfigError for a state of another version; whatever
    `raw` and `batches` raise.
    """

    def __init__(
        self,
        raw: RawTopic,
        batches: BatchTopic,
        state: Mapping[str, Any] | None,
        *,
        pods: PodMaps | None = None,
        say: Callable[[str], None] = lambda _: None,
        wait: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._raw: Final = raw
        self._batches: Final = batches
        self._partitions: Final = batches.partitions
        self._say: Final = say
        self._pods: Final = pods
        self._clock: Final = clock
        self._wall: Final = wall
        self._silence: Final = Silence(wait)
        self.counters: Final = dict.fromkeys(("flows", "rounds", "replayed", "idle", "lost"), 0)
        self._decided: deque[Decided] = deque()
        self._stream = Stream(pods)
        self._name = ""
        self._round = 0
        self._next = 0  # offset of the next message of partition 0
        self._made = float("-inf")  # when the last round was
        self._more = False  # whether it was as large as may be
        self._merge = RawMerge({})
        if state is not None and state["format"] != _FORMAT:
            raise ValueError(f"its format is {state['format']}")
        self._take_up(state)

    @property
    def replaying(self) -> bool:
        """Whether there are rounds that were decided before and are not made again yet."""
        return bool(self._decided)

    @property
    def rows(self) -> int:
        """Rows of the stream so far."""
        return self._stream.rows

    @property
    def clock_ns(self) -> int:
        """Where event time stands; 0 before the first row."""
        return self._stream.clock_ns

    @property
    def held(self) -> int:
        """Rows that were read and wait for their turn."""
        return self._merge.rows

    @property
    def evicted(self) -> int:
        """What was forgotten before its time because a table was full."""
        return self._stream.evicted

    def positions(self) -> dict[int, Position]:
        """Where the next row of each raw partition lies."""
        return self._merge.positions

    def step(self, timeout: float) -> bool:
        """Read for at most `timeout` seconds, and make what rounds can be made; whether any was.

        Errors: Superseded; it is of no use then any more.
        """
        paused = frozenset(p for p in self._merge.positions if self._full(p))
        if not self._pressing():
            if self._merge.rows:
                timeout = min(timeout, self._gather())  # they wait
            for place, chunk in self._raw.read(timeout, paused):
                self._merge.add(place, chunk)
                self._silence.heard(place, self._clock())
        return self._again() if self._decided else self._decide()

    def snapshot(self) -> dict[str, Any] | None:
        """All state as a value; None while rounds are to be made again. It is good once everything
        that was sent before is acknowledged."""
        if self._decided:
            return None
        return {
            "format": _FORMAT,
            "stream": self._name,
            "round": self._round,
            "offset": self._next,
            "through": self._stream.rows,
            "partitions": self._partitions,
            "positions": {place: tuple(at) for place, at in self._merge.positions.items()},
            "reached": self._merge.reached,
            "state": self._stream.snapshot(),
        }

    def _pressing(self) -> bool:
        """Whether there are more rounds to be made of what is held."""
        if not self._decided:
            return self._more
        return self._merge.counts_to(self._decided[0].positions) is not None

    def _gather(self) -> float:
        """How long few rows wait for others."""
        behind = self._wall() - self._stream.clock_ns / 1e9 if self._stream.rows else 0.0
        return gather_seconds(behind, _GATHER_SECONDS)

    def _full(self, place: int) -> bool:
        share = max(_LEAST_HELD_ROWS, _HELD_ROWS // len(self._merge.positions))
        if self._merge.held(place) < share:
            return False
        # Rounds that are made again may want yet more of it.
        wanted = self._decided[0].positions.get(place) if self._decided else None
        return wanted is None or self._merge.holds(place, wanted)

    # Beginning.

    def _take_up(self, state: Mapping[str, Any] | None) -> None:
        raw = self._raw.bounds()
        if raw is None:
            raise Superseded("nobody tells how much there is to read")
        first, end = self._batches.bounds()
        since = end - _SEARCHED if state is None else int(state["offset"])
        decided = list(entries(self._batches.journal(min(max(since, first), end), end)))
        found = resumption(state, decided, (first, end), raw, self._partitions)
        self._name, self._round, self._next = found.stream, found.round, end
        self._start(found.positions, found.reached, raw)
        if found.known and state is not None and not found.lost:
            self._stream.restore(state["state"])
        self._decided.extend(found.again)
        if found.lost:
            self._say(f"a new stream begins, and what was known is lost: {found.lost}")
        if not self._name:
            self._begin()

    def _start(
        self,
        positions: Positions,
        reached: Mapping[int, int],
        bounds: Mapping[int, tuple[int, int]],
    ) -> None:
        """Read raw partitions from these positions on, new ones from their beginning."""
        taken: dict[int, Position] = {}
        for place, (first, end) in bounds.items():
            at = positions.get(place, Position(first))
            if at.offset > end:
                self._say(f"raw partition {place} ends at {end}, and was read to {at.offset}")
                at = Position(first)
            elif at.offset < first:
                self.counters["lost"] += first - at.offset
                self._say(f"{first - at.offset} messages of raw partition {place} were deleted")
                at = Position(first)
            taken[place] = at
        self._merge = RawMerge(taken, {p: key for p, key in reached.items() if p in taken})
        self._raw.start({place: at.offset for place, at in taken.items()})
        self._silence.begin(taken, self._clock())

    def _take_in(self) -> None:
        """Read partitions too that were added to the topic, from their beginning: the rounds from
        now on tell positions of them."""
        bounds = self._raw.bounds() or {}
        for place in sorted(bounds.keys() - self._merge.positions.keys()):
            self._merge.open(place, Position(bounds[place][0]))
            self._silence.take_in(place, self._clock())
            self._say(f"raw partition {place} is new, and is read")
        self._raw.start({place: self._merge.read(place) for place in self._merge.positions})

    def _begin(self) -> None:
        """Round 0 of a new stream."""
        self._stream = Stream(self._pods)
        self._name, self._round = token_hex(8), -1
        nothing = Stretch(0, 0, None, pl.DataFrame(), conform(pl.DataFrame()).clear())
        self._make(iter([nothing]), None)

    # Rounds that were decided before.

    def _again(self) -> bool:
        decided = self._decided[0]
        counts = self._merge.counts_to(decided.positions)
        if counts is None:
            return False
        self._decided.popleft()
        idle_ns = decided.idle_ns
        rows = self._merge.take(counts) if idle_ns is None else idle_row(idle_ns)
        self._round = decided.round
        # Of partition 0 all has arrived before the next round was decided.
        first = 1 if self._decided else 0
        for stretch in self._stretches(rows):
            self._send(stretch, first)
        self.counters["replayed"] += 1
        if not self._decided:
            self._silence.begin(self._merge.positions, self._clock())
        return True

    # Rounds that we decide.

    def _decide(self) -> bool:
        now = self._clock()
        if self._silence.asks(now, waiting=self._merge.rows > 0):
            ends = self._raw.ends()
            if ends is not None and ends.keys() - self._merge.positions.keys():
                self._take_in()
            self._silence.told(ends, now)
        reads = {place: self._merge.read(place) for place in self._merge.positions}
        silent = self._silence.of(reads, now)
        counts = self._merge.releasable(silent, ROUND_ROWS)
        counts |= self._merge.beyond(int(self._wall() * 1e9) + LEAP_NS, ROUND_ROWS)
        count = sum(counts.values())
        self._more = count >= ROUND_ROWS
        if count:
            if count < _WORTH_ROWS and now - self._made < self._gather():
                return False
            rows = self._merge.take(counts)
            self._make(self._stretches(rows), None)
            self._made = self._clock()
            self._silence.spoke(self._made)
            self.counters["flows"] += rows.height
            return True
        if self._merge.rows or len(silent) < len(reads) or not self._stream.rows:
            return False
        passed = self._silence.passed(now)
        if passed is None:
            return False
        idle_ns = self._stream.clock_ns + int(passed * 1e9)
        self._make(self._stretches(idle_row(idle_ns)), idle_ns)
        self.counters["idle"] += 1
        return True

    def _make(self, stretches: Iterator[Stretch], idle_ns: int | None) -> None:
        """Decide a round by its first message, then send the rest."""
        self._round += 1
        messages = encode(parts_of(next(stretches), self._name, self._round, self._partitions))
        value, headers = next(messages)
        sending = self._decision(value, headers, idle_ns)
        rest = list(messages)  # while it is on its way
        while (found := sending.offset()) != self._next:
            # What is there may be no decision, such as a message of a round that was sent again.
            if any(entries(self._batches.journal(self._next, found))):
                raise Superseded(f"round {self._round} is at {found}, not {self._next}")
            self._next = found + 1
            sending = self._decision(value, headers, idle_ns)
        self._next += 1
        for partition, (value, headers) in enumerate(rest, 1):
            self._batches.send(partition, value, headers)
        for stretch in stretches:
            self._send(stretch, 0)
        self.counters["rounds"] += 1

    def _decision(self, value: bytes, headers: dict[str, bytes], idle_ns: int | None) -> Sending:
        decided = Decided(
            self._name, self._round, self._merge.positions, self._next, self._partitions, idle_ns
        )
        return self._batches.send(0, value, {**headers, **headers_of(decided)})

    def _send(self, stretch: Stretch, first: int) -> None:
        """Send a stretch to the partitions from `first` on."""
        self._next += first == 0
        messages = parts_of(stretch, self._name, self._round, self._partitions)
        for partition, (value, headers) in enumerate(encode(messages)):
            if partition >= first:
                self._batches.send(partition, value, headers)

    def _stretches(self, rows: pl.DataFrame) -> Iterator[Stretch]:
        for piece in pieces(rows):
            yield from self._stream.stretches(piece)
