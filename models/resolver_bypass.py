"""Resolver bypass: a workload that asks a DNS server of its own choosing.

Behind the cluster's resolver every name is seen; past it a tunnel can hide, encrypted even. So the
first use of another server is evidence in itself, for a workload whose habits are known: the rarity
of the edge, and that at most one benign new edge in a hundred is of this kind.
"""

from typing import Final

import numpy as np
import polars as pl

from sidelong.models.baseline import Baseline
from sidelong.models.evidence import ALERT, NO_EVIDENCE, PARTS, as_evidence, micro_nats
from sidelong.models.rarity import Rarity

__all__ = ["PUBLIC_RESOLVERS", "ResolverBypassDetector"]

_UNUSUAL: Final = micro_nats(np.log(100))
_DNS, _DNS_OVER_TLS, _HTTPS = 53, 853, 443

PUBLIC_RESOLVERS: Final = (
    "1.0.0.1",
    "1.1.1.1",
    "8.8.4.4",
    "8.8.8.8",
    "9.9.9.9",
    "94.140.14.14",
    "149.112.112.112",
    "208.67.220.220",
    "208.67.222.222",
)
"""Resolvers that also answer over HTTPS, where nothing but the address tells."""


class ResolverBypassDetector:
    """Judges new edges to DNS servers that the baseline does not know; it has no state."""

    def __init__(self, baseline: Baseline, rarity: Rarity) -> None:
        self._rarity = rarity
        servers = baseline.contacts.filter(pl.col("edge_port") == _DNS)["peer"]
        self._resolvers = servers.unique().implode()

    def judge(self, new_edges: pl.DataFrame) -> pl.DataFrame:
        """Evidence from new edges (`Edges.observe`), one row for each unknown DNS server."""
        if new_edges.is_empty():
            return NO_EVIDENCE
        port = pl.col("edge_port")
        rows = new_edges.filter(
            port.is_in([_DNS, _DNS_OVER_TLS])
            | ((port == _HTTPS) & pl.col("peer_ip").is_in(PUBLIC_RESOLVERS)),
            ~pl.col("peer").is_in(self._resolvers),
            # A resolver may well ask others: that is what it is for.
            ~pl.col("actor").is_in(self._resolvers),
        )
        if rows.is_empty():
            return NO_EVIDENCE
        rows = self._rarity.of(rows).filter(pl.col("active_seconds") > 0)
        server = pl.format("{}:{}", "peer_ip", "port")
        part = pl.struct(
            feature=pl.lit("unknown_resolver"),
            observed=server,
            expected=pl.lit("the resolvers of the baseline"),
            log_evidence=pl.col("rarity") + _UNUSUAL,
        )
        return as_evidence(
            rows.with_columns(
                kind=pl.lit("dns_exfiltration"),
                statistic=pl.lit("bypass"),
                sub=pl.lit(2),
                group="edge",
                object="peer",
                object_ip="peer_ip",
                reason=pl.lit("UNKNOWN_RESOLVER"),
                log_evidence=pl.col("rarity") + _UNUSUAL,
                level=pl.col("rarity") + _UNUSUAL,
                decisive=pl.col("rarity") + _UNUSUAL >= ALERT,
                parts=pl.concat_list(part).cast(PARTS),
            ).filter(~pl.col("again") | pl.col("decisive"))
        )
