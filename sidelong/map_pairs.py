"""Edges as they are drawn: one for all ports between two workloads."""

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from sidelong.service_map import STATES, Graph

__all__ = ["pairs", "ports_told", "strength"]

_FEW: Final = 2
_PAIR: Final = ("src", "dst")


def pairs(graph: Graph) -> pl.DataFrame:
    """One row per (src, dst), in order: the sums of its edges, its strangest state, and in `ports`
    the ports that are in that state, such as `5432/TCP`, with `more`, the number of all of those.
    """
    state = pl.col("state").to_physical()
    strangest = state == state.max()
    port = (
        pl.when(pl.col("protocol").is_in(["DNS", "ICMP"]))
        .then("protocol")
        .when(pl.col("port") == 0)
        .then("dynamic/" + pl.col("protocol"))
        .when(pl.col("protocol") == "OTHER")
        .then(pl.col("port").cast(pl.String))
        .otherwise(pl.col("port").cast(pl.String) + "/" + pl.col("protocol"))
    )
    told = pl.col("bytes").is_not_null().any()
    return (
        graph.edges.with_columns(told=port)
        .sort("src", "dst", "port", "protocol", nulls_last=True)
        .group_by(_PAIR, maintain_order=True)
        .agg(
            pl.col("events", "denied", "failed", "active_seconds").sum(),
            pl.when(told).then(pl.col("bytes").sum()),
            pl.col("first_seen").min(),
            pl.col("last_seen").max(),
            ports=pl.col("told").filter(strangest).head(_FEW + 1),
            more=strangest.sum().cast(pl.Int64),
            looked=pl.lit(graph.edges["events"].sum() > 0),
            incident=pl.col("incident").filter(strangest).drop_nulls().first(),
            state=state.max().replace_strict(dict(enumerate(STATES)), return_dtype=pl.Enum(STATES)),
        )
    )


def ports_told(pair: Mapping[str, Any]) -> str:
    """The ports of a pair in few words: `5432`, `53/UDP, 53`, or how many.

    >>> ports_told({"ports": ["53/UDP", "53/TCP"], "more": 2}), ports_told({"ports": [], "more": 9})
    ('53/UDP, 53', '9 ports')
    """
    if pair["more"] > _FEW:
        return f"{pair['more']:,} ports"
    return ", ".join(port.removesuffix("/TCP") for port in pair["ports"])


def strength(pair: Mapping[str, Any]) -> str:
    """What was seen of a pair in a few words, or what the baseline knows where nothing was.

    >>> strength({"events": 0, "active_seconds": 378, "looked": True, "state": "known"})
    'not seen here, 378 active seconds in the baseline'
    """
    if pair["events"]:
        told = [f"{pair['events']:,} event{'' if pair['events'] == 1 else 's'}"]
        told += [f"{pair[name]:,} {name}" for name in ("denied", "failed") if pair[name]]
        return ", ".join(told)
    if pair["state"] == "strange":
        return "asked for"
    many = pair["active_seconds"]
    seconds = f"{many:,} active second{'' if many == 1 else 's'}"
    return f"not seen here, {seconds} in the baseline" if pair["looked"] else seconds
