"""What an incident did and what the baseline holds, as connections that policies are tried on."""

from typing import Final

import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_names import Selectors
from sidelong.alerts.policy_needs import CONNECTIONS, DNS_PORT, Acquaintances

__all__ = ["asks_names", "attempted", "habitual", "requests_told"]

_TRIED: Final = pl.Schema(
    {
        "actor": pl.String,
        "peer": pl.String,
        "object": pl.String,
        "port": pl.UInt16,
        "protocol": pl.String,
        "name": pl.String,
        "path": pl.String,
    }
)


def attempted(incident: Incident, known: Acquaintances, selectors: Selectors) -> pl.DataFrame:
    """The connections that an incident tells: `CONNECTIONS`, `name` and `path`."""
    actor = incident.actor.workload
    rows: list[tuple[str | int | None, ...]] = []
    if asks_names(incident):
        servers = [far.name for far in known.needs(actor, selectors).servers if far.kind == "pods"]
        told = [target.domain for target in incident.objects if target.domain]
        names = [*_told(incident, "name"), *_told(incident, "sample")]
        names += [f"sidelong.{domain}" for domain in told]
        for server in servers or [selectors.resolver]:
            rows += [(actor, server, server, DNS_PORT, "UDP", name, None) for name in names]
        return pl.DataFrame(rows, schema=_TRIED, orient="row")
    paths: list[str | None] = [path for _, path in requests_told(incident)]
    for target in incident.objects:
        if target.workload is None or target.port is None:
            continue
        protocol = "ICMP" if target.port == 0 else "TCP"
        end = (actor, target.workload, target.ip or target.workload, target.port, protocol, None)
        rows += [(*end, path) for path in paths or [None]]
    return pl.DataFrame(rows, schema=_TRIED, orient="row")


def habitual(known: Acquaintances, workload: str, selectors: Selectors) -> pl.DataFrame:
    """What the baseline holds of a workload, its lookups included; columns as of `attempted`."""
    held = known.connections(workload).with_columns(pl.col("protocol").cast(pl.String))
    needs = known.needs(workload, selectors)
    zones = [selectors.cluster_domain, *needs.names]
    lookups = [
        (workload, server, server, DNS_PORT, "UDP", name, None)
        for server in [far.name for far in needs.servers if far.kind == "pods"]
        for zone in zones
        for name in (f"www.{zone}", f"a.b.{zone}", *([zone] if zone in needs.names else []))
    ]
    return pl.concat(
        [held.select(CONNECTIONS), pl.DataFrame(lookups, schema=_TRIED, orient="row")],
        how="diagonal",
    ).select(_TRIED.names())


def asks_names(incident: Incident) -> bool:
    """Whether names of DNS are the evidence, and not the servers that were asked."""
    if incident.kind == "dns_exfiltration":
        return "resolvers" not in incident.counts
    return any(one.feature == "services_first_contacts" for one in incident.evidence)


def _told(incident: Incident, feature: str) -> list[str]:
    return [one.observed for one in incident.evidence if one.feature == feature]


def requests_told(incident: Incident) -> list[tuple[str, str]]:
    """Method and path of the requests that an incident tells."""
    if not any(one.feature == "paths_first_contacts" for one in incident.evidence):
        return []
    parted = [sample.partition(" ") for sample in _told(incident, "sample")]
    return [(method, path) if path else ("", method) for method, _, path in parted]
