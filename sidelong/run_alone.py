"""The service in one process without Kafka: live sources, the pipeline, receivers.

A snapshot now and then holds all state together with how far each source was read, so that a
restart goes on there. What a source cannot tell again (what is sent to us, such as access logs, and
not asked for) is missing from the time between the last snapshot and a crash; an end by SIGTERM
loses nothing.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from threading import Event
from typing import Any, Final

import msgspec
import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_advice import Advice
from sidelong.baseline_watch import BaselineWatch, Judge
from sidelong.collector import CollectSettings, Feed
from sidelong.features.bounds import Bounds
from sidelong.finding import note
from sidelong.ingest.flow_folder import HeldFlows, SourceState, Written
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.schema import conform
from sidelong.notify import Notifier
from sidelong.pipeline import Pipeline
from sidelong.reading import Snapshots
from sidelong.role import Labelled, Measures, Surroundings
from sidelong.role_collect import CollectRole
from sidelong.telling import told_counters, told_gauges

__all__ = ["Alone", "AloneRole"]

_log: Final = logging.getLogger(__name__)

_FORMAT: Final = 1
_KEY: Final = "alone"
_IDLE_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 0.5

_AT_ONCE: Final = CollectSettings(rotate_rows=1, rotate_seconds=1)  # nothing is to be held back


class Alone:
    """A sink of flows that detects in them and tells receivers; used by one thread.

    notifier: None to tell nobody but the log; taken over. Errors: of the store.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        baseline: BaselineWatch,
        names: PodMaps | None,
        *,
        notifier: Notifier | None,
        store: Snapshots,
    ) -> None:
        config = surroundings.config
        self._say = surroundings.say
        self._observe = surroundings.observe
        self._baseline = baseline
        self._names = names
        self._policy = config.policy
        self._budget = config.anomaly.alarms_per_day
        self._bounds = Bounds.within(config.service.memory_megabytes)
        self._every = config.service.snapshot_seconds
        self._notifier = notifier
        self._store = store
        self._judge = baseline.newest()
        self._pipeline = self._made(self._judge)
        self._counters: Counter[str | Labelled] = Counter()
        self._reload = Event()
        self.sources: dict[str, SourceState] = {}
        self._dirty = False
        self._snapshot_at = 0.0
        now = time.monotonic()
        self._ticked = self._row_at = now
        self._due = now + self._every
        self._restore()

    def commit(
        self, held: HeldFlows, sources: Mapping[str, SourceState], *, reserve: bool = True
    ) -> list[Written]:
        """See `Sink`: what is told of these flows is in the outbox when this returns."""
        for frames in held.values():
            self._tell(self._pipeline.process(pl.concat(frames)))
            self._row_at = time.monotonic()
        self.sources.update(sources)
        self._dirty = True
        return []

    def prune(self, keep: timedelta, now: datetime) -> int:
        """See `Sink`; there is nothing to delete."""
        return 0

    def turn(self) -> None:
        """Do what is due: called time and again."""
        now = time.monotonic()
        if now - self._row_at >= _IDLE_SECONDS:
            self._idle(now)
        if now - self._ticked >= _TICK_SECONDS:
            self._ticked = now
            self._look()
        if self._dirty and now >= self._due:
            self.save()

    def save(self) -> None:
        """Everything told on the disk, then a snapshot of the state."""
        began = time.monotonic()
        if self._notifier is not None:
            self._notifier.flush()
        sources = {key: msgspec.structs.asdict(state) for key, state in self.sources.items()}
        self._store.save(
            _KEY,
            {"format": _FORMAT, "pipeline": self._pipeline.snapshot(), "sources": sources},
        )
        self._dirty = False
        self._due = time.monotonic() + self._every
        self._snapshot_at = time.time()
        self._counters["snapshots"] += 1
        self._observe("snapshot_seconds", time.monotonic() - began)

    def start(self) -> None:
        """Begin to deliver."""
        if self._notifier is not None:
            self._notifier.start()

    def end(self, seconds: float) -> None:
        """Save all, and deliver what is due as far as there is time."""
        if self._dirty:
            self.save()
        if self._notifier is not None:
            self._notifier.drain(seconds)

    def reload(self) -> None:
        """Read routes and suppressions again, soon; called by another thread."""
        self._reload.set()

    def counters(self) -> Measures:
        """See `role.Measures`."""
        told = told_counters(self._notifier) if self._notifier else {}
        return {**told, "evicted": self._pipeline.evicted, **self._counters}

    def gauges(self) -> Measures:
        """See `role.Measures`."""
        gauges: dict[str | Labelled, float] = {"open_incidents": self._pipeline.open_incidents}
        if self._pipeline.clock_ns:
            gauges["watermark_delay_seconds"] = time.time() - self._pipeline.clock_ns / 1e9
        if self._snapshot_at:
            gauges["snapshot_timestamp_seconds"] = self._snapshot_at
            gauges["snapshot_bytes"] = self._store.last_bytes
        return gauges | (told_gauges(self._notifier) if self._notifier else {})

    def _made(self, judge: Judge) -> Pipeline:
        advice = Advice(judge.baseline, self._policy.selectors(), self._policy.kind)
        budget = self._budget
        return Pipeline(judge.baseline, self._names, self._bounds, advice, budget=budget)

    def _restore(self) -> None:
        state: dict[str, Any] | None = self._store.load(_KEY)
        if state is None:
            return
        try:
            self._pipeline.restore(state["pipeline"])
            self.sources = {key: SourceState(**fields) for key, fields in state["sources"].items()}
        except (KeyError, TypeError, ValueError) as error:
            self._pipeline = self._made(self._judge)
            self._say(f"the snapshot cannot be used, and detection begins anew: {error!r}")
        else:
            self._say("going on where the snapshot ends")

    def _look(self) -> None:
        """Take up what has changed."""
        if self._notifier is not None:
            if self._reload.is_set():
                self._reload.clear()
                if self._notifier.reload():
                    self._say("routes and suppressions were read again")
            self._notifier.tick()
        newest = self._baseline.newest()
        if newest.number != self._judge.number:
            state = self._pipeline.snapshot()
            self._judge = newest
            self._pipeline = self._made(newest)
            self._pipeline.restore(state)

    def _idle(self, now: float) -> None:
        """Let event time go on in a silence, so that what waits for it is noticed."""
        silent_ns = int((now - self._row_at) * 1e9)
        self._row_at = now
        if self._pipeline.clock_ns:
            moment = pl.DataFrame({"time": [self._pipeline.clock_ns + silent_ns]})
            self._tell(self._pipeline.process(conform(moment)))

    def _tell(self, incidents: Sequence[Incident]) -> None:
        for incident in incidents:
            note(incident, "alone", _log, self._counters, self._observe)
        if self._notifier is not None and incidents:
            self._notifier.emit(incidents)


class AloneRole(CollectRole):
    """The whole service as one role: `lanes` into `alone`; see `CollectRole`."""

    def __init__(
        self,
        surroundings: Surroundings,
        lanes: Sequence[Sequence[Feed]],
        alone: Alone,
        *,
        closing: Sequence[Callable[[], object]],
    ) -> None:
        super().__init__(
            surroundings, lanes, alone, _AT_ONCE, name="alone", turn=alone.turn, closing=closing
        )
        self._alone = alone
        alone.start()

    def reload(self) -> None:
        """See `Reloads`."""
        self._alone.reload()

    def drain(self, deadline: float) -> None:
        """See `Role`."""
        super().drain(deadline)
        self._alone.end(max(0.1, deadline - time.monotonic()))

    def counters(self) -> Measures:
        """See `Role`."""
        return {**super().counters(), **self._alone.counters()}

    def gauges(self) -> Measures:
        """See `Role`."""
        return self._alone.gauges()
