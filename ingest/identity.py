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

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final, TypedDict

import numpy as np
import polars as pl
from publicsuffixlist import PublicSuffixList

from sidelong.ingest.addresses import external_network
from sidelong.ingest.ends import Ends, Kinds, Mask
from sidelong.ingest.keys import Keys, hash_strings, mix, with_keys
from sidelong.ingest.memory import Facts, Memory, MemoryState, is_among, unknown
from sidelong.ingest.podmap import PodMaps
from sidelong.ingest.table import Column

__all__ = ["Identities", "IdentityState", "registered_domain"]

_HOUR: Final = 3600 * 1_000_000_000
_HOST_NAME: Final = r"^[a-z0-9_-]+(?:\.[a-z0-9_-]+)+$"  # so that it cannot pass for a workload
_SERVICES: Final = ".svc.cluster.local"

_NO_ANSWERS: Final = Facts(
    np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, object)
)
_ANSWERS: Final = pl.col("dns_answers").list.len().fill_null(0)


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
        self._kinds: Final = Kinds()
        self._pods: Final = Memory(capacity=200_000, within_ns=24 * _HOUR)
        self._addresses: Final = Memory(capacity=200_000, within_ns=_HOUR)
        self._domains: Final = Memory(capacity=400_000, within_ns=24 * _HOUR)

    @property
    def evicted(self) -> int:
        """What was forgotten for want of room."""
        return self._pods.evicted + self._addresses.evicted + self._domains.evicted

    def attach(self, flows: pl.DataFrame) -> pl.DataFrame:
        """The flows with `src`, `dst`, `src_pod` and `dst_pod` filled as far as they can be.

        Takes `FLOW_SCHEMA` with the columns of `Clock.cut`. Only an end without address, pod and
        principal stays without a name. Adds `src_key` and `dst_key`, as `hash_columns` takes up.
        """
        if "src_ip_key" not in flows.columns:
            flows = with_keys(flows, ("src_ip", "dst_ip"))
        ends = Ends(flows, self._kinds)
        self._from_map(ends)
        self._from_pod(ends)
        self._from_address(ends)
        self._from_outside(ends, _answers(flows))
        return ends.written()

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

    def _from_map(self, ends: Ends) -> None:
        """Ends that the source left open named by the pod map, and all shown as its pods."""
        if self._maps is None:
            return
        pods = self._maps.current()
        changing = pods.changing(*ends.span)
        if len(changing):
            ends.tell_apart(is_among(ends.kinds["ip_key"], hash_strings(changing)))
        kinds = ends.kinds
        asked = pl.DataFrame(
            {name: pl.Series(kinds[name].tolist(), dtype=pl.String) for name in ("ip", "pod")}
        ).with_columns(time=ends.times)
        held = pods.holders(asked)
        of_pod, of_ip = _texts(pods.names(asked["pod"])), _texts(held["name"])
        ends.name(ends.open, np.where(unknown(of_pod), of_ip, of_pod)[ends.open])
        ends.shown = np.where(kinds["has_pod"], kinds["pod"], _texts(held["pod"]))

    def _from_pod(self, ends: Ends) -> None:
        """Ends named by what other records said of their pod, else by its name alone."""
        if not ends.kinds["has_pod"].any():
            return
        self._from_others(
            self._pods,
            ends,
            "pod",
            asks=lambda kinds: kinds["has_pod"],
            states=lambda kinds: kinds["firm"] & kinds["has_pod"],
        )
        left = ends.open & ends.kinds["has_pod"]
        ends.name(left, ends.kinds["pod_name"][left])

    def _from_address(self, ends: Ends) -> None:
        """Ends without a pod named by what was last seen at their address."""
        self._from_others(
            self._addresses,
            ends,
            "ip",
            asks=lambda kinds: kinds["owned"],
            states=lambda kinds: kinds["owned"] & (kinds["firm"] | kinds["has_pod"]),
        )

    def _from_others(
        self,
        memory: Memory,
        ends: Ends,
        column: str,
        asks: Callable[[dict[str, Column]], Mask],
        states: Callable[[dict[str, Column]], Mask],
    ) -> None:
        """Open ends that ask named by the last that stated something under the same key."""
        asking, key = ends.open & asks(ends.kinds), f"{column}_key"
        if asking.any():
            keys = ends.kinds[key]
            first, last = ends.clock[ends.first], ends.clock[ends.last]
            moving = is_among(keys, keys[states(ends.kinds)]) | memory.ages(keys, first, last)
            moving &= asking
            facts = None
            if moving.any():
                facts = ends.statements(states(ends.kinds) & is_among(keys, keys[moving]), column)
                ends.tell_apart(moving)
                asking = ends.open & asks(ends.kinds)
            rows = ends.last[asking]
            known = memory.recall(ends.kinds[key][asking], rows, ends.clock[rows], facts)
            ends.name(asking, known)
        memory.learn(ends.stated(states(ends.kinds), column))

    def _from_outside(self, ends: Ends, answers: Facts) -> None:
        """Ends still open named by their address itself."""
        if len(self._domains) or len(answers.keys):
            self._from_answers(ends, answers)
        left = ends.open & ends.kinds["has_ip"]
        ends.name(left, ends.kinds["ip_name"][left])
        self._domains.learn(answers)

    def _from_answers(self, ends: Ends, answers: Facts) -> None:
        """Ends outside named by what DNS answers said of their address: to the other end, if they
        did, else to anybody."""
        asking = ends.open & ends.kinds["external"]
        if not asking.any():
            return
        ends.tell_apart(asking, by_peer=True)
        first, last = ends.clock[ends.first], ends.clock[ends.last]
        moving = np.zeros(len(first), np.bool_)
        for keys in _by_whom(ends):
            moving |= is_among(keys, answers.keys) | self._domains.ages(keys, first, last)
        moving &= ends.open & ends.kinds["external"]
        if moving.any():
            ends.tell_apart(moving)
        asking = ends.open & ends.kinds["external"]
        rows = ends.last[asking]
        own, anybodys = (
            self._domains.recall(keys[asking], rows, ends.clock[rows], answers)
            for keys in _by_whom(ends)
        )
        ends.name(asking, np.where(unknown(own), anybodys, own))


def _by_whom(ends: Ends) -> tuple[Keys, Keys]:
    """The keys of what an address stands for to the other end, and to anybody."""
    return mix(ends.peers, ends.kinds["ip_key"]), ends.kinds["ip_key"]


def _texts(column: pl.Series) -> Column:
    """The texts of a column; None where there is none."""
    return column.to_numpy().astype(object)


def _answers(flows: pl.DataFrame) -> Facts:
    """What DNS answers in these rows say of outside addresses.

    Facts by address, and by address and client: the one to whom the answer went.
    """
    if flows["dns_answers"].null_count() == flows.height:
        return _NO_ANSWERS
    count = flows.select_seq(_ANSWERS).to_series().to_numpy()
    rows = np.repeat(np.arange(flows.height), count)
    if not len(rows):
        return _NO_ANSWERS
    told = flows.select("dns_answers", "dns_name").filter(pl.Series(count > 0))
    ip = told["dns_answers"].explode()
    outside = external_network(ip).is_not_null().to_numpy()
    if not outside.any():
        return _NO_ANSWERS
    rows, ip = rows[outside], ip.filter(pl.Series(outside))
    names = flows["dns_name"][rows]
    host = names.str.contains(_HOST_NAME).fill_null(False)
    rows, ip, names = rows[host.to_numpy()], ip.filter(host), names.filter(host)
    distinct = names.unique()
    domains = pl.Series([_peer_domain(name) for name in distinct], dtype=pl.String)
    domain = names.replace_strict(distinct, domains, return_dtype=pl.String).to_numpy()
    clock = flows["clock"].to_physical().to_numpy()[rows]
    keys = hash_strings(ip)
    own = mix(flows["dst_ip_key"].to_numpy()[rows], keys)
    return Facts(
        np.concatenate([keys, own]), np.tile(rows, 2), np.tile(clock, 2), np.tile(domain, 2)
    )


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
