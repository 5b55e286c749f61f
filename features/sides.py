"""The two sides of a flow: who opened the connection, and whom it was opened to.

Everything after this module speaks of an *actor* (the initiating workload, whose habits are judged)
and its *peer*. A reply row is turned round, so that both directions of a connection carry the same
actor, peer and port.
"""

from typing import Final

import polars as pl

from sidelong.features.events import with_events
from sidelong.ingest.keys import hash_column, mix

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
"""Who and what with. `sides` also adds `actor_key` and `peer_key`, which `hash_columns` takes up,
`event` and `stealth` of `with_events`, `edge_port`, the server's port or 0 for dynamic ports and
for ICMP, and `edge`, the key of the edge (features/edges.py)."""

# Kubelet and Cilium probe every endpoint, as is their work, and see pods before they serve.
_PROBERS: Final = ("reserved:health", "reserved:host")

# Multicast, broadcast, unspecified and link-local addresses have no owner to be judged by.
_NOBODY: Final = r"^(22[4-9]\.|23\d\.|255\.|0\.|127\.|169\.254\.|ff[0-9a-f]{2}:|fe80:|::1?$)"


def sides(flows: pl.DataFrame) -> pl.DataFrame:
    """The rows of `NORMAL_SCHEMA` frames that have two sides, with the columns of `SIDES` added.

    Left out: rows that only report loss, traffic with multicast, broadcast, loopback and link-local
    addresses (the cloud metadata address stays), and what kubelet and Cilium's health checks open.
    """
    two = ("src", "dst", "reply")
    if any(flows[name].null_count() for name in two):
        flows = flows.drop_nulls(two)
    back = flows["reply"]
    rows = flows.hstack(
        [
            flows[there].zip_with(back, flows[here]).alias(name)
            for name, here, there in (
                ("actor", "src", "dst"),
                ("actor_pod", "src_pod", "dst_pod"),
                ("actor_ip", "src_ip", "dst_ip"),
                ("peer", "dst", "src"),
                ("peer_pod", "dst_pod", "src_pod"),
                ("peer_ip", "dst_ip", "src_ip"),
                ("port", "dst_port", "src_port"),
            )
        ]
    )
    left_out = rows.select_seq(_LEFT_OUT).to_series()
    if left_out.any():
        rows = rows.filter(~left_out)
    return _keyed(with_events(rows))


_PEER_IP: Final = pl.col("peer_ip")
_LEFT_OUT: Final = (
    (pl.col("actor") == pl.col("peer"))
    | pl.col("actor").is_in(_PROBERS)
    | (
        (_PEER_IP.str.contains(_NOBODY) | _PEER_IP.str.ends_with(".255"))
        & (_PEER_IP != METADATA_ADDRESS)
    ).fill_null(False)
    | pl.col("actor_ip").str.contains(_NOBODY).fill_null(False)
)


def _keyed(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the keys of their sides, their edge port and the key of their edge."""
    port = rows["port"].fill_null(0) if rows["port"].null_count() else rows["port"]
    edge_port = port.zip_with(port < DYNAMIC_PORT, pl.Series([0], dtype=pl.UInt16))
    keys = [hash_column(rows["actor"]), hash_column(rows["peer"])]
    edge = mix(*keys, hash_column(edge_port), hash_column(rows["protocol"]))
    return rows.hstack(
        [
            pl.Series("actor_key", keys[0]),
            pl.Series("peer_key", keys[1]),
            edge_port.alias("edge_port"),
            pl.Series("edge", edge),
        ]
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
