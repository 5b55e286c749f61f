"""The ends of flows by kind: what rows say of their source and destination, each saying once.

Of fifty thousand rows, a hundred different ends may be told. So names are found for kinds of ends
and written to the rows last. Where rows of one kind turn out to differ, since what is known changes
between them, they are told apart.
"""

from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import DTypeLike, NDArray

from sidelong.ingest.addresses import external_network, has_one_owner
from sidelong.ingest.groups import Groups, Positions
from sidelong.ingest.keys import Keys, hash_column, hash_columns, hash_strings, mix
from sidelong.ingest.memory import Facts, Integers, unknown
from sidelong.ingest.table import Column, Table
from sidelong.ingest.workloads import strip_pod_hash

__all__ = ["Ends", "Kinds", "Mask"]

Mask: TypeAlias = NDArray[np.bool_]

_VAGUE: Final = r"^reserved:(?:world(?:-ipv[46])?|unknown)$"
_PASSING: Final = r"^(?:ip|world):"  # says nothing that the address does not say again
_SPIFFE: Final = r"^spiffe://[^/]+/ns/([^/]+)/sa/([^/]+)$"

_GIVEN, _PRINCIPAL = pl.col("given"), pl.col("principal")
_IS_VAGUE: Final = _GIVEN.str.contains(_VAGUE)
_BY_PRINCIPAL: Final = pl.when(_PRINCIPAL.str.contains(_SPIFFE)).then(
    _PRINCIPAL.str.replace(_SPIFFE, "${1}/${2}")
)
_OF_KIND: Final = (
    pl.col("given", "pod", "ip", "pod_key", "ip_key"),
    pl.coalesce(pl.when(~_IS_VAGUE).then(_GIVEN), _BY_PRINCIPAL).alias("name"),
    pl.when(_IS_VAGUE).then(_GIVEN).alias("vague"),
    strip_pod_hash(pl.col("pod")).alias("pod_name"),
    pl.col("pod").is_not_null().alias("has_pod"),
    pl.col("ip").is_not_null().alias("has_ip"),
    has_one_owner(pl.col("ip")).fill_null(False).alias("owned"),
)
_AND: Final = (
    (~pl.col("name").str.contains(_PASSING).fill_null(True)).alias("firm"),
    pl.col("network").is_not_null().alias("external"),
    pl.coalesce(pl.format("world:{}", pl.col("network")), pl.format("ip:{}", pl.col("ip"))).alias(
        "ip_name"
    ),
)
_COLUMNS: Final[dict[str, DTypeLike]] = {
    **dict.fromkeys(("given", "name", "vague", "pod", "pod_name", "ip", "ip_name"), object),
    **dict.fromkeys(("has_pod", "has_ip", "owned", "firm", "external"), np.bool_),
    **dict.fromkeys(("pod_key", "ip_key"), np.uint64),
}
_MOST: Final = 50_000


class Kinds:
    """Kinds of ends with what their own texts say, remembered for those met last.

    Since it follows from their texts alone, it is no state. Columns: the name `given` by the
    source, `vague` if that is next to nothing, and the `name` that it or the principal gives; `pod`
    and `ip`, their keys, whether there is one (`has_pod`, `has_ip`) and the name that it suggests
    by itself (`pod_name`, `ip_name`); whether the address is `external`, or `owned` by one workload
    at a time; whether the name is `firm`, worth telling to others.
    """

    def __init__(self) -> None:
        self._lately = Table(_COLUMNS, capacity=_MOST, ttl_ns=None)

    def of(self, told: pl.DataFrame, keys: Keys) -> dict[str, Column]:
        """The columns for some ends; keys: those of their kinds."""
        if len(self._lately) > _MOST:
            self._lately = Table(_COLUMNS, capacity=_MOST, ttl_ns=None)
        at = self._lately.find(keys)
        new = np.flatnonzero(at < 0)
        if len(new):
            found = told[new].select_seq(_OF_KIND)
            found = found.with_columns(network=external_network(found["ip"])).with_columns(_AND)
            columns = {name: found[name].to_numpy() for name in _COLUMNS}
            self._lately.put(keys[new], seen=np.zeros(len(new), np.int64), **columns)
            at = self._lately.find(keys)
        return {name: self._lately.column(name)[at] for name in _COLUMNS}


class Ends:
    """The ends of rows of `FLOW_SCHEMA` that have the columns of `Clock.cut` and keys of addresses.

    kinds: columns of `Kinds`, of which `name` is None while a kind is open. shown: the pod of each
    kind, where that is no longer what the source said.
    """

    def __init__(self, flows: pl.DataFrame, kinds: Kinds) -> None:
        told = pl.DataFrame(
            {
                "given": pl.concat([flows["src"], flows["dst"]]),
                "principal": pl.concat([flows["src_principal"], flows["dst_principal"]]),
                "pod": pl.concat([flows["src_pod"], flows["dst_pod"]]),
                "ip": pl.concat([flows["src_ip"], flows["dst_ip"]]),
                "ip_key": pl.concat([flows["src_ip_key"], flows["dst_ip_key"]]),
            }
        )
        told = told.hstack([pl.Series("pod_key", hash_column(told["pod"]))])
        keys = hash_columns(told, ["given", "principal", "pod", "ip"])
        groups = Groups(keys)
        self._flows: Final = flows
        self._ip_keys: Final = told["ip_key"].to_numpy()
        self._of = groups.of  # the kind of each source, then of each destination
        self.kinds = kinds.of(told[groups.first], keys[groups.first])
        self.shown: Column | None = None

    @property
    def open(self) -> Mask:
        """Which kinds have no name yet."""
        return unknown(self.kinds["name"])

    @cached_property
    def clock(self) -> Integers:
        """The clock at each row."""
        return self._flows["clock"].to_physical().to_numpy()

    @property
    def times(self) -> pl.Series:
        """The time of the last row of each kind."""
        return self._flows.select(pl.coalesce("time", "clock")).to_series()[self.last]

    @property
    def span(self) -> tuple[int, int]:
        """The earliest and the latest time of all rows, in nanoseconds."""
        time = self._flows.select(pl.coalesce("time", "clock")).to_series().to_physical().to_numpy()
        return int(time.min()), int(time.max())

    @property
    def first(self) -> Positions:
        """The first row of each kind."""
        rows = np.arange(self._flows.height)[::-1]
        first = np.full(len(self.kinds["name"]), self._flows.height)
        for ends in np.split(self._of, 2):
            own = np.full(len(self.kinds["name"]), self._flows.height)
            own[ends[::-1]] = rows
            first = np.minimum(first, own)
        return first

    @property
    def last(self) -> Positions:
        """The last row of each kind."""
        return self._last() >> 1

    @property
    def peers(self) -> Keys:
        """The key of the address at the other end of one row of each kind."""
        peers = np.empty(len(self.kinds["name"]), np.uint64)
        peers[self._of] = np.roll(self._ip_keys, self._flows.height)
        return peers

    def tell_apart(self, which: Mask, *, by_peer: bool = False) -> None:
        """Make a kind of each end of those kinds, or of each of their peers."""
        apart = np.flatnonzero(which[self._of])
        if by_peer:
            peers = np.roll(self._ip_keys, self._flows.height)[apart]
            groups = Groups(mix(self._of[apart].astype(np.uint64), peers))
            own, like = groups.of, self._of[apart[groups.first]]
        else:
            own, like = np.arange(len(apart)), self._of[apart]
        stay = np.flatnonzero(~which)
        new = np.empty(len(which), np.int64)
        new[stay] = np.arange(len(stay))
        self._of = new[self._of]
        self._of[apart] = own + len(stay)
        rows = np.concatenate([stay, like])
        self.kinds = {name: column[rows] for name, column in self.kinds.items()}
        self.shown = None if self.shown is None else self.shown[rows]

    def name(self, which: Mask, names: Column) -> None:
        """Name those kinds, of which some may stay open; one name each of them, or None."""
        self.kinds["name"][which] = names

    def stated(self, which: Mask, column: str) -> Facts:
        """The last thing that each of those kinds states, by the keys of a column."""
        last = self._last()[which]
        return Facts(
            self.kinds[f"{column}_key"][which],
            last,
            self.clock[last >> 1],
            self.kinds["name"][which],
        )

    def statements(self, which: Mask, column: str) -> Facts:
        """All that the ends of those kinds state, by the keys of a column."""
        ends = np.flatnonzero(which[self._of])
        kinds, rows = self._of[ends], ends % self._flows.height
        return Facts(
            self.kinds[f"{column}_key"][kinds], rows, self.clock[rows], self.kinds["name"][kinds]
        )

    def written(self) -> pl.DataFrame:
        """The flows with what is known of their ends."""
        names, still_open = self.kinds["name"], self.open
        names[still_open] = self.kinds["vague"][still_open]
        told = pl.Series("name", names.tolist(), dtype=pl.String)
        kinds = [pl.Series("key", hash_strings(told))]
        if (names != self.kinds["given"]).any():
            kinds.append(told)
        if self.shown is not None:
            kinds.append(pl.Series("pod", self.shown.tolist(), dtype=pl.String))
        found = pl.DataFrame(kinds)
        parts = {"key": "{}_key", "name": "{}", "pod": "{}_pod"}
        return self._flows.with_columns(
            column.alias(parts[column.name].format(side))
            for side, ends in zip(("src", "dst"), np.split(self._of, 2), strict=True)
            for column in found[ends]
        )

    def _last(self) -> Positions:
        """The last row of each kind, doubled; and one, if it ends there."""
        rows = np.arange(self._flows.height) * 2
        last = np.full(len(self.kinds["name"]), -1)
        for side, ends in enumerate(np.split(self._of, 2)):
            own = np.full(len(self.kinds["name"]), -1)
            own[ends] = rows + side
            last = np.maximum(last, own)
        return last
