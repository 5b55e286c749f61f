"""The role correlate: the evidence of a whole cluster in, incidents out.

It is one process at a time, whichever Kafka gives the only partition of the evidence; others stand
by. Incidents follow from the messages alone, so that after a crash the same are told once more,
byte for byte, and whoever reads them knows them by their content.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from sidelong.alerts.correlator import Correlator
from sidelong.alerts.evidence_merge import EvidenceMerge, Portion
from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import printable_json
from sidelong.alerts.policy_advice import Advice
from sidelong.baseline_watch import BaselineWatch, Judge
from sidelong.features.bounds import Bounds
from sidelong.finding import note
from sidelong.ingest.kafka_client import Partition, Record
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.pulse import PULSE_SCHEMA
from sidelong.models.evidence import NO_EVIDENCE
from sidelong.models.evidence_messages import DamagedEvidence, decode
from sidelong.reading import Reader, Snapshots
from sidelong.role import Labelled, Measures, Surroundings

__all__ = ["ALERT_SCHEMA", "CorrelateRole"]

ALERT_SCHEMA: Final = "sidelong.incident/1"
"""What the header `schema` of a message of `alerts` says: see `Incident`."""

_log: Final = logging.getLogger(__name__)

_MOST_RECORDS: Final = 500
_FORMAT: Final = 1
_NO_PULSE: Final = PULSE_SCHEMA.to_frame()


class CorrelateRole:
    """Makes incidents of evidence. Takes `consumer` (of evidence, in a group) and `producer` over;
    see `Role`."""

    name = "correlate"

    def __init__(
        self,
        surroundings: Surroundings,
        baseline: BaselineWatch,
        *,
        consumer: KafkaConsumer,
        producer: KafkaProducer,
        store: Snapshots,
    ) -> None:
        config = surroundings.config
        self._say = surroundings.say
        self._observe = surroundings.observe
        self._baseline = baseline
        self._policy = config.policy
        self._bounds = Bounds.within(config.service.memory_megabytes)
        self._reader = Reader(consumer, surroundings.say)
        self._producer = producer
        self._store = store
        self._key = f"{config.kafka.prefix}correlate"
        self._topic = config.kafka.topic("alerts")
        self._every = config.service.snapshot_seconds
        self._straggler_ms = int(config.service.straggler_seconds * 1000)
        self._counters: Counter[str | Labelled] = Counter()
        self._place: Partition | None = None
        self._offset = self._saved = 0
        self._due = 0.0
        self._clock_ns = 0
        self._snapshot_at = 0.0
        self._anew()
        self.ready = False

    def step(self, timeout: float) -> bool:
        """See `Role`."""
        polled = self._reader.poll(timeout, _MOST_RECORDS)
        if polled.lost:
            self._place = None
            self._say("stands by")
        for place in polled.gained:
            self._take_up(place)
        self._fit()
        for records in polled.records.values():
            for record in records:
                self._correlate(record)
            self._offset = records[-1].offset + 1
        if self._offset != self._saved and time.monotonic() >= self._due:
            self._save()
        self.ready = True
        return bool(polled.records)

    def drain(self, deadline: float) -> None:
        """See `Role`."""
        if self._place is not None and self._offset != self._saved:
            self._save(max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        """See `Role`."""
        for closing in (self._reader.close, self._producer.close):
            with suppress(Exception):
                closing()

    def counters(self) -> Measures:
        """See `Role`."""
        merged = {name: float(count) for name, count in self._merge.counters.items()}
        known = ("duplicates", "gaps", "late", "stragglers")
        return {
            **self._reader.counters(),
            **{name: merged[name] for name in known},
            "evicted": self._correlator.evicted,
            **self._counters,
        }

    def gauges(self) -> Measures:
        """See `Role`."""
        gauges: dict[str | Labelled, float] = dict(self._reader.gauges())
        gauges["in_flight_bytes"] = self._producer.in_flight_bytes
        gauges["active"] = float(self._place is not None)
        gauges["open_incidents"] = self._correlator.open_incidents
        if self._clock_ns:
            gauges["watermark_delay_seconds"] = time.time() - self._clock_ns / 1e9
        if self._snapshot_at:
            gauges["snapshot_timestamp_seconds"] = self._snapshot_at
            gauges["snapshot_bytes"] = self._store.last_bytes
        return gauges

    def _anew(self) -> None:
        self._merge = EvidenceMerge(self._straggler_ms)
        self._judge = self._baseline.newest()
        self._correlator = self._made(self._judge)

    def _made(self, judge: Judge) -> Correlator:
        self._advice = Advice(judge.baseline, self._policy.selectors(), self._policy.kind)
        return Correlator(self._bounds)

    def _take_up(self, place: Partition) -> None:
        self._anew()
        state = self._store.load(self._key)
        saved: int | None = None
        if state is not None:
            try:
                self._merge.restore(state["merge"])
                self._correlator.restore(state["correlator"])
                saved = int(state["offset"])
            except (KeyError, TypeError, ValueError) as error:
                self._anew()
                self._say(f"the snapshot cannot be used, and incidents begin anew: {error!r}")
        self._offset = self._saved = self._reader.take_up(place, saved)
        self._due = time.monotonic() + self._every
        self._place = place
        self._say("correlates")

    def _fit(self) -> None:
        """Go on by the newest baseline."""
        newest = self._baseline.newest()
        if newest.number != self._judge.number:
            state = self._correlator.snapshot()
            self._judge = newest
            self._correlator = self._made(newest)
            self._correlator.restore(state)

    def _correlate(self, record: Record) -> None:
        try:
            portions = self._merge.add(decode(record.value, record.headers), record.timestamp_ms)
        except DamagedEvidence as error:
            self._counters["bad"] += 1
            self._say(f"a message of evidence is left out (offset {record.offset}): {error}")
            return
        for portion in portions:
            self._tell(self._incidents(portion))

    def _incidents(self, portion: Portion) -> list[Incident]:
        told: list[Incident] = []
        if portion.begins:
            # Rows are numbered anew, and mean nothing beside those of the stream before.
            told += self._correlator.finish(NO_EVIDENCE, _NO_PULSE)
            self._correlator = self._made(self._judge)
        if portion.tick_ns is not None:
            told += self._correlator.tick(portion.tick_ns)
        told += self._correlator.consume(portion.evidence, portion.pulse)
        if portion.pulse.height:
            self._clock_ns = int(portion.pulse["clock"].to_physical()[-1])
        return told

    def _tell(self, incidents: Sequence[Incident]) -> None:
        headers = {"content-type": b"application/json", "schema": ALERT_SCHEMA.encode()}
        for incident in incidents:
            text = printable_json(self._advice.on(incident).to_json())
            self._producer.send(
                self._topic, text.encode(), key=incident.id.encode(), partition=0, headers=headers
            )
            note(incident, self.name, _log, self._counters, self._observe)

    def _save(self, timeout: float | None = None) -> None:
        """Output acknowledged, then the snapshot, then the offset."""
        assert self._place is not None
        began = time.monotonic()
        self._producer.flush(timeout)
        state: dict[str, Any] = {
            "format": _FORMAT,
            "offset": self._offset,
            "merge": self._merge.snapshot(),
            "correlator": self._correlator.snapshot(),
        }
        self._store.save(self._key, state)
        self._saved = self._offset
        self._due = time.monotonic() + self._every
        self._reader.commit({self._place: self._offset})
        self._snapshot_at = time.time()
        self._counters["snapshots"] += 1
        self._observe("snapshot_seconds", time.monotonic() - began)
