"""Stretches of the stream as messages, split by actor: what `flows.batches` holds.

Each partition gets a message for each stretch, if only an empty one, so that each knows the whole
pulse, every tick, and that nothing is missing. The value is an Arrow IPC stream of `NORMAL_SCHEMA`
in one zstd frame with its checksum; columns that are null throughout are left out, and without rows
there is no value. Everything else is in the headers, as text, but for the pulse:

| header | |
|---|---|
| content-type, content-encoding, schema | what the value is |
| rows, ts_min, ts_max, source | how many flows, between which times (ns), and who wrote it |
| stream, round | which stream, and which of its rounds; see `journal` |
| partition, partitions | which part of how many |
| low, high | the rows of the stream that the stretch spans |
| tick | the tick (ns) that passes just before, if any |
| pulse | zstd of three runs of int64: rows from `low` on, clock and lost, each as differences |
| at, positions, idle | in partition 0 only, first message of a round; see `journal` |
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import polars as pl
import zstandard

from sidelong.ingest.normalise import NORMAL_SCHEMA
from sidelong.ingest.partitions import partitions as partitions_of
from sidelong.ingest.pulse import PULSE_SCHEMA
from sidelong.ingest.stream import Stretch

__all__ = [
    "CONTENT_TYPE",
    "SCHEMA",
    "DamagedStretch",
    "StretchMessage",
    "decode",
    "encode",
    "number",
    "parts_of",
    "shown",
]

CONTENT_TYPE: Final = "application/vnd.apache.arrow.stream"
SCHEMA: Final = "sidelong.normal/1"

_SOURCE: Final = b"sidelong.normalise"
_ENCODING: Final = b"zstd"
_MOST_BYTES: Final = 256 << 20
_MOST_BEATS: Final = 1 << 20
_MOST_DIGITS: Final = 20
_NUMBERS: Final = ("round", "partition", "partitions", "low", "high")
_NO_FLOWS: Final = NORMAL_SCHEMA.to_frame()
_NO_PULSE: Final = PULSE_SCHEMA.to_frame()


class DamagedStretch(ValueError):
    """A message that is no stretch of ours, or not whole any more."""


class StretchMessage(NamedTuple):
    """A stretch, as far as it belongs to one partition; see `Stretch`.

    stream: which stream it is of. round: see `journal`. at: the offset at which alone the message
    counts, None for any: elsewhere it is what a writer sent that had been replaced already.
    """

    stream: str
    round: int
    partition: int
    partitions: int
    low: int
    high: int
    tick_ns: int | None = None
    pulse: pl.DataFrame = _NO_PULSE
    flows: pl.DataFrame = _NO_FLOWS
    at: int | None = None


def parts_of(stretch: Stretch, stream: str, round: int, partitions: int) -> list[StretchMessage]:
    """The messages of a stretch, one for each partition, in their order.

    A flow goes where its actor does, who is the sender, or the receiver of a reply; without an
    actor to partition 0.
    """
    flows = stretch.flows
    if partitions == 1 or flows.is_empty():
        bounds = [0] + [flows.height] * partitions
    else:
        of = partitions_of(flows, partitions)
        flows = flows[np.argsort(of, kind="stable")]
        bounds = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=partitions))]).tolist()
    rest = (stretch.low, stretch.high, stretch.tick_ns, stretch.pulse)
    return [
        StretchMessage(stream, round, part, partitions, *rest, flows[low:high])
        for part, (low, high) in enumerate(pairwise(bounds))
    ]


def encode(messages: Sequence[StretchMessage]) -> Iterator[tuple[bytes, dict[str, bytes]]]:
    """Value and headers of each of the messages of one stretch; those of `journal` come on top."""
    first = messages[0]
    shared = {
        "content-type": CONTENT_TYPE.encode(),
        "schema": SCHEMA.encode(),
        "source": _SOURCE,
        "stream": first.stream.encode(),
        **{name: b"%d" % getattr(first, name) for name in _NUMBERS},
    }
    if first.tick_ns is not None:
        shared["tick"] = b"%d" % first.tick_ns
    if first.pulse.height:
        shared["pulse"] = _packed_pulse(first.pulse, first.low)
    for message in messages:
        value, own = _packed(message.flows)
        yield value, {**shared, "partition": b"%d" % message.partition, **own}


def decode(value: bytes | None, headers: Mapping[str, bytes]) -> StretchMessage:
    """What the message tells. Errors: DamagedStretch, with what is wrong."""
    told = headers.get("schema", b"")
    if told != SCHEMA.encode():
        raise DamagedStretch(f"its schema is {shown(told)}, not {SCHEMA}")
    round_, partition, partitions, low, high = (number(headers, name) for name in _NUMBERS)
    if not (partition < partitions and low <= high):
        raise DamagedStretch(
            f"it tells rows {low} to {high} of partition {partition} of {partitions}"
        )
    try:
        stream = headers.get("stream", b"").decode()
    except UnicodeDecodeError:
        stream = ""
    if not stream:
        raise DamagedStretch(f"its stream is {shown(headers.get('stream', b''))}")
    flows = _unpacked(value or b"", number(headers, "rows"))
    rows = flows["row"]
    if flows.height and not (rows.null_count() == 0 and low <= rows[0] and rows[-1] < high):
        raise DamagedStretch(f"it holds rows {rows[0]} to {rows[-1]}, but tells {low} to {high}")
    return StretchMessage(
        stream,
        round_,
        partition,
        partitions,
        low,
        high,
        number(headers, "tick", signed=True) if "tick" in headers else None,
        _unpacked_pulse(headers.get("pulse", b""), low, high),
        flows,
        number(headers, "at") if "at" in headers else None,
    )


def number(headers: Mapping[str, bytes], name: str, *, signed: bool = False) -> int:
    """The number that a header tells. Errors: DamagedStretch."""
    text = headers.get(name, b"")
    digits = text[1:] if signed and text[:1] == b"-" else text
    if not (digits.isdigit() and len(text) <= _MOST_DIGITS):
        raise DamagedStretch(f"its {name} is {shown(text)}, which is no number")
    return int(text)


def shown(content: bytes) -> str:
    """The beginning of a header, for a person."""
    return ascii(content[:40])[1:]


def _packed(flows: pl.DataFrame) -> tuple[bytes, dict[str, bytes]]:
    headers = {"rows": b"%d" % flows.height}
    if flows.is_empty():
        return b"", headers
    headers["content-encoding"] = _ENCODING
    times = flows["time"].to_physical().drop_nulls().to_numpy()
    if len(times):
        headers["ts_min"], headers["ts_max"] = b"%d" % times.min(), b"%d" % times.max()
    known = [column for column in flows.get_columns() if column.null_count() < flows.height]
    file = io.BytesIO()
    pl.DataFrame(known).write_ipc_stream(file, compression="uncompressed")
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(file.getvalue()), headers


def _unpacked(value: bytes, rows: int) -> pl.DataFrame:
    packed = _decompressed(value, "value", _MOST_BYTES) if value else b""
    frame = _filled(_read(packed)) if value else _NO_FLOWS
    if frame.height != rows:
        raise DamagedStretch(f"it tells of {rows} flows and holds {frame.height}")
    return frame


def _read(content: bytes) -> pl.DataFrame:
    try:
        return pl.read_ipc_stream(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise DamagedStretch(f"its value cannot be read: {str(error)[:200]}") from error


def _filled(frame: pl.DataFrame) -> pl.DataFrame:
    """With the columns that are null throughout."""
    have = frame.schema
    if other := [name for name, kind in have.items() if NORMAL_SCHEMA.get(name) != kind]:
        raise DamagedStretch(
            f"its columns {', '.join(map(ascii, other[:5]))} are not as they should be"
        )
    if "row" not in have:
        raise DamagedStretch("it has no column row")
    # Expressions would take longer than all the rest.
    return pl.DataFrame(
        [
            frame.get_column(name) if name in have else _nulls(name, frame.height)
            for name in NORMAL_SCHEMA
        ]
    )


def _nulls(name: str, rows: int) -> pl.Series:
    lasting = _lasting_nulls(name)
    return lasting[:rows] if rows <= len(lasting) else lasting.new_from_index(0, rows)


@cache
def _lasting_nulls(name: str) -> pl.Series:
    return pl.Series(name, [None], NORMAL_SCHEMA[name]).new_from_index(0, 1 << 14)


def _decompressed(content: bytes, what: str, most: int) -> bytes:
    try:
        # A frame may say any size, and as much would be asked for at once.
        if zstandard.frame_content_size(content) > most:
            raise DamagedStretch(f"its {what} says that it is larger than {most} bytes")
        return zstandard.ZstdDecompressor().decompress(content, max_output_size=most)
    except (zstandard.ZstdError, MemoryError) as error:
        raise DamagedStretch(f"its {what} is damaged: {error}") from error


def _packed_pulse(pulse: pl.DataFrame, low: int) -> bytes:
    runs = [
        np.diff(pulse[name].to_physical().to_numpy().astype(np.int64), prepend=start)
        for name, start in (("row", low), ("clock", 0), ("lost", 0))
    ]
    return zstandard.ZstdCompressor(level=1).compress(np.concatenate(runs).astype("<i8").tobytes())


def _unpacked_pulse(content: bytes, low: int, high: int) -> pl.DataFrame:
    if not content:
        return _NO_PULSE
    runs = _decompressed(content, "pulse", 24 * _MOST_BEATS)
    if len(runs) % 24:
        raise DamagedStretch(f"its pulse has {len(runs)} bytes")
    differences = np.frombuffer(runs, "<i8").reshape(3, -1)
    row, clock, lost = np.cumsum(differences, axis=1)
    row += low
    if len(row) and not (low <= row[0] and row[-1] < high and (differences[0][1:] > 0).all()):
        raise DamagedStretch(f"its pulse is of rows {row[0]} to {row[-1]}, it of {low} to {high}")
    return pl.DataFrame(
        {
            "row": row.astype(np.uint64),
            "clock": pl.Series(clock).cast(PULSE_SCHEMA["clock"]),
            "lost": lost.astype(np.uint64),
        },
        schema=PULSE_SCHEMA,
    )
