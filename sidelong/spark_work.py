"""What machines do with chunks and parts of streams, each piece of work by itself.

Messages go in and come out, as rows of `Message`; who carries them is not known here. Everything is
a function of what comes in, so that work that is done twice gives the same.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from sidelong.features.bounds import Bounds
from sidelong.ingest.parquet import STORED
from sidelong.ingest.partitions import partitions as actor_parts
from sidelong.ingest.podmap import PodMap
from sidelong.ingest.pulse import PULSE_SCHEMA
from sidelong.ingest.source import Batch
from sidelong.ingest.state_values import decode, encode
from sidelong.models.baseline import Baseline
from sidelong.spark_chunks import Chunk, flows_of, runs_of, times_of
from sidelong.spark_clock import passage
from sidelong.spark_files import footer_of
from sidelong.spark_normalise import (
    NAMED,
    Connections,
    connection_parts,
    facts_of,
    forwarded,
    lookups_of,
    named_pieces,
    together,
)
from sidelong.tally import Tally

__all__ = [
    "FLOWS",
    "HEADER",
    "LOOKUPS",
    "MARKS",
    "SIZES",
    "Message",
    "Plan",
    "by_chunk",
    "clocked",
    "connected",
    "judging",
    "looked_at",
    "marked",
    "named",
    "packed",
    "ranged",
    "split",
    "stated",
    "unpacked",
]

HEADER, MARKS, FLOWS, LOOKUPS, SIZES = range(5)
"""Kinds of messages; of one chunk they are taken in this order."""

_STORED: Final = pl.Schema({**NAMED, **STORED})


class Message(NamedTuple):
    """slot: whose turn it is. chunk: in which order. kind: what it is. value: of `encode`."""

    slot: int
    chunk: int
    kind: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What all pieces of work know.

    connections, actors: into how many parts each stream is split, by connection and by actor. rows,
    clusters: of each stream. windows: whether windows are asked for, and written to `to`. teaches:
    whether habits are.
    """

    baseline: Baseline
    pods: PodMap | None
    bounds: Bounds
    budget: float
    connections: int
    actors: int
    rows: tuple[int, ...] = ()
    clusters: tuple[str, ...] = ()
    windows: bool = False
    teaches: bool = False
    to: str | None = None


def looked_at(value: bytes) -> bytes:
    """The footer of the file that is named."""
    return encode(tuple(footer_of(decode(value)["url"])))


def ranged(value: bytes) -> bytes:
    """The runs of a file in each chunk of its stream."""
    asked = decode(value)
    runs = runs_of(asked["url"], asked["rows"], asked["bounds"])
    return encode([(place, tuple(run)) for place, run in runs])


def clocked(value: bytes) -> bytes:
    """How a chunk moves the clock of its stream, and how many events were lost in it."""
    times, lost = times_of(Chunk.of(decode(value)))
    return encode({"passage": passage(times).value() if len(times) else None, "lost": lost})


def stated(plan: Plan, value: bytes) -> bytes:
    """What a chunk states of names, and what there is in it.

    `known` of the chunk is what is known of pods before, where it leans on that.
    """
    chunk = Chunk.of(decode(value))
    flows, bad = flows_of(chunk)
    tally = Tally()
    tally.add(Batch(flows, 0, 0, bad))
    counted = {
        "flows": tally.flows,
        "lost": tally.lost,
        "bad": [bad.count, list(bad.samples)],
        "times": [
            None if moment is None else round(moment.timestamp() * 1_000_000)
            for moment in (tally.first, tally.last)
        ],
    }
    facts = facts_of(flows, chunk.clock, plan.pods, chunk.known)
    return encode({"facts": [facts.tick_ns, facts.settled, facts.whole, facts.leans], **counted})


def named(plan: Plan, value: bytes) -> Iterator[Message]:
    """A chunk with its names, split by connection: a message for each part."""
    chunk = Chunk.of(decode(value))
    flows, _ = flows_of(chunk)
    if flows.is_empty():
        return
    pieces = list(named_pieces(flows, chunk.clock, chunk.known, plan.pods, chunk.lost))
    rows = pl.concat([piece.flows for piece in pieces])
    head = {
        "pieces": [(piece.low, piece.high, piece.tick_ns) for piece in pieces],
        "ahead": chunk.ahead,
    }
    pulse = pl.concat([piece.pulse for piece in pieces])
    of = connection_parts(rows, plan.connections)
    for part, mine in enumerate(split(rows, of, plan.connections)):
        first = {"pulse": pulse} if part == 0 else {}
        content = encode({**head, **first, "flows": packed(mine)})
        yield Message(chunk.stream * plan.connections + part, chunk.number, FLOWS, content)


def connected(plan: Plan, slot: int, messages: Iterable[Message]) -> Iterator[Message]:
    """A part of the connections, chunk by chunk: what remains, split by actor; its lookups, for the
    chunks that need them; and how large its tables were."""
    stream, part = divmod(slot, plan.connections)
    connections = Connections()
    for message in _in_order(messages):
        told = decode(message.value)
        rows = unpacked(told["flows"], NAMED)
        numbers = rows["row"].to_numpy()
        left = []
        for low, high, tick_ns in told["pieces"]:
            begin, end = np.searchsorted(numbers, [low, high])
            left.append(connections.take(rows[begin:end], tick_ns))
        flows = pl.concat(left)
        number = message.chunk
        if part == 0:
            header = encode({"pieces": told["pieces"], "pulse": told["pulse"]})
            for actors in range(plan.actors):
                yield Message(stream * plan.actors + actors, number, HEADER, header)
        for actors, mine in enumerate(split(flows, actor_parts(flows, plan.actors), plan.actors)):
            if mine.height:
                content = encode(packed(mine))
                yield Message(stream * plan.actors + actors, number, FLOWS, content)
        lookups = lookups_of(flows)
        ticks = [(low, tick) for low, _, tick in told["pieces"] if tick is not None]
        for ahead in told["ahead"]:
            asked = lookups.filter(pl.col("clock").to_physical() >= ahead["since"])
            if asked.height or part == 0:
                about = {"ticks": ticks, "low": ahead["low"], "stream": stream}
                content = encode({"lookups": asked, **about})
                yield Message(ahead["chunk"], ahead["chunk"], LOOKUPS, content)
        sizes = encode({"most": connections.most(), "evicted": connections.evicted})
        yield Message(slot, number, SIZES, sizes)


def marked(plan: Plan, messages: Iterable[Message]) -> Iterator[Message]:
    """Of chunks, the rows whose client only passes a question on: for all actors."""
    for number, told in by_chunk(messages):
        contents = [decode(one.value) for one in told]
        lookups = together(one["lookups"] for one in contents)
        if lookups.is_empty():
            continue
        ticks = sorted({tuple(tick) for one in contents for tick in one["ticks"]})
        rows = forwarded(lookups, contents[0]["low"], ticks)
        if not len(rows):
            continue
        for actors in range(plan.actors):
            slot = contents[0]["stream"] * plan.actors + actors
            yield Message(slot, number, MARKS, encode(rows))


def packed(flows: pl.DataFrame) -> dict[str, Any]:
    """Rows for a message, without the columns that are null throughout."""
    known = [column for column in flows.get_columns() if column.null_count() < flows.height]
    return {"rows": flows.height, "known": pl.DataFrame(known)}


def unpacked(told: dict[str, Any], schema: pl.Schema) -> pl.DataFrame:
    """The rows of `packed` again."""
    known: pl.DataFrame = told["known"]
    if not told["rows"]:
        return schema.to_frame()
    have = set(known.columns)
    return known.select(
        pl.col(name) if name in have else pl.lit(None, dtype).alias(name)
        for name, dtype in schema.items()
    )


def judging(
    messages: Iterable[Message],
) -> Iterator[tuple[int, list[tuple[int | None, pl.DataFrame, pl.DataFrame]], dict[str, Any]]]:
    """Of each chunk, its stretches: the tick before, the flows (`NAMED`, `forwarded`), the pulse;
    and what the header told."""
    for number, told in by_chunk(messages):
        header = decode(told[0].value)
        flows = [unpacked(decode(one.value), NAMED) for one in told if one.kind == FLOWS]
        rows = together(flows) if flows else NAMED.to_frame()
        marks = [decode(one.value) for one in told if one.kind == MARKS]
        passed = pl.Series(marks[0] if marks else [], dtype=pl.UInt64)
        rows = rows.with_columns(forwarded=pl.col("row").is_in(passed.implode()))
        numbers, beats = rows["row"].to_numpy(), header["pulse"]["row"].to_numpy()
        pieces = []
        for low, high, tick_ns in header["pieces"]:
            begin, end = np.searchsorted(numbers, [low, high])
            first, last = np.searchsorted(beats, [low, high])
            pulse = header["pulse"][first:last].match_to_schema(PULSE_SCHEMA)
            pieces.append((tick_ns, rows[begin:end], pulse))
        yield number, pieces, header


def by_chunk(messages: Iterable[Message]) -> Iterator[tuple[int, list[Message]]]:
    """The messages of each chunk together, those of one kind in no order."""
    held: list[Message] = []
    for message in messages:
        if held and message.chunk != held[0].chunk:
            yield held[0].chunk, sorted(held, key=_kind)
            held = []
        held.append(message)
    if held:
        yield held[0].chunk, sorted(held, key=_kind)


def _in_order(messages: Iterable[Message]) -> Iterator[Message]:
    last = -1
    for message in messages:
        if message.chunk <= last:
            raise RuntimeError(f"chunk {message.chunk} comes after {last}")
        last = message.chunk
        yield message


def split(rows: pl.DataFrame, of: np.typing.NDArray[np.int64], parts: int) -> list[pl.DataFrame]:
    """The rows of each part, in their order."""
    if parts == 1:
        return [rows]
    rows = rows[np.argsort(of, kind="stable")]
    ends = np.cumsum(np.bincount(of, minlength=parts)).tolist()
    return [rows[low:high] for low, high in zip([0, *ends[:-1]], ends, strict=True)]


_kind: Final = attrgetter("kind")
