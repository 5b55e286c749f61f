"""What delivery knows of one receiver, and of one message that is under way."""

import threading
from dataclasses import dataclass, field

from sidelong.alerts.breaker import Breaker
from sidelong.alerts.outbox import Taken
from sidelong.alerts.receiver import Receiver

__all__ = ["Held", "Lane", "place_of"]


@dataclass(slots=True)
class Lane:
    """One receiver and what is known of it in this process."""

    receiver: Receiver
    breaker: Breaker
    awake: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    unsettled: list[Taken] = field(default_factory=list)
    delivered: int = 0
    retried: int = 0
    dead: int = 0
    latency_seconds: float = 0.0


@dataclass(slots=True)
class Held:
    """A message under way; moments are ticks."""

    taken: Taken
    begun: float
    renewed: float


def place_of(error: BaseException) -> str:
    """Where an exception was raised, in words that hold no value; empty when it never was."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno})"
