"""Services that a workload calls everywhere: how a scraper or a gateway works.

Who calls the same port of many peers will call it on the next one too, as soon as that has an
address, and before it listens.
"""

from typing import Final

import polars as pl

from sidelong.models.baseline import Baseline

__all__ = ["HABITUAL", "habitual_services"]

HABITUAL: Final = ("actor", "edge_port", "protocol")


def habitual_services(baseline: Baseline, peers: int) -> pl.DataFrame:
    """(actor, port, protocol) that the actor uses towards so many peers or more."""
    found = baseline.contacts.group_by(HABITUAL).agg(pl.col("peer").n_unique())
    return found.filter(pl.col("peer") >= peers).select(HABITUAL)
