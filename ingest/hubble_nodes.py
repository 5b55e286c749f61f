"""The nodes behind Relay: which of them are heard, and when to ask again for one that failed."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from sidelong.ingest.hubble_channel import shown
from sidelong.ingest.hubble_messages import NodeStatus

__all__ = ["NodeStates"]

_log: Final = logging.getLogger(__name__)

_MOST_NODES: Final = 10_000
_FIRST_RENEWAL_SECONDS: Final = 15.0
_LAST_RENEWAL_SECONDS: Final = 600.0
_NAMED: Final = 5


class NodeStates:
    """What Relay says of its nodes. monotonic: seconds.

    Some versions of Relay never ask a node again that failed once during a request. A new request
    is then due: 15 s after the failure, and each time after twice as long, up to ten minutes.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._states: dict[str, str] = {}
        self._errors = 0
        self._due: float | None = None
        self._after = _FIRST_RENEWAL_SECONDS
        self._renewed = -_LAST_RENEWAL_SECONDS

    def take(self, status: NodeStatus) -> None:
        """Note one message of Relay, and tell the log."""
        for node in status.nodes:
            if node in self._states or len(self._states) < _MOST_NODES:
                self._states[node] = status.state
        named = ", ".join(shown(node) for node in status.nodes[:_NAMED])
        more = f" and {len(status.nodes) - _NAMED} more" if len(status.nodes) > _NAMED else ""
        good = status.state == "connected"
        _log.log(
            logging.INFO if good else logging.WARNING,
            "hubble: nodes %s: %s%s%s",
            status.state,
            named,
            more,
            f": {shown(status.why)}" if status.why else "",
        )
        if status.state == "error":
            self._errors += len(status.nodes) or 1
            if self._due is None:
                self._due = self._monotonic() + self._after

    def renewal_due(self) -> bool:
        """Whether to ask all anew now; tells so once for each failure."""
        now = self._monotonic()
        if self._due is None or now < self._due:
            return False
        quiet = now - self._renewed > 2 * _LAST_RENEWAL_SECONDS
        after = _FIRST_RENEWAL_SECONDS if quiet else self._after
        self._after = min(2 * after, _LAST_RENEWAL_SECONDS)
        self._due, self._renewed = None, now
        return True

    def counters(self) -> Mapping[str, int]:
        """How many nodes are in which state, and how many failures there were."""
        states = Counter(self._states.values())
        heard = {f"nodes_{name}": states[name] for name in ("connected", "unavailable", "gone")}
        return {**heard, "node_errors": self._errors}
