"""One event, told by several observers, counts once, and each tells what only it can see.

A connection may be reported by Hubble, by the proxy on the client's side and by the one on the
server's. None of them sees everything: Hubble has the verdict, proxies have bytes and principals.
Which report comes first is chance, and nothing may wait for the others. So the first to tell an
event counts it; a later report of the same event goes, unless it has bytes or principals that
nobody told before. Then it stays with those and nothing else, as a row of `count` 0.

Alike events cannot be told apart: the same request ten times within a connection is ten rows of
each observer. They are therefore counted: an observer's nth report of an event is news if nobody
had told it n times before. What a client writes has no part in that, so nobody can hide requests
behind an identifier of their choice.
"""

from typing import Final, TypedDict

import numpy as np
import polars as pl
from numpy.typing import DTypeLike, NDArray

from sidelong.ingest.groups import Groups
from sidelong.ingest.keys import Keys, column_keys, hash_rows, mix
from sidelong.ingest.memory import Integers
from sidelong.ingest.schema import TCP_FLAGS
from sidelong.ingest.table import Table, TableState

__all__ = ["EVENT_KEY", "Observers", "ObserversState"]

EVENT_KEY: Final = (
    *("src_ip", "dst_ip", "src_port", "dst_port", "protocol", "reply", "tcp_flags", "denied"),
    *("dns_name", "dns_type", "dns_rcode", "method", "path", "status"),
)
"""Reports of one event have these in common; `denied` is whether its verdict is DROPPED."""

_KEEP_NS: Final = 60 * 1_000_000_000
_CAPACITY: Final = 1_000_000
_FACETS: Final[tuple[str, ...]] = ("events", "volumes", "principals")
_OF_VOLUMES: Final = ("packets", "bytes")
_OF_PRINCIPALS: Final = ("src_principal", "dst_principal", "encrypted")
_OF_EVENTS: Final = (
    *("tcp_flags", "dns_name", "dns_type", "dns_rcode", "dns_answer_bytes", "dns_answers"),
    *("method", "path", "status", "l7"),
)
_GROUP: Final = 1 << 40  # more than any count


class ObserversState(TypedDict):
    """How often each event was told, by anybody and by each observer."""

    told: TableState
    by_observer: TableState


class Observers:
    """Lets through what no other observer has told.

    An observer is an `origin`. Taken part in by requests, answers, DNS messages, datagrams and the
    SYNs of connections; further segments of a connection are seen by one kind of observer only and
    stay as they are. Remembers 1,000,000 events until they have been silent for a minute.
    """

    def __init__(self) -> None:
        columns: dict[str, DTypeLike] = dict.fromkeys(_FACETS, np.int64)
        self._told: Final = Table(columns, capacity=_CAPACITY, ttl_ns=_KEEP_NS)
        self._by_observer: Final = Table(columns, capacity=_CAPACITY, ttl_ns=_KEEP_NS)

    def __len__(self) -> int:
        return max(len(self._told), len(self._by_observer))

    @property
    def evicted(self) -> int:
        """Events forgotten for want of room."""
        return self._told.evicted + self._by_observer.evicted

    def single(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows, each event once, order kept.

        Takes `FLOW_SCHEMA` with the columns of `Clock.cut`, oriented.
        """
        denied, comparable, volumes, principals = flows.select_seq(_ROW)
        at = np.flatnonzero(comparable.to_numpy())
        if not len(at):
            return flows
        keys = hash_rows(flows.hstack([denied]), EVENT_KEY, at)
        shown = {
            "events": np.ones(len(at), np.bool_),
            "volumes": volumes.to_numpy()[at],
            "principals": principals.to_numpy()[at],
        }
        news = self._news(
            keys,
            column_keys(flows, "origin")[at],
            flows["clock"].to_physical().to_numpy()[at],
            shown,
        )
        if news["events"].all():
            return flows
        stays = np.ones(len(flows), np.bool_)
        stays[at] = news["events"] | news["volumes"] | news["principals"]
        told = {name: np.ones(len(flows), np.bool_) for name in _FACETS}
        for name in _FACETS:
            told[name][at] = news[name]
        # Of an event that is news everything is; of another only what its row stays for.
        whole = pl.Series(told["events"])
        kept = flows.with_columns(
            *_only(_OF_EVENTS, whole),
            *_only(_OF_VOLUMES, whole | pl.Series(told["volumes"])),
            *_only(_OF_PRINCIPALS, whole | pl.Series(told["principals"])),
            count=pl.when(whole).then("count").otherwise(pl.lit(0, pl.UInt32)),
        )
        return kept.filter(pl.Series(stays))

    def tidy(self, now_ns: int) -> None:
        """Forget silent events, then the longest silent beyond capacity."""
        self._told.tidy(now_ns)
        self._by_observer.tidy(now_ns)

    def snapshot(self) -> ObserversState:
        """The counts, as a value."""
        return {"told": self._told.snapshot(), "by_observer": self._by_observer.snapshot()}

    def restore(self, state: ObserversState) -> None:
        """Go on from `snapshot`."""
        self._told.restore(state["told"])
        self._by_observer.restore(state["by_observer"])

    def _news(
        self, keys: Keys, origins: Keys, clock: Integers, shown: dict[str, NDArray[np.bool_]]
    ) -> dict[str, NDArray[np.bool_]]:
        """For each facet, whether a row tells more of it than anybody before.

        shown: which rows tell anything of it.
        """
        own = mix(keys, origins)
        anybody = Groups(keys)
        alone = (origins == origins[0]).all()
        observer = anybody if alone else Groups(own)
        told_at = self._told.find(keys[anybody.first])
        own_at = self._by_observer.find(own[observer.first])
        ends = observer.last
        news: dict[str, NDArray[np.bool_]] = {}
        most: dict[str, Integers] = {}
        counts: dict[str, Integers] = {}
        for name in _FACETS:
            told_before = self._told.get(name, told_at, 0)
            own_before = self._by_observer.get(name, own_at, 0)
            tells = shown[name]
            if not tells.any():
                news[name], most[name], counts[name] = tells, told_before, own_before
                continue
            count = _counted(observer, tells, own_before)
            if alone:  # who counts alone has never counted more than now
                before = np.maximum(told_before[anybody.of], count - tells)
                most[name] = np.maximum(told_before, count[ends])
            else:
                before, most[name] = _most(anybody, count, told_before)
            news[name] = tells & (count > before)
            counts[name] = count[ends]
        self._told.put(keys[anybody.first], told_at, seen=clock[anybody.last], **most)
        self._by_observer.put(own[observer.first], own_at, seen=clock[ends], **counts)
        return news


def _counted(groups: Groups, shown: NDArray[np.bool_], before: Integers) -> Integers:
    """How many rows of its key were shown up to each row, `before` by key included."""
    if len(groups) == len(shown):
        return before[groups.of] + shown
    order = groups.order
    group = groups.of[order]
    total = np.cumsum(shown[order])
    starts = np.searchsorted(group, np.arange(len(groups)))
    base = total[starts] - shown[order[starts]] - before
    count = np.empty(len(shown), np.int64)
    count[order] = total - base[group]
    return count


def _most(groups: Groups, count: Integers, before: Integers) -> tuple[Integers, Integers]:
    """The greatest count of its key before each row, and that of each key in the end."""
    order = groups.order
    group = groups.of[order]
    # A running maximum of all, in which each key is lifted above the one before it.
    lift = group * _GROUP
    floor = before[group] + lift
    after = np.maximum.accumulate(np.maximum(count[order] + lift, floor))
    just_before = np.empty(len(count), np.int64)
    just_before[order] = np.maximum(np.concatenate([[0], after[:-1]]), floor) - lift
    ends = np.searchsorted(group, np.arange(len(groups)), side="right") - 1
    return just_before, after[ends] - lift[ends]


_SYN: Final = (pl.col("tcp_flags") & pl.lit(TCP_FLAGS["SYN"], pl.UInt8)) != 0
_SEGMENT: Final = (pl.col("protocol") == "TCP") & pl.col("l7").is_null() & ~_SYN.fill_null(False)
_ROW: Final = (
    (pl.col("verdict") == "DROPPED").fill_null(False).alias("denied"),
    (
        pl.col("src_ip").is_not_null()
        & pl.col("dst_ip").is_not_null()
        & pl.col("lost").is_null()
        & ~_SEGMENT.fill_null(False)
    ).alias("comparable"),
    (pl.col("bytes") > 0).fill_null(False).alias("volumes"),
    (pl.col("src_principal").is_not_null() | pl.col("dst_principal").is_not_null()).alias(
        "principals"
    ),
)


def _only(columns: tuple[str, ...], where: pl.Series) -> list[pl.Expr]:
    return [pl.when(where).then(pl.col(name)).alias(name) for name in columns]
