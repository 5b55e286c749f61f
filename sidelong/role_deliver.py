"""The role deliver: incidents in, receivers told.

What is read from Kafka is in the outbox, on the disk, before its offset is committed. An incident
that is read again is known there by its content, so that no receiver is told twice.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Event
from typing import Final

from sidelong.alerts.incident import Incident
from sidelong.ingest.kafka_client import Partition, Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.notify import Notifier
from sidelong.reading import Reader
from sidelong.role import Labelled, Measures, Surroundings
from sidelong.telling import let_go, told_counters, told_gauges

__all__ = ["DeliverRole"]

_MOST_RECORDS: Final = 500
_TICK_SECONDS: Final = 0.5


class DeliverRole:
    """Tells receivers of incidents. Takes `consumer` (of alerts, in a group) and `notifier` over;
    see `Role`."""

    name = "deliver"

    def __init__(
        self, surroundings: Surroundings, *, consumer: KafkaConsumer, notifier: Notifier
    ) -> None:
        self._say = surroundings.say
        self._reader = Reader(consumer, surroundings.say)
        self._notifier = notifier
        self._bad = 0
        self._reload = Event()
        self._ticked = 0.0
        self._closed = False
        self.ready = False
        notifier.start()

    def step(self, timeout: float) -> bool:
        """See `Role`."""
        polled = self._reader.poll(min(timeout, _TICK_SECONDS), _MOST_RECORDS)
        for place in polled.gained:
            self._reader.take_up(place, None, stateless=True)
        for place, records in polled.records.items():
            self._deliver(place, records)
        if self._reload.is_set():
            self._reload.clear()
            if self._notifier.reload():
                self._say("routes and suppressions were read again")
        if time.monotonic() - self._ticked >= _TICK_SECONDS:
            self._ticked = time.monotonic()
            self._notifier.tick()
        self.ready = True
        return bool(polled.records)

    def reload(self) -> None:
        """See `Reloads`."""
        self._reload.set()

    def drain(self, deadline: float) -> None:
        """See `Role`. What is due is delivered as far as time allows; the outbox has the rest."""
        self._notifier.drain(max(0.1, deadline - time.monotonic()))
        self._notifier.flush()

    def close(self) -> None:
        """See `Role`."""
        if self._closed:
            return
        self._closed = True
        with suppress(Exception):
            self._reader.close()
        let_go(self._notifier)

    def counters(self) -> Measures:
        """See `Role`."""
        return {**self._reader.counters(), "bad": self._bad, **told_counters(self._notifier)}

    def gauges(self) -> Measures:
        """See `Role`."""
        gauges: dict[str | Labelled, float] = dict(self._reader.gauges())
        gauges["active"] = float(self._reader.partitions > 0)
        return gauges | told_gauges(self._notifier)

    def _deliver(self, place: Partition, records: Sequence[Record]) -> None:
        incidents = []
        for record in records:
            try:
                incidents.append(Incident.of(json.loads(record.value)))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                self._bad += 1
                where = f"{record.topic}, partition {record.partition}, offset {record.offset}"
                self._say(f"a message is no incident and is left out ({where}): {error}")
        self._notifier.emit(incidents)
        self._notifier.flush()
        self._reader.commit({place: records[-1].offset + 1})
