"""The role deliver: incidents in, receivers told.

What is read from Kafka is in the outbox, on the disk, before its offset is committed. An incident
that is read again is known there by its content, so that no receiver is told twice. Of processes
that share an outbox one works, and the others stand by until it ends.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event
from typing import Final

from sidelong.alerts.incident import Incident
from sidelong.claim import Claim
from sidelong.ingest.kafka_client import Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.notify import Notifier
from sidelong.reading import Reader
from sidelong.role import Labelled, Measures, Surroundings
from sidelong.telling import let_go, told_counters, told_gauges

__all__ = ["DeliverRole"]

_MOST_RECORDS: Final = 500
_TICK_SECONDS: Final = 0.5


class DeliverRole:
    """Tells receivers of incidents, once `claim` to the outbox is taken; see `Role`.

    opened: makes what it reads with (alerts, in a group), and what it tells with; both are its own.
    """

    name = "deliver"

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        claim: Claim,
        opened: Callable[[], tuple[KafkaConsumer, Notifier]],
    ) -> None:
        self._say = surroundings.say
        self._stop = surroundings.stop
        self._claim = claim
        self._opened = opened
        self._reader: Reader | None = None
        self._notifier: Notifier | None = None
        self._bad = 0
        self._reload = Event()
        self._ticked = 0.0
        self._waits = False
        self.ready = False

    def step(self, timeout: float) -> bool:
        """See `Role`."""
        if not self._claim.taken():
            if not self._waits:
                self._say("stands by: another process works with the outbox")
            self._waits = self.ready = True
            self._stop.wait(timeout)
            return False
        reader, notifier = self._working()
        polled = reader.poll(min(timeout, _TICK_SECONDS), _MOST_RECORDS)
        for place in polled.gained:
            reader.take_up(place, None, stateless=True)
        for place, records in polled.records.items():
            notifier.emit(self._incidents(records))
            notifier.flush()
            reader.commit({place: records[-1].offset + 1})
        if self._reload.is_set():
            self._reload.clear()
            if notifier.reload():
                self._say("routes and suppressions were read again")
        if time.monotonic() - self._ticked >= _TICK_SECONDS:
            self._ticked = time.monotonic()
            notifier.tick()
        self.ready = True
        return bool(polled.records)

    def reload(self) -> None:
        """See `Reloads`."""
        self._reload.set()

    def drain(self, deadline: float) -> None:
        """See `Role`. What is due is delivered as far as time allows; the outbox has the rest."""
        if self._notifier is not None:
            self._notifier.drain(max(0.1, deadline - time.monotonic()))
            self._notifier.flush()

    def close(self) -> None:
        """See `Role`."""
        reader, self._reader = self._reader, None
        notifier, self._notifier = self._notifier, None
        if reader is not None:
            with suppress(Exception):
                reader.close()
        if notifier is not None:
            let_go(notifier)
        self._claim.release()

    def counters(self) -> Measures:
        """See `Role`."""
        reader, notifier = self._reader, self._notifier
        if reader is None or notifier is None:
            return {}
        return {**reader.counters(), "bad": self._bad, **told_counters(notifier)}

    def gauges(self) -> Measures:
        """See `Role`."""
        reader, notifier = self._reader, self._notifier
        if reader is None or notifier is None:
            return {"active": 0.0}
        gauges: dict[str | Labelled, float] = dict(reader.gauges())
        gauges["active"] = float(reader.partitions > 0)
        return gauges | told_gauges(notifier)

    def _working(self) -> tuple[Reader, Notifier]:
        if self._reader is None or self._notifier is None:
            consumer, notifier = self._opened()
            self._reader, self._notifier = Reader(consumer, self._say), notifier
            notifier.start()
        return self._reader, self._notifier

    def _incidents(self, records: Sequence[Record]) -> list[Incident]:
        incidents = []
        for record in records:
            try:
                incidents.append(Incident.of(json.loads(record.value)))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                self._bad += 1
                where = f"{record.topic}, partition {record.partition}, offset {record.offset}"
                self._say(f"a message is no incident and is left out ({where}): {error}")
        return incidents
