"""What a detector can see in some flows, and what would let it see more.

A check is a small function from a `Sample` to a `Finding`, or to None where nothing is amiss. A
finding says which detectors it blinds, wholly or in part, in words that somebody who runs a
platform can act on; without effects it is a note. Each has its paragraph in docs/doctor.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, TypeAlias

import msgspec
import polars as pl

from sidelong.ingest.clock import Clock
from sidelong.ingest.normalise import NORMAL_SCHEMA, Normaliser
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.source import BadRows

__all__ = [
    "DETECTORS",
    "Check",
    "Cures",
    "Effect",
    "Finding",
    "Sample",
    "Sight",
    "named",
    "percent",
    "sight_of",
]

DETECTORS: Final = ("scan", "dns_exfiltration", "lateral_movement", "anomaly")

Effect: TypeAlias = Literal["blind", "partly"]
Measured: TypeAlias = dict[str, int | float | str | list[str]]

_SHOWN: Final = 3


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that keeps detectors from seeing.

    code: stable, for programs, and the heading in docs/doctor.md. effects: what it does to which
    detector; none for a note. observed: what is the matter. cure: what to do about it. measured:
    the numbers behind it.
    """

    code: str
    observed: str
    cure: str
    effects: dict[str, Effect] = {}
    measured: Measured = {}

    @property
    def page(self) -> str:
        """Where this is explained."""
        return f"docs/doctor.md#{self.code}"


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What one detector sees, and the codes of the findings that say why not more."""

    detector: str
    sight: Literal["sees", "partly", "blind"]
    findings: list[str]


@dataclass(frozen=True)
class Sample:
    """Flows to be judged, `FLOW_SCHEMA` in the order in which they came.

    pods: the map that names addresses, if one was given. live: whether they were taken from a
    running system, where a short time says nothing. unavailable: nodes that a Relay cannot reach.
    version: what the source says it is. counters: what a live source counts.
    """

    flows: pl.DataFrame
    pods: PodMaps | None = None
    bad: BadRows = field(default_factory=BadRows)
    live: bool = False
    unavailable: Sequence[str] = ()
    version: str | None = None
    counters: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def seen(self) -> pl.DataFrame:
        """The rows that are flows, without those that only report a loss."""
        return self.flows.filter(pl.col("src_ip").is_not_null() | pl.col("lost").is_null())

    @cached_property
    def normal(self) -> pl.DataFrame:
        """The flows as detectors get them: named, oriented, each event once."""
        normaliser = Normaliser(self.pods)
        pieces = []
        for piece, tick_ns in Clock().cut(self.seen):
            if tick_ns is not None:
                normaliser.tidy(tick_ns)
            pieces.append(normaliser.normalise(piece))
        return pl.concat(pieces) if pieces else NORMAL_SCHEMA.to_frame()

    @cached_property
    def kinds(self) -> list[str]:
        """The kinds of source, the most frequent first: `hubble`, `pcap`, `envoy`, ..."""
        kind = pl.col("origin").fill_null("").str.extract(r"^([^:]*)")
        counted = self.seen.group_by(kind.alias("kind")).len().sort("len", "kind", descending=True)
        return [one for one in counted["kind"].to_list() if one]


Check: TypeAlias = Callable[[Sample], Finding | None]


class Cures:
    """One cure for each kind of source, and one for all others."""

    def __init__(self, otherwise: str, **by_kind: str) -> None:
        self._otherwise = otherwise
        self._by_kind = by_kind

    def of(self, sample: Sample) -> str:
        """The cures of the kinds in the sample, each once."""
        cures = [self._by_kind.get(kind, self._otherwise) for kind in sample.kinds]
        return "; ".join(dict.fromkeys(cures or [self._otherwise]))


def sight_of(findings: Sequence[Finding]) -> list[Sight]:
    """What each detector sees, given all findings: the worst of their effects counts."""
    return [_sight(detector, findings) for detector in DETECTORS]


def _sight(detector: str, findings: Sequence[Finding]) -> Sight:
    about = [finding for finding in findings if detector in finding.effects]
    effects = {finding.effects[detector] for finding in about}
    return Sight(
        detector=detector,
        sight="blind" if "blind" in effects else "partly" if effects else "sees",
        findings=[finding.code for finding in about],
    )


def percent(part: int, whole: int) -> float:
    """A share as it is told: one decimal, above 0 for anything, below 100 for less than all.

    >>> percent(1, 9_999), percent(9_998, 9_999), percent(1, 2), percent(3, 3)
    (0.1, 99.9, 50.0, 100.0)
    """
    if not part or part == whole:
        return 100.0 if part else 0.0
    return min(max(round(100 * part / whole, 1), 0.1), 99.9)


def named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> named(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
