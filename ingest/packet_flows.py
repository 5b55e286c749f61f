"""Packets to rows of `FLOW_SCHEMA`: DNS questions one by one, everything else summarised."""

from typing import Final

import numpy as np
import polars as pl

from sidelong.ingest.dns_packets import dns_questions
from sidelong.ingest.icmp_errors import REASONS
from sidelong.ingest.ip_text import Addresses, read_addresses
from sidelong.ingest.packet_headers import Bytes, Flags, Ints
from sidelong.ingest.packets import (
    ECHO_REQUEST,
    FLAGS_SEEN,
    UNREACHABLE,
    Packets,
    Protocol,
)
from sidelong.ingest.schema import PROTOCOLS, VERDICTS, conform
from sidelong.ingest.summaries import summarise

__all__ = ["flows_of"]

_TIME: Final = pl.Datetime("ns", "UTC")

# One row for each kind of packet: what the kind alone decides.
_KINDS: Final = pl.DataFrame(
    {
        "reply": [None] * ECHO_REQUEST + [False, True] + [True] * len(REASONS),
        "verdict": [None] * UNREACHABLE + ["ERROR"] * len(REASONS),
        "drop_reason": [None] * UNREACHABLE + list(REASONS),
    },
    schema={"reply": pl.Boolean, "verdict": VERDICTS, "drop_reason": pl.String},
)


def flows_of(window: Bytes, packets: Packets, time: Ints, slot: Ints) -> pl.DataFrame:
    """The flows of a batch of packets, in the order of the first packet of each.

    time: of each packet, in nanoseconds. slot: number of the second each belongs to, below 2**23;
    packets of different slots are never summarised together. Both of shape (packets,).
    """
    addresses = read_addresses(window, packets)
    asked = dns_questions(window, packets, addresses, slot)
    packet = asked["packet"].to_numpy()
    plain = np.ones(packets.frame.size, dtype=np.bool_)
    plain[packet] = False
    rows = np.flatnonzero(plain)
    summaries = summarise(packets, addresses, time, rows, slot[rows])

    # A packet with several questions counts once.
    again = np.zeros(packet.size, dtype=np.bool_)
    again[1:] = packet[1:] == packet[:-1]
    lead = np.concatenate([summaries.lead, packet])
    place = np.argsort(lead, kind="stable")
    lead = lead[place]
    counted = {
        "time": np.concatenate([summaries.first, time[packet]]),
        "end": np.concatenate([summaries.last, time[packet]]),
        "packets": np.concatenate([summaries.count, ~again]),
        "bytes": np.concatenate([summaries.length, np.where(again, 0, packets.length[packet])]),
        "tcp_flags": np.concatenate([summaries.tcp_flags, packets.tcp_flags[packet]]),
    }
    frame = _described(packets, addresses, lead)
    frame = frame.with_columns(pl.Series(name, column[place]) for name, column in counted.items())
    frame = frame.with_columns(
        pl.col("time", "end").cast(_TIME),
        tcp_flags=pl.when(pl.col("tcp_flags") >= FLAGS_SEEN).then(pl.col("tcp_flags") & 0xFF),
    )
    if packet.size:
        frame = _with_questions(frame, asked, place, summaries.lead.size)
    return conform(frame)


def _described(packets: Packets, addresses: Addresses, lead: Ints) -> pl.DataFrame:
    """What every packet says of its flow, for the packets at `lead`."""
    protocol, kind = packets.protocol[lead], packets.kind[lead]
    has_ports = (protocol <= Protocol.UDP) | (protocol == Protocol.SCTP)
    ends = addresses.text(np.concatenate([addresses.src[lead], addresses.dst[lead]]))
    names = pl.Series(PROTOCOLS.categories, dtype=PROTOCOLS)
    return pl.DataFrame(
        {
            "src_ip": ends[: lead.size],
            "dst_ip": ends[lead.size :],
            "src_port": _where(has_ports, packets.src_port[lead]),
            "dst_port": _where(has_ports, packets.dst_port[lead]),
            "protocol": names.gather(protocol),
            **{name: _KINDS[name].gather(kind) for name in _KINDS.columns},
            "origin": pl.repeat("pcap", lead.size, eager=True),
        }
    )


def _where(mask: Flags, values: Ints) -> pl.Series:
    """The values, null where the mask does not hold."""
    frame = pl.DataFrame({"mask": mask, "value": values.astype(np.uint16)})
    return frame.select(pl.when("mask").then("value"))["value"]


def _with_questions(
    frame: pl.DataFrame, asked: pl.DataFrame, place: Ints, summaries: int
) -> pl.DataFrame:
    """Add the DNS columns. place: for each row, its index among summaries first, then questions."""
    index = pl.Series(place - summaries, dtype=pl.Int64)
    index = pl.select(pl.when(index >= 0).then(index)).to_series()
    columns = ["dns_name", "dns_type", "dns_rcode", "dns_answer_bytes", "dns_answers", "reply"]
    found = asked.select(pl.col(column).gather(index) for column in columns)
    reply = pl.coalesce(found["reply"], frame["reply"])
    return frame.with_columns(found.drop("reply")).with_columns(reply)
