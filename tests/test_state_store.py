"""Snapshots by name: whole or not at all, two of each, damage passed over."""

import errno
import os
import resource
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest

from sidelong.errors import ConfigError
from sidelong.ingest.state_store import Saved, StateError, StateStore


def state(offset: int) -> dict[str, object]:
    return {"stream": "s", "offset": offset, "table": np.arange(offset)}


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/state"
    return str(tmp_path / "state")


def offset(saved: dict[str, object] | None) -> object:
    assert saved is not None
    return saved["offset"]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_newest_is_loaded_with_what_it_is_of(url: str) -> None:
    store = StateStore(url)
    assert store.load("detect.0") is None
    for number in range(4):
        store.save("detect.0", state(number))
    store.save("detect.1", state(9))
    assert offset(StateStore(url).load("detect.0")) == 3
    newest = store.newest("detect.0")
    assert isinstance(newest, Saved)
    assert (newest.manifest.name, newest.manifest.stream) == ("detect.0", "s")
    assert newest.manifest.offset == 3


def test_two_of_each_name_are_kept(url: str) -> None:
    store = StateStore(url)
    for number in range(5):
        store.save("detect.0", state(number))
    assert [saved.state["offset"] for saved in store.readable("detect.0")] == [4, 3]


@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped", "manifest", "other"])
def test_one_that_cannot_be_read_is_passed_over_and_told(tmp_path: Path, damage: str) -> None:
    said: list[str] = []
    store = StateStore(str(tmp_path), said.append)
    store.save("detect.0", state(1))
    store.save("detect.0", state(2000))
    newest = files(tmp_path)[-1]
    content = newest.read_bytes()
    newest.write_bytes(
        {
            "emptied": b"",
            "cut": content[: len(content) // 2],
            "flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
            "manifest": content.replace(b'"offset":2000', b'"offset":2001', 1),
            "other": b"\x00" * 4096,
        }[damage]
    )
    assert offset(store.load("detect.0")) == 1
    assert len(said) == 1
    assert newest.name in said[0]


def test_a_full_disk_is_told_and_what_was_kept_is_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StateStore(str(tmp_path))
    store.save("detect.0", state(1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left on device") as told:
        store.save("detect.0", state(2))
    assert "make room" in told.value.hint
    assert offset(store.load("detect.0")) == 1
    assert len(files(tmp_path)) == 1
    monkeypatch.undo()
    store.save("detect.0", state(3))
    assert offset(store.load("detect.0")) == 3


def test_a_file_that_may_not_grow_leaves_nothing_behind(tmp_path: Path) -> None:
    """A real write that ends half-way, as on a disk that fills up."""
    store = StateStore(str(tmp_path))
    store.save("detect.0", state(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(StateError, match="File too large"):
            store.save("detect.0", {"offset": 2, "noise": os.urandom(1 << 20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert offset(store.load("detect.0")) == 1
    assert len(files(tmp_path)) == 1


def test_an_object_store_that_fails_is_told() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    store = StateStore(url)
    filesystem = fsspec.filesystem("memory")
    with pytest.MonkeyPatch.context() as patch:

        def refused(*_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Access Denied")

        patch.setattr(type(filesystem), "pipe_file", refused)
        with pytest.raises(StateError, match="Access Denied"):
            store.save("detect.0", state(1))
    assert store.load("detect.0") is None


WRITING = """
import os, sys
from sidelong.ingest.state_store import StateStore
store = StateStore(sys.argv[1])
noise = os.urandom(3 << 20)
for offset in range(1_000_000):
    store.save("detect.0", {"offset": offset, "noise": noise})
    print(offset, flush=True)
"""


def test_whoever_is_killed_while_writing_leaves_a_snapshot_that_can_be_read(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    store = StateStore(str(tmp_path), said.append)
    for round_ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITING, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(2 + round_)][-1]
        writer.kill()
        rest = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        last += len(rest)
        assert offset(store.load("detect.0")) in (last, last + 1)
    assert said == []
    for path in tmp_path.rglob(".*.partial"):
        os.utime(path, (0, 0))
    store.save("detect.0", state(1))
    assert all(path.suffix == ".state" for path in files(tmp_path))
    assert len(files(tmp_path)) == 2


def test_two_writers_of_one_name_do_not_hinder_each_other(url: str) -> None:
    one, other = StateStore(url), StateStore(url)
    for number in range(6):
        (one, other)[number % 2].save("normalise", state(number))
    assert offset(one.load("normalise")) == 5


def test_a_name_cannot_lead_out_of_the_store(tmp_path: Path) -> None:
    for name in ("../detect", "..", "", "a/b"):
        with pytest.raises(ValueError, match="no name"):
            StateStore(str(tmp_path)).save(name, {})


def test_a_kind_of_url_that_is_not_known_is_told_before_anything_is_kept() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        StateStore("nowhere://a/b")
