"""The baseline: what a cluster's workloads were seen to do while somebody vouched for them.

A directory with a manifest and Parquet tables, nothing executable:

    manifest.json       format, span, flows, completeness
    contacts.parquet    one row per edge and address of a peer without identity: when, how often
    trial.parquet       the same of edges that nobody vouched for and that may join: see learning
    workloads.parquet   one row per actor: how well it is known
    names.parquet       64-bit keys of the (actor, domain, name) that were asked
    domains.parquet     per (actor, domain) that was asked: how much of it was new, and how fast
    networks.parquet    the IPv4 /24 networks in which workloads were seen
    declared.parquet    what policies expressly allow, whether it was seen or not
    guarded.parquet     the workloads for which policies name all that is allowed
    *_windows.parquet   a sample of windows that teach, and how many there were: window_counts
    forests.npz, .json  isolation forests of them: models/forests_file.py
    feedback.json       what people said about incidents, if they did: models/feedback.py

The columns stand in models/baseline_tables.py. A baseline is frozen while traffic is judged against
it.
"""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidelong.errors import ConfigError
from sidelong.features.contacts import contact_keys
from sidelong.features.edges import EDGE, edge_keys, service_keys
from sidelong.models.baseline_tables import (
    CONTACTS_SCHEMA,
    DECLARED_SCHEMA,
    DOMAINS_SCHEMA,
    GUARDED_SCHEMA,
    TABLES,
)
from sidelong.models.contact_history import edges_of
from sidelong.models.feedback import Feedback, edge_rows
from sidelong.models.forests import Forests
from sidelong.models.forests_file import read_forests, write_forests

__all__ = ["Baseline", "is_replaceable"]

_FORMAT: Final = 2
_TIME: Final = pl.Datetime("ns", "UTC")
_MILLI: Final = 1_000  # levels are in thousandths of a byte


def is_replaceable(directory: Path) -> bool:
    """Whether a baseline may be saved here: the directory is empty, or a baseline of any format."""
    if not any(directory.iterdir()):
        return True
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # Other programs keep a `manifest.json` too.
    return isinstance(manifest, dict) and {"format", "flows", "workloads"} <= manifest.keys()


@dataclass(frozen=True)
class Baseline:
    """What was learnt, as frames of the schemas above; `flows` and `completeness` tell from what.

    `feedback` is what people said since; `load` heeds it in the frames, detectors do the rest.

    Equal content makes equal keys on every machine, so a baseline can be copied about.
    """

    contacts: pl.DataFrame
    workloads: pl.DataFrame
    names: pl.DataFrame
    domains: pl.DataFrame
    networks: pl.DataFrame
    trial: pl.DataFrame = field(default_factory=CONTACTS_SCHEMA.to_frame)
    declared: pl.DataFrame = field(default_factory=DECLARED_SCHEMA.to_frame)
    guarded: pl.DataFrame = field(default_factory=GUARDED_SCHEMA.to_frame)
    workload_windows: pl.DataFrame = field(default_factory=TABLES["workload_windows"].to_frame)
    edge_windows: pl.DataFrame = field(default_factory=TABLES["edge_windows"].to_frame)
    domain_windows: pl.DataFrame = field(default_factory=TABLES["domain_windows"].to_frame)
    window_counts: pl.DataFrame = field(default_factory=TABLES["window_counts"].to_frame)
    forests: Forests = field(default_factory=Forests)
    flows: int = 0
    completeness: float = 1.0
    feedback: Feedback = Feedback()  # noqa: RUF009, a frozen value

    @classmethod
    def empty(cls) -> "Baseline":
        """Knows nobody: the detectors fall back to their priors."""
        tables: dict[str, Any] = {name: schema.to_frame() for name, schema in TABLES.items()}
        return cls(**tables)

    @cached_property
    def contact_keys(self) -> NDArray[np.uint64]:
        """Sorted keys of the known contacts, as `features.contacts` computes them."""
        return np.unique(contact_keys(self.contacts))

    @cached_property
    def edges(self) -> pl.DataFrame:
        """One row per edge, as `edges_of` the contacts."""
        return edges_of(self.contacts)

    @cached_property
    def edge_keys(self) -> NDArray[np.uint64]:
        """Sorted keys of the known edges, as `features.edges` computes them."""
        return np.unique(edge_keys(self.contacts))

    @cached_property
    def service_keys(self) -> NDArray[np.uint64]:
        """Sorted keys of the services that somebody used."""
        return np.unique(service_keys(self.contacts))

    @cached_property
    def name_keys(self) -> NDArray[np.uint64]:
        """Sorted keys of the names asked before."""
        return np.unique(self.names["key"].to_numpy())

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """First and last moment of the training traffic."""
        if self.workloads.is_empty():
            return None
        first, last = self.workloads.select(pl.col("first").min(), pl.col("last").max()).row(0)
        return first, last

    @property
    def span_ns(self) -> int:
        """How long the training traffic lasted; 0 without any."""
        span = self.span
        return int((span[1] - span[0]).total_seconds() * 1e9) if span else 0

    def description(self) -> dict[str, Any]:
        """The manifest: what a person wants to know before trusting it."""
        span = self.span
        return {
            "format": _FORMAT,
            "flows": self.flows,
            "first": span[0].isoformat() if span else None,
            "last": span[1].isoformat() if span else None,
            "workloads": self.workloads.height,
            "edges": int(self.edge_keys.size),
            "domains": self.domains.height,
            "completeness": self.completeness,
            **({"forests": self.forests.description()} if self.forests.scopes else {}),
        }

    def save(self, directory: Path) -> None:
        """Write the baseline; a directory that holds something else is left alone.

        Errors: ConfigError when `directory` exists and is neither empty nor a baseline.
        """
        if directory.exists() and (not directory.is_dir() or not is_replaceable(directory)):
            raise ConfigError(
                f"{directory} exists and is not a baseline",
                hint="name a new directory, or remove this one yourself if it may go",
            )
        directory.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            getattr(self, name).write_parquet(directory / f".{name}.parquet")
        write_forests(self.forests, directory)
        for name in TABLES:
            (directory / f".{name}.parquet").replace(directory / f"{name}.parquet")
        part = directory / ".manifest.json"
        part.write_text(json.dumps(self.description(), indent=2) + "\n", encoding="utf-8")
        part.replace(directory / "manifest.json")

    @classmethod
    def load(cls, directory: Path) -> "Baseline":
        """Read a baseline, heeding what people said.

        Errors: ConfigError when it is absent, damaged or of another format.
        """
        return cls.read(directory).heeding(Feedback.read(directory))

    @classmethod
    def read(cls, directory: Path) -> "Baseline":
        """Read a baseline as it was learnt. Errors: as `load`."""
        manifest = _read_manifest(directory)
        tables: dict[str, Any] = {}
        for name, schema in TABLES.items():
            path = directory / f"{name}.parquet"
            try:
                tables[name] = pl.read_parquet(path).match_to_schema(schema)
            except (OSError, pl.exceptions.PolarsError) as error:
                raise ConfigError(
                    f"{path} cannot be read as part of a baseline: {str(error).splitlines()[0]}",
                    hint="learn the baseline anew with: sidelong learn INPUT --baseline DIR",
                ) from error
        tables["forests"] = read_forests(directory)
        return cls(**tables, flows=manifest["flows"], completeness=manifest["completeness"])

    def heeding(self, feedback: Feedback) -> "Baseline":
        """The baseline with what people said: edges known or not, allowances higher or none."""
        if feedback == Feedback():
            return self
        known = edge_rows(feedback.known_edges)
        forbidden = edge_rows(feedback.forbidden_edges).select(EDGE)
        added = known.join(self.contacts, on=known.columns, how="anti").unique(maintain_order=True)
        moment = self.span[1] if self.span else None
        rows = added.with_columns(
            first=pl.lit(moment, _TIME),
            last=pl.lit(moment, _TIME),
            active_seconds=pl.lit(1),
            hours=pl.lit([], pl.List(pl.UInt8)),
            **dict.fromkeys(("hours_seen", "days_seen", "pods", "encrypted", "plain"), pl.lit(0)),
        ).match_to_schema(CONTACTS_SCHEMA, integer_cast="upcast")
        contacts = pl.concat([self.contacts, rows]).join(
            forbidden, on=list(EDGE), how="anti", maintain_order="left"
        )
        allowed = [
            (one.actor, one.domain, one.bytes * _MILLI, 0, 0, 0) for one in feedback.allowed_domains
        ]
        refused = [(one.actor, one.domain) for one in feedback.forbidden_domains]
        domains = (
            pl.concat([self.domains, pl.DataFrame(allowed, schema=DOMAINS_SCHEMA, orient="row")])
            .group_by("actor", "domain", maintain_order=True)
            .agg(pl.col("level").max(), pl.col("names", "bytes").sum(), pl.col("seconds").max())
            .join(
                pl.DataFrame(refused, schema=["actor", "domain"], orient="row").cast(pl.String),
                on=["actor", "domain"],
                how="anti",
                maintain_order="left",
            )
        )
        return replace(self, contacts=contacts, domains=domains, feedback=feedback)


def _read_manifest(directory: Path) -> dict[str, Any]:
    hint = "make one with: sidelong learn INPUT --baseline DIR"
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{directory} is no baseline: no manifest.json there", hint=hint
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory}/manifest.json: {error}", hint=hint) from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        seen = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise ConfigError(
            f"{directory} has baseline format {seen!r}, but this version reads {_FORMAT}", hint=hint
        )
    for name, number in (("flows", int), ("completeness", int | float)):
        if not isinstance(manifest.get(name), number):
            raise ConfigError(
                f"{directory}/manifest.json: {name} is {manifest.get(name)!r}, not a number",
                hint=hint,
            )
    return manifest
