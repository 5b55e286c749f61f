"""Where an intruder would want to go: services that administer machines, or hold data."""

from typing import Final

import polars as pl

from sidelong.features.sides import METADATA_ADDRESS, is_workload

__all__ = ["crosses_namespaces", "sensitive_target"]

_ADMIN_PORTS: Final = {
    22: "SSH",
    23: "Telnet",
    135: "DCE-RPC",
    139: "NetBIOS",
    445: "SMB",
    2375: "Docker API",
    2376: "Docker API",
    2379: "etcd",
    2380: "etcd",
    3389: "RDP",
    5900: "VNC",
    5985: "WinRM",
    5986: "WinRM",
    6443: "Kubernetes API",
    10250: "kubelet API",
    10255: "kubelet API",
}
_DATA_PORTS: Final = {
    1433: "SQL Server",
    1521: "Oracle",
    3306: "MySQL",
    5432: "PostgreSQL",
    5984: "CouchDB",
    6379: "Redis",
    7000: "Cassandra",
    8086: "InfluxDB",
    9042: "Cassandra",
    9092: "Kafka",
    9200: "Elasticsearch",
    11211: "Memcached",
    27017: "MongoDB",
}


def crosses_namespaces() -> pl.Expr:
    """Whether `actor` and `peer` are known to live in different namespaces."""
    here, there = (pl.col(side).str.extract(r"^([^/:]+)/") for side in ("actor", "peer"))
    return (here != there).fill_null(False)


def sensitive_target(address: pl.Expr) -> pl.Expr:
    """What of interest an edge leads to, in words; null for the rest.

    Takes rows with `actor`, `peer` and `edge_port`. address: of the peer, where it is known.
    """
    named = is_workload(pl.col("actor")) & is_workload(pl.col("peer"))
    return (
        pl.when(address == METADATA_ADDRESS)
        .then(pl.lit("cloud metadata"))
        .when(pl.col("peer") == "reserved:kube-apiserver")
        .then(pl.lit("Kubernetes API"))
        .when(pl.col("edge_port").is_in(list(_ADMIN_PORTS)))
        .then(_name(_ADMIN_PORTS))
        # A database is sensitive to strangers, not to its own namespace.
        .when(pl.col("edge_port").is_in(list(_DATA_PORTS)) & (crosses_namespaces() | ~named))
        .then(_name(_DATA_PORTS))
    )


def _name(ports: dict[int, str]) -> pl.Expr:
    return pl.col("edge_port").replace_strict(ports, default=None, return_dtype=pl.String)
