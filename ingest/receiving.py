"""Sources that listen: a server in a thread of its own, and the reader who takes what it got.

What was received is decoded in the reader's thread, many messages at once, and counts as handed
over when the reader comes for the next batch. Where senders wait for an answer they get it then,
not before: what a reader that fails has not dealt with is sent again. A sender that does not hear
in time sends again what may have arrived, so such a source gives everything at least once.
"""

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Generic, Protocol, TypeVar

from sidelong.errors import SidelongError, SourceError
from sidelong.ingest.intake import Intake
from sidelong.ingest.line_files import SAMPLES, Decoded
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import BadRows, Batch

__all__ = ["Receiver", "Server", "Takes"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_IDLE_SECONDS: Final = 0.5
_BATCH_BYTES: Final = 4 << 20
_END_SECONDS: Final = 10


class Server(Protocol):
    """What runs on the event loop."""

    async def start(self) -> int:
        """Listen; the port."""
        ...

    async def stop(self) -> None:
        """Take what is on its way, within the time that is set, and end."""
        ...


class Takes(Protocol[T_contra]):
    """What becomes of received things, in the reader's thread."""

    def decode(self, things: Sequence[T_contra], /) -> tuple[Decoded, int]:
        """Their flows, with faults numbered by the things; and how many bytes they were."""
        ...

    def done(self, things: Sequence[T_contra], /) -> None:
        """They were handed over."""
        ...

    def lost(self, things: Sequence[T_contra], /) -> None:
        """They never will be: the reader is gone."""
        ...


class Receiver(Generic[T]):
    """A live source that listens at `name`, a URL. A position is a number of flows.

    The server starts with `listen`, or with the first batch that is asked for.
    """

    size_bytes = None

    def __init__(
        self,
        name: str,
        server: Server,
        intake: Intake[T],
        takes: Takes[T],
        counts: dict[str, int],
    ) -> None:
        self.name = name
        self._server = server
        self._intake = intake
        self._takes = takes
        self._counts = counts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: SidelongError | None = None
        self._closed = False
        self._port = 0

    def listen(self) -> int:
        """Start to listen, unless it does already; the port.

        Errors: SourceError when the address cannot be had.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self.name, daemon=True)
            self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        return self._port

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows of what comes in; what came before cannot be had again, whatever `since` is.

        Errors: SourceError when the address cannot be had, or the server has failed.
        """
        position, read = since, 0
        self.listen()
        try:
            while (things := self._intake.take(_IDLE_SECONDS, _BATCH_BYTES)) is not None:
                if not things:
                    yield Batch(empty_flows(), position, read)
                    continue
                handed = False
                try:
                    decoded, size = self._takes.decode(things)
                    position, read = position + decoded.flows.height, read + size
                    yield Batch(decoded.flows, position, read, self._bad(decoded))
                    handed = True
                finally:
                    (self._takes.done if handed else self._takes.lost)(things)
                    self._intake.done()
            if self._failure is not None:
                raise self._failure
        finally:
            self._intake.end()
            self._takes.lost(self._intake.rest())
            self.close()
            if self._thread is not None:
                self._thread.join(_END_SECONDS)

    def close(self) -> None:
        """Take no new senders, take what is on its way, and end."""
        self._closed = True
        if self._loop is not None and self._stopping is not None:
            with suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)
        elif self._thread is None:
            self._intake.end()

    def counters(self) -> Mapping[str, int]:
        """See the source: received, bad, refused, ...; `queued_bytes` is what waits."""
        return {**self._counts, "queued_bytes": self._intake.held}

    def _bad(self, decoded: Decoded) -> BadRows:
        self._counts["bad"] += decoded.bad
        samples = (f"{self.name}: {why}" for _, why in decoded.faults[:SAMPLES])
        return BadRows(decoded.bad, tuple(samples))

    def _serve(self) -> None:
        try:
            asyncio.run(self._run())
        except SidelongError as error:
            self._failure = error
        except Exception as error:  # of the loop or of gRPC: never silently
            self._failure = SourceError(
                f"{self.name} stopped: {type(error).__name__}: {error}",
                hint="start it again; what its senders keep comes then",
            )
        finally:
            self._intake.end()
            self._started.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_unless_harmless)
        self._stopping = asyncio.Event()
        if self._closed:
            return
        self._port = await self._server.start()
        self._started.set()
        if self._closed:  # before there was an event to set
            self._stopping.set()
        await self._stopping.wait()
        await self._server.stop()


def _unless_harmless(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    # gRPC wakes every loop of a process for each event of any; all but one find nothing to read.
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)
