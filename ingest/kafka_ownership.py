"""Which partitions a consumer has: told by Kafka on one thread, taken up by the reader on another.

Partitions come and go while the reader does other things. Here it is noted, and the partition
paused; only `settle`, which the reader calls, changes what it believes to own.
"""

import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import TopicPartition

__all__ = ["Ownership"]


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """What the reader of `consumer`, one of the library, owns, and may read.

    owned: as the reader was told. sought: of these, what it said where to begin in; nothing else is
    read. held: what it paused itself. stopped: whether nothing is read at all for now.
    """

    def __init__(self, consumer: Any) -> None:
        self.owned: Final[set[TopicPartition]] = set()
        self.sought: Final[set[TopicPartition]] = set()
        self.held: Final[set[TopicPartition]] = set()
        self.stopped = False
        self._consumer: Final = consumer
        self._lock: Final = threading.Lock()
        self._events: list[tuple[bool, tuple[TopicPartition, ...]]] = []

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by the library, on its thread."""
        came = tuple(assigned)
        for partition in came:
            self._switch(partition, on=False)
        with self._lock:
            self._events.append((True, came))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Called by the library, on its thread."""
        with self._lock:
            self._events.append((False, tuple(revoked)))

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Called by the library, on its thread."""
        self.on_partitions_revoked(lost)

    def settle(self) -> tuple[set[TopicPartition], set[TopicPartition]]:
        """Take up what happened since the last call: what came, and what went before that."""
        gained: set[TopicPartition] = set()
        lost: set[TopicPartition] = set()
        if not self._events:
            return gained, lost
        with self._lock:
            events, self._events = self._events, []
        for came, partitions in events:
            for one in partitions:
                if came:
                    gained.add(one)
                    self.owned.add(one)
                    self._switch(one, on=False)  # it may have gone, been sought and come again
                    continue
                if one in gained:
                    gained.discard(one)  # nobody was told of it yet
                else:
                    lost.add(one)
                for kept in (self.owned, self.sought, self.held):
                    kept.discard(one)
        return gained, lost

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Own exactly these, all of which may be read."""
        self.owned.clear()
        self.owned.update(partitions)
        self.held.intersection_update(self.owned)
        self.sought.clear()
        self.sought.update(self.owned)
        if self.stopped:
            for one in self.sought - self.held:
                self._switch(one, on=False)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read it from there on; nothing happens where it went in the meantime."""
        if partition not in self.owned:
            return
        with suppress(KeyError, ValueError):
            self._consumer.seek(partition, offset)
            if partition not in self.held and not self.stopped:
                self._consumer.resume(partition)
            self.sought.add(partition)

    def hold(self, partition: TopicPartition) -> None:
        """Read nothing of it for now."""
        if partition in self.owned:
            self.held.add(partition)
            self._switch(partition, on=False)

    def release(self, partition: TopicPartition) -> None:
        """Read it again, if it was sought."""
        self.held.discard(partition)
        if partition in self.sought and not self.stopped:
            self._switch(partition, on=True)

    def stop(self, stopped: bool) -> None:
        """Read nothing at all for now, or what may be read again."""
        if stopped == self.stopped:
            return
        self.stopped = stopped
        for partition in self.sought - self.held:
            self._switch(partition, on=not stopped)

    def unpark(self) -> None:
        """See that what was fetched of partitions that were paused then is taken up when they are
        resumed: the library (3.0.12) does so only when nothing is in line, and takes what is used
        up for something. Without it several of them are never read again."""
        fetcher = self._consumer._fetcher
        if not fetcher._next_partition_records:
            fetcher._next_partition_records = None

    def _switch(self, partition: TopicPartition, *, on: bool) -> None:
        with suppress(KeyError):  # it went; the next event tells
            (self._consumer.resume if on else self._consumer.pause)(partition)
