"""Policies of all kinds as rules of one: these workloads may, or may not, talk to those there.

Only what concerns two workloads is taken over. What a policy says of the outside makes no rule, but
it still isolates whom it selects.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from sidelong.declared_objects import Workload
from sidelong.declared_selectors import Mask, Population

__all__ = [
    "ANY_PORT",
    "DIRECTIONS",
    "Direction",
    "Layer",
    "Rule",
    "Selection",
    "Span",
    "named_port",
    "spans",
]

Direction = Literal["ingress", "egress"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")
Layer = Literal["kubernetes", "cilium", "istio"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Ports from `low` to `high` of a protocol, TCP or UDP."""

    protocol: str
    low: int
    high: int


ANY_PORT: Final = (Span("TCP", 0, 65_535), Span("UDP", 0, 65_535))


@dataclass(frozen=True, slots=True)
class Selection:
    """A policy selects `subjects`: in this direction they may only do what rules allow."""

    layer: Layer
    direction: Direction
    subjects: Mask


@dataclass(frozen=True, slots=True)
class Rule:
    """The subjects may, or with `denies` may not, talk to `fars`; on ports of whoever is called."""

    layer: Layer
    direction: Direction
    subjects: Mask
    fars: Mask
    ports: tuple[Span, ...]
    denies: bool = False


def spans(protocol: Any, low: int, high: int) -> tuple[Span, ...]:
    """Ports of a protocol, or of both for ANY and none; empty for one that is neither."""
    asked = str(protocol or "ANY").upper()
    chosen = ("TCP", "UDP") if asked == "ANY" else (asked,)
    return tuple(Span(one, low, high) for one in chosen if one in ("TCP", "UDP"))


def named_port(name: str, called: Mask, people: Population) -> Iterable[int]:
    """The numbers that a port's name stands for among those who are called."""
    serving: list[Workload] = [
        one for one, there in zip(people.workloads, called, strict=True) if there
    ]
    return sorted({port.number for one in serving for port in one.ports if port.name == name})
