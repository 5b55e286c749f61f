"""One call of GetFlows, read in a thread of its own into a bounded queue.

While the queue is full nothing is taken from gRPC, whose flow control then stops the server; that
counts what it has to drop, and says so.
"""

import threading
from collections import deque
from typing import Final

import grpc

__all__ = ["METHOD", "Pump"]

METHOD: Final = "/observer.Observer/GetFlows"

_FULL_SECONDS: Final = 0.2
_STEP_BYTES: Final = 256 << 10
_LAST_SECONDS: Final = 5.0


class Pump:
    """The messages of one call as they came, serialized. Close it, which closes the channel too.

    enough: at how many waiting messages `take` should not wait any longer. most_rows, most_bytes:
    how much may wait, and one message or 256 KiB over. `taken_bytes` counts what was taken.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        request: bytes,
        *,
        enough: int,
        most_rows: int,
        most_bytes: int,
    ) -> None:
        self._channel = channel
        self._enough = enough
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._waiting: deque[bytes] = deque()  # one thread appends, one takes: no lock
        self.taken_bytes = 0
        self._room = threading.Event()
        self._news = threading.Event()
        self._closed = False
        self._received_bytes = 0
        self.ended = False
        self._complete = False
        self.error: grpc.RpcError | None = None
        method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
        self._call = method(request)
        self._thread = threading.Thread(target=self._receive, name="hubble-receive", daemon=True)
        self._thread.start()

    def take(self, most: int, seconds: float) -> list[bytes]:
        """Up to `most` messages; waits until there are enough, the call ends or time is up."""
        if len(self._waiting) < self._enough and not self.ended:
            self._news.wait(seconds)
        self._news.clear()
        pop = self._waiting.popleft
        messages = [pop() for _ in range(min(most, len(self._waiting)))]
        self.taken_bytes += sum(map(len, messages))
        self._room.set()
        if self.ended:  # nothing comes any more that would say so
            self._news.set()
        return messages

    @property
    def exhausted(self) -> bool:
        """Whether the call has ended and all of it was taken."""
        return self.ended and not self._waiting

    @property
    def whole(self) -> bool:
        """Whether the server sent all that it had to, and all of it was taken."""
        return self._complete and not self._waiting

    def wake(self) -> None:
        """Let a `take` that waits return."""
        self._news.set()

    def close(self) -> None:
        """End the call and forget what waits. May be called twice."""
        self._closed = True
        self._call.cancel()
        self._room.set()
        self._news.set()
        self._thread.join(_LAST_SECONDS)
        self._channel.close()

    def _receive(self) -> None:
        append, waiting = self._waiting.append, self._waiting
        enough, most_rows = self._enough, self._most_rows
        fresh = 0
        try:
            for message in self._call:
                append(message)
                fresh += len(message)
                waits = len(waiting)
                if waits == enough or waits >= most_rows or fresh >= _STEP_BYTES:
                    self._received_bytes += fresh
                    fresh = 0
                    self._account()
            self._complete = True
        except grpc.RpcError as error:
            if not self._closed:  # else it is we who ended the call
                self.error = error
        finally:
            self.ended = True
            self._news.set()

    def _account(self) -> None:
        waits = len(self._waiting)
        if waits >= self._enough and not self._news.is_set():
            self._news.set()
        if self._full():
            self._wait_for_room()

    def _full(self) -> bool:
        waits = self._received_bytes - self.taken_bytes
        return len(self._waiting) >= self._most_rows or waits >= self._most_bytes

    def _wait_for_room(self) -> None:
        self._news.set()
        while self._full() and not self._closed:
            self._room.clear()
            self._room.wait(_FULL_SECONDS)
