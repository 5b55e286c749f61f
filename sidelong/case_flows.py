"""The flows of incidents, read once more from where they came, or from what was kept of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.case_frames import Framed
from sidelong.ingest.merge import merged
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.schema import FLOW_SCHEMA
from sidelong.ingest.source import Batch, Source
from sidelong.ingest.stream import Stream
from sidelong.terminal import plural

__all__ = ["AROUND", "FLOWS_SCHEMA", "MOST_FLOWS", "FlowReader", "Flows", "Found", "StreamFlows"]

MOST_FLOWS: Final = 10_000
"""Flows of one incident that are given out, unless another number is asked for."""

AROUND: Final = timedelta(seconds=5)
"""So long before and after an incident what its actor did is told too."""

FLOWS_SCHEMA: Final = pl.Schema(
    {"about": pl.Boolean(), **FLOW_SCHEMA, "forwarded": pl.Boolean(), "row": pl.UInt64()}
)
"""about: whether the flow is one with an object of the incident. Then `FLOW_SCHEMA`, named and
oriented, each event once; `forwarded`: a resolver passes it on; `row`: its place in the stream."""

_LATE: Final = 60_000_000_000  # nanoseconds by which records may come late
_SHOWN: Final = (
    *("time", "src", "dst", "dst_port", "protocol", "reply", "verdict", "bytes", "dns_name"),
    *("path", "status"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Flows of an incident (`FLOWS_SCHEMA`), the first of `total`; why: if they are not all."""

    frame: pl.DataFrame
    total: int
    why: str = ""


class FlowReader(Protocol):
    """Whoever can find the flows of incidents."""

    def of(self, incidents: Sequence[Incident], limit: int | None) -> Mapping[str, Found]:
        """By id, at most `limit` of each, those about its objects first; all for None."""
        ...


class Flows(Framed):
    """The flows of one incident in the order of the stream; `total` is how many there are."""

    def __init__(self, incident: Incident, found: Found) -> None:
        kept = found.frame.height
        title = f"{plural(kept, 'flow')} of {incident.actor.workload} around {incident.id}"
        note = found.why
        if not note and kept < found.total:
            note = f"{kept:,} of {plural(found.total, 'flow')}; flows(id, limit=None) has all"
        told = [name for name in _SHOWN if found.frame[name].null_count() < max(1, kept)]
        super().__init__(found.frame, title, note, ["about", *told] if kept else None)
        self.total: Final = found.total


class StreamFlows:
    """Reads sources again, as far as the incidents reach, and names and orients what they hold.

    opened: opens the sources anew, for what happened from a moment on; names: makes the pod map;
    progress: shows how far it is.
    """

    def __init__(
        self,
        opened: Callable[[datetime], Sequence[Source]],
        names: Callable[[], AbstractContextManager[PodMaps | None]],
        progress: Callable[[Sequence[Source]], AbstractContextManager[Callable[[Batch], None]]],
    ) -> None:
        self._opened, self._names, self._progress = opened, names, progress

    def of(self, incidents: Sequence[Incident], limit: int | None) -> Mapping[str, Found]:
        """See `FlowReader`. Errors: SourceError for what cannot be read any more."""
        wanted = [_Wanted(one, limit) for one in incidents]
        if incidents:
            first = min(one.first_seen for one in incidents) - AROUND
            for flows in self._stretches(first, max(one.until for one in wanted)):
                for one in wanted:
                    one.take(flows)
        return {one.id: one.found() for one in wanted}

    def _stretches(self, first: datetime, until_ns: int) -> Iterator[pl.DataFrame]:
        sources = self._opened(first)
        with self._names() as names, self._progress(sources) as shown:
            stream = Stream(names)
            for batch in merged(sources):
                for stretch in stream.stretches(batch.flows):
                    yield stretch.flows
                shown(batch)
                if stream.clock_ns > until_ns + _LATE:
                    return


class _Wanted:
    """What is looked for of one incident, and what was found."""

    def __init__(self, incident: Incident, limit: int | None) -> None:
        self.id = incident.id
        self._limit = limit
        moment = pl.lit(incident.first_seen - AROUND, pl.Datetime("us", "UTC"))
        self._since = moment.cast(FLOW_SCHEMA["time"])
        last = incident.last_seen + AROUND
        self._until = pl.lit(last, pl.Datetime("us", "UTC")).cast(FLOW_SCHEMA["time"])
        self.until = int(last.timestamp()) * 1_000_000_000
        self._actor = incident.actor.workload
        self._about = _is_about(incident)
        self._told: list[pl.DataFrame] = []
        self._others: list[pl.DataFrame] = []
        self._kept = {True: 0, False: 0}
        self._total = 0

    def take(self, flows: pl.DataFrame) -> None:
        """Take what belongs to it out of a stretch (`NORMAL_SCHEMA`)."""
        mine = flows.filter(
            (pl.col("src") == self._actor) | (pl.col("dst") == self._actor),
            pl.col("time").is_between(self._since, self._until),
        )
        if mine.is_empty():
            return
        self._total += mine.height
        mine = mine.with_columns(about=self._about).select(FLOWS_SCHEMA.names())
        for about, frames in ((True, self._told), (False, self._others)):
            rows = mine.filter(pl.col("about") == about)
            room = rows.height if self._limit is None else self._limit - self._kept[about]
            if room > 0 and rows.height:
                frames.append(rows.head(room))
                self._kept[about] += frames[-1].height

    def found(self) -> Found:
        told = pl.concat([FLOWS_SCHEMA.to_frame(), *self._told])
        others = pl.concat([FLOWS_SCHEMA.to_frame(), *self._others])
        if self._limit is not None:
            others = others.head(self._limit - told.height)
        return Found(pl.concat([told, others]).sort("row"), self._total)


def _is_about(incident: Incident) -> pl.Expr:
    """Whether a flow of the actor is one with an object of the incident."""
    peers = {one.workload for one in incident.objects} | {one.ip for one in incident.objects}
    known = pl.Series(sorted(one for one in peers if one), dtype=pl.String).implode()
    about = pl.lit(False)
    for column in ("src", "dst", "src_ip", "dst_ip"):
        theirs = pl.col(column).is_in(known) & (pl.col(column) != incident.actor.workload)
        about = about | theirs.fill_null(False)
    for domain in dict.fromkeys(one.domain for one in incident.objects if one.domain):
        name = pl.col("dns_name")
        about = about | ((name == domain) | name.str.ends_with(f".{domain}")).fill_null(False)
    return about
