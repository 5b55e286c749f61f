"""The role normalise: raw messages in, one normalised stream out, by one process at a time.

Who that is, is settled by a group of which only one can have the one partition of `evidence`; it is
never read here. Whoever loses it a little too late does no harm: see `journal`. The others stand by
and go on from the last snapshot.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from sidelong.errors import ConfigError
from sidelong.ingest.kafka_consumer import KafkaConsumer
from sidelong.ingest.kafka_producer import KafkaProducer
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.sequencer import Sequencer, Superseded
from sidelong.ingest.sequencer_kafka import KafkaBatches, KafkaRaw
from sidelong.ingest.state_store import Manifest, StateError, StateStore
from sidelong.role import Labelled, Measures, Surroundings

__all__ = ["NormaliseRole"]

_STAND_BY_SECONDS: Final = 1.0


class NormaliseRole:
    """Makes one stream of the raw partitions. Takes `election` (a member of the role's group on
    `evidence`) and `producer` over; see `Role`.

    pods: who holds which address. closing: called at the end, whatever happens.
    """

    name = "normalise"

    def __init__(
        self,
        surroundings: Surroundings,
        pods: PodMaps | None,
        *,
        election: KafkaConsumer,
        producer: KafkaProducer,
        store: StateStore,
        closing: Sequence[Callable[[], object]] = (),
    ) -> None:
        self._config = config = surroundings.config
        self._say = surroundings.say
        self._observe = surroundings.observe
        self._memory = surroundings.memory
        self._pods = pods
        self._election = election
        self._producer = producer
        self._store = store
        self._closing = closing
        self._key = f"{config.kafka.prefix}normalise"
        self._every = config.service.snapshot_seconds
        self._due = 0.0
        self._elected = False
        self._raw: KafkaRaw | None = None
        self._sequencer: Sequencer | None = None
        self._saving: Future[Manifest] | None = None
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="normalise-snapshot")
        self._saved = (0, 0)  # rows and rounds of the stream at the last snapshot
        self._snapshot_at = 0.0
        self._counters: Counter[str] = Counter()
        self.ready = False

    def step(self, timeout: float) -> bool:
        """See `Role`."""
        standing_by = not self._elected
        polled = self._election.poll(min(timeout, _STAND_BY_SECONDS) if standing_by else 0.0)
        self._counters["rebalances"] += bool(polled.gained or polled.lost)
        if polled.lost:
            self._elected = False
            self._forget()
            self._say("stands by: another process makes the stream")
        if polled.gained:
            self._elected = True
        if not self._elected:
            self.ready = True
            return False
        try:
            sequencer = self._sequencer or self._begin()
            moved = sequencer.step(timeout)
        except Superseded as error:
            self._say(f"another process has decided, begins again from a snapshot: {error}")
            self._forget()
            return True
        self.ready = True
        self._look_after_snapshots(sequencer)
        return moved

    def drain(self, deadline: float) -> None:
        """See `Role`."""
        sequencer, raw = self._sequencer, self._raw
        if sequencer is None or raw is None:
            return
        left = max(0.1, deadline - time.monotonic())
        if self._saving is not None:
            with suppress(StateError, TimeoutError):
                self._saving.result(left)
        self._producer.flush(max(0.1, deadline - time.monotonic()))
        if (state := sequencer.snapshot()) is not None and self._progress(sequencer) != self._saved:
            self._store.save(self._key, state)
            self._counters["snapshots"] += 1

    def close(self) -> None:
        """See `Role`."""
        self._forget()
        self._saver.shutdown(wait=False, cancel_futures=True)
        for closing in (self._election.close, self._producer.close, *self._closing):
            with suppress(Exception):
                closing()

    def counters(self) -> Measures:
        """See `Role`."""
        told: dict[str | Labelled, float] = {}
        for name, count in (*self._counters.items(), *self._counted().items()):
            told[name] = told.get(name, 0) + count
        return told

    def gauges(self) -> Measures:
        """See `Role`."""
        gauges: dict[str | Labelled, float] = {
            "active": float(self._elected),
            "in_flight_bytes": self._producer.in_flight_bytes,
        }
        sequencer, raw = self._sequencer, self._raw
        if raw is not None:
            lags = raw.lag()
            gauges["partitions"] = len(lags)
            for (topic, partition), (records, seconds) in lags.items():
                labels = ("topic", topic, "partition", str(partition))
                gauges["lag_records", *labels] = records
                gauges["lag_seconds", *labels] = seconds
        if sequencer is not None and sequencer.clock_ns:
            gauges["watermark_delay_seconds"] = time.time() - sequencer.clock_ns / 1e9
        if self._snapshot_at:
            gauges["snapshot_timestamp_seconds"] = self._snapshot_at
        return gauges

    def _begin(self) -> Sequencer:
        """Take the stream up where the last snapshot and the journal say that it is."""
        config = self._config
        batches_topic = config.kafka.topic("flows.batches")
        memory = self._memory
        self._forget()
        self._raw = raw = KafkaRaw(
            config.kafka,
            config.kafka.topic("flows.raw"),
            config,
            self._say,
            hold=lambda: memory is not None and memory.hold,
        )
        partitions = len(self._election.partitions(batches_topic))
        batches = KafkaBatches(config.kafka, batches_topic, partitions, self._producer)

        def built(state: dict[str, Any] | None) -> Sequencer:
            return Sequencer(
                raw,
                batches,
                state,
                pods=self._pods,
                say=self._say,
                wait=config.service.merge_wait_ms / 1000,
            )

        for saved in self._store.readable(self._key):
            try:
                sequencer = built(saved.state)
                break
            except (KeyError, TypeError, ValueError, ConfigError) as error:
                self._say(f"a snapshot of {saved.manifest.created} cannot be used: {error!r}")
        else:
            sequencer = built(None)
        self._sequencer = sequencer
        self._due = time.monotonic() + self._every
        again = "; makes again what was decided since" if sequencer.replaying else ""
        self._say(f"makes the stream, from row {sequencer.rows} on{again}")
        return sequencer

    def _forget(self) -> None:
        """Let go of the stream; whoever goes on does so from a snapshot."""
        self._counters.update(self._counted())
        if self._raw is not None:
            self._raw.close()
        self._raw = self._sequencer = None

    def _counted(self) -> Counter[str]:
        told: Counter[str] = Counter()
        if (raw := self._raw) is not None:
            told.update(raw.counters)
        if (sequencer := self._sequencer) is not None:
            told.update({k: sequencer.counters[k] for k in ("flows", "rounds", "lost")})
            told["evicted"] += sequencer.evicted
        return told

    def _look_after_snapshots(self, sequencer: Sequencer) -> None:
        """Written beside the stream, which stands still only while its state is copied."""
        now = time.monotonic()
        if self._saving is not None and self._saving.done():
            saving, self._saving = self._saving, None
            try:
                saving.result()
                self._counters["snapshots"] += 1
                self._snapshot_at = time.time()
                topic = self._config.kafka.topic("flows.raw")
                read = {(topic, place): at.offset for place, at in sequencer.positions().items()}
                self._election.note(read)
            except StateError as error:
                self._say(str(error))
        if now < self._due or self._saving is not None:
            return
        self._due = now + self._every
        if (progress := self._progress(sequencer)) == self._saved:
            return
        self._producer.flush()  # what was sent before need not be sent again then
        if (state := sequencer.snapshot()) is not None:
            self._saved = progress
            self._saving = self._saver.submit(self._save, state)

    def _save(self, state: dict[str, Any]) -> Manifest:
        began = time.monotonic()
        manifest = self._store.save(self._key, state)
        self._observe("snapshot_seconds", time.monotonic() - began)
        return manifest

    @staticmethod
    def _progress(sequencer: Sequencer) -> tuple[int, int]:
        return sequencer.rows, sequencer.counters["rounds"]
