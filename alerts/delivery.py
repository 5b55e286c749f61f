"""Delivery: takes what waits in the outbox and hands it to the receivers, each by its own threads.

A receiver that is slow or dead holds up neither detection, which only puts, nor any other receiver.
What fails is tried again after a pause that doubles, or that the receiver asked for; what cannot
succeed, or has not for too long, becomes a dead letter.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sidelong.alerts.breaker import Breaker, Leave, pause
from sidelong.alerts.delivery_lane import Held, Lane, place_of
from sidelong.alerts.outbox import Outbox, Taken
from sidelong.alerts.receiver import Message, Receiver, Undelivered
from sidelong.errors import ConfigError, SidelongError
from sidelong.ingest.secret import shortened

__all__ = ["Dispatcher"]

_log: Final = logging.getLogger(__name__)

_POLL_SECONDS: Final = 1.0  # other processes put, too, and cannot wake the threads of this one
_TIDY_SECONDS: Final = 30.0
_WHY: Final = 500  # characters
_MOST_LEASES: Final = 10


class Dispatcher:
    """Delivers what is in `outbox` to `receivers`.

    `clock` gives seconds of the epoch, as the outbox's; `ticks` seconds that never jump; `jitter`
    random numbers in [0, 1). Without `start`, `turn` does the work, a message at a time.

    Errors: ConfigError when two receivers have one name.
    """

    def __init__(
        self,
        outbox: Outbox,
        receivers: Iterable[Receiver],
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._settings = outbox.settings
        self._clock = clock
        self._ticks = ticks
        self._jitter = jitter
        self._lanes: dict[str, Lane] = {}
        for receiver in receivers:
            if receiver.name in self._lanes:
                raise ConfigError(
                    f"two receivers are called {receiver.name}", hint="give each a name of its own"
                )
            self._lanes[receiver.name] = Lane(receiver, Breaker(self._settings, jitter))
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._threads: list[threading.Thread] = []
        self._draining = threading.Event()
        self._stopping = threading.Event()

    def put(self, messages: Sequence[Message]) -> int:
        """`Outbox.put`, and deliver at once; detection needs nothing else, and waits for nothing.

        Errors: OutboxError; then nothing was put, and the caller must not go on as if it were.
        """
        new = self._outbox.put(messages)
        if new:
            self.wake()
        return new

    def redeliver(self, ids: Iterable[str] | None = None, *, receiver: str | None = None) -> int:
        """`Outbox.redeliver`, and deliver at once."""
        again = self._outbox.redeliver(ids, receiver=receiver)
        self.wake()
        return again

    def wake(self) -> None:
        """Look at once whether there is something to deliver."""
        for lane in self._lanes.values():
            lane.awake.set()

    def start(self) -> None:
        """Begin to deliver: `parallel` threads for each receiver, and one that tidies."""
        for name in self._lanes:
            for number in range(self._settings.parallel):
                self._begin(f"deliver-{name}-{number}", self._serve, name)
        self._begin("outbox", self._look_after)

    def _begin(self, title: str, run: Callable[..., None], *given: str) -> None:
        thread = threading.Thread(target=run, args=given, name=title, daemon=True)
        self._threads.append(thread)
        thread.start()

    def drain(self, seconds: float | None = None) -> int:
        """Deliver what is due, within `seconds` (`drain_seconds`), then stop.

        Returns how many messages still wait; they are in the outbox for the next start. A receiver
        that does not answer is left behind, and what it has begun is taken up when its lease ends.
        """
        ends = self._ticks() + (self._settings.drain_seconds if seconds is None else seconds)
        self._draining.set()
        self.wake()
        for thread in self._threads:
            thread.join(max(0.0, ends - self._ticks()))
        self._stopping.set()
        self._outbox.flush()
        return sum(queue.waiting for queue in self._outbox.queues().values())

    def counters(self) -> dict[str, dict[str, float]]:
        """Of each receiver, for metrics.

        delivered, retried, dead, latency_seconds (the sum over the delivered, from put to answer),
        open (1 while it is taken for dead): of this process since its start. queued, dead_letters,
        oldest_seconds (how long the oldest has waited): of the outbox now.
        """
        queues, now = self._outbox.queues(), self._clock()
        counters: dict[str, dict[str, float]] = {}
        for name in sorted({*self._lanes, *queues}):
            mine: dict[str, float] = {}
            if lane := self._lanes.get(name):
                with lane.lock:
                    mine = {
                        "delivered": lane.delivered,
                        "retried": lane.retried,
                        "dead": lane.dead,
                        "latency_seconds": lane.latency_seconds,
                        "open": int(lane.breaker.open),
                    }
            queue = queues.get(name)
            mine["queued"] = queue.waiting if queue else 0
            mine["dead_letters"] = queue.dead if queue else 0
            since = queue.oldest_at if queue else None
            mine["oldest_seconds"] = 0.0 if since is None else max(0.0, now - since)
            counters[name] = mine
        return counters

    def turn(self, name: str) -> bool:
        """Try one message for a receiver; returns whether there was one to try.

        Errors: OutboxError.
        """
        lane = self._lanes[name]
        self._settle(lane)
        leave = lane.breaker.leave(self._ticks())
        if leave is None:
            return False
        try:
            taken = self._outbox.take(name, early=leave == "probe")
        except BaseException:
            lane.breaker.unused(leave)
            raise
        if taken is None:
            lane.breaker.unused(leave)
            return False
        now = self._ticks()
        with self._lock:
            self._held[taken.lease] = Held(taken, begun=now, renewed=now)
        try:
            self._send(lane, taken, leave)
        finally:
            with self._lock:
                del self._held[taken.lease]
        return True

    def renew(self) -> None:
        """Keep what is being sent, which may be more than one request.

        But not for ever, or what a receiver hangs on would never be taken by another thread.
        """
        now, lease = self._ticks(), self._settings.lease_seconds
        with self._lock:
            held = list(self._held.values())
        for one in held:
            if now - one.renewed >= lease / 3 and now - one.begun < _MOST_LEASES * lease:
                self._outbox.renew(one.taken)
                one.renewed = now

    def _send(self, lane: Lane, taken: Taken, leave: Leave) -> None:
        try:
            lane.receiver.send(taken.message)
        except Undelivered as error:
            why = shortened(error.why, _WHY)
            if not error.permanent:
                self._try_later(lane, taken, leave, why, error.retry_after)
            else:
                back = lane.breaker.answered(leave)
                self._give_up(lane, taken, why)
                self._welcome(lane, back)
        except SidelongError as error:  # such as a secret that is not mounted yet
            self._try_later(lane, taken, leave, error.problem)
        except OSError as error:
            self._try_later(lane, taken, leave, error.strerror or type(error).__name__)
        except Exception as error:
            # A defect of ours, which would happen again; what it says may hold a secret.
            lane.breaker.unused(leave)
            self._give_up(lane, taken, f"{type(error).__name__} in the receiver{place_of(error)}")
        else:
            back = lane.breaker.answered(leave)
            with lane.lock:
                lane.delivered += 1
                lane.latency_seconds += max(0.0, self._clock() - taken.put_at)
                lane.unsettled.append(taken)
            self._settle(lane)
            self._welcome(lane, back)

    def _settle(self, lane: Lane) -> None:
        """Note what has been delivered, even if the outbox could not be written when it was."""
        while lane.unsettled:
            with lane.lock:
                if not lane.unsettled:
                    return
                taken = lane.unsettled[0]
                self._outbox.delivered(taken)
                lane.unsettled.remove(taken)

    def _welcome(self, lane: Lane, back: bool) -> None:
        """Deliver at once what has waited for a receiver that was taken for dead, and is `back`."""
        if back:
            _log.warning("receiver is back receiver=%s", lane.receiver.name)
            self._outbox.hurry(lane.receiver.name)
            lane.awake.set()

    def _give_up(self, lane: Lane, taken: Taken, why: str) -> None:
        if self._outbox.give_up(taken, why):
            with lane.lock:
                lane.dead += 1
            _log.error(
                "message is dead receiver=%s id=%s why=%s",
                lane.receiver.name,
                taken.message.id,
                why,
            )

    def _try_later(
        self, lane: Lane, taken: Taken, leave: Leave, why: str, asked: float | None = None
    ) -> None:
        name, settings = lane.receiver.name, self._settings
        if asked is not None:
            asked = min(asked, settings.longest_retry_after_seconds)
        opened = lane.breaker.failed(leave, self._ticks(), asked)
        first, longest = settings.first_retry_seconds, settings.longest_retry_seconds
        wait = pause(first, longest, taken.message.attempt, self._jitter())
        self._outbox.later(taken, self._clock() + max(wait, asked or 0.0), why)
        with lane.lock:
            lane.retried += 1
        _log.info("message not delivered receiver=%s why=%s", name, why)
        if opened:
            _log.warning("receiver is left alone for a while receiver=%s why=%s", name, why)
        # Only now, after an attempt that failed: what has waited because sidelong itself was down
        # is tried before it is given up.
        self._expire(name)

    def _expire(self, name: str) -> None:
        if expired := self._outbox.expire(name):
            if lane := self._lanes.get(name):
                with lane.lock:
                    lane.dead += expired
            _log.error("messages are dead, having waited too long receiver=%s n=%d", name, expired)

    def _serve(self, name: str) -> None:
        lane = self._lanes[name]
        while not self._stopping.is_set():
            try:
                busy = self.turn(name)
            except SidelongError as error:
                _log.error("outbox fails receiver=%s why=%s", name, error.problem)
                busy = False
            except Exception:  # a thread that ended would be a silence
                _log.exception("delivery fails receiver=%s", name)
                busy = False
            if not busy:
                if self._draining.is_set():
                    return
                lane.awake.wait(_POLL_SECONDS)
                lane.awake.clear()

    def _look_after(self) -> None:
        tidied = self._ticks()
        while not self._draining.wait(_POLL_SECONDS):
            try:
                self.renew()
                self._outbox.settle_down()
                if self._ticks() - tidied >= _TIDY_SECONDS:
                    tidied = self._ticks()
                    self.tidy()
            except SidelongError as error:
                _log.error("outbox fails why=%s", error.problem)

    def tidy(self) -> None:
        """Bound the outbox, and give up what has long waited for receivers that are no more."""
        self._outbox.tidy()
        for name in self._outbox.queues():
            if name not in self._lanes:
                self._expire(name)
