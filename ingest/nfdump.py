"""NetFlow and IPFIX as nfdump prints them in JSON: `TZ=UTC nfdump -r FILE -o json`.

The format of nfcapd's files is nfdump's own affair and changes with it, so reading them is left to
it. It prints a field a line; some versions print an object a line with -o ndjson.
Times bear no offset and are taken for UTC.

Source: nfdump 1.7, `src/output/output_json.c`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import polars as pl

from sidelong.ingest.checked_rows import checked
from sidelong.ingest.files import consumed, damage
from sidelong.ingest.flat_json import FlatJson, Format, Records
from sidelong.ingest.lines import LONGEST_LINE
from sidelong.ingest.one_way import flags_in_number, forwarding, summed_flags
from sidelong.ingest.schema import conform, empty_flows, line_of
from sidelong.ingest.source import BadRows, Batch
from sidelong.ingest.spool import Part, in_order
from sidelong.ingest.text_values import (
    address_of,
    flag_letters,
    is_address,
    is_port_if_any,
    iso_time,
    natural,
    port_of,
    protocol_of,
)

__all__ = ["NfdumpArray", "NfdumpLines"]

_FIELDS: Final = (
    *("first", "last", "t_first", "t_last", "proto", "tcp_flags", "fwd_status", "sampled"),
    *(f"{end}{version}_addr" for end in ("src", "dst") for version in (4, 6)),
    *("src_port", "dst_port", "in_packets", "in_bytes", "ip4_router", "ip6_router"),
)
_END: Final = re.compile(rb"\n\}[ \t]*[,\]]?[ \t\r]*(?:\n|\Z)")
_AROUND: Final = b" \t\r\n,[]"
_CHUNK: Final = 1 << 20


def NfdumpLines() -> FlatJson:  # stands for a class
    """Decodes lines of nfdump's JSON, one object each. Use as a context manager."""
    return FlatJson(Format(_FIELDS, _records, "record of nfdump"))


def _records(rows: pl.DataFrame) -> Records:
    rows = rows.with_columns(
        first=pl.coalesce("t_first", "first"),
        last=pl.coalesce("t_last", "last"),
        src_addr=pl.coalesce("src4_addr", "src6_addr"),
        dst_addr=pl.coalesce("dst4_addr", "dst6_addr"),
        protocol=protocol_of(pl.col("proto")),
    ).with_columns(time=iso_time(pl.col("first")))
    # A flow that is not IP, as ARP, has protocol 0 and no addresses.
    other = pl.col("src_addr").is_null() & pl.col("dst_addr").is_null() & (pl.col("proto") == "0")
    wanted = rows.with_row_index("at").filter(~other.fill_null(False))
    found = checked(wanted, _CHECKS, wanted["at"])
    return Records(_flows(found.rows), found.bad, found.faults)


_CHECKS: Final = {
    "first": pl.col("time").is_not_null(),
    **{f"{end}_addr": is_address(pl.col(f"{end}_addr")) for end in ("src", "dst")},
    **{f"{end}_port": is_port_if_any(pl.col(f"{end}_port")) for end in ("src", "dst")},
}


def _flows(rows: pl.DataFrame) -> pl.DataFrame:
    if rows.is_empty():
        return empty_flows()
    packets = natural(pl.col("in_packets"))
    flags = pl.col("tcp_flags")
    tcp = pl.col("protocol") == "TCP"
    ported = pl.col("protocol").is_in(["TCP", "UDP", "SCTP"])
    verdict, reason = forwarding(pl.col("fwd_status"))
    return conform(
        rows.select(
            "time",
            "protocol",
            *line_of(rows),
            packets=packets,
            end=pl.max_horizontal("time", iso_time(pl.col("last"))),
            src_ip=address_of(pl.col("src_addr")),
            dst_ip=address_of(pl.col("dst_addr")),
            src_port=pl.when(ported).then(port_of(pl.col("src_port"))),
            dst_port=pl.when(ported).then(port_of(pl.col("dst_port"))),
            verdict=verdict,
            drop_reason=reason,
            tcp_flags=pl.when(tcp).then(
                summed_flags(pl.coalesce(flag_letters(flags), flags_in_number(flags)), packets)
            ),
            bytes=natural(pl.col("in_bytes")),
            origin=pl.lit("netflow"),
            node=pl.coalesce("ip4_router", "ip6_router"),
        )
    )


@dataclass(frozen=True, slots=True)
class NfdumpArray:
    """Flows out of the objects that nfdump prints, a field a line, in the order of time.

    open: gives the decompressed bytes from their start. rows_per_batch: how many flows are given
    out at once. held_rows: how many are sorted in memory. A position is as in `in_order`.
    """

    name: str
    open: Callable[[], BinaryIO]
    size_bytes: int | None
    rows_per_batch: int = 1 << 18
    held_rows: int = 1 << 19

    def batches(self, since: int = 0) -> Iterator[Batch]:
        """The flows after position `since`; objects that cannot be read are counted in `bad`."""
        size = self.size_bytes or 0
        return in_order(self._parts(), size, since, self.rows_per_batch, self.held_rows)

    def _parts(self) -> Iterator[Part]:
        with self.open() as stream, NfdumpLines() as decoder:
            rest, at, first, last = b"", 0, b"", b""
            while chunk := stream.read(_CHUNK):
                text = rest + chunk
                first = first or text.lstrip()[:1]
                last = text.rstrip()[-1:] or last
                done = 0
                objects: list[bytes] = []
                starts: list[int] = []
                for end in _END.finditer(text, 0, len(text) - 1):  # it may go on behind its brace
                    _put(text[done : end.end()], at + done, objects, starts)
                    done = end.end()
                yield self._part(decoder, objects, starts, consumed(stream, at + len(text)))
                rest, at = text[done:], at + done
                if len(rest) > LONGEST_LINE:
                    yield Part(empty_flows(), self._bad(at, "longer than any object"), at)
                    rest, at = b"", at + len(rest)
            objects, starts = [], []
            _put(rest, at, objects, starts)
            yield self._part(decoder, objects, starts, consumed(stream, at + len(rest)))
            ended = last == (b"]" if first == b"[" else b"}")  # without brackets by -q
            if why := damage(stream) or ("cut off" if first and not ended else ""):
                bad = BadRows(1, (f"{self.name}: {why}; what came before was read",))
                yield Part(empty_flows(), bad, consumed(stream, at))

    def _part(self, decoder: FlatJson, objects: list[bytes], starts: list[int], read: int) -> Part:
        found = decoder.decode_each(objects, starts)
        bad = [self._bad(start, why) for start, why in found.faults]
        samples = tuple(sample for one in bad for sample in one.samples)
        return Part(found.flows, BadRows(found.bad, samples), read)

    def _bad(self, at: int, why: str) -> BadRows:
        return BadRows(1, (f"{self.name} at byte {at:,}: {why}",))


def _put(text: bytes, at: int, objects: list[bytes], starts: list[int]) -> None:
    """An object on a line of its own, if there is one in the text."""
    plain = text.lstrip(_AROUND)
    if plain:
        starts.append(at + len(text) - len(plain))
        objects.append(plain.rstrip(_AROUND).replace(b"\n", b" "))
