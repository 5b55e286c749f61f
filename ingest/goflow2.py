"""NetFlow, IPFIX and sFlow as goflow2 writes them in JSON.

A record is one direction of a flow, or with sFlow one packet of many. Sampled records bear their
rate: packets and bytes stay as they were exported, and what was left unseen is counted as lost, for
whoever samples is blind to scans.

Source: goflow2 v2 and v3, `producer/proto` and its `cmd/goflow2/mapping.yaml`.
"""

from typing import Final

import polars as pl

from sidelong.ingest.checked_rows import checked
from sidelong.ingest.flat_json import FlatJson, Format, Records
from sidelong.ingest.one_way import flags_in_number, forwarding, summed_flags
from sidelong.ingest.schema import conform, empty_flows, line_of
from sidelong.ingest.text_values import (
    address_of,
    epoch_time,
    is_address,
    is_port_if_any,
    iso_time,
    natural,
    port_of,
    protocol_of,
)

__all__ = ["GOFLOW2", "Goflow2Lines"]

_TIMES: Final = ("time_flow_start_ns", "time_flow_end_ns", "time_received_ns")
_FIELDS: Final = (
    *("type", *_TIMES, "sampling_rate", "sampler_address", "bytes", "packets", "etype", "proto"),
    *("src_addr", "dst_addr", "src_port", "dst_port", "tcp_flags", "forwarding_status"),
)
_IP: Final = ("IPv4", "IPv6", "2048", "34525")
_NS: Final = 1_000_000_000
_MOST: Final = 1 << 31  # packets, or a rate: their product fits 64 bits


def Goflow2Lines() -> FlatJson:  # stands for a class
    """Decodes lines of goflow2's JSON. Use as a context manager."""
    return FlatJson(GOFLOW2)


def _records(rows: pl.DataFrame) -> Records:
    start, end, received = (_time(name) for name in _TIMES)
    rows = rows.with_columns(
        time=pl.coalesce(start, received),
        end=pl.coalesce(end, start, received),
        protocol=protocol_of(pl.col("proto")),
    )
    # A frame that is not IP has no addresses, or empty ones.
    other = ~pl.col("etype").is_in(_IP) & (pl.col("src_addr").fill_null("") == "")
    wanted = rows.with_row_index("at").filter(~other.fill_null(False))
    found = checked(wanted, _CHECKS, wanted["at"])
    return Records(_flows(found.rows), found.bad, found.faults)


def _time(name: str) -> pl.Expr:
    """A number of nanoseconds, or a date where it is configured so; 0 stands for none."""
    number = epoch_time(pl.col(name), _NS)
    known = pl.when(pl.col(name) != "0").then(number)
    return pl.coalesce(known, iso_time(pl.col(name)))


_CHECKS: Final = {
    "time_flow_start_ns": pl.col("time").is_not_null(),
    **{f"{end}_addr": is_address(pl.col(f"{end}_addr")) for end in ("src", "dst")},
    **{f"{end}_port": is_port_if_any(pl.col(f"{end}_port")) for end in ("src", "dst")},
}


def _flows(rows: pl.DataFrame) -> pl.DataFrame:
    if rows.is_empty():
        return empty_flows()
    packets = natural(pl.col("packets"))
    rate = natural(pl.col("sampling_rate")).fill_null(0).clip(1, _MOST)
    unseen = packets.fill_null(1).clip(upper_bound=_MOST) * (rate - 1)
    tcp = pl.col("protocol") == "TCP"
    ported = pl.col("protocol").is_in(["TCP", "UDP", "SCTP"])
    verdict, reason = forwarding(pl.col("forwarding_status"))
    return conform(
        rows.select(
            "time",
            "protocol",
            *line_of(rows),
            end=pl.max_horizontal("time", "end"),
            src_ip=address_of(pl.col("src_addr")),
            dst_ip=address_of(pl.col("dst_addr")),
            src_port=pl.when(ported).then(port_of(pl.col("src_port"))),
            dst_port=pl.when(ported).then(port_of(pl.col("dst_port"))),
            verdict=verdict,
            drop_reason=reason,
            tcp_flags=pl.when(tcp).then(
                summed_flags(flags_in_number(pl.col("tcp_flags")), packets)
            ),
            packets=packets,
            bytes=natural(pl.col("bytes")),
            origin=pl.lit("netflow"),
            node="sampler_address",
            lost=pl.when(unseen > 0).then(unseen),
        )
    )


GOFLOW2: Final = Format(_FIELDS, _records, "record of goflow2")
"""The format of its records; every column text."""
