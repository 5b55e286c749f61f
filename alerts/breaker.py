"""A circuit breaker: whoever fails again and again is left alone, then asked with one message."""

import random
import threading
from collections.abc import Callable
from typing import Final, Literal

from sidelong.alerts.delivery_settings import DeliverySettings

__all__ = ["Breaker", "Leave", "pause"]

Leave = Literal["go", "probe"]

_HALF: Final = 0.5


def pause(first: float, longest: float, failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures, at least 1: doubled with each, and scattered.

    `jitter` in [0, 1) is random, so that the messages of many workers do not return all at once.
    """
    # Exponents that large would overflow long after the bound has been met.
    whole = min(longest, first * 2.0 ** min(failures - 1, 64))
    return whole * (_HALF + _HALF * jitter)


class Breaker:
    """Of one receiver, shared by the threads that serve it.

    After `breaker_failures` failures in a row it is open: nothing is sent. When the pause has
    passed, one message is let through, and its fate closes the breaker or opens it for longer.
    """

    def __init__(
        self, settings: DeliverySettings, jitter: Callable[[], float] = random.random
    ) -> None:
        self._settings = settings
        self._jitter = jitter
        self._lock = threading.Lock()
        self._failures = 0
        self._openings = 0
        self._until = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether the receiver is taken for dead."""
        return self._openings > 0

    def leave(self, now: float) -> Leave | None:
        """Whether a message may be sent now; whoever gets leave reports what became of it."""
        with self._lock:
            if self._probing or self._until - now > 0:
                return None
            if not self.open:
                return "go"
            self._probing = True
            return "probe"

    def unused(self, leave: Leave) -> None:
        """There was nothing to send, or it never reached the receiver."""
        with self._lock:
            self._end(leave)

    def answered(self, leave: Leave) -> bool:
        """The receiver lives; returns whether it was taken for dead."""
        with self._lock:
            self._end(leave)
            was_open = self.open
            self._failures = self._openings = 0
            return was_open

    def failed(self, leave: Leave, now: float, retry_after: float | None = None) -> bool:
        """It failed, and may have asked to be left alone; returns whether that opened the breaker.

        What was under way when the breaker opened does not open it further.
        """
        with self._lock:
            self._end(leave)
            was_open = self.open
            self._failures += 1
            if leave == "probe" or (
                not was_open and self._failures >= self._settings.breaker_failures
            ):
                self._openings += 1
                first, longest = (
                    self._settings.breaker_seconds,
                    self._settings.longest_breaker_seconds,
                )
                self._until = now + pause(first, longest, self._openings, self._jitter())
            if retry_after is not None:
                self._until = max(self._until, now + retry_after)
            return self.open and not was_open

    def _end(self, leave: Leave) -> None:
        if leave == "probe":
            self._probing = False
