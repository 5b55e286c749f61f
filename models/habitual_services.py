"""Services that a workload calls everywhere: how a scraper or a gateway works.

Who calls the same port of three peers or more will call it on the next one too, as soon as that has
an address, and before it listens.
"""

from typing import Final

import polars as pl

from sidelong.models.baseline import Baseline

__all__ = ["HABITUAL", "habitual_services"]

HABITUAL: Final = ("actor", "edge_port", "protocol")
_PEERS: Final = 3


def habitual_services(baseline: Baseline) -> pl.DataFrame:
    """(actor, port, protocol) that the actor uses towards three peers or more."""
    peers = baseline.contacts.group_by(HABITUAL).agg(pl.col("peer").n_unique())
    return peers.filter(pl.col("peer") >= _PEERS).select(HABITUAL)
