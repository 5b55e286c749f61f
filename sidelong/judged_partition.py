"""One partition of the stream under the detectors: stretches in, parts of the evidence out.

What comes again is known by its rows and left out, what is missing is counted. Stretches between
the same two ticks are judged together, however many there are: the detectors take as long for a
hundred rows as for ten thousand, so this is what makes a backlog go fast.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import polars as pl

from sidelong.ingest.pulse import PULSE_SCHEMA
from sidelong.models.detectors import Detectors
from sidelong.models.evidence import NO_EVIDENCE
from sidelong.models.evidence_messages import EvidencePart, Tick

__all__ = ["JudgedPartition", "StretchOfPartition"]

_MOST_ROWS: Final = 100_000  # judged at once: bounds what one call takes of memory
_NO_PULSE: Final = PULSE_SCHEMA.to_frame()


class StretchOfPartition(Protocol):
    """A stretch of the stream, as far as it belongs to one partition; see `StretchMessage`."""

    @property
    def stream(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def partitions(self) -> int: ...
    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...
    @property
    def tick_ns(self) -> int | None: ...
    @property
    def pulse(self) -> pl.DataFrame: ...
    @property
    def flows(self) -> pl.DataFrame: ...
    @property
    def at(self) -> int | None: ...


class _Piece(NamedTuple):
    """Stretches without a tick between them, and the place of the tick before the first."""

    tick: Tick | None
    flows: list[pl.DataFrame]
    pulse: list[pl.DataFrame]


class JudgedPartition:
    """The state of the detectors on one partition, and how far they are.

    build: gives new detectors, which go on from a snapshot of others.
    """

    def __init__(self, build: Callable[[], Detectors]) -> None:
        self._build = build
        self._detectors = build()
        self._evicted_before = 0  # by detectors of streams that have ended
        self.stream: str | None = None
        self.through = 0
        self.duplicates = 0
        self.gaps = 0
        self.flows = 0
        self.evidence = 0

    @property
    def evicted(self) -> int:
        """Rows forgotten for want of room."""
        return self._evicted_before + self._detectors.evicted

    def rebuild(self, build: Callable[[], Detectors]) -> None:
        """Go on with other detectors, against a newer baseline or within other bounds."""
        self._build = build
        detectors = build()
        detectors.restore(self._detectors.snapshot())
        self._detectors = detectors

    def judge(self, stretches: Iterable[StretchOfPartition]) -> list[EvidencePart]:
        """The evidence on these stretches, in the order of the partition: one part for all of them,
        or several where something is missing or another stream begins."""
        parts: list[EvidencePart] = []
        run: list[StretchOfPartition] = []
        for stretch in stretches:
            if stretch.stream != self.stream:
                parts += self._judged(run)
                run = []
                self._begin(stretch.stream)
            reached = run[-1].high if run else self.through
            if stretch.high <= reached:
                self.duplicates += 1
                continue
            if stretch.low > reached:
                parts += self._judged(run)
                run = []
                self.gaps += 1
                self.through = stretch.low
            elif stretch.low < reached:
                self.duplicates += 1
            run.append(stretch)
        return parts + self._judged(run)

    def snapshot(self) -> dict[str, Any]:
        """The state as a value."""
        return {
            "stream": self.stream,
            "through": self.through,
            "detectors": self._detectors.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.stream = state["stream"]
        self.through = state["through"]
        self._detectors.restore(state["detectors"])

    def _begin(self, stream: str) -> None:
        if self.stream is not None:
            self._evicted_before += self._detectors.evicted
            self._detectors = self._build()
        self.stream = stream
        self.through = 0

    def _judged(self, run: list[StretchOfPartition]) -> list[EvidencePart]:
        """The part that tells of stretches which follow each other."""
        if not run:
            return []
        low, pieces = self.through, self._pieces(run)
        evidence = []
        for piece in pieces:
            if piece.tick is not None:
                self._detectors.tidy(piece.tick.ns)
            flows, pulse = pl.concat(piece.flows), pl.concat(piece.pulse)
            evidence.append(self._detectors.observe(flows, pulse))
            self.flows += flows.height
        self.through = run[-1].high
        found = [rows for rows in evidence if rows.height]
        self.evidence += sum(rows.height for rows in found)
        return [
            EvidencePart(
                run[0].stream,
                run[0].partition,
                run[0].partitions,
                low,
                self.through,
                pl.concat(found) if found else NO_EVIDENCE,
                tuple(piece.tick for piece in pieces if piece.tick is not None),
                _together([beats for piece in pieces for beats in piece.pulse]),
            )
        ]

    def _pieces(self, run: list[StretchOfPartition]) -> list[_Piece]:
        pieces: list[_Piece] = []
        reached, rows = self.through, 0
        for stretch in run:
            flows, pulse, tick_ns = stretch.flows, stretch.pulse, stretch.tick_ns
            if stretch.low < reached:
                flows, pulse = (frame.filter(pl.col("row") >= reached) for frame in (flows, pulse))
                tick_ns = None  # it has passed
            tick = None if tick_ns is None else Tick(stretch.low, tick_ns)
            if tick is not None or not pieces or rows + flows.height > _MOST_ROWS:
                pieces.append(_Piece(tick, [], []))
                rows = 0
            pieces[-1].flows.append(flows)
            pieces[-1].pulse.append(pulse)
            rows += flows.height
            reached = stretch.high
        return pieces


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames) if frames else _NO_PULSE
