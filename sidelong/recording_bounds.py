"""How much a recording of a run keeps, in one place."""

from dataclasses import dataclass

__all__ = ["RecordingBounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingBounds:
    """Rows kept. What is beyond a bound goes at the next event-time tick, and is counted.

    At these defaults a recording of 3,000 incidents and 100,000 edges among 5,000 workloads took
    29 MB, and what makes it 25 MB more while it ran.
    """

    incidents: int = 10_000
    """Incidents; later ones are left out."""

    contacts: int = 100_000
    """Edges between workloads; those with the fewest events go first."""

    names: int = 20_000
    """Pairs of workload and registered domain; those with the fewest queries go first."""

    samples: int = 50
    """Flows of one incident."""

    waiting: int = 10_000
    """Flows that brought evidence which belongs to no incident yet; the oldest go first."""

    recent: int = 50_000
    """One flow a minute of each contact, for evidence that no flow of its own brought."""

    activity: int = 200_000
    """Seconds in which a workload did something, from which an incident begins to be drawn."""

    buckets: int = 240
    """Stretches of time into which an incident is divided at most."""
