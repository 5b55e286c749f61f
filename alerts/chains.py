"""Chains: A reaches B for the first time, and soon after B reaches C for the first time.

A benign new edge is seldom followed by another of the reached workload within half an hour, so the
pair weighs the evidence of both edges plus ln(1 / (rate x half an hour)), with the rate at which
the reached workload opens new edges anyway (Hopper, Ho et al., USENIX Security 2021, on why paths
and not edges make lateral movement). Needs several actors, so it works on edges in event-time
order.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["Chains", "Hop"]

_WITHIN_NS: Final = 1_800_000_000_000
_HOPS: Final = 4
_REMEMBERED: Final = 16  # recent new inbound edges per workload


@dataclass(frozen=True, slots=True)
class Hop:
    """The best chain that ends at `path[-1]`: when, how strong, through whom."""

    time_ns: int
    evidence: int
    path: tuple[str, ...]


class Chains:
    """The strongest chain of new edges into each workload, up to four hops.

    Bounded: 16 chains for each of `capacity` workloads reached within the last half hour.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._into: dict[str, list[Hop]] = {}

    def extend(self, actor: str, peer: str, time_ns: int, evidence: int, onward: int) -> Hop:
        """The strongest chain that the new edge actor -> peer ends, be it the edge alone.

        onward: what it adds if it continues another (micro-nats), see `Rarity`.
        """
        best = Hop(time_ns, evidence, (actor, peer))
        for hop in self._into.get(actor, []):
            timely = 0 < time_ns - hop.time_ns <= _WITHIN_NS
            if timely and len(hop.path) <= _HOPS and peer not in hop.path:
                total = hop.evidence + evidence + onward
                if total > best.evidence:
                    best = Hop(time_ns, total, (*hop.path, peer))
        into = self._into.setdefault(peer, [])
        into.append(best)
        del into[:-_REMEMBERED]
        return best

    def tidy(self, now_ns: int) -> None:
        """Forget, at an event-time tick, edges that no other can follow any more."""
        for workload, hops in list(self._into.items()):
            self._into[workload] = [hop for hop in hops if hop.time_ns >= now_ns - _WITHIN_NS]
            if not self._into[workload]:
                del self._into[workload]
        latest = sorted(self._into, key=lambda w: (self._into[w][-1].time_ns, w))
        for workload in latest[: max(0, len(latest) - self._capacity)]:
            del self._into[workload]

    def snapshot(self) -> dict[str, Any]:
        """The chains as a value."""
        return {workload: [asdict(hop) for hop in hops] for workload, hops in self._into.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._into = {
            workload: [Hop(h["time_ns"], h["evidence"], tuple(h["path"])) for h in hops]
            for workload, hops in state.items()
        }
