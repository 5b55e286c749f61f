"""How well it is known who speaks: workloads, pods, mesh identities."""

from typing import Final

import polars as pl

from sidelong.ingest.addresses import external_network, has_one_owner
from sidelong.sight import Check, Cures, Finding, Sample, named, percent

__all__ = ["IDENTITY_CHECKS", "no_principals", "reused_addresses", "unknown_identities"]

_SOME: Final = 0.05
_MOST: Final = 0.5

_MAP: Final = (
    "give a map of the pods of that time: kubectl get pods -A -o json > pods.json, then "
    "--pods pods.json"
)
_CURE: Final = Cures(
    _MAP,
    hubble="these addresses are no pods that Cilium manages; name them with --pods, from "
    "kubectl get pods -A -o json or as {name: {ip, namespace, workload}}",
)


def unknown_identities(sample: Sample) -> Finding | None:
    """Senders inside the cluster that are known by their address only."""
    senders = sample.normal.select("src", ip="src_ip").filter(
        pl.col("ip").is_not_null(), has_one_owner(pl.col("ip"))
    )
    addresses = senders.select("ip").unique()
    inside = addresses.filter(external_network(addresses["ip"]).is_null())
    senders = senders.join(inside, on="ip", how="semi")
    unknown = senders.filter(pl.col("src").str.starts_with("ip:"))
    if not senders.height or unknown.height < _SOME * senders.height:
        return None
    counted = unknown.group_by("ip").len().sort("len", "ip", descending=[True, False])
    return Finding(
        code="unknown-identities",
        effects={
            "scan": "partly",
            "lateral_movement": "blind" if unknown.height > _MOST * senders.height else "partly",
            "anomaly": "partly",
        },
        observed=f"{percent(unknown.height, senders.height)} % of the flows inside come from an "
        f"address without a name ({named(counted['ip'].to_list())}): what is learnt is lost when "
        "the address changes hands",
        cure=_CURE.of(sample),
        measured={
            "flows": senders.height,
            "unnamed": unknown.height,
            "addresses": counted["ip"].head(20).to_list(),
        },
    )


def reused_addresses(sample: Sample) -> Finding | None:
    """Addresses that several pods held; a note, for pods are named by the time of the flow."""
    held = (
        sample.normal.select(ip="src_ip", pod="src_pod")
        .drop_nulls()
        .group_by("ip")
        .agg(pods=pl.col("pod").n_unique())
        .filter(pl.col("pods") > 1)
        .sort("ip")
    )
    if held.is_empty():
        return None
    return Finding(
        code="reused-addresses",
        observed="addresses that several pods held in turn: " + named(held["ip"].to_list()),
        cure='a pod map needs "from" and "until" for these, lest flows are laid at the wrong door',
        measured={"addresses": held["ip"].head(20).to_list()},
    )


def no_principals(sample: Sample) -> Finding | None:
    """No mesh identity shows; a note."""
    seen = sample.seen
    if seen.is_empty() or seen["src_principal"].count() or seen["dst_principal"].count():
        return None
    return Finding(
        code="no-principals",
        observed="no flow shows a mesh identity (mTLS): who speaks under another's service "
        "account goes unnoticed",
        cure="collect mesh access logs that show both SPIFFE ids, such as Envoy's gRPC access log "
        "service, or ztunnel's log",
        measured={"flows": seen.height},
    )


IDENTITY_CHECKS: Final[tuple[Check, ...]] = (
    unknown_identities,
    reused_addresses,
    no_principals,
)
