"""IP addresses as small numbers while packets are counted, as text once per distinct address."""

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.packet_headers import IPV4, IPV6, Bytes, Ints, gather
from sidelong.ingest.packets import Packets

__all__ = ["Addresses", "read_addresses"]

_SIX: Final = 1 << 32  # from here on a number is an index among the IPv6 addresses


@dataclass(frozen=True, slots=True)
class Addresses:
    """Who sent and who receives each packet: src, dst, shape (n,), below 2**33.

    An IPv4 address is its own number; an IPv6 address is 2**32 plus its index in `six`, whose two
    columns are the upper and the lower half.
    """

    src: Ints
    dst: Ints
    six: NDArray[np.uint64]

    def text(self, numbers: Ints) -> pl.Series:
        """Those addresses as RFC 5952 writes them, one String for each."""
        distinct, place = np.unique(numbers, return_inverse=True)
        four = pl.Series(distinct[distinct < _SIX])
        octets = [(four // (1 << shift) % 256).cast(pl.String) for shift in (24, 16, 8, 0)]
        dotted = pl.select(pl.concat_str(octets, separator=".")).to_series()
        halves = self.six[distinct[distinct >= _SIX] - _SIX].tolist()
        spelt = pl.Series([_spell(high << 64 | low) for high, low in halves], dtype=pl.String)
        return pl.concat([dotted, spelt]).gather(place)


def _spell(number: int) -> str:
    address = IPv6Address(number)
    mapped = address.ipv4_mapped
    # RFC 5952 section 5; not every version of Python follows it by itself.
    return str(address) if mapped is None else f"::ffff:{mapped}"


def read_addresses(window: Bytes, packets: Packets) -> Addresses:
    """The addresses in the IP headers of `packets`."""
    header = gather(window, packets.network, IPV4)
    src, dst = header["src"].astype(np.int64), header["dst"].astype(np.int64)
    rows = np.flatnonzero(packets.version == 6)
    six = np.zeros((0, 2), dtype=np.uint64)
    if rows.size:
        six_header = gather(window, packets.network[rows], IPV6)
        both = np.concatenate([six_header["src"], six_header["dst"]]).astype(np.uint64)
        high, high_place = np.unique(both[:, 0], return_inverse=True)
        low, low_place = np.unique(both[:, 1], return_inverse=True)
        pairs, place = np.unique(high_place * low.size + low_place, return_inverse=True)
        six = np.stack([high[pairs // low.size], low[pairs % low.size]], axis=1)
        src[rows], dst[rows] = _SIX + place[: rows.size], _SIX + place[rows.size :]
    turned = packets.turned
    if turned.any():
        src, dst = np.where(turned, dst, src), np.where(turned, src, dst)
    return Addresses(src, dst, six)
