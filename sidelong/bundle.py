"""Writes a case as an evidence bundle: one file that answers the same, anywhere and offline."""

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from sidelong import __version__
from sidelong.alerts.incident import Incident
from sidelong.alerts.plain_text import printable_json
from sidelong.bundle_files import (
    BASELINE_TABLES,
    FORMAT,
    INCIDENTS,
    MANIFEST,
    SELECTORS,
    TABLES_OF,
    KeptFile,
    KeptFlows,
    KeptSelectors,
    KeptSight,
    Manifest,
    stored,
)
from sidelong.case import Case
from sidelong.case_flows import Found
from sidelong.errors import ConfigError
from sidelong.ingest.draft import draft_of
from sidelong.models.feedback import Feedback
from sidelong.recording import Sight

__all__ = ["write_bundle"]

_ALWAYS: Final = (1980, 1, 1, 0, 0, 0)  # the same case makes the same file


def write_bundle(case: Case, path: Path, incidents: Sequence[Incident], limit: int | None) -> Path:
    """Write the bundle of some incidents of a case, whole or not at all; returns its path.

    limit: flows of each incident. Errors: ConfigError when it cannot be written; SourceError when
    the flows cannot be read any more.
    """
    parts = case.parts
    has_flows = parts.flows is not None
    found = case.all_flows(incidents, limit) if has_flows else {}
    content: dict[str, bytes] = {INCIDENTS: _lines(incidents)}
    for name, frame in _tables(case, incidents, found):
        content[TABLES_OF[name].file] = _parquet(frame, TABLES_OF[name].schema)
    model = parts.baseline
    manifest = Manifest(
        format=FORMAT,
        sidelong=__version__,
        name=parts.name,
        recorded=parts.recorded,
        has_flows=has_flows,
        judged_by=parts.judged_by,
        baseline=None
        if model is None
        else {"flows": model.flows, "completeness": model.completeness},
        feedback=model.feedback if model is not None else Feedback(),
        policy_kind=parts.policy_kind,
        selectors=_selectors(parts.selectors),
        sight=_sight(parts.recording.sight),
        findings=parts.findings,
        flows={id: KeptFlows(total=one.total, why=one.why) for id, one in found.items()},
        typed=parts.typed,
        files={
            name: KeptFile(sha256=hashlib.sha256(held).hexdigest(), bytes=len(held))
            for name, held in content.items()
        },
    )
    plain = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    _write(path, {MANIFEST: plain + b"\n", **content})
    return path


def _lines(incidents: Sequence[Incident]) -> bytes:
    return "".join(printable_json(one.to_json()) + "\n" for one in incidents).encode()


def _tables(
    case: Case, incidents: Sequence[Incident], found: Mapping[str, Found]
) -> Iterator[tuple[str, pl.DataFrame]]:
    recording = case.parts.recording
    ids = pl.Series([one.id for one in incidents], dtype=pl.String).implode()
    yield "contacts", recording.contacts
    yield "names", recording.names
    of = pl.col("incident")
    yield "timeline", recording.timeline.filter(of.is_null() | of.is_in(ids))
    samples = {
        one.id: recording.samples[one.id] for one in incidents if one.id in recording.samples
    }
    yield "samples", _together("samples", samples)
    yield "flows", _together("flows", {id: one.frame for id, one in found.items()})
    yield "usual", case.usual()
    if case.parts.baseline is not None:
        for name in BASELINE_TABLES:
            yield f"baseline_{name}", getattr(case.parts.baseline, name)


def _together(name: str, frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The frames of incidents as one, with the id before each row."""
    schema = TABLES_OF[name].schema
    told = [
        frame.with_columns(incident=pl.lit(id)).select(schema.names())
        for id, frame in frames.items()
    ]
    return pl.concat([schema.to_frame(), *told])


def _parquet(frame: pl.DataFrame, schema: pl.Schema) -> bytes:
    whole = io.BytesIO()
    frame.select(schema.names()).cast(stored(schema)).write_parquet(whole, compression="zstd")
    return whole.getvalue()


def _sight(sight: Sight) -> KeptSight:
    plain = dataclasses.asdict(sight)
    for name in ("first", "last"):
        plain[name] = plain[name].isoformat() if plain[name] is not None else None
    return KeptSight(**plain)


def _selectors(selectors: object) -> KeptSelectors:
    plain: dict[str, Any] = {name: getattr(selectors, name) for name in SELECTORS}
    plain["host_network"] = tuple(sorted(plain["host_network"]))
    return KeptSelectors(**plain)


def _write(path: Path, content: Mapping[str, bytes]) -> None:
    """Whole or not at all: a file of that name is only replaced at the end."""
    try:
        with draft_of(path) as draft, zipfile.ZipFile(draft, "w") as bundle:
            for name, held in content.items():
                entry = zipfile.ZipInfo(name, _ALWAYS)
                packed = name.endswith(".parquet")  # inside already
                entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                bundle.writestr(entry, held)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="name a place that can be written and has room",
        ) from error
