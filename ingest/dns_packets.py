"""The DNS messages in packets of port 53, over UDP and over TCP.

Over TCP each message is preceded by its length. Segments that follow each other without a gap are
read as one stream, so that a message or its length may be split; the row belongs to the packet in
which the message begins. Source: RFC 1035 section 4.2, RFC 7766 section 8.
"""

from typing import Final

import numpy as np
import polars as pl

from sidelong.ingest.dns_wire import read_dns
from sidelong.ingest.ip_text import Addresses
from sidelong.ingest.packet_headers import DNS, LOOKAHEAD, TCP, UDP, Bytes, Ints, gather
from sidelong.ingest.packets import OTHER_TRAFFIC, Packets, Protocol
from sidelong.ingest.summaries import flow_keys

__all__ = ["dns_questions"]

_PORT: Final = 53
_PREFIX: Final = 2  # bytes that state the length of a message over TCP


def dns_questions(
    window: Bytes, packets: Packets, addresses: Addresses, slot: Ints
) -> pl.DataFrame:
    """All questions in the packets of port 53: `QUESTIONS` and `packet`, the index of the packet.

    slot: shape (packets,); only segments with the same one are joined. Rows are in the order of the
    packets.
    """
    of_port = ((packets.src_port == _PORT) | (packets.dst_port == _PORT)) & packets.whole
    udp = np.flatnonzero(of_port & (packets.protocol == Protocol.UDP))
    tcp = np.flatnonzero(of_port & (packets.protocol == Protocol.TCP))
    asked = _over_udp(window, packets, udp)
    if tcp.size:
        asked = asked.vstack(_over_tcp(window, packets, addresses, tcp, slot))
    return asked.sort("packet", maintain_order=True)


def _over_udp(window: Bytes, packets: Packets, rows: Ints) -> pl.DataFrame:
    at = packets.payload[rows]
    stated = gather(window, at, UDP)["length"].astype(np.int64)
    end = np.minimum(packets.end[rows], at + stated)
    questions = read_dns(window, at + UDP.itemsize, end)
    return questions.with_columns(packet=rows[questions["message"]])


def _over_tcp(
    window: Bytes, packets: Packets, addresses: Addresses, rows: Ints, slot: Ints
) -> pl.DataFrame:
    header = gather(window, packets.payload[rows], TCP)
    data = packets.payload[rows] + (header["offset"] >> 4).astype(np.int64) * 4
    captured = packets.end[rows] - data
    carries = (captured > 0) & (header["offset"] >> 4 >= 5)
    rows, data, captured = rows[carries], data[carries], captured[carries]
    sequence = header["sequence"][carries].astype(np.int64)
    on_wire = packets.network[rows] + packets.length[rows] - data

    pair, rest = flow_keys(packets, addresses, rows, slot[rows])
    rest &= ~np.uint64(0x1F << 32)  # segments of one stream, whatever their flags
    rest |= np.uint64(OTHER_TRAFFIC << 32)
    order = np.lexsort((rest, pair))  # stable: within a stream by place in the capture
    rows, data, captured = rows[order], data[order], captured[order]
    sequence, on_wire, pair, rest = sequence[order], on_wire[order], pair[order], rest[order]
    joined = np.zeros(rows.size, dtype=np.bool_)
    joined[1:] = (
        (pair[1:] == pair[:-1])
        & (rest[1:] == rest[:-1])
        & (sequence[1:] == (sequence[:-1] + on_wire[:-1]) % (1 << 32))
        & (captured[:-1] == on_wire[:-1])
    )
    ends = np.cumsum(captured)
    begins = ends - captured
    total = int(captured.sum())
    stream = np.zeros(total + LOOKAHEAD, dtype=np.uint8)
    stream[:total] = window[np.arange(total) + np.repeat(data - begins, captured)]

    at = begins[~joined]
    until = np.append(at[1:], total)[: at.size]
    messages, limits = _split(stream, at, until)
    questions = read_dns(stream, messages, limits)
    segment = np.searchsorted(begins, messages - _PREFIX, side="right") - 1
    return questions.with_columns(packet=rows[segment[questions["message"]]])


def _split(stream: Bytes, at: Ints, until: Ints) -> tuple[Ints, Ints]:
    """Begin and end of the messages in the streams that run from `at` to `until`, in order."""
    # One by one: a stream may hold very many, and there are hardly ever many streams.
    data = stream.tobytes()
    begins: list[int] = []
    ends: list[int] = []
    for here, limit in zip(at.tolist(), until.tolist(), strict=True):
        begin = here + _PREFIX
        while begin + DNS.itemsize <= limit:
            length = int.from_bytes(data[begin - _PREFIX : begin], "big")
            if length < DNS.itemsize:
                break
            begins.append(begin)
            ends.append(min(begin + length, limit))
            begin += length + _PREFIX
    return np.array(begins, dtype=np.int64), np.array(ends, dtype=np.int64)
