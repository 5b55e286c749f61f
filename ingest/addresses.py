"""What an address alone says: inside or outside, and of which network.

All functions take addresses as text in the form of RFC 5952, as flows carry them.
"""

from typing import Final

import polars as pl

__all__ = ["external_network", "has_one_owner"]

_IPV4: Final = r"^(?:::ffff:)?(?<a>\d{1,3})\.(?<b>\d{1,3})\.(?<c>\d{1,3})\.\d{1,3}$"
_GLOBAL_IPV6: Final = r"^(?<a>[23][0-9a-f]{3}):(?<b>[0-9a-f]{0,4})"  # 2000::/3


_V4: Final = (
    pl.col("ip")
    .str.extract_groups(_IPV4)
    .cast(pl.Struct({part: pl.Int16() for part in "abc"}), strict=False)
    .alias("v4")
)
_V6: Final = pl.col("ip").str.extract_groups(_GLOBAL_IPV6).alias("v6")


def _network() -> pl.Expr:
    """The network of an address by its parts."""
    a, b, c = (pl.col("v4").struct.field(part) for part in "abc")
    inside = (
        a.is_in([0, 10, 127])
        | (a >= 224)
        | ((a == 100) & b.is_between(64, 127))
        | ((a == 169) & (b == 254))
        | ((a == 172) & b.is_between(16, 31))
        | ((a == 192) & (b == 168))
        | ((a == 192) & (b == 0) & (c == 0))
    )
    v6 = pl.col("v6").struct
    group = v6.field("b").str.strip_chars_start("0")
    separator = pl.when(group == "").then(pl.lit("")).otherwise(pl.lit(":"))
    return (
        pl.when(a.is_not_null() & ~inside)
        .then(pl.format("{}.{}.0.0/16", a, b))
        .when(a.is_null() & v6.field("a").is_not_null())
        .then(pl.format("{}{}{}::/32", v6.field("a"), separator, group))
    )


_NETWORK: Final = _network()


def external_network(addresses: pl.Series) -> pl.Series:
    """The network around each address outside: `a.b.0.0/16`, in IPv6 `a:b::/32`; null inside.

    Outside is what is routed globally, and what stands for it in examples and labs: 192.0.2.0/24,
    198.51.100.0/24, 203.0.113.0/24, 198.18.0.0/15 and 2001:db8::/32. Everything else is inside,
    such as private, shared, link-local, loopback, multicast, broadcast and reserved addresses, and
    text that is no address. An IPv4 address mapped into IPv6 counts as itself.

    Source: the IANA special-purpose address registries (RFC 6890, RFC 5737, RFC 3849).
    """
    if addresses.is_empty():
        return addresses
    parts = pl.DataFrame({"ip": addresses}).select_seq(_V4, _V6)
    return parts.select_seq(_NETWORK).to_series()


def has_one_owner(address: pl.Expr) -> pl.Expr:
    """Whether an address belongs to one owner in the cluster at a time.

    Loopback, link-local, unspecified and multicast addresses do not: every pod has its own
    127.0.0.1, so nothing learnt of it on one pod holds on another.
    """
    shared = (
        r"^(?:127\.|169\.254\.|22[4-9]\.|23\d\.|255\.255\.255\.255$|0\.0\.0\.0$|::1?$|fe80:|ff)"
    )
    return ~address.str.contains(shared)
