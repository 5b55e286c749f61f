"""AWS VPC flow logs: one direction of a connection a line, over a minute or ten.

Fields are separated by blanks, in the order that a header line gives, or in that of version 2. Of a
pod behind the VPC CNI only the fields pkt-srcaddr and pkt-dstaddr bear the address: they come
first. A line with SKIPDATA tells of records that were lost.

Source: Amazon VPC User Guide, "Flow log records", versions 2 to 9.
"""

import re
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.checked_rows import checked
from sidelong.ingest.line_files import SAMPLES, Decoded, LineDecoding
from sidelong.ingest.lines import Block
from sidelong.ingest.one_way import flags_in_number
from sidelong.ingest.schema import TCP_FLAGS, conform, empty_flows
from sidelong.ingest.separated import SeparatedLines, columns_of
from sidelong.ingest.text_values import (
    address_of,
    epoch_time,
    is_address,
    is_port_if_any,
    natural,
    port_of,
    protocol_of,
)

__all__ = ["VpcLines"]

_VERSION_2: Final = (
    *("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport"),
    *("protocol", "packets", "bytes", "start", "end", "action", "log-status"),
)
_WANTED: Final = (
    *(name for name in _VERSION_2 if name not in ("version", "account-id")),
    *("instance-id", "pkt-srcaddr", "pkt-dstaddr", "tcp-flags", "flow-direction"),
)
_HEADER: Final = re.compile(rb"[a-z][a-z0-9-]*(?: +[a-z][a-z0-9-]*)+ *\r?")
_BLANK: Final = b" "[0]
_SYN, _ACK = TCP_FLAGS["SYN"], TCP_FLAGS["ACK"]


class VpcLines(LineDecoding):
    """Decodes lines of flow logs, header lines among them. Use as a context manager."""

    def __init__(self) -> None:
        self._fields: tuple[str, ...] = _VERSION_2

    def remember(self, content: bytes) -> None:
        """Take note of the last header line."""
        for line in _headers(SeparatedLines(content)):
            self._take(SeparatedLines(content).line(line))

    def decode(self, block: Block) -> Decoded:
        """The flows and losses of a block of lines."""
        lines = SeparatedLines(block.content)
        begin = 0
        parts: list[Decoded] = []
        for header in _headers(lines):
            parts.append(self._section(block, lines, begin, header))
            self._take(lines.line(header))
            begin = header + 1
        parts.append(self._section(block, lines, begin, lines.ends.size))
        if len(parts) == 1:
            return parts[0]
        faults = [fault for part in parts for fault in part.faults]
        flows = pl.concat([part.flows for part in parts])
        return Decoded(flows, sum(part.bad for part in parts), tuple(faults[:SAMPLES]))

    def _take(self, header: bytes) -> None:
        self._fields = tuple(header.decode().split())

    def _section(self, block: Block, lines: SeparatedLines, begin: int, end: int) -> Decoded:
        filled = lines.filled(begin, end)
        if not filled.size:
            return Decoded(empty_flows())
        found = lines.fields(filled, _BLANK)
        fits = found == len(self._fields)
        good, odd = filled[fits], filled[~fits]
        faults = [
            (line, f"it has {count:,} fields, not {len(self._fields):,}")
            for line, count in zip(odd[:SAMPLES].tolist(), found[~fits].tolist(), strict=False)
        ]
        text = lines.joined(good)
        rows = columns_of(text, good.size, self._fields, _WANTED, separator=" ", unset="-")
        flows, bad, wrong = _flows(rows)
        faults += [(int(good[row]), why) for row, why in wrong]
        starts: NDArray[np.int64] = lines.starts
        placed = sorted((block.start + int(starts[line]), why) for line, why in faults)
        return Decoded(flows, odd.size + bad, tuple(placed[:SAMPLES]))


def _headers(lines: SeparatedLines) -> list[int]:
    """The lines that name fields: they begin with a small letter, which no record does."""
    letters = np.concatenate([lines.beginning_with(letter) for letter in b"abcdefhilnprstv"])
    return [
        line
        for line in np.sort(letters).tolist()
        if _HEADER.fullmatch(lines.line(line)) is not None
    ]


def _flows(rows: pl.DataFrame) -> tuple[pl.DataFrame, int, tuple[tuple[int, str], ...]]:
    rows = rows.with_columns(
        time=epoch_time(pl.col("start")),
        srcaddr=pl.coalesce("pkt-srcaddr", "srcaddr"),
        dstaddr=pl.coalesce("pkt-dstaddr", "dstaddr"),
    ).with_row_index("at")
    status = pl.col("log-status").fill_null("OK")
    wanted = rows.filter(status != "NODATA")
    found = checked(wanted, _CHECKS, wanted["at"])
    good = found.rows
    if good.is_empty():
        return empty_flows(), len(found.bad), found.faults
    skipped = status == "SKIPDATA"
    protocol = protocol_of(pl.col("protocol"))
    ported = protocol.is_in(["TCP", "UDP", "SCTP"])
    denied = pl.col("action") == "REJECT"
    side = pl.col("flow-direction").replace_strict(
        {"ingress": ":ingress", "egress": ":egress"}, default="", return_dtype=pl.String
    )
    flows = good.select(
        "time",
        end=pl.max_horizontal("time", epoch_time(pl.col("end"))),
        src_ip=pl.when(~skipped).then(address_of(pl.col("srcaddr"))),
        dst_ip=pl.when(~skipped).then(address_of(pl.col("dstaddr"))),
        src_port=pl.when(ported).then(port_of(pl.col("srcport"))),
        dst_port=pl.when(ported).then(port_of(pl.col("dstport"))),
        protocol=protocol,
        verdict=pl.when(denied)
        .then(pl.lit("DROPPED"))
        .when(pl.col("action") == "ACCEPT")
        .then(pl.lit("FORWARDED")),
        drop_reason=pl.when(denied).then(pl.lit("POLICY_DENIED")),
        tcp_flags=pl.when(protocol == "TCP").then(_tcp_flags()),
        packets=natural(pl.col("packets")),
        bytes=natural(pl.col("bytes")),
        origin=pl.lit("vpc") + side.fill_null(""),
        node=pl.coalesce("instance-id", "interface-id"),
        lost=pl.when(skipped).then(pl.lit(1, pl.UInt64)),
    )
    return conform(flows), len(found.bad), found.faults


_TOLD: Final = pl.col("log-status").fill_null("OK") == "OK"
_CHECKS: Final = {
    "log-status": pl.col("log-status").fill_null("OK").is_in(["OK", "SKIPDATA"]),
    "start": pl.col("time").is_not_null(),
    **{name: is_address(pl.col(name)) | ~_TOLD for name in ("srcaddr", "dstaddr")},
    **{name: is_port_if_any(pl.col(name)) for name in ("srcport", "dstport")},
}


def _tcp_flags() -> pl.Expr:
    """ACK is only reported together with SYN, so a SYN alone is a client's; any other flag, and
    none, is of a connection that stands, and came with an ACK.
    """
    flags = flags_in_number(pl.col("tcp-flags"))
    opens = (flags & pl.lit(_SYN, pl.UInt8)) != 0
    return pl.when(opens).then(flags).otherwise(flags | pl.lit(_ACK, pl.UInt8))
