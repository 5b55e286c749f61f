"""Who is who: the workload behind each end of a flow.

Names stay while addresses change hands, so everything after this stage goes by the name. The first
of these that knows an end names it:

1. the source itself: `namespace/workload`, `reserved:*`, or a domain;
2. a SPIFFE id: `spiffe://td/ns/NS/sa/SA` is `NS/SA`;
3. the pod map, by pod name or by address at the flow's time;
4. another record, not later in the stream, that named the same pod;
5. the pod's name without what its controller appended;
6. for an end without a pod name, the last record that showed a workload or a pod at the address,
   at most an hour before;
7. outside the cluster, the registered domain of the name that was asked in a DNS answer with that
   address, else `world:a.b.0.0/16`;
8. else `ip:ADDRESS`.

An answer holds from its row on, until another names the address, at most for a day. Many domains
may share an address: the last answer that went to the other end of the flow comes first, the last
that went to anybody second, since that end may ask where nothing is seen.

`reserved:world` and `reserved:unknown` say less than an address does, so they name only an end
without one.
"""

from functools import cache, lru_cache
from typing import Final, TypedDict

import polars as pl
from publicsuffixlist import PublicSuffixList

from sidelong.ingest.addresses import external_network, has_one_owner
from sidelong.ingest.keys import Keys, hash_column, mix, with_keys
from sidelong.ingest.memory import Memory, MemoryState
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.schema import schema_of
from sidelong.ingest.workloads import strip_pod_hash

__all__ = ["Identities", "IdentityState", "registered_domain"]

_HOUR: Final = 3600 * 1_000_000_000
_VAGUE: Final = r"^reserved:(?:world(?:-ipv[46])?|unknown)$"
_PASSING: Final = r"^(?:ip|world):"  # says nothing that the address does not say again
_HOST_NAME: Final = r"^[a-z0-9_-]+(?:\.[a-z0-9_-]+)+$"  # so that it cannot pass for a workload
_SERVICES: Final = ".svc.cluster.local"
_SPIFFE: Final = r"^spiffe://[^/]+/ns/([^/]+)/sa/([^/]+)$"

_NO_FACTS: Final = schema_of(
    {"row": pl.Int64, "clock": pl.Int64, "key": pl.UInt64, "name": pl.String}
).to_frame()


class IdentityState(TypedDict):
    """What was learnt of pods, of addresses inside and of addresses outside."""

    pods: MemoryState
    addresses: MemoryState
    domains: MemoryState


class Identities:
    """Names the ends of flows, and learns from each row for the rows after it.

    Remembers the last 200,000 pods for a day, the holders of the last 200,000 addresses for an
    hour, and for a day the domains of the last 400,000 outside addresses and pairs of such an
    address and a client.
    """

    def __init__(self, pods: PodMaps | None = None) -> None:
        self._maps: Final = pods
        self._pods: Final = Memory(["name"], capacity=200_000, within_ns=24 * _HOUR)
        self._addresses: Final = Memory(["name"], capacity=200_000, within_ns=_HOUR)
        self._domains: Final = Memory(["name"], capacity=400_000, within_ns=24 * _HOUR)

    @property
    def evicted(self) -> int:
        """What was forgotten for want of room."""
        return self._pods.evicted + self._addresses.evicted + self._domains.evicted

    def attach(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows with `src`, `dst`, `src_pod` and `dst_pod` filled as far as they can be.

        Takes `FLOW_SCHEMA` with the columns of `Clock.cut`. Only an end without address, pod and
        principal stays without a name.
        """
        if "src_ip_key" not in flows.columns:
            flows = with_keys(flows, ("src_ip", "dst_ip"))
        both = [_ends(flows, "src", "dst"), _ends(flows, "dst", "src")]
        ends = pl.concat(both).with_row_index("end")
        ends = self._from_map(ends)
        ends = self._from_pod(ends)
        ends = self._from_address(ends)
        ends = self._from_outside(ends, _answers(flows))
        name = pl.coalesce("name", "vague")
        src, dst = ends[: len(flows)], ends[len(flows) :]
        return flows.with_columns(
            *src.select(name.alias("src"), pl.col("shown_pod").alias("src_pod")),
            *dst.select(name.alias("dst"), pl.col("shown_pod").alias("dst_pod")),
        )

    def tidy(self, now_ns: int) -> None:
        """Forget what is too old, then the oldest beyond capacity."""
        for memory in (self._pods, self._addresses, self._domains):
            memory.tidy(now_ns)

    def snapshot(self) -> IdentityState:
        """All that was learnt, as a value."""
        return {
            "pods": self._pods.snapshot(),
            "addresses": self._addresses.snapshot(),
            "domains": self._domains.snapshot(),
        }

    def restore(self, state: IdentityState) -> None:
        """Go on from `snapshot`; the pod map is configuration and no part of it."""
        self._pods.restore(state["pods"])
        self._addresses.restore(state["addresses"])
        self._domains.restore(state["domains"])

    def _from_map(self, ends: pl.DataFrame) -> pl.DataFrame:
        """Ends that the source left open named by the pod map, and all shown as its pods."""
        if self._maps is None:
            return ends.with_columns(shown_pod="pod")
        pods = self._maps.current()
        held, by_pod = pods.holders(ends), pods.names(ends["pod"])
        return ends.with_columns(
            name=pl.coalesce("name", by_pod, held["name"]),
            shown_pod=pl.coalesce("pod", held["pod"]),
        )

    def _from_pod(self, ends: pl.DataFrame) -> pl.DataFrame:
        """Ends named by what other records said of their pod, else by its name alone."""
        of_pods = ends.drop_nulls("pod")
        if of_pods.is_empty():
            return ends
        of_pods = of_pods.with_columns(key=hash_column(of_pods["pod"]))
        asked = of_pods.filter(pl.col("name").is_null())
        known = self._pods.recall(asked, of_pods.filter("firm"))["name"]
        named = asked.select("end", name=pl.coalesce(known, strip_pod_hash(pl.col("pod"))))
        return _fill(ends, named)

    def _from_address(self, ends: pl.DataFrame) -> pl.DataFrame:
        """Ends without a pod named by what was last seen at their address."""
        shows_owner = pl.col("firm") | pl.col("pod").is_not_null()
        told = ends.filter(has_one_owner(pl.col("ip")), pl.col("name").is_null() | shows_owner)
        if told.is_empty():
            return ends
        told = told.rename({"ip_key": "key"})
        asked = told.filter(pl.col("name").is_null())
        known = self._addresses.recall(asked, told.filter(shows_owner))["name"]
        return _fill(ends, asked.select("end", name=known))

    def _from_outside(self, ends: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
        """Ends still open named by their address itself."""
        still_open = ends.filter(pl.col("name").is_null() & pl.col("ip").is_not_null())
        if still_open.is_empty() and answers.is_empty():
            return ends
        addresses = still_open.select("ip").unique()
        addresses = addresses.with_columns(network=external_network(addresses["ip"]))
        still_open = still_open.join(addresses, on="ip", how="left", maintain_order="left")
        asked = still_open.drop_nulls("network")
        keys = asked["ip_key"].to_numpy()
        own, anybodys = _by_client(asked["peer_ip_key"].to_numpy(), keys), pl.Series(keys)
        told = self._domains.recall(
            pl.concat([asked.with_columns(key=own), asked.with_columns(key=anybodys)]), answers
        )["name"]
        domain = pl.select(pl.coalesce(told[: len(asked)], told[len(asked) :])).to_series()
        named = still_open.select(
            "end",
            name=pl.coalesce(
                pl.format("world:{}", pl.col("network")), pl.format("ip:{}", pl.col("ip"))
            ),
        )
        return _fill(_fill(ends, asked.select("end", name=domain)), named)


def _ends(flows: pl.DataFrame, side: str, other: str) -> pl.DataFrame:
    """One end of each flow, named as far as the row itself does.

    Beside the row, its times, `ip` with its key, that of the other end and `pod` stand `name`;
    `vague`, what the source said when that was next to nothing; `firm`, whether the name is worth
    telling to other rows.
    """
    return flows.select_seq(_of_end(side, other)).with_columns(_FIRM)


@cache
def _of_end(side: str, other: str) -> list[pl.Expr]:
    given, principal = pl.col(side), pl.col(f"{side}_principal")
    vague = given.str.contains(_VAGUE)
    spiffe = pl.when(principal.str.contains(_SPIFFE)).then(
        principal.str.replace(_SPIFFE, "${1}/${2}")
    )
    return [
        pl.col("row").cast(pl.Int64),
        pl.col("clock").to_physical(),
        pl.coalesce("time", "clock").alias("time"),
        pl.col(f"{side}_ip").alias("ip"),
        pl.col(f"{side}_ip_key").alias("ip_key"),
        pl.col(f"{other}_ip_key").alias("peer_ip_key"),
        pl.col(f"{side}_pod").alias("pod"),
        pl.coalesce(pl.when(~vague).then(given), spiffe).alias("name"),
        pl.when(vague).then(given).alias("vague"),
    ]


_FIRM: Final = (~pl.col("name").str.contains(_PASSING).fill_null(True)).alias("firm")


def _fill(ends: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """The ends with the names in `named` (end, name) where they have none."""
    if named.is_empty():
        return ends
    names = ends.select("end").join(named, on="end", how="left", maintain_order="left")["name"]
    return ends.with_columns(name=pl.coalesce("name", names))


def _answers(flows: pl.DataFrame) -> pl.DataFrame:
    """What DNS answers in these rows say of outside addresses.

    Facts by address, and by address and client: the one to whom the answer went.
    """
    answered = flows["dns_answers"].list.len().fill_null(0) > 0
    if not answered.any():
        return _NO_FACTS
    client = pl.col("dst_ip_key").alias("client")
    told = (
        flows.select("row", "clock", client, "dns_name", ip="dns_answers")
        .filter(answered, pl.col("dns_name").str.contains(_HOST_NAME))
        .explode("ip")
        .drop_nulls("ip")
    )
    outside = told["ip"].unique()
    outside = outside.filter(external_network(outside).is_not_null())
    if outside.is_empty():
        return _NO_FACTS
    told = told.filter(pl.col("ip").is_in(outside.implode()))
    names = told["dns_name"].unique()
    domains = pl.Series([_peer_domain(name) for name in names], dtype=pl.String)
    facts = told.select(
        pl.col("row").cast(pl.Int64),
        pl.col("clock").to_physical(),
        pl.Series("key", hash_column(told["ip"]), dtype=pl.UInt64),
        name=pl.col("dns_name").replace_strict(names, domains, return_dtype=pl.String),
    )
    own = _by_client(told["client"].to_numpy(), facts["key"].to_numpy())
    return pl.concat([facts, facts.with_columns(key=own)])


def _by_client(clients: Keys, addresses: Keys) -> pl.Series:
    """The key under which it is known what an address stands for to a client."""
    return pl.Series(mix(clients, addresses), dtype=pl.UInt64)


def _peer_domain(name: str) -> str:
    """The domain of a name; a service of the cluster that leads outside keeps the whole name."""
    return name if name.endswith(_SERVICES) else registered_domain(name)


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=65_536)
def registered_domain(name: str) -> str:
    """The domain somebody registered, under the public suffix list with its private section.

    A name that is itself a public suffix, or has but one label, stands for itself.

    >>> registered_domain("a.b.example.co.uk")
    'example.co.uk'
    """
    return _suffixes().privatesuffix(name) or name
