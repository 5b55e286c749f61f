"""The two sides of a flow: who opened the connection, and whom it was opened to.

Everything after this module speaks of an *actor* (the initiating workload, whose habits are judged)
and its *peer*. A reply row is turned round, so that both directions of a connection carry the same
actor, peer and port.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.features.events import with_events
from sidelong.ingest.keys import Keys, hash_column, hash_strings, mix, numbered

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
"""Who and what with. `sides` also adds `actor_key`, `peer_key` and `peer_ip_key`, as `hash_columns`
takes up, `event` and `stealth` of `with_events`, `edge_port`, the server's port or 0 for dynamic
ports and for ICMP, `edge`, the key of the edge (features/edges.py), and `addressed`, whether the
peer has no name but its address."""

# Kubelet and Cilium probe every endpoint, as is their work, and see pods before they serve.
_PROBERS: Final = ("reserved:health", "reserved:host")

# Multicast, broadcast, unspecified and link-local addresses have no owner to be judged by.
_NOBODY: Final = r"^(22[4-9]\.|23\d\.|255\.|0\.|127\.|169\.254\.|ff[0-9a-f]{2}:|fe80:|::1?$)"


def sides(flows: pl.DataFrame) -> pl.DataFrame:
    """The rows of `NORMAL_SCHEMA` frames that have two sides, with the columns of `SIDES` added.

    Left out: rows that only report loss, traffic with multicast, broadcast, loopback and link-local
    addresses (the cloud metadata address stays), and what kubelet and Cilium's health checks open.
    """
    back, whole = (column.to_numpy() for column in flows.select_seq(_DIRECTED))
    actor, peer = _both(flows["src"], flows["dst"], back, _OF_NAME)
    actor_ip, peer_ip = _both(flows["src_ip"], flows["dst_ip"], back, _OF_ADDRESS)
    left_out = actor["prober"] | actor_ip["nobody"] | peer_ip["nobody_there"]
    left_out |= (actor["key"] == peer["key"]) | ~whole
    keys = {"actor": actor["key"], "peer": peer["key"], "peer_ip": peer_ip["key"]}
    addressed = peer["addressed"]
    if left_out.any():
        flows = flows.filter(pl.Series(~left_out))
        keys = {name: of[~left_out] for name, of in keys.items()}
        addressed = addressed[~left_out]
    turned = flows["reply"]
    rows = flows.hstack(
        [flows[there].zip_with(turned, flows[here]).alias(name) for name, here, there in _TURNED]
    )
    return _keyed(with_events(rows), keys).hstack([pl.Series("addressed", addressed)])


_DIRECTED: Final = (
    pl.col("reply").fill_null(False),
    pl.all_horizontal(pl.col("src", "dst", "reply").is_not_null()).alias("whole"),
)
_TURNED: Final = (
    ("actor", "src", "dst"),
    ("actor_pod", "src_pod", "dst_pod"),
    ("actor_ip", "src_ip", "dst_ip"),
    ("peer", "dst", "src"),
    ("peer_pod", "dst_pod", "src_pod"),
    ("peer_ip", "dst_ip", "src_ip"),
    ("port", "dst_port", "src_port"),
)
_TEXT: Final = pl.col("text")
_IS_NOBODY: Final = _TEXT.str.contains(_NOBODY)
_OF_NAME: Final = (
    _TEXT.is_in(_PROBERS).fill_null(False).alias("prober"),
    (_TEXT.str.starts_with("ip:") | _TEXT.str.starts_with("world:"))
    .fill_null(False)
    .alias("addressed"),
)
_OF_ADDRESS: Final = (
    _IS_NOBODY.fill_null(False).alias("nobody"),
    ((_IS_NOBODY | _TEXT.str.ends_with(".255")) & (_TEXT != METADATA_ADDRESS))
    .fill_null(False)
    .alias("nobody_there"),
)


def _both(
    src: pl.Series, dst: pl.Series, back: NDArray[np.bool_], facts: Sequence[pl.Expr]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Facts and `key` of the actor's text and the peer's in each row, found once for each text."""
    codes, texts = numbered(pl.concat([src, dst]))
    found = {
        fact.name: fact.to_numpy() for fact in texts.alias("text").to_frame().select_seq(facts)
    }
    found["key"] = hash_strings(texts)
    here, there = codes[: len(back)], codes[len(back) :]
    actor, peer = np.where(back, there, here), np.where(back, here, there)
    return (
        {name: values[actor] for name, values in found.items()},
        {name: values[peer] for name, values in found.items()},
    )


def _keyed(rows: pl.DataFrame, keys: dict[str, Keys]) -> pl.DataFrame:
    """Rows with the keys of their sides, their edge port and the key of their edge."""
    port = rows["port"].fill_null(0) if rows["port"].null_count() else rows["port"]
    edge_port = port.zip_with(port < DYNAMIC_PORT, pl.Series([0], dtype=pl.UInt16))
    edge = mix(keys["actor"], keys["peer"], hash_column(edge_port), hash_column(rows["protocol"]))
    return rows.hstack(
        [
            *(pl.Series(f"{name}_key", of) for name, of in keys.items()),
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
