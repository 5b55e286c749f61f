"""Messages of a topic that others write to, decoded to flows: whatever they are, in bulk.

What becomes of a message depends on it, on its headers and on what its topic was declared to be;
never on the messages around it, nor on how they were cut into polls. What cannot be read is poison:
it is given back with the cause, and the rest goes on. A message of many lines of which some are bad
is poison too, and what could be read of it is kept.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.errors import SidelongError
from sidelong.ingest.csv_flows import CsvLines
from sidelong.ingest.csv_settings import check_csv
from sidelong.ingest.pcap import PcapFile
from sidelong.ingest.raw_batches import batch_flows, read_batch
from sidelong.ingest.raw_gathering import PLACE, Told, inside_of, message_of, place_of
from sidelong.ingest.raw_kinds import Kind, kind_of, line_format, messages_of
from sidelong.ingest.raw_lines import LINE_FORMATS, JoinedLines
from sidelong.ingest.raw_protobuf import JoinedMessages
from sidelong.ingest.raw_settings import AUTO
from sidelong.ingest.raw_values import Unreadable, unpacked
from sidelong.ingest.schema import FLOW_SCHEMA, empty_flows
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.source import Source
from sidelong.ingest.unordered import UnorderedFile
from sidelong.ingest.vpc_logs import VpcLines
from sidelong.ingest.zeek_lines import ZeekLines

__all__ = ["Message", "Poison", "RawBatch", "RawDecoder"]

_HUBBLE: Final = (b'{"flow":{', b'{"flow": {')
_ARRAY: Final = re.compile(rb"[ \t\r\n]*\[[ \t\r\n]*[\[{\]]")
_BOM: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r"
_SELF_UNWRAPPING: Final = ("envoy", "linkerd", "ztunnel")  # and their JSON
_HELD_BATCHES: Final = 64
_PIECE_BYTES: Final = 32 << 20


class Message(Protocol):
    """What is asked of a record of Kafka."""

    @property
    def topic(self) -> str: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Mapping[str, bytes]: ...


M = TypeVar("M", bound=Message)


class Poison(NamedTuple, Generic[M]):
    """A message that cannot be read, or not all of it; why; and how many flows of it were kept."""

    record: M
    cause: str
    kept: int = 0


class RawBatch(NamedTuple, Generic[M]):
    """What messages held.

    flows: in `FLOW_SCHEMA`, in the order of the messages. rows_per_record: how many of them each
    message gave. poison: those that cannot be read, in order. passed: how many records inside were
    neither flows nor faults, such as other logs beside access logs.
    """

    flows: pl.DataFrame
    rows_per_record: NDArray[np.int64]
    poison: list[Poison[M]]
    passed: int = 0


class RawDecoder:
    """Decodes messages. Use as a context manager; for one thread at a time.

    Errors: ConfigError for settings of a format that cannot be used, when it is made.
    """

    def __init__(self, settings: InputSettings = InputSettings()) -> None:  # noqa: B008
        self._settings: Final = settings
        self._formats: Final = settings.messages.formats
        self._most_bytes: Final = settings.messages.most_megabytes << 20
        self._most_records: Final = settings.messages.most_records
        self._lines: Final = JoinedLines(settings)
        self._messages: Final = JoinedMessages(settings, self._lines)
        self._batches: list[tuple[int, pl.DataFrame]] = []
        self._told: list[Told] = []
        self._sizes: dict[int, int] = {}  # of messages with several lines: how many

    def __enter__(self) -> "RawDecoder":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.__exit__()

    def decode(self, records: Sequence[M]) -> RawBatch[M]:
        """The flows of messages. A message without a value, or an empty one, says nothing."""
        pieces = [piece for _, piece in self.pieces(records)]
        if len(pieces) == 1:
            return pieces[0]
        return RawBatch(
            pl.concat([empty_flows(), *(piece.flows for piece in pieces)]),
            np.concatenate([np.zeros(0, np.int64), *(piece.rows_per_record for piece in pieces)]),
            [poison for piece in pieces for poison in piece.poison],
            sum(piece.passed for piece in pieces),
        )

    def pieces(self, records: Sequence[M]) -> Iterator[tuple[Sequence[M], RawBatch[M]]]:
        """The same piece by piece, with the messages of each: few bytes may hold very much, and so
        no more of it is in memory than one message may hold beside 32 MiB.
        """
        start = size = 0
        for number, record in enumerate(records):
            if record.value:
                try:
                    size += self._take(number - start, record, record.value)
                except Unreadable as error:
                    self._fault(place_of(number - start), str(error))
            if size >= _PIECE_BYTES:
                piece = records[start : number + 1]
                yield piece, self._decoded(piece)
                start, size = number + 1, 0
        if start < len(records):
            yield records[start:], self._decoded(records[start:])

    def _decoded(self, records: Sequence[M]) -> RawBatch[M]:
        self._read_batches()
        told = [*self._told, *self._messages.take(), *self._lines.take()]  # in exports are lines
        self._told, sizes, self._sizes = [], self._sizes, {}
        flows, counts = _in_order(told, len(records))
        faults = sorted(fault for each in told for fault in each.faults)
        poison = list(_poison(records, faults, counts, sizes))
        return RawBatch(flows, counts, poison, sum(each.passed for each in told))

    def _take(self, number: int, record: Message, value: bytes) -> int:
        """Have a message decoded with the others; returns about how many bytes it takes."""
        headers = record.headers
        declared = self._formats.get(record.topic, AUTO)
        plain = not headers and declared in (AUTO, "hubble")
        if plain and value.startswith(_HUBBLE) and b"\n" not in value:
            self._lines.add("hubble", place_of(number), value)  # by far the most frequent
            return len(value)
        content = unpacked(value, headers, self._most_bytes)
        if not content.strip(_BLANK + b"\n"):
            return 0
        kind = kind_of(content, headers, declared)
        match kind.way:
            case "lines":
                self._take_lines(number, kind)
            case "messages":
                self._take_messages(number, kind)
            case "batch":
                stored = read_batch(kind.format, kind.content, headers, self._settings.messages)
                self._batches.append((number, stored))
                if len(self._batches) >= _HELD_BATCHES:
                    self._read_batches()
                return int(stored.estimated_size())
            case _:
                self._take_file(number, kind)
        return len(content)

    def _take_lines(self, number: int, kind: Kind) -> None:
        lines = _lines_of(kind.content)
        if len(lines) > self._most_records:
            raise Unreadable(f"it holds {len(lines):,} lines, more than {self._most_records:,}")
        if len(lines) > 1:
            self._sizes[number] = len(lines)
        for inside, line in enumerate(lines):
            place = place_of(number, inside)
            try:
                format, inner = self._format_of(line, kind.format)
            except Unreadable as error:
                self._fault(place, str(error))
                continue
            if format == "otlp-json":
                self._messages.add(format, place, inner)
            elif format in LINE_FORMATS:
                self._lines.add(format, place, inner)
            elif format:
                self._fault(place, f"{format} can only be read as a whole message of lines")

    @staticmethod
    def _format_of(line: bytes, declared: str) -> tuple[str, bytes]:
        if declared == AUTO:
            return line_format(line)
        if declared.startswith(_SELF_UNWRAPPING):
            return declared, line
        try:
            found, inner = line_format(line)
        except Unreadable:
            return declared, line  # its decoder says what is wrong
        return (found, inner) if found in (declared, "") else (declared, line)

    def _take_messages(self, number: int, kind: Kind) -> None:
        messages = messages_of(kind)
        if len(messages) > self._most_records:
            raise Unreadable(f"it holds {len(messages):,} messages, above {self._most_records:,}")
        if len(messages) > 1:
            self._sizes[number] = len(messages)
        for inside, message in enumerate(messages):
            self._messages.add(kind.format, place_of(number, inside), message)

    def _take_file(self, number: int, kind: Kind) -> None:
        """A message that is a file of its own, with a header that says what its lines mean."""
        parts: list[pl.DataFrame] = []
        rows = 0
        try:
            for batch in self._file(kind).batches():
                parts.append(batch.flows)
                rows += batch.flows.height
                if rows > self._most_records:
                    raise Unreadable(f"it holds more than {self._most_records:,} flows")
                if batch.bad.count:
                    self._sizes.setdefault(number, 0)
                    self._fault(place_of(number), batch.bad.samples[0].removeprefix("it "))
        except SidelongError as error:
            raise Unreadable(error.problem) from error
        place = pl.lit(place_of(number), pl.UInt64).alias(PLACE)
        self._told.append(Told(pl.concat([empty_flows(), *parts]).with_columns(place)))

    def _file(self, kind: Kind) -> Source:
        content = kind.content
        if kind.format == "pcap":
            return PcapFile("it", lambda: io.BytesIO(content), len(content))
        if kind.format == "csv":
            check_csv(self._settings.csv, content[: 64 << 10], "it")
            return UnorderedFile(
                "it", lambda: io.BytesIO(content), None, lambda: CsvLines(self._settings.csv)
            )
        lines = VpcLines if kind.format == "vpc" else ZeekLines
        return UnorderedFile("it", lambda: io.BytesIO(content), None, lines)

    def _read_batches(self) -> None:
        if not self._batches:
            return
        numbers = [number for number, _ in self._batches]
        flows, heights, faults = batch_flows([stored for _, stored in self._batches])
        self._batches = []
        places = np.repeat(np.array([place_of(number) for number in numbers], np.uint64), heights)
        told = [(place_of(numbers[at]), why) for at, why in faults.items()]
        self._told.append(Told(flows.with_columns(pl.Series(PLACE, places)), told))

    def _fault(self, place: int, why: str) -> None:
        self._told.append(Told(None, [(place, why)]))


def _lines_of(content: bytes) -> list[bytes]:
    """The lines of a message that are not blank; elements of an array, and an object that is spread
    over several lines, become one each.
    """
    content = content.removeprefix(_BOM)
    if _ARRAY.match(content):
        try:
            elements = _array(content)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Unreadable(f"not JSON: {str(error)[:80]}") from error
        return [_on_one_line(bytes(element)) for element in elements]
    if b"\n" not in content:
        return [content]
    lines = [line for line in content.split(b"\n") if line.strip(_BLANK)]
    if len(lines) > 1 and lines[0].lstrip(_BLANK).startswith(b"{"):
        try:
            _any(lines[0])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            try:
                return [_on_one_line(content)]
            except (msgspec.MsgspecError, ValueError, RecursionError):
                pass
    return lines


def _on_one_line(content: bytes) -> bytes:
    return msgspec.json.format(content, indent=-1) if b"\n" in content else content


_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_any: Final = msgspec.json.Decoder(msgspec.Raw).decode


def _in_order(told: Sequence[Told], count: int) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    parts = [each.flows for each in told if each.flows is not None and each.flows.height]
    if not parts:
        return empty_flows(), np.zeros(count, np.int64)
    flows = pl.concat(parts)
    if not flows[PLACE].is_sorted():
        flows = flows.sort(PLACE, maintain_order=True)
    of = message_of(flows[PLACE].to_numpy())
    return flows.select(FLOW_SCHEMA.names()), np.bincount(of, minlength=count)


def _poison(
    records: Sequence[M],
    faults: Sequence[tuple[int, str]],
    counts: NDArray[np.int64],
    sizes: Mapping[int, int],
) -> Iterator[Poison[M]]:
    """For each message with faults what to say of them: how many there are, and the first."""
    by_message: dict[int, list[tuple[int, str]]] = {}
    for place, why in faults:
        number, inside = inside_of(place)
        by_message.setdefault(number, []).append((inside, why))
    for number, wrong in by_message.items():
        first, cause = wrong[0]
        if size := sizes.get(number):
            cause = f"{len(wrong):,} of its {size:,} records cannot be read; {first + 1:,}: {cause}"
        yield Poison(records[number], cause, int(counts[number]))
