"""How much is remembered: the bound of every table, in one place.

At these defaults a flood of all kinds at once stays below 400 MiB. What is beyond a bound goes at
the next event-time tick, the longest unused first, and is counted as evicted.
"""

from dataclasses import dataclass, fields, replace

__all__ = ["Bounds"]


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

    ledger: int = 100_000
    """Rows of evidence that belong to no incident yet."""

    incidents: int = 10_000
    """Open incidents."""

    workloads: int = 50_000
    """Workloads that are part of a story or end a chain."""

    def scaled(self, share: float) -> "Bounds":
        """So much of each, for a part of a stream or for less memory; at least one row."""
        counts = {one.name: max(1, int(getattr(self, one.name) * share)) for one in fields(self)}
        return replace(self, **counts)
