"""What every part that remembers has in common: the second and third law as an interface."""

from typing import Any, Protocol

__all__ = ["Counted", "Stateful"]


class Stateful(Protocol):
    """A part whose memory is a value, bounded, and tidied at event-time ticks only."""

    def tidy(self, now_ns: int) -> None:
        """Expire what is old at `now_ns` and evict what is beyond the bound."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """The state, without a reference into it."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly from a snapshot."""
        ...


class Counted(Stateful, Protocol):
    """A part that also says how much it had to drop."""

    @property
    def evicted(self) -> int:
        """What was dropped because there was too much at once."""
        ...
