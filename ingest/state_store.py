"""Where state is kept between two lives of a process: a folder, or an object store (fsspec).

A snapshot is one file, written whole or not at all: in a folder under another name that is then
changed, in an object store in the one request that such a store takes. A file begins with a line of
JSON that says what it is of (`head -1 FILE`). Of each name the two newest are kept, and one that
cannot be read is passed over: what is read again from the other gives the same.

Several processes may write under one name, such as one that does not know yet that another has
taken its place. Each writes files of its own, and any of them is good to go on from.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NamedTuple, Protocol

import fsspec
import msgspec

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.remote_files import has_folders, plain_errors, protocols
from sidelong.ingest.state_values import DamagedState, decode, encode

__all__ = ["KEPT", "Manifest", "Saved", "StateError", "StateStore"]

KEPT: Final = 2
"""Snapshots of one name: the newest, and one in reserve."""

_FORMAT: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
_FILE: Final = re.compile(r"(\d{12})-[0-9a-f]{8}\.state")
_PARTIAL: Final = re.compile(r"\.\d{12}-[0-9a-f]{8}\.partial")
_LEFT_OVER_SECONDS: Final = 600.0


class StateError(SourceError):
    """A snapshot that cannot be kept or reached now; later it may."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is of. stream, offset, through: as its state tells them under these names, as
    far as it does. created: when it was written, RFC 3339."""

    sidelong: int = _FORMAT
    name: str
    created: str
    stream: str | None = None
    offset: int | None = None
    through: int | None = None


class Saved(NamedTuple):
    """A snapshot that was read."""

    manifest: Manifest
    state: dict[str, Any]


class _Place(Protocol):
    """Where the files of each name lie, in a folder called like it. All raise OSError."""

    def names(self, folder: str) -> list[str]: ...
    def read(self, folder: str, name: str) -> bytes: ...
    def write(self, folder: str, name: str, content: bytes) -> None: ...
    def remove(self, folder: str, name: str) -> None: ...


class StateStore:
    """Keeps snapshots by name.

    url: a folder, or a URL that fsspec knows (`s3://bucket/prefix`, `memory://`). say: tells a
    person what was passed over. last_bytes: the size of what was kept last. May be shared by
    threads. Errors: ConfigError for a URL of a kind that is not known or not installed.
    """

    def __init__(self, url: str, say: Callable[[str], None] = lambda _: None) -> None:
        self._say = say
        self.last_bytes = 0
        self._shown = _without_secrets(url)
        try:
            filesystem, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise ConfigError(
                f"state is kept at {self._shown}, for which something is not installed: {error}",
                hint="pip install 'sidelong[s3]' for S3, else what fsspec names",
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"state cannot be kept at {self._shown}: {error}",
                hint="give a folder, or a URL such as s3://bucket/sidelong",
            ) from error
        local = "file" in protocols(filesystem)
        self._place: _Place = _Folder(Path(path)) if local else _Objects(filesystem, path)

    def save(self, name: str, state: Mapping[str, Any]) -> Manifest:
        """Keep a snapshot as the newest of its name; whole or not at all.

        Errors: StateError when it cannot be kept, such as on a full disk: what was kept before is
        still there. TypeError for a state that is no plain value.
        """
        manifest = Manifest(
            name=_checked(name),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            **{key: state.get(key) for key in ("stream", "offset", "through")},  # type: ignore[arg-type]
        )
        line = msgspec.json.encode(manifest)
        # Once more inside, where a checksum covers it.
        content = line + b"\n" + encode({"manifest": line, "state": dict(state)})
        try:
            files = self._files(name)
            number = int(files[-1][:12]) + 1 if files else 1
            file = f"{number:012d}-{token_hex(4)}.state"
            self._place.write(name, file, content)
            self.last_bytes = len(content)
        except OSError as error:
            raise self._failed(f"the snapshot {name} cannot be kept", error) from error
        for old in [*files, file][:-KEPT]:
            self._remove(name, old)
        return manifest

    def load(self, name: str) -> dict[str, Any] | None:
        """The state of the newest snapshot of that name that can be read; None without any.

        Errors: StateError when the place cannot be reached.
        """
        saved = self.newest(name)
        return None if saved is None else saved.state

    def newest(self, name: str) -> Saved | None:
        """The same with its manifest."""
        return next(self.readable(name), None)

    def readable(self, name: str) -> Iterator[Saved]:
        """All snapshots of that name that can be read, the newest first: whoever cannot use one,
        such as that of another version, goes on to the next."""
        try:
            files = self._files(_checked(name))
        except OSError as error:
            raise self._failed(f"snapshots of {name} cannot be looked for", error) from error
        for file in reversed(files):
            saved = self._read(name, file)
            if saved is not None:
                yield saved

    def _read(self, name: str, file: str) -> Saved | None:
        try:
            content = self._place.read(name, file)
        except FileNotFoundError:
            return None  # another process has written newer ones
        except OSError as error:
            raise self._failed(f"the snapshot {name}/{file} cannot be read", error) from error
        try:
            return _saved(content)
        except DamagedState as error:
            self._say(f"the snapshot {name}/{file} in {self._shown} is passed over: {error}")
            return None

    def _files(self, name: str) -> list[str]:
        """The files of a name, oldest first."""
        return sorted(file for file in self._place.names(name) if _FILE.fullmatch(file))

    def _remove(self, name: str, file: str) -> None:
        try:
            self._place.remove(name, file)
        except FileNotFoundError:
            pass  # another process has
        except OSError as error:
            self._say(f"the old snapshot {name}/{file} in {self._shown} stays: {error}")

    def _failed(self, what: str, error: OSError) -> StateError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return StateError(
            f"{what} in {self._shown}: {error.strerror or error}",
            hint="make room; until then a restart reads more again"
            if full
            else "see [service] state, and whether this process may write there",
        )


class _Folder:
    """A folder of this machine, or one that is mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self._root / folder)
        except FileNotFoundError:
            return []

    def read(self, folder: str, name: str) -> bytes:
        return (self._root / folder / name).read_bytes()

    def write(self, folder: str, name: str, content: bytes) -> None:
        """Under a hidden name first, and under its own when it has reached the disk."""
        place = self._root / folder
        place.mkdir(parents=True, exist_ok=True)
        self._tidy(place)
        partial = place / f".{Path(name).stem}.partial"
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(place / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        at = os.open(place, os.O_RDONLY)
        try:
            os.fsync(at)  # the name too
        finally:
            os.close(at)

    def remove(self, folder: str, name: str) -> None:
        (self._root / folder / name).unlink()

    def _tidy(self, place: Path) -> None:
        """Remove what writers that died have left; a living one takes seconds."""
        for name in filter(_PARTIAL.fullmatch, os.listdir(place)):
            with suppress(FileNotFoundError):
                if time.time() - (place / name).stat().st_mtime > _LEFT_OVER_SECONDS:
                    (place / name).unlink()


class _Objects:
    """An object store, in which a file appears whole."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    def names(self, folder: str) -> list[str]:
        self._filesystem.invalidate_cache()  # others write there too
        try:
            with plain_errors():
                found = self._filesystem.ls(f"{self._root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        return [str(path).rpartition("/")[2] for path in found]

    def read(self, folder: str, name: str) -> bytes:
        with plain_errors():
            return bytes(self._filesystem.cat_file(f"{self._root}/{folder}/{name}"))

    def write(self, folder: str, name: str, content: bytes) -> None:
        with plain_errors():
            if has_folders(self._filesystem):
                self._filesystem.makedirs(f"{self._root}/{folder}", exist_ok=True)
            self._filesystem.pipe_file(f"{self._root}/{folder}/{name}", content)

    def remove(self, folder: str, name: str) -> None:
        with plain_errors():
            self._filesystem.rm_file(f"{self._root}/{folder}/{name}")


def _saved(content: bytes) -> Saved:
    line, newline, rest = content.partition(b"\n")
    if not newline:
        raise DamagedState("it is cut off" if content else "it is empty")
    inside = decode(memoryview(rest))
    if not isinstance(inside, dict) or inside.get("manifest") != line:
        raise DamagedState("its first line is not the one that was written")
    try:
        return Saved(_manifest(line), inside["state"])
    except (msgspec.MsgspecError, KeyError) as error:
        raise DamagedState(f"its first line cannot be read: {error}") from error


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name.strip(".") == "":
        raise ValueError(f"{name!r} is no name of a snapshot")
    return name


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0]


_manifest: Final = msgspec.json.Decoder(Manifest).decode
