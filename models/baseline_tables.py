"""The tables of a baseline: names and types of their columns, and what each row stands for."""

from typing import Final

import polars as pl

from sidelong.ingest.schema import PROTOCOLS, schema_of
from sidelong.models.window_habits import COUNTS_SCHEMA
from sidelong.models.window_sample import SAMPLE_SCHEMAS

__all__ = [
    "CONTACTS_SCHEMA",
    "DECLARED_SCHEMA",
    "DOMAINS_SCHEMA",
    "GUARDED_SCHEMA",
    "NAMES_SCHEMA",
    "NETWORKS_SCHEMA",
    "TABLES",
    "WORKLOADS_SCHEMA",
]

_TIME: Final = pl.Datetime("ns", "UTC")

CONTACTS_SCHEMA: Final = schema_of(
    {
        "actor": pl.String,
        "peer": pl.String,
        "object": pl.String,
        "port": pl.UInt16,
        "edge_port": pl.UInt16,
        "protocol": PROTOCOLS,
        "first": _TIME,
        "last": _TIME,
        "active_seconds": pl.Int64,
        "hours": pl.List(pl.UInt8),
        "hours_seen": pl.Int64,
        "days_seen": pl.Int64,
        "pods": pl.Int64,
        "encrypted": pl.Int64,
        "plain": pl.Int64,
    }
)
"""A row is an edge towards one address of a peer that has no other identity, or one dynamic port.

active_seconds: in how many it was used; what an update adds to is faded before. hours: of the week
in which it was used, ascending, 0 for Monday from midnight to one o'clock UTC. hours_seen,
days_seen: in how many different hours and days since 1970. pods: the most instances of the actor
that used it within ten seconds, 0 where none is named. encrypted, plain: seconds in which it was
seen to be encrypted, and in plain text; neither where the source does not tell.
"""

WORKLOADS_SCHEMA: Final = schema_of(
    {
        "actor": pl.String,
        "first": _TIME,
        "last": _TIME,
        "active_seconds": pl.Int64,
        "singletons": pl.Int64,
        "first_contacts": pl.Int64,
        "answered": pl.Int64,
        "owner": pl.String,
        "accounts": pl.List(pl.String),
    }
)
"""A row is an actor, and how well it is known.

singletons: edges that it used in one second only. first_contacts, answered: how its attempts at
something new ended. owner: the kind of what runs its pods, as far as their names tell: Deployment,
StatefulSet or CronJob. accounts: the mesh identities that it bore, in order.
"""

DECLARED_SCHEMA: Final = schema_of(
    {
        "actor": pl.String,
        "peer": pl.String,
        "protocol": PROTOCOLS,
        "low": pl.UInt16,
        "high": pl.UInt16,
        "breadth": pl.Int64,
    }
)
"""A row is what policies let pass, to or from a workload they guard: an actor may reach a peer at
ports `low` to `high`.

breadth: how many such edges the narrowest rule that says so gives; one of a few is expected, one of
thousands says nothing. Null where no rule says so, and none forbids it.
"""

GUARDED_SCHEMA: Final = schema_of(
    {"workload": pl.String, "ingress": pl.Boolean, "egress": pl.Boolean, "account": pl.String}
)
"""A row is a workload that was declared, whether policies name all that may reach it, and all that
it may reach; and its service account, without the namespace, which is its own."""

NAMES_SCHEMA: Final = schema_of({"key": pl.UInt64})
DOMAINS_SCHEMA: Final = schema_of(
    {
        "actor": pl.String,
        "domain": pl.String,
        "level": pl.Int64,
        "names": pl.Int64,
        "bytes": pl.Int64,
        "seconds": pl.Int64,
    }
)
"""A row is a registered domain that an actor asked for.

level: the highest that its bucket of never-seen bytes reached, in thousandths of a byte. names,
bytes: how many names were asked that never were before, and what they said. seconds: for how long
the actor was watched.
"""

NETWORKS_SCHEMA: Final = schema_of({"network": pl.String})

TABLES: Final = {
    "contacts": CONTACTS_SCHEMA,
    "trial": CONTACTS_SCHEMA,
    "workloads": WORKLOADS_SCHEMA,
    "names": NAMES_SCHEMA,
    "domains": DOMAINS_SCHEMA,
    "networks": NETWORKS_SCHEMA,
    "declared": DECLARED_SCHEMA,
    "guarded": GUARDED_SCHEMA,
    "workload_windows": SAMPLE_SCHEMAS["workload"],
    "edge_windows": SAMPLE_SCHEMAS["edge"],
    "domain_windows": SAMPLE_SCHEMAS["domain"],
    "window_counts": COUNTS_SCHEMA,
}
"""By name of the file, without `.parquet`."""
