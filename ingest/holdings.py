"""One holding: an address, who held it, from when until when."""

from datetime import UTC, datetime
from typing import Final, NamedTuple

import polars as pl

__all__ = ["POD_SCHEMA", "Holding", "nanoseconds"]

POD_SCHEMA: Final = pl.Schema(
    {
        "ip": pl.String(),
        "name": pl.String(),
        "namespace": pl.String(),
        "workload": pl.String(),
        "pod": pl.String(),
        "since": pl.Datetime("ns", "UTC"),
        "until": pl.Datetime("ns", "UTC"),
    }
)
"""One row per address and holder. `name` is the identity, namespace/workload, a domain outside the
cluster, or `reserved:host`; `pod` is namespace/pod. `since` is included, `until` is not; null means
without bound."""


class Holding(NamedTuple):
    """One row of `POD_SCHEMA`; times in nanoseconds."""

    ip: str
    name: str
    namespace: str | None = None
    workload: str | None = None
    pod: str | None = None
    since: int | None = None
    until: int | None = None


def nanoseconds(moment: datetime | float) -> int:
    """A moment, UTC if it does not say, or seconds since 1970, to the microsecond.

    Year 9999, beyond 64 bits, becomes the last moment within them.
    """
    if isinstance(moment, datetime):
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return max(-(2**63), min(round(moment * 1_000_000) * 1000, 2**63 - 1))
