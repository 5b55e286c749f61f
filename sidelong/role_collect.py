"""The role collect: what sources tell goes to wherever a sink takes it, within bounds.

The work is that of `sidelong collect`, in a thread of its own; the role watches over it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from sidelong.collector import Collector, CollectSettings, Feed, Sink
from sidelong.role import Measures, Surroundings

__all__ = ["CollectRole"]

_RESERVE_SECONDS: Final = 2.0  # of the drain, for what comes after the sources have ended


class CollectRole:
    """Reads `lanes` into `sink` until drained; see `Role`, and `Collector` for lanes and sinks.

    name: that of the role. turn: called time and again by the thread that calls the sink. closing:
    called at the end, in this order, whatever happens. The lanes and the sink are taken over.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        lanes: Sequence[Sequence[Feed]],
        sink: Sink,
        settings: CollectSettings,
        *,
        name: str = "collect",
        turn: Callable[[], None] = lambda: None,
        closing: Sequence[Callable[[], object]] = (),
    ) -> None:
        self.name = name
        self._say = surroundings.say
        self._feeds = [feed for lane in lanes for feed in lane]
        self._turn = turn
        self._closing = closing
        seconds = max(1, int(surroundings.config.service.drain_seconds - _RESERVE_SECONDS))
        within = min(settings.stop_seconds, seconds)
        memory = surroundings.memory
        self._collector = Collector(
            lanes,
            sink,
            msgspec.structs.replace(settings, stop_seconds=within),
            say=surroundings.say,
            gate=None if memory is None else lambda: memory.gate(name),
        )
        self._stop = threading.Event()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"{name}-sources", daemon=True)
        self._seen = 0
        self._told_end = False

    @property
    def ready(self) -> bool:
        """Whether sources are read, or were read to their end."""
        return self._thread.is_alive() or self._told_end

    def step(self, timeout: float) -> bool:
        """See `Role`."""
        if self._thread.ident is None:
            self._thread.start()
        self._over.wait(timeout)
        if self._failure is not None:
            raise self._failure
        if self._over.is_set() and not self._told_end:
            self._told_end = True
            self._say("every input was read to its end")
        if self._told_end:
            time.sleep(timeout)
        before, self._seen = self._seen, self._collector.tally.flows
        return self._seen != before

    def drain(self, deadline: float) -> None:
        """See `Role`."""
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join(max(0.1, deadline - time.monotonic()))
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """See `Role`."""
        self._stop.set()
        for close in [*(feed.close for feed in self._feeds), *self._closing]:
            if close is not None:
                with suppress(Exception):
                    close()
        self._closing = ()

    def counters(self) -> Measures:
        """See `Role`."""
        tally = self._collector.tally
        return {
            "flows": tally.flows,
            "lost": tally.lost,
            "bad": tally.bad.count,
            "duplicates": self._collector.repeated,
            "reconnects": self._counted("reconnects"),
            "dead_lettered": self._counted("dead_letters"),
        }

    def gauges(self) -> Measures:
        """See `Role`."""
        return {}

    def _counted(self, name: str) -> int:
        """What all live sources count under a name."""
        asked = (getattr(feed.source, "counters", None) for feed in self._feeds)
        return sum(counters().get(name, 0) for counters in asked if counters is not None)

    def _run(self) -> None:
        try:
            self._collector.run(self._stop, step=self._turn)
        except BaseException as error:
            self._failure = error
        finally:
            self._over.set()
