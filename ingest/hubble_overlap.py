"""Taking up a cut stream of Hubble so that no flow is lost and none comes twice.

A stream that was cut is asked for again from a little before its end, and what had come already is
dropped: by uuid, or where there is none by time, node, 5-tuple and kind of event. Relay does the
same on its own with a node that it lost, and does not say so before it does. All is judged node by
node, for each has its own clock and its own order; that of the whole is only nearly that of time.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import polars as pl

__all__ = ["Overlap"]

_log: Final = logging.getLogger(__name__)

_SECOND: Final = 1_000_000_000
_BACK_NS: Final = 2 * _SECOND
_FARTHEST_BACK_NS: Final = 600 * _SECOND
_REMEMBERED_SECONDS: Final = 15.0
_MOST_REMEMBERED: Final = 1_000_000
_ACTIVE_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 30.0
_MOST_NODES: Final = 10_000
_BEFORE_ALL: Final = -(1 << 62)

_FALLBACK: Final = (
    "time",
    "node",
    "src_ip",
    "dst_ip",
    "src_port",
    "dst_port",
    "protocol",
    "event_type",
    "sub_type",
    "tcp_flags",
    "lost",
)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Keys of rows that came at about `came`, and the last time of each node among them."""

    came: float
    keys: pl.Series
    newest: dict[str, int]


@dataclass(slots=True)
class _Node:
    """newest: the last time seen. floor: up to here all was seen, and no keys are kept. came: when
    it was last heard of. behind: since when it has only told of times below its floor.
    """

    newest: int
    floor: int
    came: float
    behind: float | None = None


class Overlap:
    """What came lately, and what of it comes again.

    monotonic: seconds, for the age of memories. resumed_at: up to this time in ns everything was
    handed over by an earlier process. Remembers 15 s or a million rows, whichever is less, and up
    to 10,000 nodes. What is older than that and comes from the same node is taken to be known,
    unless the node tells of nothing else for 30 s: then its clock was set back.
    """

    def __init__(self, monotonic: Callable[[], float], resumed_at: int | None = None) -> None:
        self._monotonic = monotonic
        self._nodes: dict[str, _Node] = {}
        self._chunks: deque[_Chunk] = deque()
        self._remembered = 0
        self._start = _BEFORE_ALL if resumed_at is None else resumed_at
        self.newest = resumed_at or 0
        self.duplicates = 0

    def since(self, now_ns: int) -> int | None:
        """From when on to ask again, ns; None if nothing has come yet.

        That is before the end of the node that is farthest behind of those heard of in the last
        minute. A clock that is ahead counts as now; none counts as more than ten minutes behind.
        """
        if not self._nodes:
            return None if self._start == _BEFORE_ALL else self._start
        now = self._monotonic()
        latest = min(now_ns, max(node.newest for node in self._nodes.values()))
        active = (node for node in self._nodes.values() if now - node.came < _ACTIVE_SECONDS)
        behind = min((node.newest for node in active), default=latest)
        return max(min(behind, latest), latest - _FARTHEST_BACK_NS) - _BACK_NS

    def take(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Those of `rows`, which are as in `Decoded.rows`, that have not come before."""
        if not rows.height:
            return rows
        came = rows.select(
            pl.col("node").fill_null("").alias("name"),
            pl.col("time").to_physical().alias("at"),
            key=_keys(rows),
        )
        known = self._known(came)
        if known.any():
            self.duplicates += int(known.sum())
            rows, came = rows.filter(~known), came.filter(~known)
        self._remember(came)
        return rows

    def _known(self, came: pl.DataFrame) -> pl.Series:
        """Whether each row came before: not later than its node's newest, and remembered so."""
        repeated = ~came["key"].is_first_distinct()
        ends = came.group_by("name").agg(first=pl.col("at").min(), last=pl.col("at").max())
        late = []
        for name, first, last in ends.iter_rows():
            node = self._nodes.get(name) or self._add(name)
            self._judge(name, node, last)
            if first <= node.newest:
                late.append((name, node.newest, node.floor))
        if not late:
            return repeated
        limits = pl.DataFrame(
            late, orient="row", schema={"name": pl.String, "newest": pl.Int64, "floor": pl.Int64}
        )
        judged = came.join(limits, on="name", how="left", maintain_order="left")
        suspect = (judged["at"] <= judged["newest"]).fill_null(False)
        keys = [chunk.keys for chunk in self._chunks]
        remembered = pl.concat(keys) if keys else pl.Series(dtype=pl.UInt64)
        suspects = judged.filter(suspect)
        again = (suspects["at"] <= suspects["floor"]) | suspects["key"].is_in(remembered.implode())
        return repeated | suspect.scatter(suspect.arg_true(), again)

    def _judge(self, name: str, node: _Node, last: int) -> None:
        """A node that stays below its floor has had its clock set back: it begins anew."""
        now = self._monotonic()
        if last > node.floor:
            node.behind = None
        elif node.behind is None:
            node.behind = now
        elif now - node.behind > _PATIENCE_SECONDS:
            _log.warning("node %s: its clock was set back, or it lags by long", ascii(name))
            node.newest = node.floor = _BEFORE_ALL
            node.behind = None

    def _add(self, name: str) -> _Node:
        if len(self._nodes) >= _MOST_NODES:
            oldest = sorted(self._nodes, key=lambda name: self._nodes[name].came)
            for each in oldest[: _MOST_NODES // 10]:
                del self._nodes[each]
        node = self._nodes[name] = _Node(self._start, self._start, self._monotonic())
        return node

    def _remember(self, came: pl.DataFrame) -> None:
        now = self._monotonic()
        newest = dict(came.group_by("name").agg(pl.col("at").max()).iter_rows())
        for name, at in newest.items():
            if node := self._nodes.get(name):
                node.newest, node.came = max(node.newest, at), now
            self.newest = max(self.newest, at)
        if came.height:
            self._chunks.append(_Chunk(now, came["key"], newest))
            self._remembered += came.height
        while self._chunks and (
            now - self._chunks[0].came > _REMEMBERED_SECONDS or self._remembered > _MOST_REMEMBERED
        ):
            chunk = self._chunks.popleft()
            self._remembered -= len(chunk.keys)
            for name, at in chunk.newest.items():
                if node := self._nodes.get(name):
                    node.floor = max(node.floor, at)


def _keys(rows: pl.DataFrame) -> pl.Series:
    """64 bits for each row: that two of a million share one has a chance of 1 in 10 million."""
    if not rows["uuid"].null_count():
        return rows["uuid"].hash()
    fallback = pl.struct(_FALLBACK).hash()
    return rows.select(
        pl.when(pl.col("uuid").is_null()).then(fallback).otherwise(pl.col("uuid").hash())
    ).to_series()
