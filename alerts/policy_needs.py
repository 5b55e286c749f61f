"""What a workload needs according to the baseline: who may reach it where, whom it must reach.

Ports that Linux hands out to clients are one range, since what listens there has no habitual
number. A few addresses without a name stay addresses; many in one network become the network, and
many such networks the world.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from sidelong.alerts.policy_names import Far, Selectors
from sidelong.features.sides import DYNAMIC_PORT
from sidelong.models.baseline import Baseline

__all__ = ["CONNECTIONS", "DNS_PORT", "Acquaintances", "Direction", "Need", "Needs", "Ports"]

Direction = Literal["ingress", "egress"]
DNS_PORT: Final = 53

CONNECTIONS: Final = ("actor", "peer", "object", "port", "protocol")
"""The columns of a frame of connections: who opens one, to whom, at which address if that matters
(`object` as in the baseline), where."""

_FEW: Final = 8  # addresses of one network, and networks of the world, up to this are listed


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    """Ports from `first` to `last` of a protocol; 0 to 0 for ICMP."""

    protocol: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """Connections in one direction between a workload and one other end."""

    far: Far
    ports: tuple[Ports, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """All that the baseline saw of one workload.

    names: registered domains that it asked DNS for. reverse_zones: those of the pods' networks.
    left_out: connections with an end or a protocol that no policy can name.
    """

    workload: str
    ingress: tuple[Need, ...] = ()
    egress: tuple[Need, ...] = ()
    names: tuple[str, ...] = ()
    reverse_zones: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the baseline knows nothing of the workload."""
        return not (self.ingress or self.egress or self.left_out)

    @property
    def servers(self) -> tuple[Far, ...]:
        """Where it asked DNS."""
        return tuple(
            need.far for need in self.egress if any(one.first == DNS_PORT for one in need.ports)
        )


# What a resolver forwards is decided by who asks it; a quiet baseline may hold none of it.
_UPSTREAM: Final = tuple(
    Need(
        Far("network", everywhere),
        (Ports("TCP", DNS_PORT, DNS_PORT), Ports("UDP", DNS_PORT, DNS_PORT)),
    )
    for everywhere in ("0.0.0.0/0", "::/0")
)


class Acquaintances:
    """A baseline by workload, sorted once: a policy may be asked for with every incident."""

    def __init__(self, baseline: Baseline) -> None:
        self._contacts = baseline.contacts
        self._by_actor = _parts(baseline.contacts, "actor")
        self._by_peer = _parts(baseline.contacts, "peer")
        asked = baseline.domains.group_by("actor", maintain_order=True).agg(pl.col("domain"))
        self._names = {actor: tuple(domains) for actor, domains in asked.iter_rows()}
        self._reverse_zones = _reverse_zones(baseline.networks["network"].to_list())

    def needs(self, workload: str, selectors: Selectors) -> Needs:
        """What is known of a workload."""
        nobody = self._contacts.clear()
        egress, lost_out = _needs(self._by_actor.get(workload, nobody), "peer", selectors)
        ingress, lost_in = _needs(self._by_peer.get(workload, nobody), "actor", selectors)
        if selectors.is_resolver(workload):
            egress = tuple(sorted({*egress, *_UPSTREAM}))
        names = {*self._names.get(workload, ()), *_domains(egress)}
        return Needs(
            workload=workload,
            ingress=ingress,
            egress=egress,
            names=tuple(sorted(names)),
            reverse_zones=self._reverse_zones,
            left_out=lost_in + lost_out,
        )

    def connections(self, workload: str | None = None) -> pl.DataFrame:
        """The connections of one workload, or of all, with columns `CONNECTIONS`."""
        if workload is None:
            return self._contacts.select(CONNECTIONS)
        nobody = self._contacts.clear()
        parts = [by.get(workload, nobody) for by in (self._by_actor, self._by_peer)]
        return pl.concat(parts).select(CONNECTIONS)


def _parts(contacts: pl.DataFrame, by: str) -> dict[str, pl.DataFrame]:
    parts = contacts.partition_by(by, as_dict=True, maintain_order=True)
    return {str(key[0]): part for key, part in parts.items()}


def _needs(
    rows: pl.DataFrame, far: Literal["actor", "peer"], selectors: Selectors
) -> tuple[tuple[Need, ...], int]:
    ports: dict[Far, set[Ports]] = {}
    left_out = 0
    for identity, address, port, protocol in _distinct(rows, far).iter_rows():
        end = selectors.far(identity, address)
        used = _ports(port, protocol)
        if end.kind == "unknown" or used is None:
            left_out += 1
        else:
            ports.setdefault(end, set()).add(used)
    return tuple(sorted(Need(end, tuple(sorted(used))) for end, used in ports.items())), left_out


def _distinct(rows: pl.DataFrame, far: Literal["actor", "peer"]) -> pl.DataFrame:
    """Other end, its address where that says more, port and protocol, each once and not too many.

    Of the end that opens a connection the baseline keeps no address, only the network.
    """
    world = pl.col("identity").str.starts_with("world:")
    ends = rows.select(
        identity=far,
        address=pl.col("object") if far == "peer" else pl.lit(None, pl.String),
        port=pl.when(pl.col("port") < DYNAMIC_PORT).then("port").otherwise(DYNAMIC_PORT),
        protocol="protocol",
    )
    many = pl.col("address").n_unique().over("identity") > _FEW
    ends = ends.with_columns(address=pl.when(world & ~many).then("address"))
    if ends.filter(world)["identity"].n_unique() > _FEW:
        ends = ends.with_columns(
            identity=pl.when(world).then(pl.lit("reserved:world")).otherwise("identity"),
            address=pl.lit(None, pl.String),
        )
    return ends.unique(maintain_order=True)


def _ports(port: int, protocol: str) -> Ports | None:
    if protocol == "ICMP":
        return Ports("ICMP", 0, 0)
    if protocol == "OTHER" or port == 0:
        return None
    return Ports(protocol, port, 65_535 if port == DYNAMIC_PORT else port)


def _domains(needs: Iterable[Need]) -> list[str]:
    return [need.far.name for need in needs if need.far.kind == "domain"]


def _reverse_zones(networks: Iterable[str]) -> tuple[str, ...]:
    """The reverse zones of the networks `a.b.c` in which there are pods: of 10/8, or their /16."""
    zones = set()
    for network in networks:
        first, _, rest = network.partition(".")
        second = rest.partition(".")[0]
        zones.add(f"{first}.in-addr.arpa" if first == "10" else f"{second}.{first}.in-addr.arpa")
    return tuple(sorted(zones))
