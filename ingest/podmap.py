"""Who held an address when: the pod map, for telemetry that carries addresses only.

Pods live for seconds and their addresses are used again, so each entry is valid from one moment to
another, and a flow is attributed to the entry that held the address at the flow's time.
"""

from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

import polars as pl

from sidelong.ingest.holdings import POD_SCHEMA
from sidelong.ingest.podmap_files import read_holders

__all__ = ["POD_SCHEMA", "PodMap", "PodMaps"]


class PodMaps(Protocol):
    """Whoever has a pod map to offer: a map itself, which stays as it is, or a watch."""

    def current(self) -> "PodMap":
        """The map of the moment; asked for once for each piece of a stream."""
        ...


class PodMap:
    """The holders of addresses in time, in `frame` (`POD_SCHEMA`)."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame: Final = (
            frame.select(POD_SCHEMA.names()).cast(POD_SCHEMA).unique(maintain_order=True)
        )
        always = pl.lit(-(2**63)).cast(POD_SCHEMA["since"])
        self._by_time: Final = self.frame.select(
            "ip", "name", "pod", pl.col("since").fill_null(always), "until"
        ).sort("since", maintain_order=True)
        self._by_pod: Final = (
            self.frame.drop_nulls("pod")
            .select("pod", "name")
            .unique("pod", keep="last", maintain_order=True)
        )

    @classmethod
    def read(cls, path: Path) -> "PodMap":
        """Read a pod map, what kubectl printed, or the recording of a watch.

        A pod map is `{name: {"ip", "namespace", "workload"}}`; `ips` may stand for `ip`, and `from`
        and `until` (RFC 3339 or seconds since 1970) bound the time of the holding. An entry without
        a namespace, or of the workload `world`, is outside the cluster; it is named by its `domain`
        and left out without one.

        From kubectl: `kubectl get pods,services,endpointslices,nodes,replicasets,jobs -A -o json`,
        or as many of these as there are, or for a record of who came and went `kubectl get pods -A
        -w -o json --output-watch-events`. What they come to is told in `kubernetes_ledger.py`.

        Errors: ConfigError, naming file and key, when the file has none of these forms.
        """
        return cls(read_holders(path))

    def current(self) -> "PodMap":
        """The map itself: it does not change."""
        return self

    def holders(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Who held each address at each time: `asked` has `ip` and `time`, any order.

        Returns `name` and `pod` row by row, nulls where the map does not say. When two holdings
        overlap the one that began later counts.
        """
        found = (
            asked.select("ip", "time")
            .with_row_index("asked")
            .join(self._by_time.select("ip").unique(), on="ip", how="semi")
            .sort("time")
            .join_asof(
                self._by_time,
                left_on="time",
                right_on="since",
                by="ip",
                check_sortedness=False,
            )
            .filter(pl.col("until").is_null() | (pl.col("time") < pl.col("until")))
        )
        rows = pl.select(asked=pl.int_range(len(asked), dtype=pl.UInt32))
        return rows.join(
            found.select("asked", "name", "pod"), on="asked", how="left", maintain_order="left"
        ).drop("asked")

    def changing(self, first_ns: int, last_ns: int) -> pl.Series:
        """The addresses that begin or cease to be held after `first_ns` and until `last_ns`."""
        return self.frame.filter(
            pl.any_horizontal(
                (pl.col(bound).to_physical() > first_ns) & (pl.col(bound).to_physical() <= last_ns)
                for bound in ("since", "until")
            )
        )["ip"].unique()

    @cached_property
    def networks(self) -> frozenset[str]:
        """The IPv4 /24 prefixes (`10.244.1`) that hold addresses of workloads."""
        inside = self.frame.filter(pl.col("workload").is_not_null())
        prefixes = inside["ip"].str.extract(r"^(\d+\.\d+\.\d+)\.\d+$").drop_nulls()
        return frozenset(prefixes)

    def names(self, pods: pl.Series) -> pl.Series:
        """The identity of each pod by its name, namespace/pod; null where the map has none."""
        asked = pl.DataFrame({"pod": pods})
        return asked.join(self._by_pod, on="pod", how="left", maintain_order="left")["name"]
