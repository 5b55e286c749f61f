"""Parquet files of flows wherever fsspec reaches, for many machines: which, how large, and rows.

A folder is read like `sidelong replay` reads it: files before sub-folders, by name, hidden ones
left out. Folders `cluster=NAME` hold the streams of different clusters, each a stream of its own.
"""

import posixpath
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import fsspec
import polars as pl
from fsspec.core import has_magic

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.parquet import STORED, check_columns
from sidelong.ingest.schema import FLOW_SCHEMA

__all__ = [
    "Footer",
    "find_flows",
    "flow_columns",
    "footer_of",
    "read_rows",
    "to_check",
    "write_file",
]

_SUFFIX: Final = ".parquet"
_CLUSTER: Final = "cluster="
_UNITS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_PARTS: Final = 16  # of a row group, as its rows are taken to lie evenly in time


class Footer(NamedTuple):
    """What the footer of a file tells. spread: (time in ns, rows up to the next), in order."""

    rows: int
    size_bytes: int
    spread: list[tuple[int, int]]


def find_flows(inputs: Sequence[str]) -> dict[str, list[str]]:
    """The Parquet files of each cluster, in order; the cluster without a name is "".

    Errors: SourceError for a path that is not there or holds none; ConfigError for a kind of URL
    that nothing installed can read.
    """
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for place in inputs:
        filesystem, path = _filesystem(place)
        for file in _files(filesystem, path, place):
            url = file if _is_local(filesystem) else filesystem.unstrip_protocol(file)
            if url not in seen:
                seen.add(url)
                found.setdefault(_cluster(file), []).append(url)
    return {cluster: found[cluster] for cluster in sorted(found)}


def footer_of(url: str) -> Footer:
    """What a file holds. Errors: SourceError when it is no Parquet, or of another schema."""
    pq = _pyarrow_parquet()
    filesystem, path = _filesystem(url)
    try:
        with filesystem.open(path, "rb") as file:
            stored = pq.ParquetFile(file)
            meta, schema = stored.metadata, stored.schema_arrow
            check_columns(_polars(schema), url)
            place = schema.names.index("time")
            spread = _spread(meta, _column(meta, "time"), _UNITS[schema.field(place).type.unit])
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{url} is no Parquet file that can be read: {str(error).splitlines()[0]}",
            hint="write it anew, or leave it out",
        ) from error
    return Footer(meta.num_rows, int(filesystem.size(path) or 0), spread)


def flow_columns(url: str) -> pl.Schema:
    """The columns of a file that are those of flows."""
    pq = _pyarrow_parquet()
    filesystem, path = _filesystem(url)
    with filesystem.open(path, "rb") as file:
        schema = _polars(pq.ParquetFile(file).schema_arrow)
    return pl.Schema({name: schema[name] for name in FLOW_SCHEMA if name in schema})


def to_check(schema: pl.Schema) -> list[str]:
    """The columns that say whether a row fits, its time among them."""
    foreign = [name for name, dtype in schema.items() if dtype not in (STORED[name], pl.Null())]
    return list(dict.fromkeys(["time", *[n for n in ("end",) if n in schema], *foreign]))


def read_rows(url: str, columns: Sequence[str], low: int, high: int) -> pl.DataFrame:
    """Rows `low` up to `high` of a file. Errors: SourceError when it cannot be read any more."""
    filesystem, path = _filesystem(url)
    try:
        if _is_local(filesystem):
            stored = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            return stored.slice(low, high - low).select(columns).collect()
        return _remote_rows(filesystem, path, columns, low, high)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise SourceError(
            f"{url}, rows {low:,} to {high - 1:,}, cannot be read: {str(error).splitlines()[0]}",
            hint="write it anew, or leave it out",
        ) from error


def write_file(url: str, content: bytes) -> None:
    """Write a file wherever fsspec reaches. Errors: ConfigError."""
    filesystem, path = _filesystem(url)
    try:
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(path, content)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{url} cannot be written: {error}", hint="name a place that can be written, with --to"
        ) from error


def _remote_rows(
    filesystem: Any, path: str, columns: Sequence[str], low: int, high: int
) -> pl.DataFrame:
    """The rows out of the row groups that hold them, of which alone the columns are fetched."""
    pq = _pyarrow_parquet()
    with filesystem.open(path, "rb") as file:
        stored = pq.ParquetFile(file)
        begins, at = 0, 0
        groups: list[int] = []
        for group in range(stored.metadata.num_row_groups):
            rows = stored.metadata.row_group(group).num_rows
            if at < high and at + rows > low:
                begins = begins if groups else at
                groups.append(group)
            at += rows
        table = stored.read_row_groups(groups, columns=list(columns))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame[low - begins : high - begins].select(columns)


def _files(filesystem: Any, path: str, place: str) -> list[str]:
    try:
        if has_magic(path) and not filesystem.exists(path):
            matches = sorted(filesystem.glob(path))
            if not matches:
                raise SourceError(
                    f"no file matches {place}", hint="check the pattern, or its folder"
                )
            return [file for match in matches for file in _below(filesystem, match)]
        if not filesystem.exists(path):
            raise SourceError(f"{place} is not there", hint="check the path, and who may read it")
        found = _below(filesystem, path)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{place} cannot be reached: {error}", hint="check the address and the credentials"
        ) from error
    if not found:
        raise SourceError(
            f"there is no {_SUFFIX} file in {place}",
            hint="collect flows into it: sidelong collect SOURCE --to DIR",
        )
    return found


def _below(filesystem: Any, path: str) -> list[str]:
    if filesystem.isfile(path):
        return [path]
    root = path.rstrip("/")
    files = {file: posixpath.relpath(file, root).split("/") for file in filesystem.find(path)}
    shown = [
        file
        for file, parts in files.items()
        if file.endswith(_SUFFIX) and not any(part.startswith((".", "_")) for part in parts)
    ]
    return sorted(shown, key=lambda file: _walked(files[file]))


def _walked(parts: Sequence[str]) -> list[tuple[int, str]]:
    """Files of a folder come before what its sub-folders hold."""
    return [*((1, part) for part in parts[:-1]), (0, parts[-1])]


def _cluster(path: str) -> str:
    named = [part for part in path.split("/") if part.startswith(_CLUSTER)]
    return named[-1].removeprefix(_CLUSTER) if named else ""


def _filesystem(url: str) -> tuple[Any, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigError(
            f"{url} needs something that is not installed: {error}",
            hint="pip install 'sidelong[s3]' for s3:// and s3a://, else what fsspec names",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{url} cannot be read: {error}",
            hint="give a path, or a URL such as s3a://bucket/flows",
        ) from error
    return filesystem, path


def _is_local(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _polars(schema: Any) -> pl.Schema:
    frame = pl.from_arrow(schema.empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.schema


def _column(meta: Any, name: str) -> int:
    paths = [meta.schema.column(place).path for place in range(meta.num_columns)]
    return paths.index(name)


def _spread(meta: Any, column: int, unit: int) -> list[tuple[int, int]]:
    """How rows lie in time, as far as row groups tell; without statistics all at once."""
    spread: list[tuple[int, int]] = []
    for group in range(meta.num_row_groups):
        told = meta.row_group(group)
        known = told.column(column).statistics
        if known is None or not known.has_min_max or not isinstance(known.min_raw, int):
            spread.append((spread[-1][0] if spread else 0, told.num_rows))
            continue
        first, span = known.min_raw * unit, (known.max_raw - known.min_raw) * unit
        whole, rest = divmod(told.num_rows, _PARTS)
        spread += [
            (first + span * part // _PARTS, whole + (rest if part == 0 else 0))
            for part in range(_PARTS)
        ]
    return spread


def _pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(
            "reading Parquet on Spark needs pyarrow", hint="pip install 'sidelong[spark]'"
        ) from error
    return pq
