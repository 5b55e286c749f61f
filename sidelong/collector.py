"""The work of `sidelong collect`: read sources, hold what they give, write it together with how
far they have come.

Nothing is told to be collected before it is written. What was received and not written yet is
held in memory, within bounds; when there is no room to write, nothing more is read, and the
sources feel it.
"""

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Final, Protocol, TypeAlias

import msgspec
import polars as pl

from sidelong.collect_settings import CollectSettings
from sidelong.collected import Collected
from sidelong.errors import ConfigError
from sidelong.ingest.flow_folder import HeldFlows, NoRoom, SourceState, Written
from sidelong.ingest.known_rows import KnownRows
from sidelong.ingest.source import Batch, Source
from sidelong.ingest.topic_address import is_topic
from sidelong.memory_cap import Gate
from sidelong.tally import Tally
from sidelong.terminal import plural

__all__ = ["CollectSettings", "Collector", "Feed", "Sink"]

_POLL_SECONDS: Final = 0.2
_ROOM_SECONDS: Final = 1.0
_FILES_END_SECONDS: Final = 1.0  # a file can be read again, so its reader is not waited for


class Sink(Protocol):
    """Where flows go: a `FlowFolder`, or anything that takes flows and positions as one."""

    def commit(
        self, held: HeldFlows, sources: Mapping[str, SourceState], *, reserve: bool = True
    ) -> list[Written]:
        """Write all or nothing. Errors: NoRoom for what may pass, OSError for what will not."""
        ...

    def prune(self, keep: timedelta, now: datetime) -> int:
        """Delete what is older than that."""
        ...


@dataclass(slots=True)
class Feed:
    """A source to be read from `state` on.

    key: its name in what is kept of its position. close: ends a live source; None for a file.
    known: what it may give again. resumable: whether its position is worth keeping.
    """

    key: str
    source: Source
    state: SourceState = SourceState()  # noqa: RUF009, a frozen value
    close: Callable[[], None] | None = None
    known: KnownRows | None = None
    resumable: bool = True

    @property
    def waits(self) -> bool:
        """Whether what is not read of it stays where it is, as in a file or a topic."""
        return self.close is None or is_topic(self.key)


class Collector:
    """Reads `lanes`, each in a thread of its own and its feeds one after the other, into a sink.

    say: tells the person at the keyboard what cannot wait for the end. now: seconds, for ages.
    gate: makes what the batches of a lane pass before they are held.
    """

    def __init__(
        self,
        lanes: Sequence[Sequence[Feed]],
        sink: Sink,
        settings: CollectSettings,
        *,
        keep: timedelta | None = None,
        say: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
        gate: Callable[[], Gate] | None = None,
    ) -> None:
        self._feeds = [feed for lane in lanes for feed in lane]
        self._sink = sink
        self._settings = settings
        self._keep = keep
        self._say = say
        self._now = now
        self._queue: queue.Queue[_Item] = queue.Queue(maxsize=len(lanes) + 1)
        self._ending, self._over = Event(), Event()
        self._readers = [
            _Reader(lane, self._queue, self._ending, self._over, gate() if gate else None)
            for lane in lanes
        ]
        self._held: dict[str, list[pl.DataFrame]] = {}
        self._held_rows = self._held_bytes = 0
        self._read_before = 0
        self._states: dict[str, SourceState] = {}
        self._since: float | None = None  # when the oldest thing that is not written came
        self.tally = Tally()
        self.written = Collected()
        self.pruned = 0

    @property
    def repeated(self) -> int:
        """Flows that were told again after a restart, and left out."""
        return sum(feed.known.dropped for feed in self._feeds if feed.known)

    @property
    def held(self) -> int:
        """Flows received and not written yet."""
        return self._held_rows

    def run(
        self,
        stop: Event,
        *,
        seconds: float | None = None,
        most_flows: int | None = None,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        """Collect until every source has ended, or `stop` is set, `seconds` have passed or
        `most_flows` have come; then write all that is held. `step` is called time and again.

        Errors: what a source raises, once what came before is written; OSError, or ConfigError
        when there is no room at the end; then the sources are to be collected from where the
        written flows end.
        """
        begun = self._now()
        failed: BaseException | None = None
        for reader in self._readers:
            reader.start()
        try:
            while not stop.is_set() and any(reader.reading for reader in self._readers):
                failed = self._take()
                if failed or (most_flows is not None and self.tally.flows >= most_flows):
                    break
                if seconds is not None and self._now() - begun >= seconds:
                    break
                if self._due():
                    self._write_or_wait(stop)
                step()
            deadline = time.monotonic() + self._settings.stop_seconds
            failed = self._drain(deadline) or failed
            self._finish(deadline, stop)
        finally:
            self._over.set()
            self._close()
        if failed:
            raise failed

    def _take(self) -> BaseException | None:
        """Hold the next batch, if one comes soon; what a source raised is returned."""
        try:
            feed, what = self._queue.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return None
        if isinstance(what, BaseException):
            return what
        if what is None:
            self._read_before += feed.source.size_bytes or 0
            return None
        self._hold(feed, what)
        return None

    def _hold(self, feed: Feed, batch: Batch) -> None:
        state = self._states.get(feed.key, feed.state)
        flows = feed.known.drop(batch.flows) if feed.known else batch.flows
        self.tally.add(replace(batch, flows=flows, read_bytes=self._read_before + batch.read_bytes))
        newest = state.newest_ns
        if flows.height:
            self._held.setdefault(feed.key, []).append(flows)
            self._held_rows += flows.height
            self._held_bytes += int(flows.estimated_size())
            latest = flows["time"].to_physical().max()
            if isinstance(latest, int):
                # A time ahead of all clocks must not hide what comes after it.
                newest = max(newest or 0, min(latest, time.time_ns()))
        at = msgspec.structs.replace(state, position=batch.position, newest_ns=newest)
        self._note(feed, at)

    def _note(self, feed: Feed, state: SourceState) -> None:
        changed = state != self._states.get(feed.key, feed.state)
        if feed.resumable and changed:
            self._states[feed.key] = state
        if (changed or self._held_rows) and self._since is None:
            self._since = self._now()

    def _due(self) -> bool:
        settings = self._settings
        return self._since is not None and (
            self._held_rows >= settings.rotate_rows
            or self._held_bytes >= settings.rotate_megabytes << 20
            or self._now() - self._since >= settings.rotate_seconds
        )

    def _write(self, *, reserve: bool = True) -> None:
        if self._since is None:
            return
        # Looked at before and cleared after: whatever is raised here, nothing is forgotten.
        self.written.add(self._sink.commit(self._held, self._states, reserve=reserve))
        self._held, self._held_rows, self._held_bytes, self._since = {}, 0, 0, None
        if self._keep is not None:
            self.pruned += self._sink.prune(self._keep, datetime.now(UTC))

    def _write_or_wait(self, stop: Event) -> None:
        """Write what is held; without room, do not go on before there is, or before `stop`."""
        told = False
        while True:
            try:
                self._write()
            except NoRoom as full:
                if not told:
                    self._say(f"{self._shortage(full)}; holding them, and reading no further")
                told = True
                if stop.wait(_ROOM_SECONDS):
                    return
            else:
                if told:
                    self._say("they are written: reading on")
                return

    def _shortage(self, full: NoRoom) -> str:
        if full.why:
            return f"{plural(self._held_rows, 'flow')} cannot be written: {full.why}"
        left = "the disk is full" if full.free is None else f"{full.free >> 20:,} MiB are free"
        floor = f"{self._settings.free_megabytes:,} MiB are to stay free"
        return f"no room for {plural(self._held_rows, 'flow')}: {left}, {floor}"

    def _drain(self, deadline: float) -> BaseException | None:
        """Let the sources end, and hold what they still give."""
        live = [reader for reader in self._readers if reader.live]
        self._ending.set()
        # In threads: a source may take its time to close.
        for feed in self._feeds:
            if feed.close:
                Thread(target=feed.close, daemon=True).start()
        failed: BaseException | None = None
        files_end = time.monotonic() + _FILES_END_SECONDS
        while time.monotonic() < deadline:
            awaited = self._readers if time.monotonic() < files_end else live
            # In this order: a reader puts its last batch before it is done.
            done = not any(reader.reading for reader in awaited)
            if done and self._queue.empty():
                break
            failed = self._take() or failed
            if self._due():
                with suppress(NoRoom):  # which the end will come back to
                    self._write()
        return failed

    def _finish(self, deadline: float, stop: Event) -> None:
        """Write the rest. The reserve is there for this; only a stop makes it give up."""
        if not stop.is_set():
            self._write_or_wait(stop)
        while True:
            try:
                return self._write(reserve=False)
            except NoRoom as full:
                if time.monotonic() >= deadline:
                    raise ConfigError(
                        f"{plural(self._held_rows, 'flow')} could not be written: "
                        f"{full.why or f'{full} and the disk is full'}",
                        hint="cure that, then collect again: it goes on where what is written ends",
                    ) from full
                time.sleep(_POLL_SECONDS)

    def _close(self) -> None:
        for feed in self._feeds:
            if feed.close:
                with suppress(Exception):
                    feed.close()


_Item: TypeAlias = tuple[Feed, Batch | BaseException | None]


class _Reader(Thread):
    """Puts the batches of its feeds, in turn, into the queue; a None where a feed ends.

    Once `ending` is set a file is left at the next batch, and a live source is read to its end.
    Once it is `over` nobody takes anything any more.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        out: "queue.Queue[_Item]",
        ending: Event,
        over: Event,
        gate: Gate | None,
    ) -> None:
        super().__init__(daemon=True, name="collect")
        self._feeds = feeds
        self._out = out
        self._ending = ending
        self._over = over
        self._gate = gate
        self.reading = True
        self.live = any(feed.close for feed in feeds)

    def run(self) -> None:
        feed = self._feeds[0]
        try:
            for feed in self._feeds:
                for batch in feed.source.batches(feed.state.position):
                    if self._gate is not None:
                        batch = self._gate.pass_(batch, self._ending, live=not feed.waits)
                    self._put((feed, batch))
                    if self._over.is_set() or (self._ending.is_set() and not feed.close):
                        return
                self._put((feed, None))
        except BaseException as error:
            self._put((feed, error))
        finally:
            self.reading = False

    def _put(self, item: _Item) -> None:
        while not self._over.is_set():
            with suppress(queue.Full):
                return self._out.put(item, timeout=_POLL_SECONDS)
