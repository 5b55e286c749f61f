"""What an evidence bundle consists of: its files, their columns, its manifest, its bounds.

A bundle is a zip of a manifest in JSON, incidents as lines of JSON, and tables in Parquet. Nothing
in it can be executed, and nothing is unpacked to disk.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import polars as pl

from sidelong.alerts.policy_suggestions import PolicyKind
from sidelong.case_baseline import USUAL_SCHEMA
from sidelong.case_flows import FLOWS_SCHEMA
from sidelong.ingest.schema import schema_of
from sidelong.models.baseline_tables import TABLES
from sidelong.models.feedback import Feedback
from sidelong.recorded_contacts import CONTACT_SCHEMA
from sidelong.recorded_names import NAME_SCHEMA
from sidelong.recorded_samples import SAMPLE_SCHEMA
from sidelong.recorded_timeline import TIMELINE_SCHEMA
from sidelong.sight import Finding

__all__ = [
    "BASELINE_TABLES",
    "FORMAT",
    "INCIDENTS",
    "MANIFEST",
    "MOST_BYTES",
    "MOST_ROWS",
    "SELECTORS",
    "TABLES_OF",
    "BundleTable",
    "KeptFile",
    "KeptFlows",
    "Manifest",
    "stored",
]

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
INCIDENTS: Final = "incidents.jsonl"
MOST_BYTES: Final = 1 << 30
"""All files of a bundle together, once they are unpacked."""

MOST_ROWS: Final = 20_000_000
"""Rows of one table."""

_OF_INCIDENT: Final = {"incident": pl.String()}

BASELINE_TABLES: Final = (
    "contacts",
    "trial",
    "workloads",
    "domains",
    "declared",
    "guarded",
    "networks",
)
"""What goes in of a baseline: all that answers need; names are hashes, and windows are many."""


class BundleTable(msgspec.Struct, frozen=True):
    """A table of a bundle: its file, and its columns as they are in memory."""

    file: str
    schema: pl.Schema


TABLES_OF: Final = {
    "contacts": BundleTable("contacts.parquet", CONTACT_SCHEMA),
    "names": BundleTable("names.parquet", NAME_SCHEMA),
    "timeline": BundleTable("timeline.parquet", TIMELINE_SCHEMA),
    "samples": BundleTable("samples.parquet", pl.Schema({**_OF_INCIDENT, **SAMPLE_SCHEMA})),
    "flows": BundleTable("flows.parquet", pl.Schema({**_OF_INCIDENT, **FLOWS_SCHEMA})),
    "usual": BundleTable("usual.parquet", USUAL_SCHEMA),
    **{
        f"baseline_{name}": BundleTable(f"baseline_{name}.parquet", schema_of(dict(TABLES[name])))
        for name in BASELINE_TABLES
    },
}
"""By name of the table."""


class KeptFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file as the manifest tells of it: its SHA-256 in hexadecimal, and its size in bytes."""

    sha256: str
    bytes: int


class KeptFlows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many flows an incident had, and why they are not all there, if it is not the number."""

    total: int
    why: str = ""


class KeptSight(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See `recording.Sight`; first and last are RFC 3339."""

    flows: int
    completeness: float
    lost: int
    bad: int
    bad_samples: tuple[str, ...]
    sources: tuple[str, ...]
    origins: tuple[str, ...]
    first: str | None
    last: str | None
    dropped: Mapping[str, int]


class KeptSelectors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See `policy_names.Selectors`."""

    label: str
    labels: Mapping[str, Mapping[str, str]]
    host_network: tuple[str, ...]
    accounts: Mapping[str, str]
    resolver: str
    resolver_labels: Mapping[str, str]
    nodes: tuple[str, ...]
    cluster_domain: str
    trust_domain: str


SELECTORS: Final = KeptSelectors.__struct_fields__
"""The fields of `Selectors`, which a bundle keeps so that policies are written the same way."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle holds. sidelong: the version that wrote it. files: all others, by name."""

    format: int
    sidelong: str
    name: str
    recorded: bool
    has_flows: bool
    judged_by: str | None
    baseline: Mapping[str, Any] | None
    feedback: Feedback
    policy_kind: PolicyKind
    selectors: KeptSelectors
    sight: KeptSight
    findings: tuple[Finding, ...]
    flows: Mapping[str, KeptFlows]
    typed: tuple[str, ...]
    files: Mapping[str, KeptFile]


def stored(schema: pl.Schema) -> pl.Schema:
    """The columns as they are kept: enumerations as text, which every tool reads."""
    return pl.Schema(
        {
            name: pl.String() if isinstance(dtype, pl.Enum) else dtype
            for name, dtype in schema.items()
        }
    )
