"""What was decided once: which rows, in which order, are the next of the stream of a cluster.

Messages of partition 0 of `flows.batches` are the journal of the sequencer. The first message of a
round tells in its headers up to which positions of the raw partitions the round goes; whoever reads
the same rows again makes the same stretches of them. It also tells at which offset its writer
expected it to be, `at`, and counts only there. So, of several writers who do not know of each
other, the one whose message came first has decided, and every reader knows it: it is an append that
compares. A round 0 begins a stream, at the positions that it tells.

| header | |
|---|---|
| at | the offset at which the message counts |
| positions | JSON: by raw partition the next message's offset, and how many rows of it are taken |
| idle | the time (ns) of the one row of a round that nobody sent, but that silence made |
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from sidelong.ingest.raw_merge import Position, Positions
from sidelong.ingest.stretch_messages import SCHEMA, DamagedStretch, number, shown

__all__ = ["Decided", "Entry", "entries", "headers_of"]


class Decided(NamedTuple):
    """A round. positions: where the next rows lie after it. idle_ns: of its row, if silence made
    it. at: the offset of its first message. partitions: of `flows.batches` at the time."""

    stream: str
    round: int
    positions: Positions
    at: int
    partitions: int
    idle_ns: int | None = None


class Entry(NamedTuple):
    """A message of the journal: its offset, and its headers."""

    offset: int
    headers: Mapping[str, bytes]


def headers_of(decided: Decided) -> dict[str, bytes]:
    """What the first message of a round has beside the headers of every message."""
    headers = {"at": b"%d" % decided.at, "positions": _encode(dict(decided.positions))}
    return headers if decided.idle_ns is None else {**headers, "idle": b"%d" % decided.idle_ns}


def entries(messages: Iterable[Entry]) -> Iterator[Decided]:
    """The rounds that count and can be read, in order."""
    for message in messages:
        headers = message.headers
        if headers.get("schema") != SCHEMA.encode() or headers.get("at") != b"%d" % message.offset:
            continue
        with suppress(DamagedStretch):  # which leaves a hole
            yield Decided(
                headers.get("stream", b"").decode(errors="replace"),
                number(headers, "round"),
                _positions(headers.get("positions", b"")),
                message.offset,
                number(headers, "partitions"),
                number(headers, "idle", signed=True) if "idle" in headers else None,
            )


def _positions(text: bytes) -> dict[int, Position]:
    try:
        return _decode(text)
    except msgspec.MsgspecError as error:
        raise DamagedStretch(f"its positions are {shown(text)}: {error}") from error


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[int, Position]).decode
