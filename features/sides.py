"""The two sides of a flow: who opened the connection, and whom it was opened to.

Everything after this module speaks of an *actor* (the initiating workload, whose habits are judged)
and its *peer*. A reply row is turned round, so that both directions of a connection carry the same
actor, peer and port.
"""

from typing import Final

import polars as pl

from sidelong.ingest.keys import hash_column

__all__ = [
    "DYNAMIC_PORT",
    "METADATA_ADDRESS",
    "SIDES",
    "is_external",
    "is_workload",
    "principal",
    "sides",
]

METADATA_ADDRESS: Final = "169.254.169.254"
"""Where clouds serve instance credentials: link-local, yet never to be ignored."""

DYNAMIC_PORT: Final = 32768
"""From here up Linux picks client ports; RPC services there have no habitual number."""

SIDES: Final = ("actor", "actor_pod", "actor_ip", "peer", "peer_pod", "peer_ip", "port")
"""What `sides` adds, beside `actor_key` and `peer_key`, which `hash_columns` takes up."""

# Kubelet and Cilium probe every endpoint, as is their work, and see pods before they serve.
_PROBERS: Final = ("reserved:health", "reserved:host")

# Multicast, broadcast, unspecified and link-local addresses have no owner to be judged by.
_NOBODY: Final = r"^(22[4-9]\.|23\d\.|255\.|0\.|127\.|169\.254\.|ff[0-9a-f]{2}:|fe80:|::1?$)"


def sides(flows: pl.DataFrame) -> pl.DataFrame:
    """The rows of `NORMAL_SCHEMA` frames that have two sides, with the columns of `SIDES` added.

    Left out: rows that only report loss, traffic with multicast, broadcast, loopback and link-local
    addresses (the cloud metadata address stays), and what kubelet and Cilium's health checks open.
    """
    back = pl.col("reply")
    oriented = flows.filter(
        pl.col("src").is_not_null() & pl.col("dst").is_not_null() & back.is_not_null()
    ).with_columns(
        pl.when(back).then(there).otherwise(here).alias(name)
        for name, here, there in (
            ("actor", "src", "dst"),
            ("actor_pod", "src_pod", "dst_pod"),
            ("actor_ip", "src_ip", "dst_ip"),
            ("peer", "dst", "src"),
            ("peer_pod", "dst_pod", "src_pod"),
            ("peer_ip", "dst_ip", "src_ip"),
            ("port", "dst_port", "src_port"),
        )
    )
    peer_ip = pl.col("peer_ip")
    nobody = peer_ip.str.contains(_NOBODY) | peer_ip.str.ends_with(".255")
    rows = oriented.filter(
        ~pl.col("actor").is_in(_PROBERS),
        (peer_ip == METADATA_ADDRESS) | ~nobody.fill_null(False),
        ~pl.col("actor_ip").str.contains(_NOBODY).fill_null(False),
        pl.col("actor") != pl.col("peer"),
    )
    return rows.with_columns(
        pl.Series(f"{name}_key", hash_column(rows[name]), dtype=pl.UInt64)
        for name in ("actor", "peer")
    )


def principal() -> pl.Expr:
    """The mesh identity of the actor in rows of `sides`; one may be known by a reply alone."""
    return pl.when("reply").then("dst_principal").otherwise("src_principal")


def is_workload(name: pl.Expr) -> pl.Expr:
    """Whether an identity is a known workload, `namespace/owner`."""
    return name.str.contains("/", literal=True) & ~name.str.starts_with("world:")


def is_external(name: pl.Expr) -> pl.Expr:
    """Whether an identity lies outside the cluster: a registered domain or a `world:` network."""
    return name.str.starts_with("world:") | ~name.str.contains("[:/]")
