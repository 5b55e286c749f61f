"""Reads an evidence bundle, which may come from anybody: nothing of it is trusted.

Names, sizes and checksums are held against the manifest before anything is decoded, in memory, and
what a table claims to hold is added up before it is unpacked.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from sidelong.alerts.incident import Incident
from sidelong.alerts.policy_names import Selectors
from sidelong.bundle_files import (
    BASELINE_TABLES,
    FORMAT,
    INCIDENTS,
    MANIFEST,
    MOST_BYTES,
    MOST_ROWS,
    SELECTORS,
    TABLES_OF,
    KeptFlows,
    Manifest,
    stored,
)
from sidelong.case import CaseParts
from sidelong.case_flows import Found
from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.parquet_bounds import check_parquet
from sidelong.ingest.raw_values import Unreadable
from sidelong.models.baseline import Baseline
from sidelong.models.baseline_tables import TABLES
from sidelong.recording import Recording, Sight

__all__ = ["is_bundle", "read_bundle"]

_MAGIC: Final = b"PK\x03\x04"
_MOST_MANIFEST: Final = 64 << 20
_KNOWN: Final = {MANIFEST, INCIDENTS, *(table.file for table in TABLES_OF.values())}
_PACKINGS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_HINT: Final = "ask for it once more, made by: sidelong explain ID INPUT --bundle FILE"
_BROKEN: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def is_bundle(name: str) -> bool:
    """Whether a file begins like a zip."""
    try:
        with open(name, "rb") as file:
            return file.read(4) == _MAGIC
    except OSError:
        return False


def read_bundle(path: Path) -> CaseParts:
    """The case in a bundle.

    Errors: SourceError for what is no bundle, was changed, holds more than it may, or is of another
    format.
    """
    content = _content(path)
    manifest = _manifest(path, content)
    _verify(path, manifest, content)
    frames = {
        name: _frame(path, table.file, table.schema, content[table.file])
        for name, table in TABLES_OF.items()
        if table.file in content
    }
    absent = [name for name in TABLES_OF if name not in frames]
    wanted = [f"baseline_{name}" for name in BASELINE_TABLES] if manifest.baseline else []
    wanted += ["contacts", "names", "timeline", "samples", "flows", "usual"]
    if missing := [TABLES_OF[name].file for name in absent if name in wanted]:
        raise _changed(path, f"{missing[0]} is missing")
    try:
        told: dict[str, Any] = {name: getattr(manifest.selectors, name) for name in SELECTORS}
        told["host_network"] = frozenset(told["host_network"])
        selectors = Selectors(**told)
        sight = _sight(manifest)
        lines = content[INCIDENTS].splitlines()
        incidents = tuple(msgspec.json.decode(line, type=Incident) for line in lines)
    except (ValueError, msgspec.MsgspecError) as error:
        raise _changed(path, f"what it tells cannot be understood: {error}") from error
    return CaseParts(
        name=manifest.name,
        recording=Recording(
            incidents=incidents,
            contacts=frames["contacts"],
            names=frames["names"],
            samples=_by_incident(frames["samples"]),
            timeline=frames["timeline"],
            sight=sight,
        ),
        recorded=manifest.recorded,
        baseline=_baseline(manifest, frames),
        judged_by=manifest.judged_by,
        selectors=selectors,
        policy_kind=manifest.policy_kind,
        findings=manifest.findings,
        usual=frames["usual"],
        flows=_KeptFlows(path, frames["flows"], manifest.flows) if manifest.has_flows else None,
        typed=manifest.typed,
    )


class _KeptFlows:
    """The flows that a bundle holds."""

    def __init__(self, path: Path, frame: pl.DataFrame, told: Mapping[str, KeptFlows]) -> None:
        self._path = path
        self._frames = _by_incident(frame)
        self._told = told
        self._none = frame.clear().drop("incident")

    def of(self, incidents: Sequence[Incident], limit: int | None) -> Mapping[str, Found]:
        """See `FlowReader`. Errors: ConfigError for an incident whose flows are not there."""
        found = {}
        for one in incidents:
            if one.id not in self._told:
                raise ConfigError(
                    f"{self._path} holds no flows of {one.id}", hint="open the traffic itself"
                )
            told = self._told[one.id]
            rows = self._frames.get(one.id, self._none)
            if limit is not None and limit < rows.height:
                about = rows.filter("about").head(limit)
                others = rows.filter(~pl.col("about")).head(limit - about.height)
                rows = pl.concat([about, others]).sort("row")
            why = told.why
            if not why and rows.height < told.total and (limit is None or limit > rows.height):
                why = (
                    f"{rows.height:,} of {told.total:,} flows: the bundle holds no more; open the "
                    "traffic itself for all"
                )
            found[one.id] = Found(rows, told.total, why)
        return found


def _content(path: Path) -> dict[str, bytes]:
    """What is in the file, by name, within bounds. Errors: SourceError."""
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = bundle.infolist()
            _check(path, entries)
            return {one.filename: _unpacked(path, bundle, one) for one in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        raise SourceError(f"{path} is damaged: {error}", hint=_HINT) from error
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read: {error.strerror or error}", hint="check the path"
        ) from error


def _check(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Before anything is unpacked: names that we know, once each, no more than may be."""
    names = [one.filename for one in entries]
    strange = [name for name in names if name not in _KNOWN]
    if MANIFEST not in names or INCIDENTS not in names:
        raise SourceError(f"{path} is a zip, and no evidence bundle", hint=_HINT)
    if strange:
        raise _changed(path, f"it holds {ascii(strange[0])[:80]}, which is no part of a bundle")
    if len(set(names)) < len(names):
        raise _changed(path, "it holds a file twice")
    if sum(one.file_size for one in entries) > MOST_BYTES:
        raise _changed(path, f"it holds more than {MOST_BYTES >> 20:,} MiB once it is unpacked")
    for one in entries:
        if one.flag_bits & _ENCRYPTED or one.compress_type not in _PACKINGS:
            raise _changed(path, f"{one.filename} is encrypted, or packed in a way of its own")


def _unpacked(path: Path, bundle: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """One file, no more of it than its entry promises."""
    most = min(entry.file_size, _MOST_MANIFEST if entry.filename == MANIFEST else MOST_BYTES)
    with bundle.open(entry) as file:
        held = file.read(most + 1)
    if len(held) > most:
        raise _changed(path, f"{entry.filename} holds more than it says")
    return held


def _manifest(path: Path, content: Mapping[str, bytes]) -> Manifest:
    try:
        plain = msgspec.json.decode(content[MANIFEST])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _changed(path, f"{MANIFEST} is no JSON: {error}") from error
    told = plain.get("format") if isinstance(plain, dict) else None
    if told != FORMAT:
        raise SourceError(
            f"{path} has bundle format {ascii(told)[:40]}, but this version reads {FORMAT}",
            hint="open it with the version of sidelong that wrote it, or a newer one",
        )
    try:
        return msgspec.convert(plain, Manifest)
    except msgspec.MsgspecError as error:
        raise _changed(path, f"{MANIFEST}: {error}") from error


def _verify(path: Path, manifest: Manifest, content: Mapping[str, bytes]) -> None:
    if manifest.files.keys() != content.keys() - {MANIFEST}:
        odd = sorted(manifest.files.keys() ^ (content.keys() - {MANIFEST}))
        raise _changed(path, f"{ascii(odd[0])[:80]} is in the manifest or in the file, not in both")
    for name, told in manifest.files.items():
        held = content[name]
        if len(held) != told.bytes or hashlib.sha256(held).hexdigest() != told.sha256:
            raise _changed(path, f"{name} is not what the manifest says: its checksum differs")


def _frame(path: Path, name: str, schema: pl.Schema, held: bytes) -> pl.DataFrame:
    try:
        check_parquet(held, MOST_BYTES, MOST_ROWS)
        frame = pl.read_parquet(io.BytesIO(held), use_pyarrow=False)
        if frame.schema != stored(schema):
            raise _changed(path, f"{name} has other columns than this version keeps")
        return frame.cast(schema)
    except (Unreadable, *_BROKEN) as error:
        raise _changed(path, f"{name} cannot be read: {str(error).splitlines()[0]}") from error


def _baseline(manifest: Manifest, frames: Mapping[str, pl.DataFrame]) -> Baseline | None:
    told: Mapping[str, Any] | None = manifest.baseline
    if told is None:
        return None
    tables: dict[str, Any] = {name: frames[f"baseline_{name}"] for name in BASELINE_TABLES}
    tables["names"] = TABLES["names"].to_frame()
    flows, completeness = int(told.get("flows", 0)), float(told.get("completeness", 1.0))
    return Baseline(**tables, flows=flows, completeness=completeness, feedback=manifest.feedback)


def _sight(manifest: Manifest) -> Sight:
    plain: dict[str, Any] = msgspec.structs.asdict(manifest.sight)
    for name in ("first", "last"):
        plain[name] = datetime.fromisoformat(plain[name]) if plain[name] is not None else None
    return Sight(**plain)


def _by_incident(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    parts = frame.partition_by("incident", as_dict=True, include_key=False, maintain_order=True)
    return {str(key[0]): part for key, part in parts.items()}


def _changed(path: Path, what: str) -> SourceError:
    return SourceError(f"{path} is no whole evidence bundle: {what}", hint=_HINT)
