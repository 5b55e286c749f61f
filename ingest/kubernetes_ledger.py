"""Who holds which address in a cluster, kept up to date object by object.

Objects of the API go in as they are listed, watched or read from a recording; out come the holders
of the moment. What holds an address:

- a pod, from its start until its containers ended, else until its deletion was due;
- a node, and every pod on its node's network, as `reserved:host`;
- the API server, by the endpoints and the cluster IP of `default/kubernetes`, as
  `reserved:kube-apiserver`, also where it shares the address with a node;
- a Service, by its cluster IPs: telemetry from before the translation shows them. It goes by the
  name of the workload behind it as long as all its endpoints are pods of that one, else by its own,
  namespace/service. With no endpoint left it keeps its name.

Times are those that the objects carry, so it makes no difference when one is heard of. Two things
carry none: a pod that is given another address, and an object that is found missing or was deleted
without notice; these count from the moment at which they are heard.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from threading import RLock
from typing import Final, TypeAlias

import polars as pl

from sidelong.ingest.holdings import POD_SCHEMA, Holding
from sidelong.ingest.kubernetes_objects import (
    API_SERVER,
    HOST,
    EndpointSlice,
    Node,
    Service,
    Thing,
    address,
)
from sidelong.ingest.kubernetes_pods import Job, Pod, ReplicaSet
from sidelong.ingest.kubernetes_services import Services

__all__ = ["KINDS", "Ledger"]

AnyThing: TypeAlias = type[Pod | Service | EndpointSlice | ReplicaSet | Job | Node]
KINDS: Final[dict[str, AnyThing]] = {
    thing.kind: thing for thing in (Pod, Service, EndpointSlice, ReplicaSet, Job, Node)
}
"""What is understood, by its kind in the API."""

_OWNERS: Final = 10_000
_PAST: Final = 8
_HOST_RANK, _SERVER_RANK, _SERVICE_RANK, _POD_RANK = range(4)
_ROWS: Final = pl.Schema(
    {
        **{name: pl.Int64() if kind.is_temporal() else kind for name, kind in POD_SCHEMA.items()},
        "rank": pl.Int8(),
        "freed": pl.Int64(),
        "entry": pl.Int64(),
    }
)


class _Entry:
    """An object and what it holds. past: what it held before it was given another address."""

    __slots__ = ("ended", "freed", "holdings", "number", "owner", "past", "pod", "rank")

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self.rank = _HOST_RANK
        self.holdings: list[Holding] = []
        self.past: list[Holding] = []
        self.freed: int | None = None
        self.owner = ""
        self.pod = ""
        self.ended = False

    def rows(self) -> list[tuple[str | int | None, ...]]:
        """What it holds, as rows of `_ROWS`."""
        return [(*h, self.rank, self.freed, self.number) for h in (*self.past, *self.holdings)]

    def end(self, until: int) -> None:
        """It holds nothing any more from `until` on, unless it said itself when that was.

        An address of a node stays what it is: the node is still there, or its successor.
        """
        self.ended = True
        if self.rank in (_SERVICE_RANK, _POD_RANK):
            self.holdings = [
                h._replace(until=until) if h.until is None else h for h in self.holdings
            ]


class Ledger:
    """The holders of addresses in a cluster; any thread may write, any may read.

    keep_ns: how long after its end a holding is kept, for flows that come late; None for ever.
    ended: how many ended objects are kept at most, those that ended last. objects: how many others
    at most; what comes beyond that is not taken. now_ns: the clock; None goes by the times that the
    objects mention.
    """

    def __init__(
        self,
        *,
        keep_ns: int | None = None,
        ended: int = 100_000,
        objects: int = 500_000,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        self._keep_ns: Final = keep_ns
        self._most_ended: Final = ended
        self._most: Final = objects
        self._now_ns: Final = now_ns
        self._latest = 0
        self._lock: Final = RLock()
        self._entries: Final[dict[tuple[str, str], _Entry]] = {}
        self._numbers = 0
        self._ended: Final[deque[tuple[int, tuple[str, str], _Entry]]] = deque()
        self._owners: Final[OrderedDict[str, str]] = OrderedDict()
        self._services: Final = Services()
        self._changed: Final[dict[int, _Entry | None]] = {}
        self._frame = _ROWS.to_frame()
        self._holders = POD_SCHEMA.to_frame()
        self.evicted = 0
        """Ended holders, and owners of pods, that were forgotten for want of room."""
        self.left_out = 0
        """Objects that were not taken for want of room."""

    def counters(self) -> dict[str, int]:
        """How many objects there are, how many that ended are kept, and what was lost."""
        with self._lock:
            kept, live = len(self._ended), len(self._entries)
        return {
            "objects": live - kept,
            "ended": kept,
            "evicted": self.evicted,
            "left_out": self.left_out,
        }

    def put(self, thing: Thing) -> None:
        """Take in an object that is new or has changed. Errors: ValueError for a strange one."""
        with self._lock:
            self._latest = max(self._latest, thing.latest)
            match thing:
                case Pod():
                    self._put_pod(thing)
                case Service():
                    self._put_service(thing)
                case EndpointSlice():
                    self._put_slice(thing)
                case Node():
                    holdings = [Holding(ip, HOST) for ip in thing.addresses]
                    if entry := self._entry(thing.key):
                        self._hold(entry, _HOST_RANK, holdings)
                case ReplicaSet() | Job():
                    self._put_owner(thing)
                case _:
                    pass

    def drop(self, thing: Thing) -> None:
        """Take note that an object was deleted; `thing` is its last state."""
        with self._lock:
            self.put(thing)
            ended = thing.ended
            self._end(thing.key, self._now() if ended is None else ended)

    def keep_only(self, kind: str, keys: Collection[tuple[str, str]]) -> None:
        """Take note that of this kind there are these objects and no others."""
        with self._lock:
            gone = [
                key
                for key, entry in self._entries.items()
                if key[0] == kind and key not in keys and not entry.ended
            ]
            for key in gone:
                self._end(key, self._now())

    def holders(self) -> pl.DataFrame:
        """All holders, in `POD_SCHEMA`; the same frame as before when nothing has changed.

        Of two rows that begin at the same time the later one counts.
        """
        with self._lock:
            self._expire()
            for key, holdings in self._services.settle(self._now()):
                if entry := self._entries.get(key):
                    self._hold(entry, _SERVICE_RANK, holdings)
            if self._changed:
                self._rebuild()
            return self._holders

    def _now(self) -> int:
        return self._now_ns() if self._now_ns else self._latest

    def _entry(self, key: tuple[str, str]) -> _Entry | None:
        """The entry of an object, a new one if need be; None when there is no room for it."""
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) - len(self._ended) >= self._most:
                self.left_out += 1
                return None
            self._numbers += 1
            entry = self._entries[key] = _Entry(self._numbers)
        elif entry.ended:  # it is there again, as if it had never been missing
            entry.ended = False
            kept = [end for end in self._ended if end[2] is not entry]
            self._ended.clear()
            self._ended.extend(kept)
        return entry

    def _hold(self, entry: _Entry, rank: int, holdings: list[Holding]) -> None:
        entry.rank = rank
        if holdings != entry.holdings or entry.past:
            entry.holdings = holdings
            self._changed[entry.number] = entry

    def _put_pod(self, pod: Pod) -> None:
        about = pod.metadata
        owner = about.owner.uid if about.owner else ""
        workload = self._owners.get(owner) or pod.workload
        holdings = pod.holdings(workload)
        entry = self._entry(pod.key)
        if entry is None:
            return
        entry.owner, entry.pod, entry.freed = owner, pod.full_name, pod.freed
        rank = _HOST_RANK if pod.on_host else _POD_RANK
        self._services.pod_is(pod.full_name, f"{about.namespace}/{workload}", entry.number)
        if rank == _POD_RANK:
            holdings = self._moved(entry, holdings, pod.ended)
        self._hold(entry, rank, holdings)

    def _moved(self, entry: _Entry, holdings: list[Holding], ended: int | None) -> list[Holding]:
        """What a pod holds, from when on, if it was given another address in its life."""
        now = self._now()
        given = {h.ip for h in holdings}
        lost = [h for h in entry.holdings if h.ip not in given]
        if lost:
            until = now if ended is None else min(now, ended)
            entry.past = [*entry.past, *(h._replace(until=until) for h in lost)][-_PAST:]
        if not entry.past:
            return holdings
        since = {h.ip: h.since for h in entry.holdings}
        return [h._replace(since=since.get(h.ip, now)) for h in holdings]

    def _put_service(self, service: Service) -> None:
        addresses = service.addresses
        if entry := self._entry(service.key):
            holdings = self._services.put(service, addresses)
            self._hold(entry, _SERVICE_RANK, holdings)

    def _put_slice(self, part: EndpointSlice) -> None:
        of_server = part.service == "default/kubernetes"
        addresses = [address(ip) for ip in part.elsewhere] if of_server else []
        if entry := self._entry(part.key):
            self._services.put_slice(part)
            self._hold(entry, _SERVER_RANK, [Holding(ip, API_SERVER) for ip in addresses])

    def _put_owner(self, owner: ReplicaSet | Job) -> None:
        """Remember an owner whose name misleads; the others need no memory."""
        uid, real = owner.metadata.uid, owner.unlike_its_name
        if not uid or real is None or self._owners.get(uid) == real:
            return
        self._owners[uid] = real
        if len(self._owners) > _OWNERS:
            self._owners.popitem(last=False)
            self.evicted += 1
        for entry in self._entries.values():
            if entry.owner == uid:
                namespace = entry.pod.partition("/")[0]
                name = f"{namespace}/{real}"
                self._services.pod_is(entry.pod, name, entry.number)
                if entry.rank == _POD_RANK:
                    entry.holdings = [h._replace(name=name, workload=real) for h in entry.holdings]
                    entry.past = [h._replace(name=name, workload=real) for h in entry.past]
                    self._changed[entry.number] = entry

    def _end(self, key: tuple[str, str], until: int) -> None:
        entry = self._entries.get(key)
        if entry is None or entry.ended:
            return
        self._services.drop(key, entry.pod, entry.number)
        entry.end(until)
        self._changed[entry.number] = entry
        self._ended.append((self._now(), key, entry))
        if len(self._ended) > self._most_ended:
            self._forget()
            self.evicted += 1

    def _expire(self) -> None:
        if self._keep_ns is None:
            return
        before = self._now() - self._keep_ns
        while self._ended and self._ended[0][0] <= before:
            self._forget()

    def _forget(self) -> None:
        """Drop what ended first."""
        _, key, entry = self._ended.popleft()
        del self._entries[key]
        self._changed[entry.number] = None

    def _rebuild(self) -> None:
        entries = [entry for entry in self._changed.values() if entry]
        rows = [row for entry in entries for row in entry.rows()]
        fresh = pl.DataFrame(rows, schema=_ROWS, orient="row")
        changed = pl.Series(list(self._changed), dtype=pl.Int64)
        kept = self._frame.filter(~pl.col("entry").is_in(changed.implode()))
        # Of those that had an address after each other, the first to end had it first. The next one
        # may have been started before that, but it did not have the address yet.
        self._frame = (
            pl.concat([kept, fresh])
            .with_columns(end=pl.coalesce("freed", "until"))
            .sort("ip", "end", "since", nulls_last=True, maintain_order=True)
            .drop("end")
        )
        self._changed.clear()
        before = pl.when(pl.col("ip") == pl.col("ip").shift(1)).then(pl.col("freed").shift(1))
        self._holders = (
            self._frame.with_columns(since=pl.max_horizontal("since", before))
            .sort("rank", "since", maintain_order=True)
            .select(POD_SCHEMA.names())
            .cast(POD_SCHEMA)
        )
