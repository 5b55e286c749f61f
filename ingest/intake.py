"""What has been received and not been taken yet: bounded in bytes, between a server and its reader.

Servers live in the thread of an event loop, readers in another. What is taken still counts until
the reader is done with it. When it is full whoever brings more waits, and with it its sender: gRPC
and TCP then hold the sender back.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

__all__ = ["Intake"]

T = TypeVar("T")

_GATHER_SECONDS: Final = 0.1
"""How long what comes is gathered: a few large batches cost much less than many small ones."""

_PAUSE_SECONDS: Final = 0.02
"""Or until nothing came for so long: then whoever sent it waits for an answer."""


class Intake(Generic[T]):
    """A queue of things with a size. `limit`: bytes; one thing alone may be larger than that."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._things: deque[tuple[T, int]] = deque()
        self._changed = threading.Condition()
        self._held = 0  # bytes, of what is queued or taken
        self._queued = 0  # bytes, of what is queued
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._waiting_bytes = 0
        self._taken = 0  # bytes, of what was taken last

    @property
    def held(self) -> int:
        """Bytes of what is queued, or taken and not done."""
        return self._held

    async def put(self, thing: T, size: int, seconds: float | None = None) -> bool:
        """Bring something, when there is room; False when there was none for `seconds`.

        With `seconds` it is False at once when as much as the queue holds waits already, or when
        nobody takes any more.
        """
        if self._waiting or not self._admit(size):
            if seconds is not None and self._waiting_bytes + size > self._limit:
                return False
            if not await self._room(size, seconds):
                return False
        with self._changed:
            self._things.append((thing, size))
            self._queued += size
            self._changed.notify()
            return not self._ended

    def take(self, seconds: float, most: int) -> Sequence[T] | None:
        """What is there, about `most` bytes of it; nothing after `seconds`; None at the end."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._things:
                if self._ended:
                    return None
                if not self._changed.wait(max(0.0, until - time.monotonic())) and (
                    time.monotonic() >= until
                ):
                    return []
            soon = time.monotonic() + _GATHER_SECONDS
            while self._queued < most and not self._waiting and not self._ended:
                left = soon - time.monotonic()
                if left <= 0 or not self._changed.wait(min(left, _PAUSE_SECONDS)):
                    break
            taken = []
            size = 0
            while self._things and size < most:
                thing, of_this = self._things.popleft()
                taken.append(thing)
                size += of_this
            self._queued -= size
            self._taken = size
            return taken

    def done(self) -> None:
        """What was taken last is done with, and lets in as much."""
        with self._changed:
            self._held -= self._taken
            self._taken = 0
        self._wake()

    def end(self) -> None:
        """Nothing more comes: a reader takes what is there and is at the end."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._wake()

    def rest(self) -> Sequence[T]:
        """What was never taken, after the end."""
        with self._changed:
            things = [thing for thing, _ in self._things]
            self._things.clear()
            return things

    def _admit(self, size: int) -> bool:
        with self._changed:
            if self._held and self._held + size > self._limit and not self._ended:
                return False
            self._held += size
            return True

    async def _room(self, size: int, seconds: float | None) -> bool:
        self._loop = asyncio.get_running_loop()
        admitted: asyncio.Future[None] = self._loop.create_future()
        self._waiting_bytes += size
        with self._changed:
            self._waiting.append((size, admitted))
            self._changed.notify()  # a reader that gathers need not wait for more
        self._let_in()  # the reader may have been done between the question and this
        try:
            await asyncio.wait_for(admitted, seconds)
            return True
        except TimeoutError:
            return False
        finally:
            self._waiting_bytes -= size

    def _wake(self) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._let_in)
            except RuntimeError:  # the loop has ended, and all who waited with it
                self._loop = None

    def _let_in(self) -> None:
        while self._waiting:
            size, admitted = self._waiting[0]
            if not admitted.done():  # else it has given up
                if not self._admit(size):
                    return
                admitted.set_result(None)
            self._waiting.popleft()
