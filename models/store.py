"""The model store: versions of a baseline in a folder or an object store (fsspec), one the newest.

    LATEST                      which version is the newest, as JSON
    feedback.json               what people said, for all versions: models/feedback.py
    versions/VERSION/...        the files of a baseline, as in a folder (models/baseline.py)
    versions/VERSION/files.json their names, sizes and SHA-256; written after them

A version is published by writing LATEST, after everything else: whoever reads finds the version
before or the new one, whole, whenever the publisher died. Nothing in it can be executed; what does
not have its checksum, or was made for another version of sidelong, is refused.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import fsspec

from sidelong.errors import ConfigError, SourceError
from sidelong.ingest.remote_files import plain_errors, protocols
from sidelong.models.baseline import Baseline
from sidelong.models.feedback import FILE_NAME, Feedback

__all__ = ["KEPT", "ModelStore", "is_store"]

KEPT: Final = 5
"""Versions that stay when a new one is published."""

_LATEST: Final = "LATEST"
_FILES: Final = "files.json"
_VERSION: Final = re.compile(r"\d{8}T\d{6}\d{6}Z-[0-9a-f]{8}")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def is_store(place: str) -> bool:
    """Whether a place is a model store rather than the folder of one baseline.

    A URL (`s3://bucket/models`, `file:///srv/models`) always is, a folder if it holds LATEST.
    """
    return "://" in place or (Path(place) / _LATEST).is_file()


class ModelStore:
    """Versions of a baseline at a URL or in a folder.

    Errors: ConfigError for a URL of a kind that is not known or not installed; SourceError from
    everything that finds the store out of reach.
    """

    def __init__(self, url: str) -> None:
        self.shown: Final = re.sub(r"//[^/@]*@", "//", url).partition("?")[0]
        try:
            self._fs, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise ConfigError(
                f"baselines at {self.shown} need something that is not installed: {error}",
                hint="pip install 'sidelong[s3]' for S3, else what fsspec names",
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"baselines cannot be kept at {self.shown}: {error}",
                hint="give a folder, or a URL such as s3://bucket/models",
            ) from error
        self._root = str(path).rstrip("/")
        self._local = "file" in protocols(self._fs)

    def latest(self) -> str | None:
        """The newest version; None before the first. Cheap: one small file is read."""
        text = self._read(_LATEST)
        if text is None:
            return None
        try:
            version = json.loads(text)["version"]
        except (ValueError, TypeError, KeyError):
            version = None
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise ConfigError(
                f"{self.shown}/{_LATEST} does not name a version: {text[:80]!r}",
                hint="publish again with: sidelong learn INPUT --baseline STORE",
            )
        return version

    def signature(self) -> tuple[str | None, str]:
        """What changes with the newest version, or with what people said."""
        said = self._read(FILE_NAME) or b""
        return self.latest(), hashlib.sha256(said).hexdigest()

    def versions(self) -> list[str]:
        """All versions, oldest first, half-written ones included."""
        with self._reached("listed"):
            try:
                found = self._fs.ls(self._path("versions"), detail=False)
            except FileNotFoundError:
                return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return sorted(name for name in names if _VERSION.fullmatch(name))

    def publish(self, baseline: Baseline, keep: int = KEPT) -> str:
        """Make a baseline the newest version; returns its name. Older than `keep` versions go."""
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder, "baseline")
            baseline.save(whole)
            contents = {path.name: path.read_bytes() for path in sorted(whole.iterdir())}
        files = {name: _fingerprint(content) for name, content in contents.items()}
        listing = json.dumps(files, indent=1).encode()
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        version = f"{moment}-{hashlib.sha256(listing).hexdigest()[:8]}"
        with self._reached("written to"):
            for name, content in contents.items():
                self._write(f"versions/{version}/{name}", content)
            self._write(f"versions/{version}/{_FILES}", listing)
            self._write(_LATEST, json.dumps({"version": version}).encode() + b"\n")
        for old in self.versions()[:-keep]:
            if old != version:
                with suppress(OSError):  # somebody reads it, or has removed it: next time
                    self._fs.rm(self._path(f"versions/{old}"), recursive=True)
        return version

    def load(self, version: str | None = None) -> Baseline:
        """A version, or the newest, heeding what people said.

        Errors: ConfigError when there is none, or it is damaged or made for another sidelong.
        """
        return self.read(version).heeding(self.feedback())

    def read(self, version: str | None = None) -> Baseline:
        """A version as it was learnt. Errors: as `load`."""
        chosen = version or self.latest()
        if chosen is None:
            raise ConfigError(
                f"there is no baseline in {self.shown}",
                hint="publish one with: sidelong learn INPUT --baseline STORE",
            )
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self._contents(chosen):
                (Path(folder) / name).write_bytes(content)
            try:
                return Baseline.read(Path(folder))
            except ConfigError as error:
                told = error.problem.replace(folder, f"{self.shown} version {chosen}")
                raise ConfigError(told, hint=error.hint) from error

    def feedback(self) -> Feedback:
        """What people said. Errors: ConfigError when it cannot be understood."""
        said = self._read(FILE_NAME)
        if said is None:
            return Feedback()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / FILE_NAME).write_bytes(said)
            return Feedback.read(Path(folder))

    def save_feedback(self, said: Feedback) -> None:
        """Write down what people said, for all versions."""
        with tempfile.TemporaryDirectory() as folder:
            said.save(Path(folder))
            content = (Path(folder) / FILE_NAME).read_bytes()
        with self._reached("written to"):
            self._write(FILE_NAME, content)

    def note(self, name: str, line: bytes) -> None:
        """Add a line to a file beside the versions, such as a history of what was forgotten.

        An object store cannot append: of two who do it at the same moment one may be lost.
        """
        before = self._read(name) or b""
        with self._reached("written to"):
            self._write(name, before + line)

    def _contents(self, version: str) -> Iterator[tuple[str, bytes]]:
        listing = self._read(f"versions/{version}/{_FILES}")
        if listing is None:
            raise ConfigError(
                f"there is no version {version} in {self.shown}",
                hint=f"there are {', '.join(self.versions()[-KEPT:]) or 'none'}",
            )
        try:
            files: dict[str, Any] = json.loads(listing)
            wanted = {name: (told["bytes"], told["sha256"]) for name, told in files.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            wanted = {}
        for name, fingerprint in wanted.items():
            content = self._read(f"versions/{version}/{name}") if _NAME.fullmatch(name) else None
            found = _fingerprint(content or b"")
            if content is None or (found["bytes"], found["sha256"]) != fingerprint:
                wanted = {}
                break
            yield name, content
        if not wanted:
            raise ConfigError(
                f"version {version} in {self.shown} is damaged",
                hint="publish again with: sidelong learn INPUT --baseline STORE",
            )

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _read(self, name: str) -> bytes | None:
        with self._reached("read"):
            try:
                content: bytes = self._fs.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all: an object store does that by itself."""
        path = self._path(name)
        if not self._local:
            self._fs.pipe_file(path, content)
            return
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.partial")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)

    @contextmanager
    def _reached(self, what: str) -> Iterator[None]:
        try:
            with plain_errors():
                yield
        except OSError as error:
            raise SourceError(
                f"the model store {self.shown} cannot be {what}: {error.strerror or error}",
                hint="see whether it is reachable, and whether this process may",
            ) from error


def _fingerprint(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
