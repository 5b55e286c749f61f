"""The memory that a process may have, and what gives way when it is short.

Tables have bounds that fit into it (`Bounds.within`), so that only what is on its way can make it
grow. The policy, from the resident memory as the kernel counts it, without the pages of files such
as libraries, which it can take back (130 MiB or so):

- above 90 % of the cap nothing more is read until it is below 85 %. Kafka and files keep what is
  not read; a live source feels it as back-pressure.
- what a live source sends cannot wait for long. After two seconds of that, and at once above the
  whole cap, it is left out, and counted: as `shed` here, and as `lost` in the stream itself, so
  that the completeness of what is found says so.
- what reads from Kafka is let go on for a moment now and then, lest event time stand still and
  nothing ever expire; but never above the cap.
"""

import ctypes
import gc
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock
from typing import Final

import polars as pl

from sidelong.ingest.source import Batch
from sidelong.role import Labelled, Measures

__all__ = ["Gate", "MemoryCap", "give_back", "resident_bytes"]

_PAUSE_AT: Final = 0.90
_GO_ON_AT: Final = 0.85
_LOOK_SECONDS: Final = 0.05
_GIVE_BACK_SECONDS: Final = 5.0
_WAIT_SECONDS: Final = 2.0  # what a live source can be held back; its senders wait for three
_HELD_SECONDS: Final = 1.5  # after so long what reads from Kafka goes on ...
_GO_SECONDS: Final = 0.5  # ... for so long
_POLL_SECONDS: Final = 0.1
_TELL_SECONDS: Final = 30.0

_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """The memory of this process, without the pages of files; 0 where the kernel does not tell."""
    try:
        _, resident, of_files, *_ = map(int, _STATM.read_bytes().split())
        return (resident - of_files) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def give_back() -> None:
    """Return to the kernel what is free in the heap, as far as the C library can."""
    gc.collect()
    with suppress(OSError, AttributeError):  # which no other C library has
        ctypes.CDLL(None).malloc_trim(0)


class MemoryCap:
    """Watches the memory of the process against `limit_bytes`. May be used by any thread.

    It looks when it is asked, so it is to be asked before anything is read. say: tells a person.
    resident, relieve, ticks: for tests.
    """

    name = ""  # for metrics: of the process

    def __init__(
        self,
        limit_bytes: int,
        *,
        say: Callable[[str], None] = lambda _: None,
        resident: Callable[[], int] = resident_bytes,
        relieve: Callable[[], None] = give_back,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit_bytes
        self._say = say
        self._resident = resident
        self._relieve = relieve
        self._ticks = ticks
        self._lock = Lock()
        self._bytes = resident()
        self._looked = ticks()
        self._relieved = self._told = float("-inf")
        self._since: float | None = None  # when the pause began
        self._pauses = 0
        self._shed: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether the whole cap is used up."""
        self._look()
        return self._bytes >= self._limit

    @property
    def short(self) -> bool:
        """Whether intake is paused."""
        self._look()
        return self._since is not None

    @property
    def hold(self) -> bool:
        """Whether what reads from Kafka is to bring nothing now."""
        self._look()
        since = self._since
        if since is None:
            return False
        waited = (self._ticks() - since) % (_HELD_SECONDS + _GO_SECONDS)
        return waited < _HELD_SECONDS or self._bytes >= self._limit

    def gate(self, role: str) -> "Gate":
        """What the batches of one source of `role` are to pass."""
        return Gate(self, role)

    def shed(self, role: str, flows: int) -> None:
        """Count flows that were left out."""
        with self._lock:
            self._shed[role] = self._shed.get(role, 0) + flows

    def counters(self) -> Measures:
        """For metrics."""
        counters: dict[str | Labelled, float] = {"intake_pauses": self._pauses}
        counters |= {("shed", "role", role): flows for role, flows in self._shed.copy().items()}
        return counters

    def gauges(self) -> Measures:
        """For metrics."""
        short = self.short
        return {
            "memory_bytes": self._bytes,
            "memory_limit_bytes": self._limit,
            "intake_paused": float(short),
        }

    def _look(self) -> None:
        now = self._ticks()
        if now - self._looked < _LOOK_SECONDS or not self._lock.acquire(blocking=False):
            return  # just seen, or another thread is looking
        try:
            self._bytes = self._resident()
            if (
                self._bytes >= _PAUSE_AT * self._limit
                and now - self._relieved >= _GIVE_BACK_SECONDS
            ):
                self._relieved = now
                self._relieve()
                self._bytes = self._resident()
            if self._bytes < _GO_ON_AT * self._limit:
                self._since = None
            elif self._bytes >= _PAUSE_AT * self._limit and self._since is None:
                self._since = now
                self._pauses += 1
            self._looked = self._ticks()
            self._tell(now)
        finally:
            self._lock.release()

    def _tell(self, now: float) -> None:
        if self._since is not None and now - self._told >= _TELL_SECONDS:
            self._told = now
            self._say(
                f"memory is short: {self._bytes >> 20:,} of {self._limit >> 20:,} MiB"
                " (memory_megabytes) are used, and reading pauses"
            )


class Gate:
    """Lets the batches of one source pass, or not; used by the one thread that reads it."""

    def __init__(self, cap: MemoryCap, role: str) -> None:
        self._cap = cap
        self._role = role
        self._owed = 0  # flows left out that no row tells of yet
        self._late = False  # whether it has been waited for all there is to wait

    def pass_(self, batch: Batch, stop: Event, *, live: bool) -> Batch:
        """The batch once there is room for it; of a live source an empty one if there is none.

        The next row that passes says in `lost` how many were left out before it.
        """
        if batch.flows.is_empty():
            return batch
        if self._wait(stop, live):
            return self._told(batch)
        self._cap.shed(self._role, batch.flows.height)
        # Events that rows stand for are lost with them, as are those they told of.
        self._owed += int(batch.flows["count"].fill_null(1).sum())
        self._owed += int(batch.flows["lost"].fill_null(0).sum())
        return replace(batch, flows=batch.flows.clear())

    def _wait(self, stop: Event, live: bool) -> bool:
        """Whether there is room, or came to be."""
        waited = 0.0
        while self._cap.short:
            if live and (self._cap.full or self._late or waited >= _WAIT_SECONDS):
                self._late = True
                return False
            if stop.wait(_POLL_SECONDS):
                break  # at the end everything is let through: there is not much more
            waited += _POLL_SECONDS
        self._late = False
        return True

    def _told(self, batch: Batch) -> Batch:
        if not self._owed:
            return batch
        owed, self._owed = self._owed, 0
        first = pl.int_range(pl.len()) == 0
        told = pl.col("lost").fill_null(0) + pl.lit(owed, pl.UInt64)
        flows = batch.flows.with_columns(lost=pl.when(first).then(told).otherwise("lost"))
        return replace(batch, flows=flows)
