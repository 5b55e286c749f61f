"""Packet captures as a source of flows: pcap and pcapng, of any size, from files or pipes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np

from sidelong.errors import SourceError
from sidelong.ingest.capture import NO_TIME, Format, Records
from sidelong.ingest.files import Stream, consumed, damage, idle
from sidelong.ingest.ip_packets import Fault
from sidelong.ingest.link_layers import LINK_TYPES
from sidelong.ingest.packet_flows import flows_of
from sidelong.ingest.packet_headers import LOOKAHEAD, Bytes, Ints
from sidelong.ingest.packets import dissect
from sidelong.ingest.pcap_blocks import PCAP_HEADER, PcapFormat
from sidelong.ingest.pcapng_blocks import SECTION, PcapngFormat
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.seconds import slots, span_starts
from sidelong.ingest.source import BadRows, Batch

__all__ = ["PcapFile"]

_PIECE: Final = 1 << 24  # bytes read at a time
_BATCH_BYTES: Final = 1 << 23  # a batch is not kept waiting for more packets beyond this
_SAMPLES: Final = 5

_FAULTS: Final = {
    Fault.CUT_IN_LINK: "cut off inside its link header",
    Fault.CUT_IN_IP: "cut off inside its IP header",
    Fault.MALFORMED_IP: "its IP header contradicts itself",
    Fault.CUT_BEFORE_PORTS: "cut off before its ports",
}


@dataclass(frozen=True, slots=True)
class PcapFile:
    """Flows out of a capture, pcap or pcapng.

    open: gives a fresh stream of the capture, decompressed, from its first byte; it need not be
    seekable. packets_per_batch: a batch ends at the first whole second behind this many packets.

    Packets are summarised per directed 5-tuple and second, SYN, SYN-ACK and RST apart from the
    rest; a question to or from DNS is a row of its own, of which the first of a packet counts the
    packet and its bytes. Rows are in the order of their first packets. `reply` is known only for
    DNS, echo and unreachable messages. What is not IP is no flow.

    A position is the offset of the first record not yet covered, in the decompressed stream.
    """

    name: str
    open: Callable[[], BinaryIO]
    size_bytes: int | None = None
    packets_per_batch: int = 200_000

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows from position `since` on. Errors: SourceError when this is no capture, or one
        of a link type that is not supported."""
        with self.open() as stream:
            yield from self._batches(stream, since)

    def _batches(self, stream: BinaryIO, since: int) -> Iterator[Batch]:
        form, base, rest = self._recognise(stream)
        walked, ended = base, False
        waiting = Records.none()
        while not ended:
            piece, ended = _read_piece(stream)
            data = b"".join([rest, piece, bytes(LOOKAHEAD)])
            window, size = np.frombuffer(data, np.uint8), len(data) - LOOKAHEAD
            seen = walked - base
            found = form.find(window[seen:], walked, size - seen)
            walked = found.following
            trouble = found.damage or (
                _trouble_at_end(stream, walked, base + size) if ended else None
            )
            ended |= trouble is not None

            new = int(np.searchsorted(found.records.position, since))
            waiting = Records.join([waiting, found.records.part(slice(new, None))])
            done = 0
            for starts, stop in self._stops(waiting, ended=ended, eager=len(piece) < _PIECE):
                part = waiting.part(slice(done, stop))
                following = int(waiting.position[stop]) if stop < len(waiting) else walked
                read = consumed(stream, otherwise=following)
                yield self._batch(window, base, part, starts, following, read)
                done = stop
            if trouble is not None and walked >= since:
                end = base + size
                bad = BadRows(1, (f"{self.name}: {trouble}",))
                yield Batch(empty_flows(), end, consumed(stream, otherwise=end), bad)
            waiting = waiting.part(slice(done, None))
            kept = int(waiting.position[0]) if len(waiting) else walked
            base, rest = kept, data[kept - base : size]

    def _recognise(self, stream: BinaryIO) -> tuple[Format, int, bytes]:
        """The format, the offset of its first record, and what was read from there on."""
        header = _read(stream, PCAP_HEADER)
        if header.startswith(SECTION):
            return PcapngFormat(self.name), 0, header
        if len(header) < PCAP_HEADER:
            raise SourceError(
                f"{self.name} has {len(header)} bytes, too few for a capture",
                hint="give a capture as tcpdump, dumpcap or Wireshark save it",
            )
        return PcapFormat(self.name, header), PCAP_HEADER, b""

    def _stops(self, waiting: Records, *, ended: bool, eager: bool) -> Iterator[tuple[Ints, int]]:
        """Where batches end among the records, each with the beginnings of the spans in it,
        counted from the beginning of the batch. eager: even a small batch is due."""
        if not len(waiting):
            return
        starts = span_starts(waiting.time, waiting.position)
        stops = np.append(starts, len(waiting)) if ended else starts
        begin, last = 0, int(stops[-1])
        while begin < last:
            many = int(np.searchsorted(stops, begin + self.packets_per_batch))
            if many < stops.size:
                stop = int(stops[many])
            elif eager or ended or waiting.position[-1] - waiting.position[begin] >= _BATCH_BYTES:
                stop = last
            else:
                return
            inside = slice(*np.searchsorted(starts, [begin, stop]).tolist())
            yield starts[inside] - begin, stop
            begin = stop

    def _batch(
        self,
        window: Bytes,
        base: int,
        records: Records,
        starts: Ints,
        following: int,
        read_bytes: int,
    ) -> Batch:
        """The flows of some whole spans, which begin at `starts`."""
        lengths = np.diff(np.append(starts, len(records)))
        span = np.repeat(np.arange(starts.size), lengths)
        timeless = records.time == NO_TIME
        foreign = ~np.isin(records.link, list(LINK_TYPES))
        usable = np.flatnonzero(~(timeless | foreign))
        if usable.size < len(records):
            read, span = records.part(usable), span[usable]
        else:
            read = records
        begin = read.begin - base
        packets, fault = dissect(
            window, begin, begin + read.captured, begin + read.wire, read.link, span
        )
        slot = slots(read.time, span)
        flows = flows_of(window, packets, read.time[packets.frame], slot[packets.frame])
        bad = _Bad(self.name, records)
        bad.add(np.flatnonzero(timeless & ~foreign), "its time is outside of 1990 to 2100")
        for number in np.unique(records.link[foreign]).tolist():
            bad.add(np.flatnonzero(records.link == number), f"link type {number} is not supported")
        for number, reason in _FAULTS.items():
            bad.add(usable[fault == number], reason)
        return Batch(flows, following, read_bytes, bad.rows())


class _Bad:
    """Counts the records that could not be read and keeps the first few reasons."""

    def __init__(self, name: str, records: Records) -> None:
        self._name = name
        self._position = records.position
        self._count = 0
        self._samples: list[tuple[int, str]] = []

    def add(self, which: Ints, reason: str) -> None:
        """Count the records at `which`, ascending."""
        self._count += which.size
        places = self._position[which[:_SAMPLES]].tolist()
        self._samples += [(place, reason) for place in places]

    def rows(self) -> BadRows:
        first = sorted(self._samples)[:_SAMPLES]
        return BadRows(
            self._count,
            tuple(f"{self._name}: packet at byte {place}: {reason}" for place, reason in first),
        )


def _read(stream: BinaryIO, size: int) -> bytes:
    """The next `size` bytes, fewer only at the end."""
    pieces: list[bytes] = []
    while size and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _read_piece(stream: BinaryIO) -> tuple[bytes, bool]:
    """What comes next, and whether the stream ended. Less than `_PIECE` also when a pipe pauses:
    what has arrived is then worth looking at."""
    pieces: list[bytes] = []
    left = _PIECE
    while left:
        piece = stream.read1(left) if isinstance(stream, Stream) else stream.read(left)
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        left -= len(piece)
        if idle(stream):
            break
    return b"".join(pieces), False


def _trouble_at_end(stream: BinaryIO, walked: int, end: int) -> str | None:
    """What is wrong with a stream that ended at `end`, its last whole record at `walked`."""
    inside = f"cut off inside the record at byte {walked}" if walked < end else None
    reasons = [reason for reason in (damage(stream), inside) if reason]
    return ", ".join(reasons) or None
