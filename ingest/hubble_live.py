"""Flows live from Hubble, of one agent or, through Relay, of a whole cluster.

Sources: `observer/observer.proto` of Cilium 1.19; `hubble observe` for what to ask; the sources of
Hubble and Relay for what they do with it.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Final

import grpc

from sidelong.errors import ConfigError, SidelongError, SourceError
from sidelong.ingest.hubble_channel import Target, explain
from sidelong.ingest.hubble_nodes import NodeStates
from sidelong.ingest.hubble_overlap import Overlap
from sidelong.ingest.hubble_protobuf import Decoded, HubbleDecoder
from sidelong.ingest.hubble_pump import Pump
from sidelong.ingest.hubble_request import Request
from sidelong.ingest.hubble_settings import HubbleSettings
from sidelong.ingest.hubble_status import too_early_to_follow
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import BadRows, Batch

__all__ = ["HubbleLive", "open_hubble"]

_log: Final = logging.getLogger(__name__)

_IDLE_SECONDS: Final = 0.5
_STATUS_SECONDS: Final = 0.4
_NODES_HINT: Final = "see which nodes it reaches: hubble list nodes"
_STAMP_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 0.25
_WORKED_SECONDS: Final = 2.0  # how much longer than it takes to connect
_HOPELESS: Final = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNKNOWN,
)
_HOPELESS_WORDS: Final = ("CERTIFICATE_VERIFY", "Hostname Verification", "WRONG_VERSION_NUMBER")


def open_hubble(url: str, settings: HubbleSettings | None = None) -> "HubbleLive":
    """The source at `url`, see `hubble_channel`; nothing is asked of it yet.

    Errors: ConfigError for a URL, a filter, a time or a certificate that cannot be.
    """
    return HubbleLive(Target.parse(url, settings))


class HubbleLive:
    """What Hubble sends, as long as it does; goes on by itself after every failure but the first.

    A position is the time of the newest flow, in ns since 1970. The same source goes on from one
    without loss and without doubling a flow; another source, which remembers nothing, begins right
    after it, so that what was late at that moment is left out.

    clock: ns since 1970. monotonic: seconds. pause: waits, in seconds. chance: of [0, 1).
    """

    size_bytes: int | None = None

    def __init__(
        self,
        target: Target,
        *,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._target = target
        self._settings = target.settings
        self._clock = clock
        self._monotonic = monotonic
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._chance = chance
        self._request = Request(target.settings, clock())
        target.connect().close()  # certificates that cannot be used are told at once
        self._decoder = HubbleDecoder(target.url, fast=target.settings.fast)
        self._overlap: Overlap | None = None
        self._nodes = NodeStates(monotonic)
        self._pump: Pump | None = None
        self._counts = dict.fromkeys(("received", "bad", "lost", "reconnects"), 0)
        self._messages = 0
        self._bytes = 0

    @property
    def name(self) -> str:
        """The URL, without what is set in it."""
        return self._target.url

    @property
    def target(self) -> Target:
        """For `hubble_status` and `hubble_nodes`."""
        return self._target

    def close(self) -> None:
        """Let `batches` end soon; may be called from another thread, and twice."""
        self._closed.set()
        if pump := self._pump:
            pump.wake()

    def counters(self) -> Mapping[str, int]:
        """received: flows and losses. duplicates: of them, that came twice and were left out. bad:
        messages that could not be read. lost: events that Hubble says it lost. reconnects.
        node_errors: of Relay's nodes. nodes_connected, nodes_unavailable, nodes_gone: right now.
        """
        duplicates = self._overlap.duplicates if self._overlap else 0
        return {**self._counts, "duplicates": duplicates, **self._nodes.counters()}

    def batches(self, since: int = 0) -> Generator[Batch, None, None]:
        """The flows after position `since`, as they come; at least one batch a second.

        Ends when it is closed, and where it does not follow, when all was sent. Errors: SourceError
        when Hubble cannot be reached at first, or will not answer.
        """
        if self._overlap is None:
            self._overlap = Overlap(self._monotonic, since or None)
        overlap = self._overlap
        began = self._monotonic()
        worked = False
        failures = 0
        while not self._closed.is_set():
            opened = self._monotonic()
            error: SidelongError | None = None
            hopeless = False
            try:
                pump = self._open(overlap)
            except ConfigError as problem:  # certificates, half-way through being replaced
                error = problem
            else:
                if pump is None:
                    worked, failures = True, 0
                    yield from self._wait(_IDLE_SECONDS)
                    continue
                before, received = self._messages, self._counts["received"]
                try:
                    yield from self._read(pump, overlap)
                finally:
                    pump.close()
                    self._pump = None
                lasted = self._monotonic() - opened
                stood = lasted > self._settings.connect_seconds + _WORKED_SECONDS
                worked = worked or stood or pump.whole or self._messages > before
                if stood or self._counts["received"] > received:
                    failures = 0
                if pump.whole:
                    if self._request.finite:
                        return
                    # As Relay does at once while none of its nodes can be reached.
                    error = SourceError(f"{self.name} has ended the stream", hint=_NODES_HINT)
                elif pump.error is not None and not self._closed.is_set():
                    error, hopeless = self._failed(pump.error, worked)
            if self._closed.is_set():
                return
            if error:
                seconds = self._back_off(failures)
                tried = self._monotonic() - began + seconds
                if hopeless or (not worked and tried >= self._settings.connect_seconds):
                    raise error
                _log.warning("hubble: %s; trying again", error.problem)
                yield from self._wait(seconds)
                failures += 1
            self._counts["reconnects"] += 1

    def _open(self, overlap: Overlap) -> Pump | None:
        """Call the server; None if it has too little yet to be followed."""
        settings = self._settings
        channel = self._target.connect()
        if settings.follow and too_early_to_follow(channel, _STATUS_SECONDS):
            channel.close()
            return None
        request = self._request.content(overlap.since(self._clock()))
        self._pump = Pump(
            channel,
            request,
            enough=settings.batch_rows,
            most_rows=settings.queue_rows,
            most_bytes=settings.queue_bytes,
        )
        return self._pump

    def _read(self, pump: Pump, overlap: Overlap) -> Iterator[Batch]:
        """Batches out of one call until it ends, or until it is time for another."""
        settings = self._settings
        stamp, stamped = self._target.stamp(), self._monotonic()
        yielded = self._monotonic()
        read_before = self._bytes
        while not self._closed.is_set():
            messages = pump.take(settings.batch_rows, settings.batch_milliseconds / 1_000)
            now = self._monotonic()
            if messages:
                decoded = self._decoder.decode(messages, self._messages)
                self._messages += len(messages)
                self._bytes = read_before + pump.taken_bytes
                otherwise = self._told(decoded)
                yield self._batch(decoded, overlap)
                yielded = self._monotonic()
                if otherwise:
                    return
            elif pump.exhausted:
                return
            elif now - yielded >= _IDLE_SECONDS:
                yield self._idle(overlap)
                yielded = self._monotonic()
            if self._settings.follow and self._nodes.renewal_due():
                return
            if now - stamped >= _STAMP_SECONDS:
                stamped, changed = now, self._target.stamp()
                if changed and changed != stamp:
                    _log.info("hubble: new certificates; connecting again")
                    return

    def _batch(self, decoded: Decoded, overlap: Overlap) -> Batch:
        self._counts["received"] += decoded.rows.height
        self._counts["bad"] += decoded.bad.count
        rows = overlap.take(decoded.rows)
        self._counts["lost"] += int(rows["lost"].sum())
        flows = Decoded(rows, decoded.bad, ()).flows()
        return Batch(flows, self._position(overlap), self._bytes, decoded.bad)

    def _idle(self, overlap: Overlap, bad: BadRows | None = None) -> Batch:
        return Batch(empty_flows(), self._position(overlap), self._bytes, bad or BadRows())

    def _position(self, overlap: Overlap) -> int:
        """Never in the future: one clock that is ahead would cost all others their flows."""
        return min(overlap.newest, self._clock())

    def _told(self, decoded: Decoded) -> bool:
        """Take in what Relay says of its nodes; whether to ask again in another way."""
        for status in decoded.statuses:
            self._nodes.take(status)
            if status.state == "error" and self._request.without_mask(status.why):
                return True
        return False

    def _failed(self, error: grpc.RpcError, worked: bool) -> tuple[SidelongError, bool]:
        """What to say of a call that failed, and whether to give up."""
        code, words = error.code(), error.details() or ""
        told = explain(error, self._target)
        if self._request.without_mask(words):
            return told, False
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in words:
            return told, not self._request.skip(self._clock())
        if worked:
            return told, code is grpc.StatusCode.INVALID_ARGUMENT or self._request.cannot_resume
        hopeless = code in _HOPELESS or any(each in words for each in _HOPELESS_WORDS)
        return told, hopeless

    def _back_off(self, failures: int) -> float:
        """Seconds until the next try: exponential, with jitter, so that not all come at once."""
        most: float = min(
            _FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 30), self._settings.reconnect_seconds
        )
        return most * (0.5 + self._chance() / 2)

    def _wait(self, seconds: float) -> Iterator[Batch]:
        """Wait, but never be silent for a second."""
        while seconds > 0 and not self._closed.is_set():
            piece = min(seconds, _IDLE_SECONDS)
            self._pause(piece)
            seconds -= piece
            if self._overlap is not None and not self._closed.is_set():
                yield self._idle(self._overlap)
