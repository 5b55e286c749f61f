"""Evidence as messages: what detection tells correlation of one part of a stretch of the stream.

A message speaks for rows `low` up to but not including `high` of the stream, as far as they belong
to one partition, and is sent even when there is nothing to say of them: silence is known from it.
The value is the evidence as an Arrow IPC stream with zstd buffers, empty without any; everything
else is in the headers, numbers in decimal. A digest covers both, so that damage never passes for
evidence.
"""

import hashlib
import io
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import polars as pl

from sidelong.ingest.pulse import PULSE_SCHEMA
from sidelong.models.evidence import EVIDENCE_SCHEMA, NO_EVIDENCE

__all__ = ["CONTENT_TYPE", "SCHEMA", "DamagedEvidence", "EvidencePart", "Tick", "decode", "encode"]

CONTENT_TYPE: Final = "application/vnd.apache.arrow.stream"
SCHEMA: Final = "sidelong.evidence/1"

_NUMBERS: Final = ("partition", "partitions", "low", "high")
_DIGEST: Final = "digest"
_MOST_DIGITS: Final = 20


class DamagedEvidence(ValueError):
    """A message that is no evidence of ours, or not whole any more."""


class Tick(NamedTuple):
    """The tick `ns` passes just before `row`."""

    row: int
    ns: int


class EvidencePart(NamedTuple):
    """What one partition has to tell of rows `low` up to `high` of the stream named `stream`.

    partition, partitions: which part of how many. evidence: `EVIDENCE_SCHEMA`, rows within these
    bounds. ticks, pulse (`PULSE_SCHEMA`): all of these rows; every partition tells them, so that
    none has to be waited for.
    """

    stream: str
    partition: int
    partitions: int
    low: int
    high: int
    evidence: pl.DataFrame = NO_EVIDENCE
    ticks: tuple[Tick, ...] = ()
    pulse: pl.DataFrame = PULSE_SCHEMA.to_frame()


def encode(part: EvidencePart) -> tuple[bytes, dict[str, bytes]]:
    """Value and headers of the message that tells `part`."""
    value = _packed(part.evidence)
    numbers = {name: str(getattr(part, name)).encode() for name in _NUMBERS}
    headers = {
        "content-type": CONTENT_TYPE.encode(),
        "schema": SCHEMA.encode(),
        "stream": part.stream.encode(),
        **numbers,
        "ticks": msgspec.json.encode(part.ticks),
        "pulse": _packed(part.pulse),
    }
    return value, {**headers, _DIGEST: _digest(value, headers)}


def decode(value: bytes | None, headers: Mapping[str, bytes]) -> EvidencePart:
    """What the message tells. Errors: DamagedEvidence, with what is wrong."""
    told = headers.get("schema", b"")
    if told != SCHEMA.encode():
        raise DamagedEvidence(f"its schema is {_shown(told)}, not {SCHEMA}")
    if value is None:
        raise DamagedEvidence("it has no value")
    rest = {name: content for name, content in headers.items() if name != _DIGEST}
    if headers.get(_DIGEST) != _digest(value, rest):
        raise DamagedEvidence("its digest is not that of its content")
    partition, partitions, low, high = (_number(headers, name) for name in _NUMBERS)
    if not (partition < partitions and low <= high):
        raise DamagedEvidence(
            f"it tells rows {low} to {high} of partition {partition} of {partitions}"
        )
    part = EvidencePart(
        _text(headers, "stream"),
        partition,
        partitions,
        low,
        high,
        _unpacked(value, EVIDENCE_SCHEMA, "evidence"),
        _ticks(headers.get("ticks", b"")),
        _unpacked(headers.get("pulse", b""), PULSE_SCHEMA, "pulse"),
    )
    for frame in (part.evidence, part.pulse):
        if not frame["row"].is_between(low, high, closed="left").all():
            raise DamagedEvidence(f"it tells of rows outside of {low} to {high}")
    return part


def _packed(frame: pl.DataFrame) -> bytes:
    if frame.is_empty():
        return b""
    file = io.BytesIO()
    frame.write_ipc_stream(file, compression="zstd")
    return file.getvalue()


def _unpacked(content: bytes, schema: pl.Schema, what: str) -> pl.DataFrame:
    if not content:
        return schema.to_frame()
    try:
        frame = pl.read_ipc_stream(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DamagedEvidence(f"its {what} cannot be read: {error}") from error
    if frame.schema != schema:
        raise DamagedEvidence(f"its {what} has other columns: {frame.schema}")
    return frame


def _number(headers: Mapping[str, bytes], name: str) -> int:
    text = headers.get(name, b"")
    if not (text.isdigit() and len(text) <= _MOST_DIGITS):
        raise DamagedEvidence(f"its {name} is {_shown(text)}, which is no number")
    return int(text)


def _text(headers: Mapping[str, bytes], name: str) -> str:
    try:
        text = headers.get(name, b"").decode()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise DamagedEvidence(f"its {name} is {_shown(headers.get(name, b''))}")
    return text


def _ticks(text: bytes) -> tuple[Tick, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[Tick, ...])
    except msgspec.MsgspecError as error:
        raise DamagedEvidence(f"its ticks cannot be read: {error}") from error


def _digest(value: bytes, headers: Mapping[str, bytes]) -> bytes:
    digest = hashlib.blake2b(value, digest_size=16)
    for name, content in sorted(headers.items()):
        digest.update(f"\n{name} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest().encode()


def _shown(content: Any) -> str:
    return ascii(content[:40])[1:]
