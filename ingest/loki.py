"""What Loki answers when it is asked for lines of a range of time.

It is one document of JSON, by streams: each has labels, which hold some of a record's fields, and
lines, newest first. The document is searched for these from its start on and never held as a whole,
so one that is cut off is read as far as it goes.

Source: Loki's HTTP API, `GET /loki/api/v1/query_range`, results of type "streams".
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import msgspec

from sidelong.ingest.files import consumed, damage
from sidelong.ingest.flat_json import FlatJson
from sidelong.ingest.lines import LONGEST_LINE
from sidelong.ingest.source import BadRows, Batch
from sidelong.ingest.spool import Part, in_order

__all__ = ["LokiAnswer"]

_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
_FOUND: Final = re.compile(
    rb'"stream"\s*:\s*(\{(?:[^{}"]|%b)*\})' % _STRING
    + rb'|\[\s*"\d+"\s*,\s*(%b)\s*[\],]' % _STRING,
    re.DOTALL,
)
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LokiAnswer:
    """Flows out of the lines of an answer, in the order of time.

    open: gives the decompressed bytes from their start. decoder: of lines that bear the labels of
    their stream as further fields. rows_per_batch: how many flows are given out at once. held_rows:
    how many are sorted in memory. A position is as in `in_order`.
    """

    name: str
    open: Callable[[], BinaryIO]
    size_bytes: int | None
    decoder: Callable[[], FlatJson]
    rows_per_batch: int = 1 << 18
    held_rows: int = 1 << 19

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after position `since`; lines that cannot be read are counted in `bad`."""
        size = self.size_bytes or 0
        return in_order(self._parts(), size, since, self.rows_per_batch, self.held_rows)

    def _parts(self) -> Iterator[Part]:
        with self.open() as stream, self.decoder() as decoder:
            labels, rest, entries, skipped = b"", b"", 0, 0
            ended = b""
            while chunk := stream.read(_CHUNK):
                text = rest + chunk
                lines: list[bytes] = []
                done = 0
                for found in _FOUND.finditer(text):
                    done = found.end()
                    if found[1]:
                        labels = found[1][1:-1].strip()
                    else:
                        lines.append(_labelled(labels, found[2]))
                rest, ended = text[done:], text.rstrip()[-1:]
                if len(rest) > LONGEST_LINE:
                    rest = b""
                    skipped += 1
                yield self._decoded(decoder, lines, entries, consumed(stream, 0))
                entries += len(lines)
            why = damage(stream) or ("" if ended in (b"}", b"") else "cut off inside its document")
            samples = [f"{self.name}: {why}; what came before was read"] if why else []
            if skipped:
                samples.append(f"{self.name}: {skipped} part(s) longer than any line may be")
            bad = BadRows(len(samples), tuple(samples))
            yield Part(self._decoded(decoder, [], entries, 0).flows, bad, self.size_bytes or 0)

    def _decoded(self, decoder: FlatJson, lines: list[bytes], before: int, read: int) -> Part:
        found = decoder.decode_each(lines, range(before + 1, before + len(lines) + 1))
        samples = (f"{self.name}, entry {number:,}: {why}" for number, why in found.faults)
        return Part(found.flows, BadRows(found.bad, tuple(samples)), read)


def _labelled(labels: bytes, text: bytes) -> bytes:
    """The line with the labels of its stream as its first fields."""
    try:
        line = msgspec.json.decode(text, type=str).strip().encode()
    except (msgspec.MsgspecError, ValueError):  # among them octets that are not UTF-8
        return text.replace(b"\n", b" ")
    line = line.replace(b"\n", b" ").replace(b"\r", b" ")
    if not line.startswith(b"{"):
        return line or b'""'
    labels = labels.replace(b"\n", b" ").replace(b"\r", b" ")
    comma = b"," if labels and line[1:].lstrip()[:1] != b"}" else b""
    return b"{" + labels + comma + line[1:]
