"""Stories: incidents of one intrusion, tied together by who did it and where it went next."""

from typing import Any, Final

__all__ = ["Stories"]

_MEMORY_NS: Final = 3_600_000_000_000


class Stories:
    """Which story a workload is part of: as an actor, or as one that an intruder has reached.

    Bounded: `capacity` workloads, forgotten an hour after the last incident that touched them.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._of: dict[str, tuple[str, int]] = {}

    def of(self, workload: str) -> str | None:
        """The story that the workload is part of, if any."""
        entry = self._of.get(workload)
        return entry[0] if entry else None

    def touch(self, workload: str, story: str, now_ns: int) -> None:
        """Note that an incident of `story` touched the workload."""
        self._of.pop(workload, None)
        self._of[workload] = (story, now_ns)

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick."""
        alive = [(w, e) for w, e in self._of.items() if e[1] >= now_ns - _MEMORY_NS]
        alive.sort(key=lambda one: (one[1][1], one[0]))
        self._of = dict(alive[-self._capacity :])

    def snapshot(self) -> dict[str, Any]:
        """The stories as a value."""
        return dict(self._of)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._of = dict(state)
