"""The evidence of all partitions as that of one stream again.

Every partition tells what it has on each stretch of the stream, in order, each at its own pace, and
after a restart once more from where its last snapshot was taken. Rows that are told again are
dropped; rows that all have told of are released, cut at the ticks of the stream: exactly what one
process would have given to correlation.
"""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import polars as pl

from sidelong.ingest.pulse import PULSE_SCHEMA
from sidelong.models.evidence import NO_EVIDENCE, in_stream_order
from sidelong.models.evidence_messages import DamagedEvidence, EvidencePart

__all__ = ["EvidenceMerge", "Portion"]

_NO_PULSE: Final = PULSE_SCHEMA.to_frame()
_GRAIN_MS: Final = 100  # how finely is remembered when the first partition came how far
_ENDED: Final = 16  # streams of the past whose stragglers are still known


class Portion(NamedTuple):
    """What is to be correlated next: a stretch of the stream without a tick in it.

    tick_ns: the tick that passes just before it, if any. evidence: `EVIDENCE_SCHEMA` in stream
    order. pulse: `PULSE_SCHEMA`. begins: whether a stream begins here, and any before it has ended.
    """

    tick_ns: int | None
    evidence: pl.DataFrame
    pulse: pl.DataFrame
    begins: bool = False


class EvidenceMerge:
    """Puts the evidence of partitions together; its state is a value.

    straggler_ms: when the first partition was somewhere so long ago, those that have not come there
    are no longer waited for; what they tell later counts when it comes. Times are those of the
    messages, so that whoever reads them again decides the same. capacity: rows of evidence that may
    wait; beyond that only those at the front are waited for.
    """

    def __init__(self, straggler_ms: int, capacity: int = 500_000) -> None:
        self._straggler_ms = straggler_ms
        self._capacity = capacity
        self._stream: str | None = None
        self._ended: deque[str] = deque(maxlen=_ENDED)
        self._begin("", 0)
        self._stream = None
        self._now_ms = 0
        self.counters = dict.fromkeys(
            ("duplicates", "gaps", "late", "stragglers", "stale", "streams"), 0
        )

    @property
    def done(self) -> int:
        """The row up to which evidence was released."""
        return self._done

    @property
    def front(self) -> int:
        """The row up to which some partition has told its evidence."""
        return max(self._through, default=0)

    @property
    def waiting(self) -> int:
        """Rows of evidence that wait for partitions which are behind."""
        return sum(part.height for part in self._evidence)

    def behind(self) -> dict[int, int]:
        """How many rows each partition is behind the one in front."""
        front = self.front
        return {partition: front - through for partition, through in enumerate(self._through)}

    def add(self, part: EvidencePart, told_ms: int) -> list[Portion]:
        """Take in what one partition tells, at a time in milliseconds; the portions that are ready.

        Errors: DamagedEvidence for a partition that the stream does not have.
        """
        released: list[Portion] = []
        if part.stream != self._stream:
            if part.stream in self._ended:
                self.counters["stale"] += 1
                return []
            if self._stream is not None:
                self._ended.append(self._stream)
                released = self._release(self.front)
            self._begin(part.stream, part.partitions)
            self.counters["streams"] += 1
        if part.partitions != len(self._through):
            raise DamagedEvidence(
                f"it is of one of {part.partitions} partitions, and there are {len(self._through)}"
            )
        through = self._through[part.partition]
        if part.high <= through:
            self.counters["duplicates"] += 1
            return released
        self.counters["duplicates"] += part.low < through
        self.counters["gaps"] += part.low > through
        self._hold(part, through)
        self._through[part.partition] = part.high
        self._note_front(told_ms)
        return released + self._release(self._ready())

    def _begin(self, stream: str, partitions: int) -> None:
        self._stream = stream
        self._through = [0] * partitions
        self._done = 0
        self._evidence: list[pl.DataFrame] = []
        self._pulse: list[pl.DataFrame] = []
        self._ticks: dict[int, int] = {}
        self._fronts: deque[tuple[int, int]] = deque()  # when the first one passed which row
        self._overdue = 0
        self._left_behind: set[int] = set()
        self._begins = True

    def _hold(self, part: EvidencePart, through: int) -> None:
        fresh = part.evidence.filter(pl.col("row") >= through)
        if fresh.height:
            self.counters["late"] += int((fresh["row"] < self._done).sum())
            self._evidence.append(fresh)
        # The pulse is the same from all: it is needed once, from whoever comes first.
        if part.high > self._told:
            beats = part.pulse.filter(pl.col("row") >= self._told)
            if beats.height:
                self._pulse.append(beats)
            self._ticks.update(tick for tick in part.ticks if tick.row >= self._told)

    @property
    def _told(self) -> int:
        """The row up to which the pulse and the ticks are known."""
        return self.front

    def _note_front(self, told_ms: int) -> None:
        self._now_ms = max(self._now_ms, told_ms)
        if not self._fronts or self._now_ms - self._fronts[-1][1] >= _GRAIN_MS:
            self._fronts.append((self.front, self._now_ms))
        while self._fronts and self._now_ms - self._fronts[0][1] > self._straggler_ms:
            self._overdue = max(self._overdue, self._fronts.popleft()[0])

    def _ready(self) -> int:
        """The row that all have passed that are waited for."""
        if self.waiting > self._capacity:
            self._overdue = self.front
        behind = {p for p, through in enumerate(self._through) if through < self._overdue}
        self.counters["stragglers"] += len(behind - self._left_behind)
        self._left_behind = behind
        return min(through for through in self._through if through >= self._overdue)

    def _release(self, ready: int) -> list[Portion]:
        if ready <= self._done:
            return []
        evidence, self._evidence = _split(self._evidence, NO_EVIDENCE, ready)
        pulse, self._pulse = _split(self._pulse, _NO_PULSE, ready)
        evidence = in_stream_order(evidence)
        ticks = sorted(row for row in self._ticks if row < ready)
        bounds = sorted({self._done, *ticks, ready})
        portions = []
        for low, high in pairwise(bounds):
            least = 0 if low == self._done else low  # what came late comes first
            within = pl.col("row").is_between(least, high, closed="left")
            portions.append(
                Portion(
                    self._ticks.pop(low, None),
                    evidence.filter(within),
                    pulse.filter(within),
                    self._begins,
                )
            )
            self._begins = False
        self._done = ready
        return portions

    def snapshot(self) -> dict[str, Any]:
        """Everything as a value: what waits, and how far each partition is."""
        return {
            "stream": self._stream,
            "ended": list(self._ended),
            "through": list(self._through),
            "done": self._done,
            "evidence": _together(self._evidence, NO_EVIDENCE),
            "pulse": _together(self._pulse, _NO_PULSE),
            "ticks": dict(self._ticks),
            "fronts": list(self._fronts),
            "overdue": self._overdue,
            "left_behind": sorted(self._left_behind),
            "begins": self._begins,
            "now_ms": self._now_ms,
            "counters": dict(self.counters),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._stream = state["stream"]
        self._ended = deque(state["ended"], maxlen=_ENDED)
        self._through = list(state["through"])
        self._done = state["done"]
        self._evidence, self._pulse = [state["evidence"]], [state["pulse"]]
        self._ticks = dict(state["ticks"])
        self._fronts = deque((row, at_ms) for row, at_ms in state["fronts"])
        self._overdue = state["overdue"]
        self._left_behind = set(state["left_behind"])
        self._begins = state["begins"]
        self._now_ms = state["now_ms"]
        self.counters = dict(state["counters"])


def _together(frames: Sequence[pl.DataFrame], none: pl.DataFrame) -> pl.DataFrame:
    return pl.concat(frames) if frames else none


def _split(
    frames: Sequence[pl.DataFrame], none: pl.DataFrame, row: int
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """What comes before a row, and the rest."""
    whole = _together(frames, none)
    rest = whole.filter(pl.col("row") >= row)
    return whole.filter(pl.col("row") < row), [rest] if rest.height else []
