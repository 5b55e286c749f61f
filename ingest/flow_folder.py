"""A folder of flows: Parquet by hour of event time, written whole or not at all.

    DIR/date=2026-11-23/hour=02/20261123T021824Z-00000017-3fa9c1d2-1b2c3d4e.parquet
    DIR/.collect/state.json, and drafts while they are written

A commit is all flows that were held, together with how far their sources have come. Its files are
written in full as drafts, then the state that names them is put in place, which decides; then the
drafts get their names. Whenever the writer dies, the next one finds either the old state, and
removes the drafts, or the new one, and finishes naming them: flows and positions agree always.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import polars as pl

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.parquet import ParquetFile, encoded

__all__ = ["FlowFolder", "FolderState", "NoRoom", "SourceState", "Written"]

_INSIDE: Final = ".collect"  # hidden: whoever reads the folder passes it by
_STATE: Final = "state.json"
_DRAFT: Final = ".draft"
_NAME: Final = re.compile(r"\d{8}T\d{6}Z-\d{8,}-[0-9a-f]{8}-[0-9a-f]{8}\.parquet")
_HOUR_FOLDER: Final = re.compile(r"date=(\d{4}-\d{2}-\d{2})/hour=(\d{2})")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_VERSION: Final = 1
_NS: Final = 1_000_000_000

HeldFlows: TypeAlias = Mapping[str, Sequence[pl.DataFrame]]


class NoRoom(Exception):
    """There is no room to write now, which may pass; nothing was written.

    needed: bytes to be written. free: bytes there are; None when the disk itself refused. why:
    instead, where it is no disk.
    """

    def __init__(self, needed: int, free: int | None = None, why: str | None = None) -> None:
        super().__init__(why or f"{needed:,} bytes to write")
        self.needed, self.free, self.why = needed, free, why


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one source was written.

    newest_ns: the latest time among its flows. fingerprint, size_bytes: what the source was, if it
    is a file, lest another one be resumed under its name.
    """

    position: int = 0
    newest_ns: int | None = None
    fingerprint: str | None = None
    size_bytes: int | None = None


class FolderState(msgspec.Struct, frozen=True, kw_only=True):
    """What `state.json` holds: the number of the last commit, its files, and every source."""

    version: int = _VERSION
    commit: int = 0
    files: tuple[str, ...] = ()
    sources: dict[str, SourceState] = {}


@dataclass(frozen=True, slots=True)
class Written:
    """A file that a commit brought: its path below the folder, its rows and bytes. Of a topic:
    its name, and what `parts` messages hold."""

    path: str
    rows: int
    size_bytes: int
    parts: int = 1


class FlowFolder:
    """Writes flows below `path`, one writer at a time; `state` is what was there before.

    free_bytes: how much is to be left free on the disk. Errors: ConfigError when the folder cannot
    be written, is written by another process, or has a state that cannot be understood.
    """

    def __init__(self, path: Path, *, free_bytes: int = 0) -> None:
        self.path: Final = path
        self._free_bytes: Final = free_bytes
        self._inside: Final = path / _INSIDE
        self._token: Final = secrets.token_hex(4)
        try:
            self._inside.mkdir(parents=True, exist_ok=True)
            self._lock: Final = os.open(self._inside / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}",
                hint="name a folder that this user may write to, with --to",
            ) from error
        try:
            self._take()
            self.state = self._read_state()
            self._settle()
            self._remove_drafts()
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise self.unwritable(error) from error
            raise

    def __enter__(self) -> "FlowFolder":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)  # and with it the lock goes

    def unwritable(self, error: OSError) -> ConfigError:
        """What to tell the user of an error that waiting does not cure."""
        return ConfigError(
            f"{error.filename or self.path} cannot be written: {error.strerror or error}",
            hint="look at who owns the folder, and at the disk it lies on",
        )

    def commit(
        self, held: HeldFlows, sources: Mapping[str, SourceState], *, reserve: bool = True
    ) -> list[Written]:
        """Write the flows of each source, and with them how far the sources have come.

        reserve: leave the reserved room free; else only what is needed. Errors: NoRoom, with
        everything as it was; OSError for anything else that keeps files from being written.
        """
        try:
            self._settle()
        except OSError as error:
            raise _no_room(error, 0) from error
        number = self.state.commit + 1
        files = [
            (self._name(hour, flows, number, source), encoded(flows), flows.height)
            for source, frames in held.items()
            for hour, flows in _by_hour(frames)
        ]
        needed = sum(len(content) for _, content, _ in files)
        free = shutil.disk_usage(self._inside).free
        if files and free - needed < (self._free_bytes if reserve else 0):
            raise NoRoom(needed, free)
        state = FolderState(
            commit=number,
            files=tuple(path for path, _, _ in files),
            sources={**self.state.sources, **sources},
        )
        try:
            for path, content, _ in files:
                (self.path / path).parent.mkdir(parents=True, exist_ok=True)
                _write(self._draft(path), content)
            self._put(state)
        except OSError as error:
            for path, _, _ in files:
                with suppress(OSError):
                    self._draft(path).unlink(missing_ok=True)
            raise _no_room(error, needed) from error
        self.state = state  # decided: what follows can be done later as well
        with suppress(OSError):
            self._settle()
        return [Written(path, rows, len(content)) for path, content, rows in files]

    def forget(self, sources: Iterable[str]) -> None:
        """Keep no position of these any more, from the next commit on."""
        gone = set(sources)
        kept = {key: state for key, state in self.state.sources.items() if key not in gone}
        self.state = msgspec.structs.replace(self.state, sources=kept)

    def rows_since(self, source: str, time_ns: int) -> Iterator[pl.DataFrame]:
        """What was written of a source at or after a time; files that cannot be read are empty."""
        mark = _digest(source)
        first = datetime(1970, 1, 1) + timedelta(seconds=time_ns // _NS)  # noqa: DTZ001, hours are UTC
        for hour, folder in self._hours():
            if hour + timedelta(hours=1) <= first:
                continue
            for file in sorted(folder.glob(f"*-{mark}-*.parquet")):
                with suppress(SourceError):
                    for batch in ParquetFile(str(file), file).batches():
                        yield batch.flows.filter(pl.col("time").to_physical() >= time_ns)

    def prune(self, keep: timedelta, now: datetime) -> int:
        """Delete the hours that ended `keep` before the newest hour began, or before `now` where
        that is earlier; returns how many files went. Files of other origin stay, and so do their
        folders.
        """
        hours = list(self._hours())
        if not hours:
            return 0
        newest = max(hour for hour, _ in hours)
        before = min(newest, now.astimezone(UTC).replace(tzinfo=None)) - keep
        removed = 0
        for hour, folder in hours:
            if hour + timedelta(hours=1) > before:
                continue
            for file in folder.iterdir():
                if _NAME.fullmatch(file.name):
                    file.unlink()
                    removed += 1
            with suppress(OSError):  # not empty: something else is there
                folder.rmdir()
                folder.parent.rmdir()
        return removed

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"{self.path} is written by another sidelong at this moment",
                hint="end that one first, or collect into a folder of its own",
            ) from error

    def _hours(self) -> Iterator[tuple[datetime, Path]]:
        """The folders of an hour that are there, in order; no link is followed."""
        for folder in sorted(self.path.glob("date=*/hour=*")):
            found = _HOUR_FOLDER.fullmatch(folder.relative_to(self.path).as_posix())
            real = folder.is_dir() and not (folder.is_symlink() or folder.parent.is_symlink())
            if found and real:
                with suppress(ValueError):  # such as hour=31
                    yield datetime.fromisoformat(f"{found[1]}T{found[2]}:00"), folder

    def _name(self, hour: datetime, flows: pl.DataFrame, number: int, source: str) -> str:
        first = flows["time"].drop_nulls().min()
        first = first if isinstance(first, datetime) else hour
        return (
            f"date={hour:%Y-%m-%d}/hour={hour:%H}/"
            f"{first:%Y%m%dT%H%M%S}Z-{number:08d}-{_digest(source)}-{self._token}.parquet"
        )

    def _draft(self, path: str) -> Path:
        return self._inside / (Path(path).name + _DRAFT)

    def _read_state(self) -> FolderState:
        file = self._inside / _STATE
        try:
            state = msgspec.json.decode(file.read_bytes(), type=FolderState)
        except FileNotFoundError:
            return FolderState()
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"{file} cannot be understood: {error}",
                hint="move it away; sources are then collected from their start again",
            ) from error
        if state.version != _VERSION:
            raise ConfigError(
                f"{file} is of version {state.version}, not {_VERSION}",
                hint="collect into another folder, or with the sidelong that wrote this one",
            )
        return state

    def _put(self, state: FolderState) -> None:
        draft = self._inside / (_STATE + _DRAFT)
        _write(draft, msgspec.json.format(msgspec.json.encode(state)) + b"\n")
        os.replace(draft, self._inside / _STATE)
        _sync(self._inside)

    def _settle(self) -> None:
        """Give the files of the last commit their names, as far as they have not got them yet."""
        moved = set()
        for path in self.state.files:
            draft, target = self._draft(path), self.path / path
            if _HOUR_FOLDER.fullmatch(str(Path(path).parent)) and draft.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft, target)
                moved.add(target.parent)
        for folder in moved:
            _sync(folder)
            _sync(folder.parent)
        if moved:
            _sync(self.path)

    def _remove_drafts(self) -> None:
        for left in self._inside.glob(f"*{_DRAFT}"):
            left.unlink()


def _by_hour(frames: Sequence[pl.DataFrame]) -> Iterator[tuple[datetime, pl.DataFrame]]:
    """The flows of each hour of event time, in their order; a row without a time goes along."""
    flows = pl.concat(frames)
    hour = pl.col("time").dt.cast_time_unit("us").dt.truncate("1h").dt.replace_time_zone(None)
    known = hour.forward_fill().backward_fill().fill_null(datetime(1970, 1, 1))  # noqa: DTZ001, hours are UTC
    parts = flows.with_columns(known.alias("__hour")).partition_by(
        "__hour", as_dict=True, maintain_order=True, include_key=False
    )
    for (start,), rows in sorted(parts.items(), key=lambda part: part[0]):
        yield start, rows


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_room(error: OSError, needed: int) -> Exception:
    return NoRoom(needed) if error.errno in _FULL else error
