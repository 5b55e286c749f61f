"""How much is remembered: the bound of every table, in one place.

At these defaults a flood of a million new pairs a minute stays below 1,300 MiB (300 MiB of tables,
the rest what large batches need and the allocator keeps). What is beyond a bound goes at the next
event-time tick, the longest unused first, and is counted as evicted.
"""

from dataclasses import dataclass, fields
from typing import Final

__all__ = ["Bounds"]

# As measured, with what a batch at hand needs: a process that remembers nothing yet, and what the
# defaults come to when every table is full.
_ITSELF_MEGABYTES: Final = 200
_FULL_MEGABYTES: Final = 1_100


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Rows kept. The time each is kept for is that of its meaning, stated where it is used."""

    contacts: int = 1_000_000
    """First contacts of the last 24 hours."""

    waiting: int = 200_000
    """Attempts that wait for their second to pass."""

    edges: int = 500_000
    """Edges used within 30 days."""

    names: int = 1_000_000
    """DNS names of the last week."""

    sums: int = 200_000
    """One-sided sums, of each statistic."""

    tried: int = 500_000
    """Paths and service names of the last 24 hours."""

    windows: int = 200_000
    """Edges, and as many pairs of pod and domain, in windows that are open."""

    beginnings: int = 500_000
    """Moments of the last hour at which something began, of edges and as many of lookups."""

    ledger: int = 100_000
    """Rows of evidence that belong to no incident yet."""

    incidents: int = 10_000
    """Open incidents."""

    workloads: int = 50_000
    """Workloads that are part of a story or end a chain."""

    @classmethod
    def within(cls, megabytes: float, parts: int = 1) -> "Bounds":
        """Bounds for a process that may have so much memory, for each of `parts` equal parts of a
        stream; at least a hundredth of the defaults each, and at most four times as much."""
        share = (megabytes - _ITSELF_MEGABYTES) / _FULL_MEGABYTES / parts
        share = min(4.0, max(0.01, share))
        full = cls()
        counts = {one.name: int(getattr(full, one.name) * share) for one in fields(cls)}
        return cls(**counts)
