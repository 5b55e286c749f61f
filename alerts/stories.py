"""Stories: incidents of one intrusion, tied together by who did it and where it went next.

An incident belongs to a story in which its actor took part or was reached, or the domain that its
data goes to was used, within the last hour. So does one that begins in a namespace, or reaches into
one, that a story touched within the last ten minutes: where a cluster has an alarm a day, that two
strangers meet there by chance happens once in 144.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sidelong.alerts.incident import Kind

__all__ = ["Part", "Stories"]

_MEMORY_NS: Final = 3_600_000_000_000
_NEARBY_NS: Final = 600_000_000_000
_SHARED: Final = ("kube-system",)  # everybody's business brings everybody there


class Part(NamedTuple):
    """An incident's place: its story, and the kinds of incident that came before it there."""

    story: str
    before: frozenset[Kind]


class Stories:
    """Which story a workload, a domain or a namespace is part of.

    Bounded: `capacity` of them, forgotten an hour after the last incident that touched them.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._of: dict[str, tuple[str, int]] = {}
        self._kinds: dict[str, frozenset[Kind]] = {}

    def begin(
        self,
        id: str,
        kind: Kind,
        actor: str,
        *,
        reached: Sequence[str] = (),
        domains: Sequence[str] = (),
        now_ns: int,
    ) -> Part:
        """The place of an incident that opens; what it touches is part of its story from now on.

        A story is called by the id of its first incident.
        """
        known = [actor, *(f"domain {domain}" for domain in domains)]
        nearby = [f"namespace {namespace}" for namespace in _namespaces([actor, *reached])]
        story = self._first(known, now_ns - _MEMORY_NS) or self._first(nearby, now_ns - _NEARBY_NS)
        story = story or id
        before: frozenset[Kind] = self._kinds.get(story, frozenset())
        self._kinds[story] = before.union((kind,))
        for touched in (*known, *reached, *nearby):
            self.touch(touched, story, now_ns)
        return Part(story, before)

    def touch(self, name: str, story: str, now_ns: int) -> None:
        """Note that an incident of `story` touched a workload."""
        self._of.pop(name, None)
        self._of[name] = (story, now_ns)

    def tidy(self, now_ns: int) -> None:
        """Forget at an event-time tick."""
        alive = [(name, e) for name, e in self._of.items() if e[1] >= now_ns - _MEMORY_NS]
        alive.sort(key=lambda one: (one[1][1], one[0]))
        self._of = dict(alive[-self._capacity :])
        told = {story for story, _ in self._of.values()}
        self._kinds = {story: kinds for story, kinds in self._kinds.items() if story in told}

    def snapshot(self) -> dict[str, Any]:
        """The stories as a value."""
        return {"of": dict(self._of), "kinds": dict(self._kinds)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._of = dict(state["of"])
        self._kinds = dict(state["kinds"])

    def _first(self, names: Iterable[str], since_ns: int) -> str | None:
        found = (self._of[name] for name in names if name in self._of)
        return next((story for story, seen_ns in found if seen_ns >= since_ns), None)


def _namespaces(names: Iterable[str]) -> list[str]:
    """Those of the workloads among `names`, each once, in their order."""
    split = (name.partition("/") for name in names if not name.startswith("world:"))
    inside = (namespace for namespace, slash, _ in split if slash and namespace not in _SHARED)
    return list(dict.fromkeys(inside))
