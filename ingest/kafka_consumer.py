"""Reads messages from Kafka: as a member of a group, or partitions that one names oneself.

Of partitions that come and go the reader learns from `poll`, never by a call on another thread.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer as _Consumer
from kafka import errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import OffsetAndMetadata, TopicPartition

from sidelong.errors import ConfigError
from sidelong.ingest.kafka_client import (
    LARGEST_MESSAGE,
    KafkaError,
    KafkaRefused,
    Partition,
    Record,
    built,
    explained,
    passes,
)
from sidelong.ingest.kafka_membership import Membership
from sidelong.ingest.kafka_ownership import Ownership
from sidelong.ingest.kafka_records import as_pair, as_partition, as_records
from sidelong.ingest.kafka_settings import KafkaSettings

__all__ = ["KafkaConsumer", "Polled"]

_FETCH_BYTES: Final = 16 << 20
# What is asked meanwhile, and partitions that are to be read again, wait until a broker answers.
_FETCH_WAIT_MS: Final = 100
_SLICE_SECONDS: Final = 0.1
_COMMIT_SECONDS: Final = 5.0
_ABSENT_SECONDS: Final = 60.0  # without a poll; so long others wait in a rebalance
_CLOSE_SECONDS: Final = 3.0
_MOST_RECORDS: Final = 500

# What says that a partition has another owner by now, or is about to.
_NOT_OURS: Final = (
    errors.CommitFailedError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
)


class Polled(NamedTuple):
    """What `poll` brought: messages by partition, in order; partitions that came, and that went.

    Deal with `lost` first: a partition in both went and came back, and what is known of it may be
    out of date. One in `gained` is silent until `seek` was called for it.
    """

    records: dict[Partition, list[Record]]
    gained: set[Partition]
    lost: set[Partition]


class KafkaConsumer:
    """Reads messages; for one thread. Nothing is committed but by `commit`.

    name: what Kafka's logs call it. topics: to share with the other members of `group`, so that
    each partition has one reader and as few as possible move when members come and go. Without
    topics, `assign` says what is read; then `group` only says under which name offsets are
    committed. static_member: a name that this process keeps over restarts: when it is back within
    `session_seconds` it gets its partitions back, and no other member notices. hold: asked before
    each poll; while it says so, no messages are brought.

    Where an offset is no longer there, reading goes on with the first message that is.

    Errors: those of `kafka_client.built`; KafkaRefused for topics that are not there.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        name: str,
        *,
        topics: Sequence[str] = (),
        group: str | None = None,
        static_member: str | None = None,
        hold: Callable[[], bool] = lambda: False,
    ) -> None:
        if topics and group is None:
            raise ConfigError("topics are shared in a group", hint="name it, or use assign")
        self._settings: Final = settings
        self._hold: Final = hold
        self._grouped: Final = bool(topics)
        self._committing: Final = group is not None
        self._pending: dict[TopicPartition, OffsetAndMetadata] = {}
        session = int(settings.session_seconds * 1000)
        options: dict[str, Any] = {}
        if topics:
            options["partition_assignment_strategy"] = (CooperativeStickyAssignor,)
            options["session_timeout_ms"] = session
            options["max_poll_interval_ms"] = int(_ABSENT_SECONDS * 1000)
            options["heartbeat_interval_ms"] = min(1_000, session // 4)
            options["group_instance_id"] = static_member
        self._consumer: Final[Any] = built(
            _Consumer,
            settings,
            name,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed" if settings.read_committed else "read_uncommitted",
            fetch_max_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=LARGEST_MESSAGE,
            allow_auto_create_topics=False,
            metrics_enabled=False,
            **options,
        )
        self._own: Final = Ownership(self._consumer)
        self._membership: Final = Membership(self._consumer)
        try:
            for topic in topics:
                self.partitions(topic)
            if topics:
                self._consumer.subscribe(list(topics), listener=self._own)
        except BaseException:
            self.close()
            raise

    @property
    def owned(self) -> frozenset[Partition]:
        """The partitions that `poll` told of as gained, or that were assigned, and not as lost."""
        return frozenset(as_pair(partition) for partition in self._own.owned)

    def partitions(self, topic: str) -> list[int]:
        """The partitions of a topic. Errors: KafkaError; KafkaRefused when there is no topic."""
        with explained(self._settings, f"describe {topic}"):
            found = self._consumer.partitions_for_topic(topic)
        if not found:
            raise KafkaRefused(
                f"Kafka at {self._settings.shown} knows no topic {topic}",
                hint="sidelong topics create",
            )
        return sorted(found)

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on, and no others any more; without a group."""
        assert not self._grouped
        wanted = {as_partition(pair): offset for pair, offset in positions.items()}
        self._consumer.assign(list(wanted))
        self._own.assign(wanted)
        for partition, offset in wanted.items():
            self._consumer.seek(partition, offset)

    def poll(self, timeout: float, most_records: int = _MOST_RECORDS) -> Polled:
        """Wait at most `timeout` seconds for messages, or for partitions that come or go.

        Errors: KafkaError for what another attempt may cure, KafkaRefused for what none will.
        """
        ends = time.monotonic() + timeout
        gained: set[TopicPartition] = set()
        lost: set[TopicPartition] = set()
        while True:
            self._own.stop(self._hold())
            left = max(0.0, ends - time.monotonic())
            wait = int(min(left, _SLICE_SECONDS) * 1000)
            try:
                with explained(self._settings, "hand over messages"):
                    self._membership.check()
                    self._own.unpark()
                    fetched = self._consumer.poll(timeout_ms=wait, max_records=most_records)
            except KafkaRefused:
                raise
            except KafkaError as error:
                if not passes(error):
                    raise
                fetched = {}  # such as a rebalance, or a coordinator that moved
            came, went = self._own.settle()
            for one in went:
                self._pending.pop(one, None)
            lost |= went - gained  # nobody was told of those yet
            gained = (gained - went) | came
            records = self._wanted(fetched)
            if records or gained or lost or time.monotonic() >= ends:
                break
        if self._pending:
            self._commit_pending()
        return Polled(
            records, {as_pair(partition) for partition in gained}, {as_pair(one) for one in lost}
        )

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from `offset`; what was gained begins to be read. For a partition that went in
        the meantime nothing happens: the next `poll` tells."""
        self._own.seek(as_partition(partition), offset)

    def position(self, partition: Partition) -> int | None:
        """The offset of the message that comes next; None unless it was sought."""
        one = as_partition(partition)
        if one not in self._own.sought:
            return None
        try:
            with explained(self._settings, "say where it stands"):
                found: int | None = self._consumer.position(one, timeout_ms=1_000)
        except KafkaError:
            return None  # it went
        return found

    def end(self, partition: Partition) -> int | None:
        """The offset behind the last message, as the broker said when it was last read from; None
        before. Costs nothing; `bounds` asks."""
        one = as_partition(partition)
        try:
            found: int | None = self._consumer.highwater(one)
        except errors.IllegalStateError:
            return None
        return found

    def bounds(
        self, partitions: Iterable[Partition], timeout: float = 10.0
    ) -> dict[Partition, tuple[int, int]]:
        """Of each partition the offset of its first message, and that behind its last.

        Errors: KafkaError when the brokers do not tell within `timeout` seconds.
        """
        asked = [as_partition(one) for one in partitions]
        if not asked:
            return {}
        wait = int(timeout * 1000)
        with explained(self._settings, "say how much there is"):
            first = self._consumer.beginning_offsets(asked, timeout_ms=wait)
        return {
            place: (first[as_partition(place)], end)
            for place, end in self.ends(map(as_pair, asked), timeout).items()
        }

    def ends(self, partitions: Iterable[Partition], timeout: float = 10.0) -> dict[Partition, int]:
        """Of each partition the offset behind its last message. A consumer that also reads may have
        to wait for an answer as long as the broker waits for messages. Errors: KafkaError."""
        asked = [as_partition(one) for one in partitions]
        with explained(self._settings, "say how much there is"):
            end = self._consumer.end_offsets(asked, timeout_ms=int(timeout * 1000))
        return {as_pair(one): end[one] for one in asked}

    def offsets_at(
        self, times_ms: Mapping[Partition, int], timeout: float = 10.0
    ) -> dict[Partition, int | None]:
        """Of each partition the offset of the first message that is not older than its time, in
        ms of Unix time; None where there is none. Errors: KafkaError."""
        asked = {as_partition(one): time_ms for one, time_ms in times_ms.items()}
        with explained(self._settings, "say what came when"):
            found = self._consumer.offsets_for_times(asked, timeout_ms=int(timeout * 1000))
        return {
            as_pair(one): None if (at := found.get(one)) is None else int(at.offset)
            for one in asked
        }

    def committed(self, partition: Partition, timeout: float = 10.0) -> int | None:
        """The offset that the group committed last, None for none. Errors: KafkaError."""
        one = as_partition(partition)
        with explained(self._settings, "say what is committed"):
            found: int | None = self._consumer.committed(one, timeout_ms=int(timeout * 1000))
        return found

    def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """Commit for the group that all before these offsets is done; whether it is committed now.

        What is not owned is left out. During a rebalance, and while no broker answers, the offsets
        are kept and committed at a later `poll` or `commit`, as far as still owned. Errors:
        KafkaError for anything else.
        """
        assert self._committing
        for pair, offset in offsets.items():
            if (one := as_partition(pair)) in self._own.owned:
                self._pending[one] = OffsetAndMetadata(offset, "", -1)
        return self._commit_pending()

    def note(self, offsets: Mapping[Partition, int]) -> None:
        """Commit for the group what is read elsewhere, for tools that show how far behind it is; at
        best. Nobody goes on from these."""
        told = {as_partition(one): OffsetAndMetadata(at, "", -1) for one, at in offsets.items()}
        with suppress(errors.KafkaError):
            self._consumer.commit_async(told, callback=lambda *_: None)

    def pause(self, *partitions: Partition) -> None:
        """Bring no messages of these any more until `resume`."""
        for one in map(as_partition, partitions):
            self._own.hold(one)

    def resume(self, *partitions: Partition) -> None:
        """Bring messages again; of what was gained only once it was sought."""
        for one in map(as_partition, partitions):
            self._own.release(one)

    def close(self) -> None:
        """Leave the group and let go of everything. Never raises; safe to repeat."""
        with suppress(KafkaError):  # what is not committed is read again
            self._commit_pending()
        try:
            self._consumer.close(autocommit=False, timeout_ms=int(_CLOSE_SECONDS * 1000))
        except (errors.KafkaError, RuntimeError):
            self._consumer._client.close()  # it stopped half-way

    def _wanted(self, fetched: Mapping[TopicPartition, list[Any]]) -> dict[Partition, list[Record]]:
        """As records; without those of partitions that were fetched before they were sought."""
        return {
            as_pair(partition): as_records(messages)
            for partition, messages in fetched.items()
            if partition in self._own.sought
        }

    def _commit_pending(self) -> bool:
        if not self._pending:
            return True
        offsets = dict(self._pending)
        try:
            with explained(self._settings, "take what is done"):
                self._consumer.commit(offsets, timeout_ms=int(_COMMIT_SECONDS * 1000))
        except KafkaRefused:
            raise
        except KafkaError as error:
            cause = error.__cause__
            if isinstance(cause, _NOT_OURS):
                self._pending.clear()
                return False
            if isinstance(cause, errors.RebalanceInProgressError) or passes(error):
                return False
            raise
        self._pending.clear()
        return True
