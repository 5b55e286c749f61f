"""From the totals of closed windows to the frames that the catalogue describes."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from sidelong.features.catalogue import (
    CALLED_WINDOW,
    CATALOGUE,
    DOMAIN_WINDOW,
    EDGE_WINDOW,
    KEYS,
    WINDOW_NS,
    WORKLOAD_WINDOW,
)
from sidelong.features.sides import is_external
from sidelong.features.window_totals import EDGE_SUMS
from sidelong.ingest.keys import hash_columns

__all__ = ["domain_windows", "edge_windows", "fan_in", "workload_windows"]

_TIME: Final = WORKLOAD_WINDOW["window"]
_HOUR_NS: Final = 3_600_000_000_000
_WEEK: Final = 168
_THURSDAY: Final = 72  # hours since Monday when 1970 began

_FRAMES: Final[Mapping[str, pl.Schema]] = {
    "workload": WORKLOAD_WINDOW,
    "edge": EDGE_WINDOW,
    "domain": DOMAIN_WINDOW,
    "called": CALLED_WINDOW,
}

# What a window knows of its place in the stream, the same for all windows of a minute.
_OF_THE_MINUTE: Final = ("closed_row", "stream_rows", "stream_lost")


def edge_windows(totals: pl.DataFrame) -> pl.DataFrame:
    """Frames of `EDGE_WINDOW` from totals, their rhythm and their place in the stream."""
    return _framed("edge", totals.with_columns(last_row="row"))


def domain_windows(totals: pl.DataFrame) -> pl.DataFrame:
    """Frames of `DOMAIN_WINDOW` likewise; names within the cluster have no domain."""
    rows = totals.filter(pl.col("domain").is_not_null())
    return _framed("domain", rows.with_columns(last_row="row"))


def workload_windows(edges: pl.DataFrame, lookups: pl.DataFrame) -> pl.DataFrame:
    """Frames of `WORKLOAD_WINDOW` from the totals of their edges and of their lookups."""
    peer = pl.col("peer")
    service = pl.col("edge_port").cast(pl.Int32) * 8 + pl.col("protocol").to_physical()
    whole = (
        edges.sort("row", "group")
        .group_by("actor", "window")
        .agg(
            pl.col("actor_pod", "actor_ip").last(),
            pl.col(_OF_THE_MINUTE).first(),
            pl.col(EDGE_SUMS).sum(),
            pl.col("seconds").bitwise_or(),
            last_row=pl.col("row").max(),
            last_ns=pl.col("last_ns").max(),
            edges=pl.len(),
            peers=peer.n_unique(),
            external_peers=peer.filter(is_external(peer)).n_unique(),
            ports=service.n_unique(),
        )
    )
    outside = pl.col("domain").is_not_null()
    asked = lookups.group_by("actor", "window").agg(
        pl.col("queries", "replies", "nxdomain").sum(),
        names=pl.col("names").filter(outside).sum(),
        lookup_domains=pl.col("domain").drop_nulls().n_unique(),
        nxdomain_internal=pl.col("nxdomain").filter(~outside).sum(),
    )
    counted = asked.drop("actor", "window").columns
    rows = whole.join(asked, on=["actor", "window"], how="left").with_columns(
        pl.col(counted).fill_null(0)
    )
    group = pl.Series("group", hash_columns(rows, KEYS["workload"]), dtype=pl.UInt64)
    return _framed("workload", rows.with_columns(group))


def fan_in(edges: pl.DataFrame) -> pl.DataFrame:
    """Frames of `CALLED_WINDOW` from frames of `EDGE_WINDOW`: who was called by how many.

    Takes the windows of all actors, those of every part of a partitioned stream together: a part
    sees only what its own actors call, so no part can know this while it detects.
    """
    rows = edges.group_by("peer", "window").agg(
        pl.col("last", "last_row", "row").max(),
        pl.col("peer_ip").sort_by("last_row").last(),
        pl.col("hour_of_week", "completeness").first(),
        pl.col("events", "attempts", "refusals", "denials").sum(),
        pl.col("bytes_out", "bytes_in", "packets_out", "packets_in").sum(),
        sized=pl.col("bytes_out").count(),
        counted=pl.col("packets_out").count(),
        callers=pl.col("actor").n_unique(),
        new_callers=pl.col("new_edge").sum(),
    )
    group = pl.Series("group", hash_columns(rows, KEYS["called"]), dtype=pl.UInt64)
    return _conformed("called", rows.with_columns(group, *_features("called")[:-2]))


def _features(scope: str) -> list[pl.Expr]:
    return [feature.expression.cast(pl.Float64).alias(feature.name) for feature in CATALOGUE[scope]]


def _framed(scope: str, rows: pl.DataFrame) -> pl.DataFrame:
    start_ns = pl.col("window") * WINDOW_NS
    placed = rows.with_columns(
        hour_of_week=(start_ns // _HOUR_NS + _THURSDAY) % _WEEK,
        span_ns=pl.col("last_ns") - pl.col("first_ns") if scope != "workload" else pl.lit(0),
    )
    features = placed.select(_features(scope))
    frame = rows.with_columns(
        window=start_ns.cast(_TIME), last=pl.col("last_ns").cast(_TIME), row="closed_row"
    )
    return _conformed(scope, frame.drop(features.columns, strict=False).hstack(features))


def _conformed(scope: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in the schema of their scope, in an order that no batch can change."""
    schema = _FRAMES[scope]
    return rows.select(pl.col(name).cast(dtype) for name, dtype in schema.items()).sort(
        "window", "group"
    )
