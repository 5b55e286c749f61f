"""The seam between the service and its roles: what a thread of the service drives.

A role is built, stepped until it is told to end, drained and closed, all by one thread; only its
counters and gauges are read by others. It holds what it was given and owns what it opened.

How a role fails decides what the service does:

- `step` raises `Unrecoverable`: no attempt will ever succeed, such as with a topic whose number of
  partitions was changed. The service drains the other roles and ends with its exit status.
- `step` raises anything else: the service closes the role, says what happened, waits (longer each
  time) and builds a new one, which goes on from the last snapshot and committed offset.
- What passes within seconds, such as a rebalance or one broker that restarts, a role bears itself:
  `step` returns False and is called again.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from sidelong.config import Config
from sidelong.errors import ConfigError

if TYPE_CHECKING:
    from sidelong.memory_cap import MemoryCap

__all__ = [
    "Labelled",
    "Measures",
    "Reloads",
    "Role",
    "RoleBuilder",
    "Surroundings",
    "Unrecoverable",
]

Labelled: TypeAlias = tuple[str, ...]
"""A measure with labels: its name, then the name and the value of each label in turn."""

Measures: TypeAlias = Mapping[str | Labelled, float]
"""Measures by name, such as `flows`, or with a label, such as `("lag_records", "partition", "3")`.

Which there are, and with which labels, is in measures.py; what is not there is exported nowhere.
Names that several roles share mean the same everywhere. Counters: records, flows, bytes, lost,
late, bad, duplicates, gaps, evicted, shed, incidents, snapshots, commits. Gauges: lag_records,
lag_seconds, watermark_delay_seconds, in_flight_bytes, partitions.
"""


class Unrecoverable(ConfigError):
    """What no restart of a role will cure; a person has to change something."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every role is built with.

    path: the file of `config`, for whatever reads it again. say: tells a person, in the log, what
    happened to the role. stop: set when the
    service ends; whatever waits longer than a second waits for it too. observe: takes one duration
    in seconds for the histogram of that name. memory: what the process may have; whoever reads asks
    it first.
    """

    config: Config
    say: Callable[[str], None]
    path: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    observe: Callable[[str, float], None] = lambda _name, _seconds: None
    memory: "MemoryCap | None" = None


class Role(Protocol):
    """One of collect, normalise, detect, correlate, deliver."""

    @property
    def name(self) -> str:
        """Which of them."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it can work: it reached what it reads and restored its state, or stands by."""
        ...

    def step(self, timeout: float) -> bool:
        """Do what there is to do, waiting at most `timeout` seconds for it; whether it did any.

        A step takes a few seconds at most, however much there is: between steps the service looks
        whether it is to end. Errors: see the module.
        """
        ...

    def drain(self, deadline: float) -> None:
        """Finish what was begun by `deadline` (of `time.monotonic`): output acknowledged, snapshot
        written, offset committed, group left. Afterwards only `close` is called."""
        ...

    def close(self) -> None:
        """Let go of everything, at once and without raising; also after an error, and twice."""
        ...

    def counters(self) -> Measures:
        """What only grows, since the role was built; read by other threads."""
        ...

    def gauges(self) -> Measures:
        """What goes up and down; read by other threads."""
        ...


@runtime_checkable
class Reloads(Protocol):
    """A role that reads something again when SIGHUP is sent."""

    def reload(self) -> None:
        """Do so soon; called by another thread, returns at once."""
        ...


RoleBuilder: TypeAlias = Callable[[Surroundings], Role]
"""Builds a role. May wait for a broker as long as `stop` is not set.

Errors: ConfigError for settings that cannot work; it is not tried again at the start of a service.
"""
