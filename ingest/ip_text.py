"""IP addresses as small numbers while packets are counted, as text once per distinct address."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.ingest.packet_headers import IPV4, IPV6, Bytes, Flags, Ints, gather
from sidelong.ingest.packets import Packets

__all__ = ["Addresses", "read_addresses", "text_at"]

_SIX: Final = 1 << 32  # from here on a number is an index among the IPv6 addresses
_FOUR_BYTES: Final = np.dtype([("address", ">u4")])
_SIXTEEN_BYTES: Final = np.dtype([("address", ">u8", (2,))])
_OCTETS: Final = pl.Series([str(octet) for octet in range(256)])
_NO_SIX: Final[NDArray[np.uint64]] = np.zeros((0, 2), dtype=np.uint64)


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
        return _text(numbers, self.six)


def text_at(window: Bytes, at: Ints, wide: Flags) -> pl.Series:
    """The address at each offset as RFC 5952 writes it: 16 bytes where `wide`, else 4."""
    numbers = gather(window, at, _FOUR_BYTES)["address"].astype(np.int64)
    six = _NO_SIX
    if wide.any():
        numbers[wide], six = _numbered(gather(window, at[wide], _SIXTEEN_BYTES)["address"])
    return _text(numbers, six)


def _text(numbers: Ints, six: NDArray[np.uint64]) -> pl.Series:
    distinct, place = np.unique(numbers, return_inverse=True)
    four = distinct[distinct < _SIX]
    octets = [_OCTETS.gather(four >> shift & 0xFF) for shift in (24, 16, 8, 0)]
    dotted = pl.select(pl.concat_str(octets, separator=".")).to_series()
    halves = six[distinct[distinct >= _SIX] - _SIX].tolist()
    spelt = pl.Series([_spell(high << 64 | low) for high, low in halves], dtype=pl.String)
    return pl.concat([dotted, spelt]).gather(place)


@lru_cache(maxsize=65_536)
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
    six = _NO_SIX
    if rows.size:
        six_header = gather(window, packets.network[rows], IPV6)
        numbers, six = _numbered(np.concatenate([six_header["src"], six_header["dst"]]))
        src[rows], dst[rows] = numbers[: rows.size], numbers[rows.size :]
    turned = packets.turned
    if turned.any():
        src, dst = np.where(turned, dst, src), np.where(turned, src, dst)
    return Addresses(src, dst, six)


def _numbered(halves: NDArray[Any]) -> tuple[Ints, NDArray[np.uint64]]:
    """The number of each IPv6 address, given as two halves, and the distinct ones as `six`."""
    high, high_place = np.unique(halves[:, 0], return_inverse=True)
    low, low_place = np.unique(halves[:, 1], return_inverse=True)
    pairs, place = np.unique(high_place * low.size + low_place, return_inverse=True)
    six = np.stack([high[pairs // low.size], low[pairs % low.size]], axis=1)
    return _SIX + place, six.astype(np.uint64)
