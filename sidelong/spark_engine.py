"""Streams on Spark, from Parquet files to the evidence of each chunk in order.

    footers, runs, clocks      the order of each stream: footers and times alone are read
    facts                      what each chunk states of names; summed up here, chunk after chunk
    named -> connected         normalising: by chunk, then by connection
          -> marked            which lookups are passed on: by chunk
          -> judged            the detectors: by actor

Each line is a job, or a stage of one, with as many tasks as there are files, chunks or parts. What
is summed up here is a few numbers and the names of each chunk.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sidelong.ingest.identity import IdentityState
from sidelong.ingest.source import BadRows
from sidelong.ingest.state_values import decode, encode
from sidelong.spark_chunks import Chunk, Run, StreamFiles, bounds_of, times_of
from sidelong.spark_clock import FIRST, Passage, after
from sidelong.spark_files import Footer
from sidelong.spark_jobs import collected, grouped, mapped, messages_of, streamed
from sidelong.spark_judging import EDGES, EVIDENCE, LAST, called, judged
from sidelong.spark_normalise import CONNECTION_CAPACITY, Facts, known_after, needed_since
from sidelong.spark_work import (
    FLOWS,
    HEADER,
    LOOKUPS,
    SIZES,
    Message,
    Plan,
    clocked,
    connected,
    looked_at,
    marked,
    named,
    ranged,
    stated,
)
from sidelong.tally import Tally

__all__ = ["LEAST_ROWS", "Engine", "Judged", "Ordered"]

LEAST_ROWS: Final = 250_000
"""Rows of a chunk, about; more where there are many parts."""

_ROWS_OF_A_PART: Final = 1_000  # of a chunk: fewer are not worth a message
_FETCHED: Final = 64  # chunks whose evidence is brought here at once
_DISK: Final = 3  # times that a step may have as many tasks as run at once, for small ones


class Ordered(NamedTuple):
    """A stream in its chunks. rows, clock_ns, lost: at its end. tally: what was read."""

    cluster: str
    chunks: list[Chunk]
    rows: int
    clock_ns: int
    lost: int
    tally: Tally


class Judged(NamedTuple):
    """What the detectors found, as messages on Spark. plan: as it was at last. last: the number
    that comes after that of every chunk."""

    found: Any
    plan: Plan
    last: int


class Engine:
    """Takes the streams of clusters through Spark.

    spark: the session. workers: how many tasks run at once. step: is told what is being done.
    """

    def __init__(self, spark: Any, workers: int, step: Callable[[str], None]) -> None:
        self._spark = spark
        self.workers: Final = workers
        self._step = step
        self._kept: list[Any] = []

    def order(
        self, clusters: Mapping[str, Sequence[str]], plan: Plan, rows: int | None = None
    ) -> list[Ordered]:
        """The streams of these files (urls by cluster), in chunks of about so many rows, and what
        each chunk begins with. Errors: SourceError for files that cannot be read."""
        least = max(LEAST_ROWS, _ROWS_OF_A_PART * max(plan.connections, plan.actors))
        streams = [StreamFiles(cluster, list(urls)) for cluster, urls in clusters.items()]
        self._look(streams)
        for stream in streams:
            stream.bounds = bounds_of(stream.footers, rows or least)
        chunked = self._cut(streams)
        ordered = self._clock(streams, chunked)
        self._state(ordered, plan)
        return ordered

    def judge(self, ordered: Sequence[Ordered], plan: Plan) -> "Judged":
        """The streams under the detectors.

        Where the tables of one process would have been full, all connections are taken as one
        part, so that the same is forgotten.
        """
        chunks = [chunk for stream in ordered for chunk in stream.chunks]
        plan = replace(
            plan,
            rows=tuple(stream.rows for stream in ordered),
            clusters=tuple(stream.cluster for stream in ordered),
        )
        inputs = [
            Message(place, chunk.number, FLOWS, encode(chunk.value()))
            for place, chunk in enumerate(chunks)
        ]
        self._step("normalising")
        normal = self._normalised(inputs, plan, len(ordered))
        if plan.connections > 1 and self._crowded(normal):
            plan = replace(plan, connections=1)
            self._step("normalising as one")
            normal = self._normalised(inputs, plan, len(ordered))
        self._step("detecting")
        marks_in = min(len(chunks), self.workers * _DISK)
        lookups = normal.filter(f"kind = {LOOKUPS}").selectExpr(
            f"cast(chunk % {marks_in} as int) as slot", "chunk", "kind", "value"
        )
        marks = grouped(lookups, marks_in, lambda _, messages: marked(plan, messages))
        flows = normal.filter(f"kind in ({HEADER}, {FLOWS})").unionByName(marks)
        found = grouped(
            flows, len(ordered) * plan.actors, lambda slot, messages: judged(plan, slot, messages)
        )
        if plan.windows:
            found = self._keep(found)
        return Judged(found, plan, chunks[-1].number + 1)

    def told(self, judged: "Judged") -> Iterator[Message]:
        """What was found, in the order of chunks."""
        in_order = (
            judged.found.filter(f"kind in ({EVIDENCE}, {LAST})")
            .selectExpr("*", f"cast(chunk div {_FETCHED} as int) as part")
            .repartitionById(judged.last // _FETCHED + 1, "part")
            .sortWithinPartitions("chunk", "slot")
            .drop("part")
        )
        return streamed(in_order)

    def called(self, judged: "Judged") -> Iterator[Message]:
        """Writes who was called by how many, from windows that were found."""
        self._step("who is called")
        plan = judged.plan
        slots = len(plan.rows) * plan.actors
        edges = judged.found.filter(f"kind = {EDGES}")
        return streamed(grouped(edges, slots, lambda slot, messages: called(plan, slot, messages)))

    def close(self) -> None:
        """Let go of what was kept on disk."""
        for frame in self._kept:
            frame.unpersist()
        self._kept = []

    def _look(self, streams: Sequence[StreamFiles]) -> None:
        self._step("looking at files")
        asked = [{"url": url} for stream in streams for url in stream.urls]
        told = iter(self._each(asked, looked_at))
        for stream in streams:
            stream.footers = [
                Footer(rows, size, [(time, count) for time, count in spread])
                for rows, size, spread in (next(told) for _ in stream.urls)
            ]

    def _cut(self, streams: Sequence[StreamFiles]) -> list[list[Chunk]]:
        self._step("finding the order")
        asked = [
            {"url": url, "rows": footer.rows, "bounds": stream.bounds}
            for stream in streams
            for url, footer in zip(stream.urls, stream.footers, strict=True)
        ]
        told = iter(self._each(asked, ranged))
        chunked = []
        number = 0
        for place, stream in enumerate(streams):
            chunks = [Chunk(place, 0) for _ in range(len(stream.bounds) + 1)]
            for _ in stream.urls:
                for at, run in next(told):
                    chunks[at].runs.append(Run(*run))
            chunks = [chunk for chunk in chunks if chunk.runs]
            for chunk in chunks:
                chunk.number, number = number, number + 1
            number += 1  # that of what comes after the last chunk
            chunked.append(chunks)
        return chunked

    def _clock(
        self, streams: Sequence[StreamFiles], chunked: Sequence[list[Chunk]]
    ) -> list[Ordered]:
        asked = [chunk.value() for chunks in chunked for chunk in chunks]
        told = iter(self._each(asked, clocked))
        ordered = []
        for stream, chunks in zip(streams, chunked, strict=True):
            clock, lost = FIRST, 0
            for chunk in chunks:
                chunk.clock, chunk.lost = clock, lost
                seen = next(told)
                lost += seen["lost"]
                if seen["passage"] is not None:
                    passage = Passage.of(seen["passage"])
                    clock = after(clock, passage, lambda: times_of(chunk)[0])  # noqa: B023, called there
            ends = [*(chunk.clock["clock"] for chunk in chunks[1:]), clock["clock"]]
            for place, (chunk, end) in enumerate(zip(chunks, ends, strict=True)):
                for later in chunks[place:]:
                    since = needed_since(later.clock["clock"])
                    if later is not chunk and since > end:
                        break
                    chunk.ahead.append(
                        {"chunk": later.number, "since": since, "low": later.clock["rows"]}
                    )
            ordered.append(
                Ordered(stream.cluster, chunks, clock["rows"], clock["clock"], lost, Tally())
            )
        return ordered

    def _state(self, ordered: Sequence[Ordered], plan: Plan) -> None:
        """Let each chunk know what was stated of names before it."""
        self._step("learning names")
        chunks = [chunk for stream in ordered for chunk in stream.chunks]
        told = self._each([chunk.value() for chunk in chunks], lambda one: stated(plan, one))
        facts = dict(
            zip(
                (chunk.number for chunk in chunks),
                (Facts(*one["facts"]) for one in told),
                strict=True,
            )
        )
        answers = iter(told)
        for stream in ordered:
            _know(stream.chunks, facts)
            for _ in stream.chunks:
                _count(stream.tally, next(answers))
        leaning = [chunk for chunk in chunks if facts[chunk.number].leans and chunk.known]
        if leaning:
            asked = [chunk.value() for chunk in leaning]
            for chunk, one in zip(
                leaning, self._each(asked, lambda one: stated(plan, one)), strict=True
            ):
                facts[chunk.number] = Facts(*one["facts"])
            for stream in ordered:
                _know(stream.chunks, facts)

    def _normalised(self, inputs: Sequence[Message], plan: Plan, streams: int) -> Any:
        rows = mapped(
            messages_of(self._spark, inputs, len(inputs)), lambda one: named(plan, one.value)
        )
        normal = grouped(
            rows,
            streams * plan.connections,
            lambda slot, messages: connected(plan, slot, messages),
        )
        return self._keep(normal)

    def _keep(self, frame: Any) -> Any:
        """What several jobs need is found once."""
        from pyspark import StorageLevel

        self._kept.append(frame.persist(StorageLevel.DISK_ONLY))
        return self._kept[-1]

    def _crowded(self, normal: Any) -> bool:
        """Whether one process would have had a full table somewhere, or may have had."""
        rows: dict[int, list[int]] = {}
        for message in collected(normal.filter(f"kind = {SIZES}")):
            told = decode(message.value)
            most = rows.setdefault(message.chunk, [0, 0, 0])
            rows[message.chunk] = [a + b for a, b in zip(most, told["most"], strict=True)]
            if told["evicted"]:
                return True
        return any(size > CONNECTION_CAPACITY for most in rows.values() for size in most)

    def _each(self, asked: Sequence[Any], work: Callable[[bytes], bytes]) -> list[Any]:
        """The answers to values, in their order, each found somewhere."""
        slots = min(len(asked), self.workers * _DISK)
        messages = [
            Message(place % slots, place, 0, encode(one)) for place, one in enumerate(asked)
        ]
        frame = mapped(
            messages_of(self._spark, messages, slots),
            lambda one: [one._replace(value=work(one.value))],
        )
        return [decode(one.value) for one in sorted(collected(frame), key=lambda one: one.chunk)]


def _know(chunks: Sequence[Chunk], facts: Mapping[int, Facts]) -> None:
    known: IdentityState | None = None
    for chunk in chunks:
        chunk.known = known
        known = known_after(known, facts[chunk.number])


def _count(tally: Tally, told: Mapping[str, Any]) -> None:
    tally.flows += told["flows"]
    tally.lost += told["lost"]
    count, samples = told["bad"]
    tally.bad += BadRows(count, tuple(samples))
    first, last = (None if one is None else _moment(one) for one in told["times"])
    if first is not None and last is not None:
        tally.first = first if tally.first is None else min(tally.first, first)
        tally.last = last if tally.last is None else max(tally.last, last)


def _moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
